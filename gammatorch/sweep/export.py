"""A sweep as one long table: item, step, layer, statistic, value."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from gammatorch.errors import InvalidArgument
from gammatorch.results.sweep import Item, Settings
from gammatorch.results.tidy import figure_rows
from gammatorch.sweep.item import natural
from gammatorch.sweep.store import SUFFIX, StoredItem, read_item, read_items

_BATCH_ROWS = 50_000


class Row(NamedTuple):
    """One figure of one item.

    Attributes:
        item: Name of the item, made unique where several have the same.
        step: Training step, where it is known.
        layer: Index of the layer; of the first of two for ``cos_adjacent``; None for figures of the whole item.
        statistic: Name of the figure; parts are joined by dots, places in other lists counted from 0.
        value: The figure, None where it is undefined.
    """

    item: str
    step: int | None
    layer: int | None
    statistic: str
    value: float | None


def long_table(folder: Path) -> Iterator[Row]:
    """Every figure of every item, items by name and step, with one item in memory at a time.

    Args:
        folder: The sweep's folder.

    Raises:
        OutputError: It is no sweep's folder.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    labels = unique_labels(folder)  # at once: a folder that is none has no table, not an empty one
    stored = ((read_item(folder / "items" / f"{key}{SUFFIX}", tensors=False), label) for key, label in labels)
    return (row for one, label in stored for row in rows_of(one, label))


def unique_labels(folder: Path) -> list[tuple[str, str]]:
    """Key and name of each item, in natural order of the names.

    Where several items have one name, because a branch moved, a local checkpoint was written again, or the settings
    were others, each says which it is.

    Args:
        folder: The sweep's folder.
    """
    items = ((stored.item, stored.settings) for stored in read_items(folder, tensors=False))
    return sorted(label_items(items).items(), key=lambda label: natural(label[1]))


def label_items(items: Iterable[tuple[Item, Settings]]) -> dict[str, str]:
    """A name of its own for each item, by key; see :func:`unique_labels`.

    Args:
        items: The items, and what was read of each.
    """
    found = [(item.key, item.name, item.commit, settings_text(settings)) for item, settings in items]
    times = Counter(name for _, name, _, _ in found)
    variants = Counter((name, settings) for _, name, _, settings in found)
    labels = {}
    for key, name, commit, settings in found:
        parts = [settings] if times[name] > 1 and settings else []
        parts += [(commit or key)[:7]] if variants[name, settings] > 1 else []
        labels[key] = f"{name} ({', '.join(parts)})" if parts else name
    return labels


def rows_of(stored: StoredItem, label: str) -> Iterator[Row]:
    """The figures of one item.

    Args:
        stored: The item.
        label: What it is called.
    """
    for layer, statistic, value in figure_rows(stored.analysis):
        yield Row(label, stored.item.step, layer, statistic, value)


def settings_text(settings: Settings) -> str:
    """What differs from the usual settings; empty where nothing does.

    Args:
        settings: The settings.
    """
    usual = msgspec.structs.asdict(Settings())
    changed = {name: value for name, value in msgspec.structs.asdict(settings).items() if value != usual[name]}
    return ", ".join(f"{name}={value}" for name, value in changed.items())


def write_csv(rows: Iterable[Row], file: IO[str]) -> None:
    """As comma-separated values; what is undefined or not of one layer is empty.

    Args:
        rows: The table.
        file: Where to, opened with ``newline=""``.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)


def write_jsonl(rows: Iterable[Row], file: IO[str]) -> None:
    """As one JSON object a line.

    Args:
        rows: The table.
        file: Where to.
    """
    for row in rows:
        file.write(json.dumps(row._asdict(), allow_nan=False) + "\n")


def write_sqlite(rows: Iterable[Row], path: Path) -> None:
    """As the table ``figures`` of an SQLite database, with an index by statistic.

    Args:
        rows: The table.
        path: A new file.
    """
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE figures (item TEXT, step INTEGER, layer INTEGER, statistic TEXT, value REAL)")
        database.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX figures_statistic ON figures (statistic, item, layer)")
    database.close()


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """As Parquet, in row groups of some 50,000 rows.

    Args:
        rows: The table.
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
    kinds = (arrow.string(), arrow.int64(), arrow.int32(), arrow.string(), arrow.float64())
    schema = arrow.schema(list(zip(Row._fields, kinds, strict=True)))
    remaining = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, _BATCH_ROWS)):
            columns = [arrow.array(column, kind) for column, kind in zip(zip(*batch, strict=True), kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


TEXT_FORMATS: Mapping[str, Callable[[Iterable[Row], IO[str]], None]] = {"csv": write_csv, "jsonl": write_jsonl}
FILE_FORMATS: Mapping[str, Callable[[Iterable[Row], Path], None]] = {"parquet": write_parquet, "sqlite": write_sqlite}
"""By the name of ``--format``: what can go to stdout, and what needs a file."""
