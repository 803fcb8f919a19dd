"""What the verdict rests on: a few figures of each checkpoint, of all channels and without each block of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.analysis.alternation import largest_kind
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.depth_order import order_weights
from gammatorch.analysis.intervals import FEWEST_BLOCKS
from gammatorch.analysis.odd import odd_rows
from gammatorch.analysis.one_direction import loadings, unexplained
from gammatorch.analysis.reliability import FEWEST_LAYERS, disattenuated
from gammatorch.analysis.segments import SMALLEST_JUMP, Boundary, boundaries
from gammatorch.analysis.transitions import SMALLEST_TURN, Transition, transitions

ORDERED = 2.5
"""Standard score, see :func:`~gammatorch.analysis.depth_order.order_weights`, from which on order matters."""

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

    Tensors have shape (1 + block): of all channels, then without each block, to first order. NaN where undefined.

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

    closest: Tensor
    overall: Tensor
    mean: Tensor
    near: Tensor
    far: Tensor
    loss: Tensor
    turn: Tensor
    true_loss: float
    misfit: Tensor
    own_misfit: Tensor
    order: Tensor
    boundaries: Sequence[Boundary] | None
    transitions: Sequence[Transition]
    outliers: Sequence[int]
    count: int
    profile: Tensor

    @property
    def jump(self) -> tuple[float, float]:
        """The largest jump or turn in units of the smallest that counts, and its standard error."""
        sharp = [(one.jump / SMALLEST_JUMP, one.error / SMALLEST_JUMP) for one in self.boundaries or ()]
        wide = [(one.loss / SMALLEST_TURN, one.error / SMALLEST_TURN) for one in self.transitions]
        return max([*sharp, *wide], default=(0.0, 0.0))


def evidence(correlations: Correlations) -> list[Evidence]:
    """The evidence of each checkpoint.

    Args:
        correlations: Of one checkpoint or several.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> one = torch.randn(512, generator=torch.Generator().manual_seed(0)).expand(8, -1)
        >>> (found,) = evidence(Correlations(moments(one), tuple(range(8))))
        >>> round(float(found.mean[0]), 6), round(float(found.misfit[0]), 6)
        (1.0, 0.0)
    """
    odd, sharp, kinds = odd_rows(correlations), boundaries(correlations), correlations.period["period"]
    found = []
    for checkpoint, usual in enumerate(correlations.varied & ~odd):
        whole, without = correlations.filled[checkpoint], correlations.without[checkpoint]
        rows, every = usual.nonzero()[:, 0], kinds[checkpoint]
        all_usual, chosen = _Blocks.of(whole, without, rows), rows
        if every is not None:
            of_kind = set(largest_kind(whole, every))
            chosen = torch.tensor([row for row in rows.tolist() if row in of_kind], dtype=torch.long)
        found.append(
            _evidence(
                all_usual,
                all_usual if every is None else _Blocks.of(whole, without, chosen),
                chosen if every is None else torch.arange(len(chosen)),
                [correlations.layers[row] for row in chosen.tolist()],
                sharp[checkpoint],
                [correlations.layers[row] for row in odd[checkpoint].nonzero()[:, 0].tolist()],
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Correlations of some layers, shape (layer, layer), and what they change by without each block of channels."""

    whole: Tensor
    changes: Tensor

    @classmethod
    def of(cls, whole: Tensor, without: Tensor, rows: Tensor) -> _Blocks:
        if len(rows) < len(whole):
            whole, without = whole[rows[:, None], rows], without[:, rows[:, None], rows]
        return cls(whole, without - whole)

    def figures(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Weighted sums over pairs of layers, each of shape (1 + block)."""
        of_pair = torch.stack(list(weights)).flatten(1)
        whole = of_pair @ self.whole.flatten()
        changes = of_pair @ self.changes.flatten(1).mT
        return list(torch.cat([whole[:, None], whole[:, None] + changes], dim=1))

    def misfit(self, of_one: Tensor) -> Tensor:
        """Root mean square of what one direction leaves, less the variance of correlations over channels."""
        left, pairs = unexplained(self.whole, of_one), len(self.whole) * (len(self.whole) - 1)
        blocks, chance = len(self.changes), 0.0
        if blocks >= FEWEST_BLOCKS:
            squares = torch.linalg.vector_norm(self.changes).square() - blocks * self.changes.mean(0).square().sum()
            chance = float(squares) * (blocks - 1) / blocks / pairs
        (slope,) = self.figures([2 * left / pairs])
        mean_square = left.square().sum() / pairs - chance
        return (mean_square + slope - slope[0]).clamp(min=0).sqrt()


def _evidence(
    usual: _Blocks,
    chosen: _Blocks,
    place: Tensor,
    layers: Sequence[int],
    sharp: Sequence[Boundary] | None,
    outliers: Sequence[int],
) -> Evidence:
    """Evidence of one checkpoint.

    Args:
        usual: Correlations of the layers that are no outliers.
        chosen: Those of the layers to look at.
        place: Where these stand, shape (layer).
        layers: Their indices.
        sharp: Boundaries found.
        outliers: Outlier layers.
    """
    whole, enough = chosen.whole, len(place) >= _FEWEST
    lag = (place[:, None] - place).abs()
    span = int(lag.max()) + 1 if len(place) else 0
    near, far = _mean_of((lag > 0) & (lag <= NEAR)), _mean_of(lag >= max(NEAR, math.ceil(span / 2)))
    of_one = loadings(whole) if len(place) > 1 else torch.ones_like(place, dtype=whole.dtype)
    scale = of_one.clamp(min=_FAINT)
    turn, order = (near - far) / (scale[:, None] * scale), order_weights(whole, near > 0)
    if not enough:
        turn, order = torch.zeros_like(whole), torch.full_like(whole, torch.nan)
    closest, mean, close, distant, turned, ordered = chosen.figures(
        [_closest(whole), _mean_of(lag > 0), near, far, turn, order]
    )
    deep, matters = len(place) >= FEWEST_LAYERS - _OUTLIERS, bool(ordered[0] >= ORDERED)
    true = disattenuated(whole) if deep else whole
    wide = []
    if matters and deep and len(chosen.changes) >= FEWEST_BLOCKS:
        wide = transitions(whole, chosen.changes, layers)
    misfit = chosen.misfit(of_one) if enough else torch.zeros_like(mean)
    known = [one.layer for one in sharp or ()]
    (overall,) = usual.figures([_mean_of(1 - torch.eye(len(usual.whole), dtype=whole.dtype))])
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


def _mean_of(pairs: Tensor) -> Tensor:
    """Weights of the pairs whose sum is their mean; NaN where there are none."""
    return pairs / pairs.sum(dtype=torch.float64)


def _closest(correlation: Tensor) -> Tensor:
    """Weights that pick out the median layer and the one most like it."""
    weights = torch.zeros_like(correlation)
    if len(correlation) < 2:
        return weights * torch.nan
    most, which = (correlation - 3 * torch.eye(len(correlation), dtype=correlation.dtype)).max(dim=-1)
    middle = int(most.median(dim=0).indices)
    weights[middle, which[middle]] = 1
    return weights


def _by_distance(values: Tensor, lag: Tensor) -> Tensor:
    """Mean by distance, from distance 1 on; NaN where no pair is so far apart."""
    empty = values.new_zeros(int(lag.max()) + 1 if lag.numel() else 1)
    sums, counts = (empty.index_add(0, lag.flatten(), of.flatten()) for of in (values, torch.ones_like(values)))
    return (sums / counts)[1:]
