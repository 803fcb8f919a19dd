"""The same layer in two checkpoints: how far it moved, and whether the two have to do with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.analysis.bounds import about_value
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import Accumulator, FirstColumns, chunk_width, pieces, run_edges
from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.magnitudes import check_magnitudes


@dataclass(frozen=True, eq=False)
class Across:
    """Checkpoints against a reference, layer by layer. Shapes (checkpoint, layer), or (checkpoint) for means.

    Attributes:
        cosine: ⟨γ, γ'⟩ / (‖γ‖ ‖γ'‖) of each layer with itself, with 95 % bounds. Gains of one sign have high cosines
            whatever they are.
        pearson: The same once each layer's mean over channels is taken off, with 95 % bounds.
        drift: ‖γ − γ'‖ / ‖γ'‖, with 95 % bounds.
        drift_of_spread: ‖γ − γ'‖ / ‖γ' − mean γ'‖, with 95 % bounds: 1.4 or so for strangers, whatever the mean.
        mean_pearson: Mean of ``pearson`` over layers, with 95 % bounds.
        null_95: Size of that mean that checkpoints whose channels are permuted stay below 19 times of 20.
        total_drift: ‖Γ − Γ'‖ / ‖Γ'‖ over all layers together, with 95 % bounds.
        total_drift_of_spread: The same relative to the spread over channels, with 95 % bounds.
        cka: Likeness of the layers' structure, see :func:`structure_cka`, with 95 % bounds about the value.
        largest_change: max |γ − γ'| / |γ'| over all gains; 0 for copies.
    """

    cosine: Interval
    pearson: Interval
    drift: Interval
    drift_of_spread: Interval
    mean_pearson: Interval
    null_95: Tensor
    total_drift: Interval
    total_drift_of_spread: Interval
    cka: Interval
    largest_change: Tensor


def across(gains: Tensor, reference: Tensor) -> Across:
    """Compare checkpoints with a reference, row by row.

    The bounds are a delete-block jackknife over 32 runs of channels, about the value, on Fisher's z scale for
    correlations and on the logarithmic one for drift. ``null_95`` is exact in its variance: where one
    checkpoint's channels are permuted, the same way in all layers, as independent training leaves them, r_i = r(γ_i,
    γ'_i) has mean 0 and Cov(r_i, r_j) = R_ij R'_ij / (H − 1), with R and R' the correlations between layers of either
    (Pitman 1937, for pairs), so their mean has variance mean(R ∘ R') / (H − 1); its law is taken as normal.

    Args:
        gains: Gain vectors γ, shape (checkpoint, layer, hidden).
        reference: Gain vectors γ', shape (layer, hidden).

    Returns:
        Figures of each checkpoint; NaN where undefined (a gain of zero has no cosine and a constant one no
        correlation; fewer than eight channels have no bounds, fewer than four layers no structure).

    Example:
        >>> found = across(torch.tensor([[[3.0, 4.0, 8.0]]]), torch.tensor([[4.0, 3.0, 8.0]]))
        >>> found.cosine.value.round(decimals=4), found.largest_change
        (tensor([[0.9888]], dtype=torch.float64), tensor([0.3333], dtype=torch.float64))
    """
    pairs = [(1 + row, 0) for row in range(len(gains))]
    layers, hidden = reference.shape
    sums = PairSums(1 + len(gains), layers, hidden, pairs, reference.device)
    sums.add([reference, *gains])
    return _together(sums.finish())


class PairSums:
    """What comparing takes, from checkpoints that arrive as column blocks in step, in channel order.

    Args:
        checkpoints: Number of checkpoints.
        layers: Number of layers.
        hidden: Number of channels.
        pairs: Which are compared: a checkpoint's number and its reference's.
        device: Where the columns are.

    Example:
        >>> sums = PairSums(2, layers=1, hidden=3, pairs=[(1, 0)])
        >>> sums.add([torch.tensor([[4.0, 3.0]]), torch.tensor([[3.0, 4.0]])])
        >>> sums.add([torch.tensor([[8.0]]), torch.tensor([[8.0]])])
        >>> sums.finish()[0].cosine.value.round(decimals=4)
        tensor([[0.9888]], dtype=torch.float64)
    """

    def __init__(
        self,
        checkpoints: int,
        layers: int,
        hidden: int,
        pairs: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
    ) -> None:
        self._own = [Accumulator(layers, hidden, device=device) for _ in range(checkpoints)]
        self._first = [FirstColumns(hidden) for _ in range(checkpoints)]
        self._pairs, self._edges, self._channel = pairs, run_edges(hidden), 0
        sums = torch.zeros(2, len(pairs), len(self._edges) - 1, layers, dtype=torch.float64, device=device)
        self._products, self._changes = sums.unbind()
        self._largest = sums.new_zeros(len(pairs))

    def add(self, blocks: Sequence[Tensor]) -> None:
        """Take the next columns.

        Args:
            blocks: Of each checkpoint, shape (layer, column), any floating type.
        """
        joined = [first.join(block) for first, block in zip(self._first, blocks, strict=True)]
        if ready := [block for block in joined if block is not None]:
            self._add(ready)

    def _add(self, blocks: Sequence[Tensor]) -> None:
        for own, block in zip(self._own, blocks, strict=True):
            own.add(block[None])
        width = chunk_width(blocks[0], torch.float64.itemsize * len(blocks))
        for start, count, runs in pieces(self._edges, self._channel, blocks[0].shape[-1], width):
            first = start - self._channel
            self._add_piece([block[:, first : first + count].double() for block in blocks], runs)
        self._channel += blocks[0].shape[-1]

    def _add_piece(self, parts: Sequence[Tensor], runs: slice) -> None:
        count = runs.stop - runs.start
        apart = [part - own.pivot[0, :, None] for part, own in zip(parts, self._own, strict=True)]
        for pair, (one, reference) in enumerate(self._pairs):
            change = parts[one] - parts[reference]
            self._products[pair, runs] += _by_run(apart[one] * apart[reference], count)
            self._changes[pair, runs] += _by_run(change.square(), count)
            largest = (change.abs_() / parts[reference].abs()).nan_to_num_(nan=0.0).amax()
            self._largest[pair] = torch.maximum(self._largest[pair], largest)

    def finish(self) -> list[Across]:
        """The figures of each pair, as of one checkpoint."""
        layers = tuple(range(self._products.shape[-1]))
        own = [Correlations(one.finish(), layers) for one in self._own]
        for correlations in own:
            check_magnitudes(correlations.moments, layers, torch.float64)
        return [
            _figures(own[one], own[reference], self._products[[pair]], self._changes[[pair]], self._largest[[pair]])
            for pair, (one, reference) in enumerate(self._pairs)
        ]


def _by_run(values: Tensor, runs: int) -> Tensor:
    return rearrange(values, "layer (run channel) -> run layer channel", run=runs).sum(dim=-1)


def _figures(ours: Correlations, theirs: Correlations, dot: Tensor, change: Tensor, largest: Tensor) -> Across:
    """One checkpoint against its reference.

    Args:
        ours: Correlations of the one.
        theirs: Of the other.
        dot: Σ x x' about the pivots over each run of channels, shape (1, block, layer).
        change: Σ (γ − γ')² likewise.
        largest: Largest relative change, shape (1).
    """
    one, other = ours.moments, theirs.moments
    widths = one.channels[0][:, None].expand_as(dot[0])[None]
    squares = [taken.products.diagonal(dim1=-2, dim2=-1) for taken in (one, other)]
    sums = torch.stack([dot, *squares, change, one.totals, other.totals, widths])
    whole = sums.sum(dim=2, keepdim=True)
    parts = torch.cat([whole, whole - sums], dim=2)  # all channels, then without each run
    dot, square, square_ref, change, total, total_ref, counts = parts  # products about the pivot
    covered = dot - total * total_ref / counts
    spread_ref = _root(square_ref - total_ref.square() / counts)
    spread = _root(square - total.square() / counts) * spread_ref
    both = (ours.varied & theirs.varied)[:, None] & (spread > 0)
    pearson = torch.where(both, covered / spread, torch.nan).clamp(-1, 1)
    p, q = one.pivot[:, None], other.pivot[:, None]
    dot = dot + p * total_ref + q * total + counts * p * q
    square = square + 2 * p * total + counts * p.square()
    square_ref = square_ref + 2 * q * total_ref + counts * q.square()
    squares_ref = torch.where(theirs.varied[:, None], spread_ref.square(), torch.nan)
    return Across(
        cosine=_bounds((dot / (square.sqrt() * square_ref.sqrt())).clamp(-1, 1), "fisher"),
        pearson=_bounds(pearson, "fisher"),
        drift=_bounds((change / square_ref).sqrt(), "log"),
        drift_of_spread=_bounds((change / squares_ref).sqrt(), "log"),
        mean_pearson=_bounds(pearson.nanmean(dim=-1), "fisher"),
        null_95=_null(ours, theirs),
        total_drift=_bounds((change.sum(-1) / square_ref.sum(-1)).sqrt(), "log"),
        total_drift_of_spread=_bounds((change.sum(-1) / squares_ref.nansum(-1)).sqrt(), "log"),
        cka=_cka(ours, theirs),
        largest_change=largest,
    )


def _bounds(values: Tensor, scale: str) -> Interval:
    """Bounds from values of shape (checkpoint, 1 + block, …): all channels, then without each run."""
    return about_value(values[:, 0], values[:, 1:].movedim(1, -1), scale)


def _root(square: Tensor) -> Tensor:
    return square.clamp(min=0).sqrt()


def unknown(layers: int) -> Across:
    """Figures of two checkpoints that cannot be held against each other: NaN.

    Args:
        layers: Number of layers.
    """
    by_layer, whole = (Interval(*torch.full((3, *shape), torch.nan).double()) for shape in ((1, layers), (1,)))
    figures: dict[str, Any] = dict.fromkeys(("cosine", "pearson", "drift", "drift_of_spread"), by_layer)
    figures |= dict.fromkeys(("mean_pearson", "total_drift", "total_drift_of_spread", "cka"), whole)
    return Across(**figures, null_95=whole.value, largest_change=whole.value)


def _together(found: Sequence[Across]) -> Across:
    """Figures of several pairs as those of several checkpoints."""
    columns = {name: [getattr(one, name) for one in found] for name in vars(found[0])}
    return Across(**{name: _cat(column) for name, column in columns.items()})


def _cat(column: Sequence[Any]) -> Any:
    if isinstance(column[0], Tensor):
        return torch.cat(list(column))
    return Interval(*(torch.cat(part) for part in zip(*(vars(one).values() for one in column), strict=True)))


def structure_cka(one: Tensor, other: Tensor) -> Tensor:
    """How alike two checkpoints' layers are related to each other, whatever their channels.

    ``HSIC(R, R') / √(HSIC(R, R) HSIC(R', R'))`` of the correlations between layers, with the unbiased estimate of
    HSIC (Song et al. 2012), without which few examples (layers) in many dimensions always look alike: linear CKA
    (Kornblith et al. 2019), debiased as by Nguyen, Raghu and Kornblith (2021). 1: the layers stand to each other in the
    same way; 0: no more alike than chance. Two stacks that both drift are alike without being related.

    Args:
        one: Correlations between layers, shape (…, layer, layer).
        other: Likewise.

    Returns:
        Shape (…); NaN for fewer than four layers, or where all layers are alike.

    Example:
        >>> lag = (torch.arange(8.0)[:, None] - torch.arange(8.0)).abs()
        >>> structure_cka(0.9**lag, 0.9**lag)
        tensor(1.)
    """
    own = _hsic(one, one) * _hsic(other, other)
    return _hsic(one, other) / torch.where(own > 0, own, torch.nan).sqrt()


def _hsic(one: Tensor, other: Tensor) -> Tensor:
    """The unbiased estimate up to the factor n (n − 3), which cancels."""
    n = one.shape[-1]
    if n < 4:
        return torch.full_like(one[..., 0, 0] * other[..., 0, 0], torch.nan)
    off = 1 - torch.eye(n, dtype=one.dtype, device=one.device)
    one, other = one * off, other * off
    rows, other_rows = one.sum(-1), other.sum(-1)
    return (
        (one * other).sum((-2, -1))
        + rows.sum(-1) * other_rows.sum(-1) / ((n - 1) * (n - 2))
        - 2 * (rows * other_rows).sum(-1) / (n - 2)
    )


def _null(ours: Correlations, theirs: Correlations) -> Tensor:
    both = ours.varied & theirs.varied
    pairs = both[:, :, None] & both[:, None, :]
    together = (ours.filled * theirs.filled * pairs).sum((-2, -1)) / pairs.sum((-2, -1))
    return NormalDist().inv_cdf(0.975) * (together / (ours.moments.hidden - 1).clamp(min=1)).sqrt()


def _cka(ours: Correlations, theirs: Correlations) -> Interval:
    usable = (ours.varied & theirs.varied).all(dim=-1)
    value = torch.where(usable, structure_cka(ours.filled, theirs.filled), torch.nan)
    without = structure_cka(ours.without, theirs.without)
    return about_value(value, without, "fisher")
