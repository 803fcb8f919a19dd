"""The same layer in two checkpoints: how far it moved, and whether the two have to do with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Array, check_magnitudes
from gammatorch.analysis.intervals import Interval, interval
from gammatorch.analysis.moments import Accumulator, FirstColumns, chunk_width, pieces, run_edges


@dataclass(frozen=True, eq=False)
class Across:
    """A checkpoint against a reference, layer by layer. Shape (layer), or one number for means.

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
    null_95: float
    total_drift: Interval
    total_drift_of_spread: Interval
    cka: Interval
    largest_change: float


def across(gains: Tensor, reference: Tensor) -> Across:
    """Compare a checkpoint with a reference, row by row.

    The bounds are a delete-block jackknife over 32 runs of channels, about the value, on Fisher's z scale for
    correlations and on the logarithmic one for drift. ``null_95`` is exact in its variance: where one
    checkpoint's channels are permuted, the same way in all layers, as independent training leaves them, r_i = r(γ_i,
    γ'_i) has mean 0 and Cov(r_i, r_j) = R_ij R'_ij / (H − 1), with R and R' the correlations between layers of either
    (Pitman 1937, for pairs), so their mean has variance mean(R ∘ R') / (H − 1); its law is taken as normal.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        reference: Gain vectors γ', same shape.

    Returns:
        The figures; NaN where undefined (a gain of zero has no cosine and a constant one no
        correlation; fewer than eight channels have no bounds, fewer than four layers no structure).

    Example:
        >>> found = across(torch.tensor([[3.0, 4.0, 8.0]]), torch.tensor([[4.0, 3.0, 8.0]]))
        >>> found.cosine.value.round(4), round(found.largest_change, 4)
        (array([0.9888]), 0.3333)
    """
    layers, hidden = reference.shape
    sums = PairSums(2, layers, hidden, [(1, 0)], reference.device)
    sums.add([reference, gains])
    return sums.finish()[0]


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
        >>> sums.finish()[0].cosine.value.round(4)
        array([0.9888])
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
        """The figures of each pair."""
        layers = tuple(range(self._products.shape[-1]))
        own = [Correlations(one.finish().home()[0], layers) for one in self._own]
        for correlations in own:
            check_magnitudes(correlations.moments, layers, torch.float64)
        sums = torch.stack([self._products, self._changes], dim=1).cpu().numpy()
        return [
            _figures(own[one], own[reference], of_pair[0], of_pair[1], largest)
            for (one, reference), of_pair, largest in zip(self._pairs, sums, self._largest.tolist(), strict=True)
        ]


def _by_run(values: Tensor, runs: int) -> Tensor:
    return rearrange(values, "layer (run channel) -> run layer channel", run=runs).sum(dim=-1)


def _figures(ours: Correlations, theirs: Correlations, dot: Array, change: Array, largest: float) -> Across:
    """One checkpoint against its reference.

    ``dot`` holds Σ x x' about the pivots over each run of channels, ``change`` Σ (γ − γ')², shape (block, layer).
    """
    one, other = ours.moments, theirs.moments
    squares = [np.diagonal(taken.products, axis1=-2, axis2=-1) for taken in (one, other)]
    widths = np.broadcast_to(one.channels[:, None], dot.shape)
    sums = np.stack([dot, *squares, change, one.totals, other.totals, widths])
    whole = sums.sum(axis=1, keepdims=True)
    parts = np.concatenate([whole, whole - sums], axis=1)  # all channels, then without each run
    dot, square, square_ref, change, total, total_ref, counts = parts  # products about the pivot
    varied = ours.varied & theirs.varied
    with np.errstate(divide="ignore", invalid="ignore"):
        covered = dot - total * total_ref / counts
        spread_ref = _root(square_ref - np.square(total_ref) / counts)
        spread = _root(square - np.square(total) / counts) * spread_ref
        pearson = np.where(varied & (spread > 0), covered / spread, np.nan).clip(-1, 1)
        p, q = one.pivot, other.pivot
        dot = dot + p * total_ref + q * total + counts * p * q
        square = square + 2 * p * total + counts * np.square(p)
        square_ref = square_ref + 2 * q * total_ref + counts * np.square(q)
        squares_ref = np.where(theirs.varied, np.square(spread_ref), np.nan)
        return Across(
            cosine=_bounds((dot / (np.sqrt(square) * np.sqrt(square_ref))).clip(-1, 1), "fisher"),
            pearson=_bounds(pearson, "fisher"),
            drift=_bounds(np.sqrt(change / square_ref), "log"),
            drift_of_spread=_bounds(np.sqrt(change / squares_ref), "log"),
            mean_pearson=_bounds(_mean(pearson), "fisher"),
            null_95=_null(ours, theirs),
            total_drift=_bounds(np.sqrt(change.sum(-1) / square_ref.sum(-1)), "log"),
            total_drift_of_spread=_bounds(np.sqrt(change.sum(-1) / np.nansum(squares_ref, axis=-1)), "log"),
            cka=_cka(ours, theirs),
            largest_change=largest,
        )


def _bounds(values: Array, scale: str) -> Interval:
    """Bounds from values of shape (1 + block, …): all channels, then without each run."""
    return interval(values[0], np.moveaxis(values[1:], 0, -1), scale)


def _mean(values: Array) -> Array:
    """Mean over layers, of those where it is known."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def _root(square: Array) -> Array:
    return np.asarray(np.sqrt(square.clip(min=0)))


def unknown(layers: int) -> Across:
    """Figures of two checkpoints that cannot be held against each other: NaN.

    Args:
        layers: Number of layers.
    """
    by_layer, whole = (Interval(*np.full((3, *shape), np.nan)) for shape in ((layers,), ()))
    figures: dict[str, Interval] = dict.fromkeys(("cosine", "pearson", "drift", "drift_of_spread"), by_layer)
    figures |= dict.fromkeys(("mean_pearson", "total_drift", "total_drift_of_spread", "cka"), whole)
    return Across(**figures, null_95=np.nan, largest_change=np.nan)


def structure_cka(one: Array, other: Array) -> Array:
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
        >>> lag = np.abs(np.arange(8.0)[:, None] - np.arange(8.0))
        >>> round(float(structure_cka(0.9**lag, 0.9**lag)), 12)
        1.0
    """
    own = _hsic(one, one) * _hsic(other, other)
    return np.asarray(_hsic(one, other) / np.sqrt(np.where(own > 0, own, np.nan)))


def _hsic(one: Array, other: Array) -> Array:
    """The unbiased estimate up to the factor n (n − 3), which cancels."""
    n = one.shape[-1]
    if n < 4:
        return np.full(np.broadcast_shapes(one.shape, other.shape)[:-2], np.nan)
    off = 1 - np.eye(n)
    one, other = one * off, other * off
    rows, other_rows = one.sum(axis=-1), other.sum(axis=-1)
    return np.asarray(
        (one * other).sum(axis=(-2, -1))
        + rows.sum(axis=-1) * other_rows.sum(axis=-1) / ((n - 1) * (n - 2))
        - 2 * (rows * other_rows).sum(axis=-1) / (n - 2)
    )


def _null(ours: Correlations, theirs: Correlations) -> float:
    both = np.outer(ours.varied & theirs.varied, ours.varied & theirs.varied)
    together = (ours.filled * theirs.filled)[both]
    if not len(together):
        return math.nan
    return NormalDist().inv_cdf(0.975) * math.sqrt(max(float(together.mean()), 0) / max(ours.moments.hidden - 1, 1))


def _cka(ours: Correlations, theirs: Correlations) -> Interval:
    usable = (ours.varied & theirs.varied).all()
    value = structure_cka(ours.filled, theirs.filled) if usable else np.nan
    return interval(value, structure_cka(ours.without, theirs.without), "fisher")
