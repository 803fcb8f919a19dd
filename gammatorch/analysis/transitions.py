"""Turns that take several layers, between runs of layers that hold their direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gammatorch.analysis.host import Array
from gammatorch.analysis.intervals import standard_error, student_t
from gammatorch.analysis.reliability import disattenuated

SMALLEST_TURN = 0.08
"""Correlation that must be lost across a transition, beyond what steady turning would cost."""

_SUDDEN = 0.75
"""Share of the loss across that must lie beyond what steady turning would cost."""

_WIDEST = 8
"""Layers between the two runs, at most."""

_RUN = (3, 6)
"""Layers of the runs on both sides that are looked at: one more than lie between them, within these bounds."""


_NEARLY = 0.9
"""Share of the largest loss from which on a narrower place is taken instead."""

_Place = tuple[float, int, int, int]
"""Loss, first row of the run before, layers of a run, layers between the runs."""


@dataclass(frozen=True)
class Transition:
    """A turn over several layers.

    Attributes:
        first: The last layer of the run before it.
        last: The first layer of the run after it.
        loss: Correlation lost across, beyond what steady turning would cost.
        error: Its standard error over channels.
    """

    first: int
    last: int
    loss: float
    error: float


def transitions(correlation: Array, changes: Array, layers: Sequence[int]) -> list[Transition]:
    """Transitions between runs of layers, the largest first.

    With D = 1 − r of correlations without each layer's own noise: D across, between the layers before a and those after
    b, less the D within either run (the greater of both) times the square of how much further apart the layers across
    are. A direction that turns steadily loses with the square of the distance at most, so what is left was lost
    between a and b. It counts from 0.08 on, if it is three quarters of D across, and exceeds its error over channels
    for all places at once (95 %, Bonferroni). A course that slows down, as one that saturates, has no run on one side.

    Args:
        correlation: Between the layers, shape (layer, layer).
        changes: What it changes by without each block of channels, shape (block, layer, layer).
        layers: Layer index of each row.

    Returns:
        Without those that lie across a larger one.
    """
    lost = (1 - disattenuated(correlation)).clip(min=0)
    found: list[_Place] = []
    places = 0
    for between in range(1, _WIDEST + 1):
        run = _run(between)
        if 2 * run + between > len(layers):
            break
        beyond, across = _beyond_steady(lost[None], run, between)[0]
        places += len(beyond)
        real = (beyond > SMALLEST_TURN) & (beyond > _SUDDEN * across)
        found += [(float(beyond[start]), start, run, between) for start in real.nonzero()[0].tolist()]
    if not found:
        return []
    others = (1 - disattenuated(correlation + changes)).clip(min=0)
    quantile = student_t(1 - 0.025 / places, len(changes) - 1)
    kept: list[Transition] = []
    taken: list[_Place] = []
    for largest in sorted(found, reverse=True):
        if not any(_overlap(largest, other) for other in taken):
            taken.append(best := _narrowest(found, largest))
            loss, start, run, between = best
            around = slice(start, start + 2 * run + between)
            error = float(standard_error(_beyond_steady(others[:, around, around], run, between)[:, 0, 0]))
            if loss > quantile * error:
                first, last = _ends(best)
                kept.append(Transition(layers[first], layers[last], loss, error))
    return kept


def _ends(place: _Place) -> tuple[int, int]:
    """Row of the last layer before the turn, and of the first after it."""
    _, start, run, between = place
    return start + run - 1, start + run + between


def _overlap(one: _Place, other: _Place) -> bool:
    (first, last), (begin, end) = _ends(one), _ends(other)
    return first < end and begin < last


def _narrowest(found: Sequence[_Place], one: _Place) -> _Place:
    """Of those that overlap with a turn and lose nearly as much the one with the fewest layers between."""
    rivals = (other for other in found if _overlap(one, other) and other[0] >= _NEARLY * one[0])
    return min(rivals, key=lambda other: (other[3], -other[0]))


def _run(between: int) -> int:
    """Layers of the runs on both sides."""
    return min(_RUN[1], max(_RUN[0], between + 1))


@lru_cache
def _within(run: int) -> tuple[Array, float]:
    """Weights of the pairs of a run that are at least half of it apart, and their mean distance."""
    lag = np.abs(np.arange(run)[:, None] - np.arange(run)).astype(np.float64)
    apart = (lag >= run // 2).astype(np.float64)
    return apart / apart.sum(), float((lag * apart).sum() / apart.sum())


def _beyond_steady(lost: Array, run: int, between: int) -> Array:
    """What is lost beyond steady turning, and across in all, at every place: shape (1 + block, 2, place)."""
    weights, mean_lag = _within(run)
    windows = sliding_window_view(lost, (run, run), axis=(-2, -1))  # (1 + block, start, start, row, column)
    inside = np.tensordot(windows.diagonal(0, 1, 2), weights, ([1, 2], [0, 1]))
    total = windows.diagonal(run + between, 1, 2).mean(axis=(1, 2))
    count, further = total.shape[1], (run + between) / mean_lag
    steady = np.maximum(inside[:, :count], inside[:, run + between :][:, :count]) * further**2
    return np.stack([total - steady, total], axis=1)
