"""Matrices between layers or between checkpoints, as heat maps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from gammatorch.reports.pictures.canvas import canvas, numbers, whole_ticks
from gammatorch.reports.pictures.phases import box_phases
from gammatorch.results.run import RunDocument

_UNDEFINED = "0.8"
_LARGEST_EXACT = 512
"""Cells a side up to which each is kept; larger matrices are brought down to what the picture can show."""

_SMALLEST = 1e-12
"""Below it all that a matrix holds is 0 to rounding."""

Matrix = Sequence[Sequence[float | None]]


def cosine(document: RunDocument) -> Figure:
    """Cosines between the gains of every pair of layers."""
    return _between_layers(document, document.cosine, "cosine")


def rank_correlation(document: RunDocument) -> Figure:
    """Correlations between the normal scores of every pair of layers."""
    return _between_layers(document, document.statistics.rank_correlation or [], "rank correlation")


def pearson(document: RunDocument) -> Figure:
    """Correlations between the gains of every pair of layers."""
    return _between_layers(document, document.statistics.pearson, "Pearson r")


def _between_layers(document: RunDocument, values: Matrix, name: str) -> Figure:
    layers, odd = document.layers, set(document.statistics.odd_layers or ())
    figure, axes = canvas(height=3.75)
    image = heat_map(axes, values, name, limits(values, {row for row, layer in enumerate(layers) if layer in odd}))
    axes.set_aspect("equal")
    box_phases(axes, document.phases, layers)
    for axis, set_label in ((axes.xaxis, axes.set_xlabel), (axes.yaxis, axes.set_ylabel)):
        whole_ticks(axis, 8)
        axis.set_major_formatter(named_rows([str(layer) for layer in layers]))
        set_label("layer")
    colour_bar(figure, image, axes, pairs(values))
    return figure


def heat_map(axes: Axes, values: Matrix, name: str, bounds: tuple[float, float]) -> AxesImage:
    """Draw a matrix as an image, what is undefined grey.

    Args:
        axes: Where to.
        values: Rows of the matrix.
        name: What the values are.
        bounds: Values at the ends of the colours; those below 0 and above, as large, call for diverging colours.
    """
    low, high = bounds
    colours = colormaps["RdBu_r" if low == -high else "viridis"].with_extremes(bad=_UNDEFINED)
    exact = max(len(values), len(values[0])) <= _LARGEST_EXACT
    rows = [numbers(row) for row in values]
    image = axes.imshow(rows, colours, vmin=low, vmax=high, interpolation="none" if exact else "antialiased")
    image.set_label(name)
    axes.grid(False)
    return image


def colour_bar(figure: Figure, image: AxesImage, axes: Axes, values: Sequence[float]) -> None:
    """The colours beside a heat map, pointed where values lie beyond them.

    Args:
        figure: The figure.
        image: The heat map.
        axes: Where it is.
        values: Those that count.
    """
    low, high = image.get_clim()
    assert low is not None and high is not None  # heat_map has set both
    beyond = (any(value < low for value in values), any(value > high for value in values))
    pointed = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(image, ax=axes, extend=pointed[beyond], shrink=0.85, pad=0.02)
    bar.set_label(str(image.get_label()))
    bar.outline.set_visible(False)


def limits(values: Matrix, unusual: Collection[int] = ()) -> tuple[float, float]:
    """Ends of the colours: the smallest and largest value off the diagonal, or alike on both sides of 0.

    Args:
        values: A square matrix.
        unusual: Rows that do not count: one layer unlike all others would leave no colours for these.
    """
    return ends(pairs(values, unusual) or pairs(values) or [0.0, 1.0])


def pairs(values: Matrix, unusual: Collection[int] = ()) -> list[float]:
    """What is defined off the diagonal of a square matrix.

    Args:
        values: The matrix.
        unusual: Rows and columns to leave out.
    """
    usual = [row for row in range(len(values)) if row not in unusual]
    found = (values[row][column] for row in usual for column in usual if row != column)
    return [value for value in found if value is not None]


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the colours for some values; where these go below 0, so that 0 is in the middle.

    Args:
        values: At least one.

    Example:
        >>> ends([0.25, 0.5]), ends([-0.25, 0.5]), ends([0.5, 0.5])
        ((0.25, 0.5), (-0.5, 0.5), (0.0, 0.5))
    """
    low, high = min(values), max(values)
    if low < 0:
        return -max(-low, high), max(-low, high)
    if high - low < 1e-9 * max(high, 1e-9):  # all alike: one colour, at the end, since cosines of 1 have nothing above
        return 0.0, high if high >= _SMALLEST else 1.0
    return low, high


def named_rows(names: Sequence[str]) -> FuncFormatter:
    """Tick labels of a matrix whose rows stand at whole numbers.

    Args:
        names: Of the rows.
    """

    def name(at: float, _: object) -> str:
        row = math.floor(at)
        return names[row] if row == at and 0 <= row < len(names) else ""

    return FuncFormatter(name)
