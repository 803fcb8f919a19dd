"""Where the direction changes: jumps from one layer to the next, and turns that take several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gammatorch.analysis.correlations import Correlations, over_rows
from gammatorch.analysis.depth import disattenuated
from gammatorch.analysis.host import Array, Flags, Rows
from gammatorch.analysis.intervals import FEWEST_BLOCKS, standard_error, student_t
from gammatorch.analysis.layer_kinds import largest_kind
from gammatorch.analysis.outliers import SHORTEST

MOST_PHASES = 12

SMALLEST_JUMP = 0.05
"""Correlation that must be lost at a boundary, beyond what the distance alone costs."""

STEPS = 3
"""A jump is larger than this many ordinary steps from layer to layer beside it."""


@dataclass(frozen=True)
class Boundary:
    """A jump of the direction from one layer to the next.

    Attributes:
        layer: The first layer after it.
        jump: Correlation lost across it, beyond what the distance alone costs.
        error: Its standard error over channels.
    """

    layer: int
    jump: float
    error: float


def boundaries(correlations: Correlations) -> list[Boundary] | None:
    """Where every phase but the first begins; nowhere where the direction drifts, or stays.

    For every number of phases K the layers are cut so that Σ over phases of n − (1/n) Σ pearson is least, the scatter
    of the standardised gains about their phase's mean: exactly, by dynamic programming over all cuts (Fisher 1958;
    on a matrix of similarities Harchaoui and Cappé 2007). K is the largest number of which every boundary is a jump:
    the correlation lost across it, against pairs **equally far apart** on that side of it where they are less alike,
    exceeds 0.05, three times the loss per layer beside it, and the jackknife error of the channels by a factor that
    holds for all boundaries at once (95 %, Bonferroni). So a smooth drift, whose cost falls with K as well, has no
    phases, nor does a single outlier layer make one.

    Where kinds of layers alternate (:func:`~gammatorch.analysis.layer_kinds.period`), those of another kind hide the
    jumps, so the layers of the largest kind are looked at alone as well, and what shows more phases counts. Distances
    there count in layers of the kind; one layer more between two of them costs one step, of which a jump takes three. A
    layer of another kind at a boundary goes to the side on which the next layer of its kind is more like it.

    Args:
        correlations: Of one checkpoint.

    Returns:
        Boundaries in the order of depth; None where it cannot be told: fewer than six layers
        whose gains vary, or fewer than eight channels. Layers of constant gain are passed over. Phases shorter than
        three layers are not seen.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> directions = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
        >>> gains = directions.repeat_interleave(6, dim=0)
        >>> [one.layer for one in boundaries(Correlations(moments(gains).home()[0], tuple(range(12))))]
        [6]
    """
    return over_rows(_whole_or_by_kind, correlations, correlations.varied)


def _whole_or_by_kind(correlations: Correlations) -> list[Boundary] | None:
    whole, every = _boundaries(correlations), correlations.period["period"]
    if whole is None or every is None:
        return whole
    return max(whole, _of_largest_kind(correlations, every), key=len)


def _of_largest_kind(correlations: Correlations, every: int) -> list[Boundary]:
    """The boundaries that the layers of the largest kind show."""
    filled, layers = correlations.filled, correlations.layers
    rows = largest_kind(filled, every)
    found = _boundaries(correlations.only(np.array(rows))) or []
    around = (rows[rows.index(layers.index(start.layer)) - 1 :][:2] for start in found)
    firsts = (layers[_first_of_phase(filled, every, *pair)] for pair in around)
    return [replace(start, layer=first) for start, first in zip(found, firsts, strict=True)]


def _first_of_phase(pearson: Array, every: int, before: int, start: int) -> int:
    """The first row after ``before`` from which on all rows up to ``start`` are more like what comes after them."""
    while start - 1 > before and every <= start - 1 < len(pearson) - every:
        row = start - 1
        if pearson[row, row + every] <= pearson[row, row - every]:
            break
        start = row
    return start


def _boundaries(correlations: Correlations) -> list[Boundary] | None:
    """Boundaries, None for too few layers or channels."""
    layers = correlations.layers
    if len(layers) < 2 * SHORTEST or len(correlations.without) < FEWEST_BLOCKS:
        return None
    real, jump, error = _jumps(correlations)
    chosen: Rows = np.zeros(0, dtype=np.intp)
    if real.any():
        for cuts in _best_cuts(_scatter(correlations.filled)):
            chosen = cuts if real[cuts].all() else chosen
    return [Boundary(layers[row], float(jump[row]), float(error[row])) for row in chosen.tolist()]


def _scatter(pearson: Array) -> Array:
    """Cost of one phase from row a up to, but without, row b: shape (a, b); infinite if too short."""
    corner = np.pad(pearson.cumsum(axis=-1).cumsum(axis=-2), ((1, 0), (1, 0)))
    diagonal = corner.diagonal()
    inside = diagonal[None, :] + diagonal[:, None] - corner - corner.T
    edge = np.arange(len(corner))
    length = edge - edge[:, None]
    return np.where(length >= SHORTEST, length - inside / length.clip(min=1), np.inf)


def _best_cuts(scatter: Array) -> Iterator[Rows]:
    """The best partition into 2, 3, … phases: first rows of all but the first phase, shape (K - 1)."""
    layers = len(scatter) - 1
    cost, origins, columns = scatter[0], [], np.arange(layers + 1)
    for _ in range(2, min(MOST_PHASES, layers // SHORTEST) + 1):
        costs = cost[:, None] + scatter
        origins.append(origin := costs.argmin(axis=0))
        cost = costs[origin, columns]
        path = [layers]
        for step in reversed(origins):
            path.append(int(step[path[-1]]))
        yield np.array(path[:0:-1])


def _jumps(correlations: Correlations) -> tuple[Flags, Array, Array]:
    """Which rows begin with a jump, how large it is, and its standard error: shape (layer)."""
    left, right, across = _window_means(correlations.filled)
    left_is_less = left.mean(axis=0) <= right.mean(axis=0)
    inside = np.where(left_is_less, left, right)
    jump = inside.mean(axis=0) - across.mean(axis=0)
    step = (inside[0] - inside[1]).clip(min=0)
    others = _window_means(correlations.without)
    jump_without = np.where(left_is_less, others[0], others[1]).mean(axis=0) - others[2].mean(axis=0)
    blocks, places = jump_without.shape
    error = standard_error(jump_without.T)
    sure = student_t(1 - 0.025 / places, blocks - 1) * error
    real = (jump > SMALLEST_JUMP) & (jump > STEPS * step) & (jump > sure)
    ends = (SHORTEST, SHORTEST - 1)
    return np.pad(real, ends), np.pad(jump, ends), np.pad(error, ends)


def _window_means(pearson: Array) -> tuple[Array, Array, Array]:
    """Mean correlation at lags 1 and 2 among the three rows before each boundary, the three after, and across.

    Boundaries stand before rows 3 … L − 3; shapes (lag, …, boundary).
    """
    one, two = (np.diagonal(pearson, lag, -2, -1) for lag in (1, 2))
    count = pearson.shape[-1] - 2 * SHORTEST + 1
    ones = [one[..., start : start + count] for start in range(5)]
    twos = [two[..., start : start + count] for start in range(4)]
    left = np.stack([(ones[0] + ones[1]) / 2, twos[0]])
    right = np.stack([(ones[3] + ones[4]) / 2, twos[3]])
    return left, right, np.stack([ones[2], (twos[1] + twos[2]) / 2])


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
