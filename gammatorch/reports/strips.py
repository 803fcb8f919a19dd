"""Small pictures made of characters: a strip of figures over layers, and a map of a matrix over pairs of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

BLOCKS, DIGITS = "▁▂▃▄▅▆▇█", "0123456789"
"""Characters of a strip from the lowest to the highest, and those for a terminal that has no blocks."""

SHADES = ".:+*#@"
"""Characters of a map without colour, from 0 to 1."""

BELOW = "-"
"""Character of a map without colour for what is below 0."""

_LEAST_BELOW = -0.05
"""Correlation below which a character says so."""

_LOOKED_AT = 16
"""Layers of a run that a cell looks at, about."""

_BLUE, _WHITE, _ORANGE = (33, 102, 172), (247, 247, 247), (230, 97, 1)
"""Ends and middle of the colours, which differ in lightness and are told apart without red or green."""


def has_blocks(console: Console) -> bool:
    """Whether a console can show block characters."""
    return console.encoding.lower().replace("-", "") == "utf8" and not console.is_dumb_terminal


def has_shades(console: Console) -> bool:
    """Whether a console has colours fine enough for a map, and half blocks to put them on."""
    return has_blocks(console) and not console.no_color and console.color_system in ("256", "truecolor")


def mean(values: Sequence[float]) -> float:
    """The mean of some figures."""
    return math.fsum(values) / len(values)


def strip(
    values: Sequence[float],
    width: int,
    *,
    levels: str = BLOCKS,
    high: float | None = None,
    pick: Callable[[Sequence[float]], float] = mean,
) -> str:
    """Figures in a row as one character each, on a scale that holds 0; a space where one is undefined.

    A scale from the lowest figure to the highest would make mountains of figures that are nearly equal.

    Args:
        values: One for each layer, NaN where undefined.
        width: Characters at most; layers that are more are put together.
        levels: Characters from the lowest to the highest.
        high: The figure of the highest character; the highest of the figures if None.
        pick: Which figure stands for layers that are put together.

    Example:
        >>> strip([0.0, 1.0, 2.0, 7.0], 4), strip([0.0, 1.0, 2.0, 7.0], 2, levels=DIGITS, pick=max)
        ('▁▂▃█', '19')
        >>> strip([0.9, 0.95], 2, high=1.0)
        '▇█'
    """
    runs = (values[start:stop] for start, stop in runs_of(len(values), width))
    known = ([value for value in run if not math.isnan(value)] for run in runs)
    picked = [pick(run) if run else math.nan for run in known]
    defined = [0.0, *(value for value in picked if not math.isnan(value))]
    low, top = min(defined), max(defined) if high is None else high
    scale = (len(levels) - 1) / (top - low) if top > low else 0.0
    return "".join(" " if math.isnan(value) else levels[round((value - low) * scale)] for value in picked)


def runs_of(count: int, most: int) -> list[tuple[int, int]]:
    """Runs of nearly equal length, as first and one past the last.

    Example:
        >>> runs_of(5, 2), runs_of(2, 5)
        ([(0, 2), (2, 5)], [(0, 1), (1, 2)])
    """
    runs = min(count, most)
    return [(count * run // runs, count * (run + 1) // runs) for run in range(runs)]


def heat_map(matrix: Sequence[Sequence[float]], side: int, *, coloured: bool) -> list[Text]:
    """A matrix of correlations over pairs of layers, as lines of characters, the first layer at the top left.

    With colours each character holds two cells, one above the other, from blue (−1) over white (0) to orange (1).
    Without, each is one of :data:`SHADES`, as wide as a cell with colours and twice as high.

    Args:
        matrix: Correlations, shape (layer, layer), NaN where undefined.
        side: Cells along a side at most, even.
        coloured: Whether there are colours.

    Example:
        >>> [line.plain for line in heat_map([[1.0, -0.5], [-0.5, 1.0]], 12, coloured=True)]
        ['▀▀']
        >>> [line.plain for line in heat_map([[1.0, 0.5], [0.5, 1.0]], 2, coloured=False)]
        ['**']
    """
    columns = runs_of(len(matrix), side)
    if not coloured:
        rows = runs_of(len(matrix), (len(columns) + 1) // 2)
        return [Text("".join(_shade(_cell(matrix, row, column)) for column in columns)) for row in rows]
    cells = [[_cell(matrix, row, column) for column in columns] for row in columns]
    return [_half_blocks(upper, lower) for upper, lower in zip(cells[::2], [*cells[1::2], None], strict=False)]


def _cell(matrix: Sequence[Sequence[float]], rows: tuple[int, int], columns: tuple[int, int]) -> float:
    """Mean over the pairs of different layers of a cell, NaN where none has a correlation; 1 of a layer alone."""
    pairs = [(row, column) for row in _some(rows) for column in _some(columns)]
    different = [(row, column) for row, column in pairs if row != column] or pairs
    known = [value for row, column in different if not math.isnan(value := matrix[row][column])]
    return mean(known) if known else math.nan


def _some(run: tuple[int, int]) -> range:
    """The layers of a run, or some of them at equal distances: thousands of layers have millions of pairs."""
    return range(*run, max(1, (run[1] - run[0]) // _LOOKED_AT))


def _shade(value: float) -> str:
    if math.isnan(value):
        return "?"
    return BELOW if value < _LEAST_BELOW else SHADES[min(len(SHADES) - 1, int(max(value, 0.0) * len(SHADES)))]


def _half_blocks(upper: Sequence[float], lower: Sequence[float] | None) -> Text:
    """Two rows of cells in one line; the second may be missing."""
    line = Text()
    for number, value in enumerate(upper):
        below = f" on {_colour(lower[number])}" if lower is not None else ""
        line.append("▀", style=f"{_colour(value)}{below}")
    return line


def _colour(value: float) -> str:
    if math.isnan(value):
        return "rgb(128,128,128)"
    far, share = (_ORANGE if value > 0 else _BLUE), min(abs(value), 1.0)
    red, green, blue = (round(near + (end - near) * share) for near, end in zip(_WHITE, far, strict=True))
    return f"rgb({red},{green},{blue})"
