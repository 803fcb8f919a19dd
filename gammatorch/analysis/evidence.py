"""What the verdict rests on: a few figures of each checkpoint, of all channels and without each block of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gammatorch.analysis.change_points import (
    SMALLEST_JUMP,
    SMALLEST_TURN,
    Boundary,
    Transition,
    boundaries,
    transitions,
)
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.depth import FEWEST_LAYERS, disattenuated, order_weights
from gammatorch.analysis.host import Array, Rows, product, sum_of_squares
from gammatorch.analysis.intervals import FEWEST_BLOCKS
from gammatorch.analysis.layer_kinds import largest_kind
from gammatorch.analysis.outliers import outlier_rows
from gammatorch.analysis.shared import loadings, unexplained

ORDERED = 2.5
"""Standard score, see :func:`~gammatorch.analysis.depth.order_weights`, from which on order matters."""

NEAR = 2
"""Layers that are at most so far apart are near."""

_FEWEST = 6
"""Layers below which neither their order nor a second direction can be told."""

_OUTLIERS = 4
"""So many outlier layers may be missing from the layers that disattenuation takes."""

_FAINT = 0.15
"""A loading is no less than this where correlations are divided by it."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Figures of one checkpoint, from the layers that vary and are no outliers.

    Where kinds of layers alternate, all but ``overall`` and ``misfit`` are those of the largest kind, in which
    distances count in layers of the kind.

    Arrays have shape (1 + block): of all channels, then without each block, to first order. NaN where undefined.

    Attributes:
        closest: Correlation of the median layer with the one most like it.
        overall: Mean correlation.
        mean: The same within the largest kind.
        near: That of layers one or two apart.
        far: That of layers at least half the depth apart.
        loss: ``near − far``.
        turn: The same once each correlation is divided by what one common direction and each layer's own noise give:
            0 where only the noise differs over depth.
        true_loss: ``loss`` of disattenuated correlations; NaN below 24 layers.
        misfit: Root mean square of what one direction leaves of the correlations, beyond chance.
        own_misfit: The same within the largest kind.
        order: Standard score of how much the order of the layers matters; NaN below six layers.
        boundaries: Where the direction jumps, None where that cannot be told; none where order does not matter.
        transitions: Where it turns over several layers.
        outliers: Outlier layers.
        count: How many layers that is without them.
        profile: Mean correlation by distance, of disattenuated correlations from 24 layers on; from distance 1.
    """

    closest: Array
    overall: Array
    mean: Array
    near: Array
    far: Array
    loss: Array
    turn: Array
    true_loss: float
    misfit: Array
    own_misfit: Array
    order: Array
    boundaries: Sequence[Boundary] | None
    transitions: Sequence[Transition]
    outliers: Sequence[int]
    count: int
    profile: Array

    @property
    def jump(self) -> tuple[float, float]:
        """The largest jump or turn in units of the smallest that counts, and its standard error."""
        sharp = [(one.jump / SMALLEST_JUMP, one.error / SMALLEST_JUMP) for one in self.boundaries or ()]
        wide = [(one.loss / SMALLEST_TURN, one.error / SMALLEST_TURN) for one in self.transitions]
        return max([*sharp, *wide], default=(0.0, 0.0))


def evidence(correlations: Correlations) -> Evidence:
    """What the verdict rests on.

    Args:
        correlations: Of one checkpoint.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> one = torch.randn(512, generator=torch.Generator().manual_seed(0)).expand(8, -1)
        >>> found = evidence(Correlations(moments(one).home()[0], tuple(range(8))))
        >>> round(float(found.mean[0]), 6), round(float(found.misfit[0]), 6)
        (1.0, 0.0)
    """
    apart, every = outlier_rows(correlations), correlations.period["period"]
    rows = (correlations.varied & ~apart).nonzero()[0]
    usual = chosen = _Blocks.of(correlations, rows)
    place = rows
    if every is not None:
        rows = rows[np.isin(rows, largest_kind(correlations.filled, every))]
        chosen, place = _Blocks.of(correlations, rows), np.arange(len(rows))
    layers, outliers = ([correlations.layers[row] for row in some] for some in (rows, apart.nonzero()[0]))
    return _evidence(usual, chosen, place, layers, boundaries(correlations), outliers)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Correlations of some layers, shape (layer, layer), and what they change by without each block of channels."""

    whole: Array
    changes: Array

    @classmethod
    def of(cls, correlations: Correlations, rows: Rows) -> _Blocks:
        whole, without = correlations.filled, correlations.without
        if len(rows) < len(whole):
            whole, without = whole[rows[:, None], rows], without[:, rows[:, None], rows]
        return cls(whole, without - whole)

    def figures(self, weights: Sequence[Array]) -> Array:
        """Weighted sums over pairs of layers, shape (weights, 1 + block)."""
        of_pair = np.stack(weights).reshape(len(weights), self.whole.size)
        whole = product(of_pair, self.whole.ravel())
        changes = product(of_pair, self.changes.reshape(len(self.changes), self.whole.size).T)
        return np.concatenate([whole[:, None], whole[:, None] + changes], axis=1)

    def misfit(self, of_one: Array) -> Array:
        """Root mean square of what one direction leaves, less the variance of correlations over channels."""
        left, pairs = unexplained(self.whole, of_one), len(self.whole) * (len(self.whole) - 1)
        blocks, chance = len(self.changes), 0.0
        if blocks >= FEWEST_BLOCKS:
            mean = self.changes.mean(axis=0)
            squares = sum_of_squares(self.changes) - blocks * sum_of_squares(mean)
            chance = squares * (blocks - 1) / blocks / pairs
        (slope,) = self.figures([2 * left / pairs])
        mean_square = sum_of_squares(left) / pairs - chance
        return np.asarray(np.sqrt((mean_square + slope - slope[0]).clip(min=0)))


def _evidence(
    usual: _Blocks,
    chosen: _Blocks,
    place: Rows,
    layers: Sequence[int],
    sharp: Sequence[Boundary] | None,
    outliers: Sequence[int],
) -> Evidence:
    """From the layers that are no outliers, and of them those to look at, which stand at ``place``."""
    whole, count, enough = chosen.whole, len(place), len(place) >= _FEWEST
    lag = np.abs(place[:, None] - place)
    span = int(lag.max()) + 1 if count else 0
    is_near = ((lag > 0) & (lag <= NEAR)).astype(np.float64)
    near, far = _mean_of(is_near), _mean_of((lag >= max(NEAR, math.ceil(span / 2))).astype(np.float64))
    of_one = loadings(whole) if count > 1 else np.ones(count)
    scale = of_one.clip(min=_FAINT)
    turn = (near - far) / np.outer(scale, scale) if enough else np.zeros_like(whole)
    order = order_weights(whole, is_near) if enough else np.full_like(whole, np.nan)
    closest, mean, close, distant, turned, ordered = chosen.figures(
        [_closest(whole), _mean_of((lag > 0).astype(np.float64)), near, far, turn, order]
    )
    deep, matters = count >= FEWEST_LAYERS - _OUTLIERS, bool(ordered[0] >= ORDERED)
    true = disattenuated(whole) if deep else whole
    wide = []
    if matters and deep and len(chosen.changes) >= FEWEST_BLOCKS:
        wide = transitions(whole, chosen.changes, layers)
    misfit = chosen.misfit(of_one) if enough else np.zeros_like(mean)
    known = [one.layer for one in sharp or ()]
    (overall,) = usual.figures([_mean_of(1 - np.eye(len(usual.whole)))])
    return Evidence(
        closest=closest,
        overall=overall,
        mean=mean,
        near=close,
        far=distant,
        loss=close - distant,
        turn=turned,
        true_loss=float(((near - far) * true).sum()) if deep else math.nan,
        misfit=misfit if usual is chosen or len(usual.whole) < _FEWEST else usual.misfit(loadings(usual.whole)),
        own_misfit=misfit,
        order=ordered,
        boundaries=sharp if matters or not sharp else [],
        transitions=[one for one in wide if not any(one.first < start <= one.last for start in known)],
        outliers=outliers,
        count=len(usual.whole),
        profile=_by_distance(true, lag),
    )


def _mean_of(pairs: Array) -> Array:
    """Weights of the pairs whose sum is their mean; NaN where there are none."""
    count = pairs.sum()
    return pairs / count if count else np.full_like(pairs, np.nan)


def _closest(correlation: Array) -> Array:
    """Weights that pick out the median layer and the one most like it."""
    if len(correlation) < 2:
        return np.full_like(correlation, np.nan)
    weights = np.zeros_like(correlation)
    others = correlation - 3 * np.eye(len(correlation))
    middle = np.argsort(others.max(axis=-1), kind="stable")[(len(others) - 1) // 2]
    weights[middle, others[middle].argmax()] = 1
    return weights


def _by_distance(values: Array, lag: Rows) -> Array:
    """Mean by distance, from distance 1 on; NaN where no pair is so far apart."""
    counts = np.bincount(lag.ravel())
    sums = np.bincount(lag.ravel(), weights=values.ravel())
    with np.errstate(invalid="ignore"):
        return np.asarray((sums / counts)[1:])


@dataclass(frozen=True, eq=False)
class Lenses:
    """Correlations of the gains and of their normal scores, of one checkpoint.

    Attributes:
        stored: Of the gains as they are, which Pearson's correlation and the original's figures are made of.
        ranked: Of their normal scores; None where the gains were read in column blocks and have no ranks.
    """

    stored: Correlations
    ranked: Correlations | None

    @property
    def robust(self) -> Correlations:
        """What the verdict rests on: the scores, or else the gains."""
        return self.ranked or self.stored

    @cached_property
    def evidence(self) -> Evidence:
        """What the verdict rests on."""
        return evidence(self.robust)
