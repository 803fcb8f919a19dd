"""Tables as files, each column of one type: CSV, JSON lines, Parquet and SQLite."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from gammatorch.errors import InvalidArgument
from gammatorch.reports.document import replacing

_BATCH_ROWS = 50_000

_SQL: Mapping[type, str] = {str: "TEXT", int: "INTEGER", float: "REAL"}


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    Attributes:
        name: What the rows are of; an SQLite database has them under it.
        columns: By name, what a column holds: ``str``, ``int`` or ``float``; any value may be missing.
        rows: The values, None where one is missing; they are gone through once.
    """

    name: str
    columns: Mapping[str, type]
    rows: Iterable[Sequence[Any]]


def write_csv(table: Table, file: IO[str]) -> None:
    """As comma-separated values; what is missing is empty, whole numbers have no point.

    Args:
        table: The table.
        file: Where to, opened with ``newline=""``.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)


def write_jsonl(table: Table, file: IO[str]) -> None:
    """As one JSON object a line, in ASCII.

    Args:
        table: The table.
        file: Where to.
    """
    for row in table.rows:
        file.write(json.dumps(dict(zip(table.columns, row, strict=True)), allow_nan=False) + "\n")


def write_sqlite(table: Table, path: Path) -> None:
    """As a table of an SQLite database, with declared types; the long one has an index by statistic.

    Args:
        table: The table.
        path: A new file.
    """
    declared = ", ".join(f'"{name}" {_SQL[kind]}' for name, kind in table.columns.items())
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE {table.name} ({declared})")
        places = ", ".join("?" * len(table.columns))
        database.executemany(f"INSERT INTO {table.name} VALUES ({places})", table.rows)
        if "statistic" in table.columns:
            keys = ", ".join(name for name in ("statistic", "item", "layer") if name in table.columns)
            database.execute(f"CREATE INDEX {table.name}_statistic ON {table.name} ({keys})")
    database.close()


def write_parquet(table: Table, path: Path) -> None:
    """As Parquet, in row groups of some 50,000 rows; pandas reads whole numbers as such, missing ones among them.

    Args:
        table: The table.
        path: A new file.

    Raises:
        InvalidArgument: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        raise InvalidArgument(
            "parquet needs pyarrow: pip install 'gammatorch[parquet]', or pass --format csv"
        ) from None
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    types = [kinds[kind] for kind in table.columns.values()]
    schema = arrow.schema(list(zip(table.columns, types, strict=True)), metadata={"pandas": _for_pandas(table)})
    remaining = iter(table.rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, _BATCH_ROWS)):
            columns = [arrow.array(column, kind) for column, kind in zip(zip(*batch, strict=True), types, strict=True)]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _for_pandas(table: Table) -> str:
    """What pandas writes of its types: without it, a column of whole numbers of which some are missing is of floats."""
    names = {str: ("unicode", "str"), int: ("int64", "Int64"), float: ("float64", "float64")}
    columns = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": names[kind][0],
            "numpy_type": names[kind][1],
            "metadata": None,
        }
        for name, kind in table.columns.items()
    ]
    return json.dumps({"index_columns": [], "column_indexes": [], "columns": columns})


TEXT_FORMATS: Mapping[str, Callable[[Table, IO[str]], None]] = {"csv": write_csv, "jsonl": write_jsonl}
FILE_FORMATS: Mapping[str, Callable[[Table, Path], None]] = {"parquet": write_parquet, "sqlite": write_sqlite}
"""By the name of ``--format``: what can go to stdout, and what needs a file."""


def write_table(table: Table, path: Path, form: str | None = None) -> None:
    """Write a table, whole or not at all.

    Args:
        table: The table.
        path: The file.
        form: The format; what the file's suffix tells if None.

    Raises:
        InvalidArgument: The format needs a package that is not installed.
        OutputError: It could not be written; an existing file is as it was.
    """
    form = form or path.suffix[1:].lower()
    with replacing(path) as part:
        if form in FILE_FORMATS:
            FILE_FORMATS[form](table, part)
        else:
            with part.open("w", encoding="utf-8", newline="") as file:
                TEXT_FORMATS[form](table, file)
