"""Tables of figures as pandas has them; pandas is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gammatorch.errors import InvalidArgument

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

TYPES: Mapping[str, str] = {"layer": "Int64", "step": "Int64", "value": "float64"}
"""Columns that are not of texts; ``Int64`` holds whole numbers of which some are missing."""


def frame(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> DataFrame:
    """Rows as a table whose whole numbers are whole, also where some are missing.

    Args:
        names: Its columns.
        rows: Their values.

    Raises:
        InvalidArgument: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InvalidArgument(f"to_dataframe needs pandas ({error}): pip install pandas") from None
    table = pandas.DataFrame(list(rows), columns=list(names), dtype=object)
    return table.astype({name: TYPES.get(name, "str") for name in names})
