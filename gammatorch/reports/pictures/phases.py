"""Phases, marked behind a curve over the layers or along the diagonal of a matrix."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from gammatorch.reports.pictures.canvas import label
from gammatorch.results.run import PhaseFigures

_POINTS_ACROSS, _POINTS_A_LETTER = 245, 4.6
"""Width of a picture's axes and of a letter, about: a name stands where it has room."""

_FEWEST_LETTERS = 6
"""What is left of a name that is cut; with less it says nothing."""


def shade_phases(axes: Axes, phases: Sequence[PhaseFigures], layers: Sequence[int]) -> None:
    """Grey bands behind every other phase, and the names above those that are wide enough.

    Args:
        axes: With the layers as x.
        phases: The phases.
        layers: Layer index of each row.
    """
    axes.set_xlim(layers[0] - 0.7, layers[-1] + 0.7)
    for place, phase in enumerate(phases):
        first, last = phase.first - 0.5, phase.last + 0.5
        if place % 2 == 0:
            axes.axvspan(first, last, color="0.955", zorder=0, linewidth=0)
        _name(axes, phase.name, first, last, layers[-1] - layers[0] + 1.4)


def box_phases(axes: Axes, phases: Sequence[PhaseFigures], layers: Sequence[int]) -> None:
    """Boxes along the diagonal, one for each phase, and the names above.

    Args:
        axes: A matrix by position, row 0 at the top.
        phases: The phases.
        layers: Layer index of each row, ascending.
    """
    for phase in phases:
        first, last = (bisect_left(layers, end) for end in (phase.first, phase.last))
        corner, side = first - 0.5, last - first + 1
        for colour, width in (("white", 2.2), ("black", 0.9)):  # one of the two shows on any colour
            axes.add_patch(Rectangle((corner, corner), side, side, fill=False, edgecolor=colour, linewidth=width))
        _name(axes, phase.name, corner, corner + side, len(layers))


def _name(axes: Axes, name: str, first: float, last: float, across: float) -> None:
    """The name in the middle above, cut to the room there is; none where that is too little."""
    room = int((last - first) / across * _POINTS_ACROSS / _POINTS_A_LETTER)
    if room >= min(len(name), _FEWEST_LETTERS):
        where = axes.get_xaxis_transform()
        short = label(name, max(room, _FEWEST_LETTERS))
        axes.text((first + last) / 2, 1.015, short, transform=where, ha="center", va="bottom", fontsize=8, color="0.35")
