"""The same layer in two checkpoints: how far it moved, and whether the two have to do with each other."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import moments, run_edges
from gammatorch.analysis.intervals import Interval, jackknife
from gammatorch.analysis.magnitudes import check_magnitudes


@dataclass(frozen=True, eq=False)
class Across:
    """Checkpoints against a reference, layer by layer. Shapes (checkpoint, layer), or (checkpoint) for means.

    Attributes:
        cosine: ⟨γ, γ'⟩ / (‖γ‖ ‖γ'‖) of each layer with itself, with 95 % bounds. Gains of one sign have high cosines
            whatever they are.
        pearson: The same once each layer's mean over channels is taken off, with 95 % bounds.
        drift: ‖γ − γ'‖ / ‖γ'‖, with 95 % bounds.
        mean_pearson: Mean of ``pearson`` over layers, with 95 % bounds.
        null_95: Size of that mean that unrelated checkpoints stay below 19 times of 20.
        total_drift: ‖Γ − Γ'‖ / ‖Γ'‖ over all layers together, with 95 % bounds.
        cka: Likeness of the layers' structure, see :func:`structure_cka`, with 95 % bounds about the value.
        largest_change: max |γ − γ'| / |γ'| over all gains; 0 for copies.
    """

    cosine: Interval
    pearson: Interval
    drift: Interval
    mean_pearson: Interval
    null_95: Tensor
    total_drift: Interval
    cka: Interval
    largest_change: Tensor


def across(gains: Tensor, reference: Tensor) -> Across:
    """Compare checkpoints with a reference, row by row.

    The bounds are a delete-block jackknife over 32 runs of channels. ``null_95`` is exact in its variance: where one
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
    layers, hidden = reference.shape
    ours = Correlations(moments(gains), tuple(range(layers)))
    theirs = Correlations(moments(reference), tuple(range(layers)))
    for one in (ours, theirs):
        check_magnitudes(one.moments, one.layers, torch.float64)
    sums = _sums(gains, reference)
    whole = sums.sum(dim=2, keepdim=True)
    parts = torch.cat([whole, whole - sums], dim=2)  # all channels, then without each run
    widths = torch.tensor(run_edges(hidden), dtype=torch.float64, device=reference.device).diff()
    counts = torch.cat([widths.sum(0, keepdim=True), widths.sum() - widths])[:, None]
    dot, square, square_ref, change, total, total_ref = parts  # products about the pivot
    covered = dot - total * total_ref / counts
    spread = _root(square - total.square() / counts) * _root(square_ref - total_ref.square() / counts)
    both = (ours.varied & theirs.varied)[:, None] & (spread > 0)
    pearson = torch.where(both, covered / spread, torch.nan).clamp(-1, 1)
    p, q = gains.double().mean(dim=-1)[:, None], reference.double().mean(dim=-1)
    dot = dot + p * total_ref + q * total + counts * p * q
    square = square + 2 * p * total + counts * p.square()
    square_ref = square_ref + 2 * q * total_ref + counts * q.square()
    drift = (change / square_ref).sqrt()
    mean = pearson.nanmean(dim=-1)
    total_drift = (change.sum(-1) / square_ref.sum(-1)).sqrt()
    return Across(
        cosine=_by_layer((dot / (square.sqrt() * square_ref.sqrt())).clamp(-1, 1), -1.0, 1.0),
        pearson=_by_layer(pearson, -1.0, 1.0),
        drift=_by_layer(drift, 0.0, math.inf),
        mean_pearson=jackknife(mean[:, 0], mean[:, 1:], -1.0, 1.0),
        null_95=_null(ours, theirs, hidden),
        total_drift=jackknife(total_drift[:, 0], total_drift[:, 1:], 0.0),
        cka=_cka(ours, theirs),
        largest_change=((gains - reference).abs() / reference.abs()).nan_to_num(nan=0.0).amax(dim=(-2, -1)).double(),
    )


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


def _sums(gains: Tensor, reference: Tensor) -> Tensor:
    """Over each run of channels: xx', x², x'², (γ − γ')², x, x'; shape (6, checkpoint, block, layer).

    x = γ − p, with the mean of its layer for p, so that correlations keep the digits that a mean costs.
    """
    p, q = (one.double().mean(dim=-1, keepdim=True) for one in (gains, reference))
    blocks = []
    for start, stop in itertools.pairwise(run_edges(reference.shape[-1])):
        x, y = gains[..., start:stop].double(), reference[:, start:stop].double().expand_as(gains[..., start:stop])
        x, y, d = x - p, y - q, x - y
        blocks.append(torch.stack([one.sum(-1) for one in (x * y, x * x, y * y, d * d, x, y)]))
    return torch.stack(blocks, dim=2)


def _root(square: Tensor) -> Tensor:
    return square.clamp(min=0).sqrt()


def _by_layer(values: Tensor, least: float, most: float) -> Interval:
    """Bounds for each layer from values of shape (checkpoint, 1 + block, layer)."""
    flat = values.transpose(1, 2).flatten(0, 1)
    found = jackknife(flat[:, 0], flat[:, 1:], least, most)
    shape = (len(values), values.shape[2])
    return Interval(*(one.reshape(shape) for one in (found.value, found.low, found.high)))


def _null(ours: Correlations, theirs: Correlations, hidden: int) -> Tensor:
    both = ours.varied & theirs.varied
    pairs = both[:, :, None] & both[:, None, :]
    together = (ours.filled * theirs.filled * pairs).sum((-2, -1)) / pairs.sum((-2, -1))
    return NormalDist().inv_cdf(0.975) * (together / max(hidden - 1, 1)).sqrt()


def _cka(ours: Correlations, theirs: Correlations) -> Interval:
    usable = (ours.varied & theirs.varied).all(dim=-1)
    value = torch.where(usable, structure_cka(ours.filled, theirs.filled), torch.nan)
    without = structure_cka(ours.without, theirs.without)
    found = jackknife(value, without, -math.inf)  # its centre would be that of gains with endless channels
    half = (found.high - found.low) / 2
    return Interval(value, (value - half).clamp(-1, 1), (value + half).clamp(-1, 1))
