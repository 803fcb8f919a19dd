"""Normal scores: each gain by its rank within its layer, so that no few channels decide what the layers share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.analysis.gram import Moments, pieces, run_edges
from gammatorch.gains.device import summing_device

RANKED_WIDTH = 65_536
"""Widest gains that are put in order; what is wider is a weight matrix, whose sorting would take most of the time."""

_MANTISSA, _WHOLE = 53, 3
"""Bits of a float64, and of the whole part of a score: below 2³ for any width."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The gains of each layer put in order.

    Attributes:
        scores: See :func:`normal_scores`, shape (…, layer, hidden).
        quartiles: Smallest gain, first quartile, median, third quartile and largest gain of each layer, shape
            (…, layer, 5).
    """

    scores: Tensor
    quartiles: Tensor


def normal_scores(gains: Tensor) -> Tensor:
    """Van der Waerden's scores of each layer's gains: rank r of H becomes the normal quantile of r / (H + 1).

    Equal gains get the quantile of their mean rank. Correlations of the scores are rank correlations that lose nothing
    to Pearson's on normal data, and a channel of fifty times the usual gain counts for no more than the largest of H
    does (van der Waerden 1952). The scores are rounded to so many binary places that sums of their products over all
    channels are exact, so these have the same bits in any order and on any device.

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden), without NaN.

    Returns:
        Scores, same shape, float64; all 0 for a constant layer.

    Example:
        >>> normal_scores(torch.tensor([[5.0, 1.0, 900.0, 1.0]])).round(decimals=3)
        tensor([[ 0.2530, -0.5240,  0.8420, -0.5240]], dtype=torch.float64)
    """
    return rank_layers(gains).scores


def rank_layers(gains: Tensor) -> Ranked:
    """Scores and quartiles of each layer, from one sort.

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden), without NaN.
    """
    hidden = gains.shape[-1]
    ordered, channels = _in_order(gains.detach().to(summing_device(gains.device)))
    first = torch.ones_like(channels, dtype=torch.bool)  # of the gains equal to it
    torch.ne(ordered[..., 1:], ordered[..., :-1], out=first[..., 1:])
    quantiles = _quantiles(hidden).to(first.device)
    if bool(first.all()):
        in_order = quantiles[::2].expand(first.shape)
    else:
        place = torch.arange(hidden, device=first.device).expand_as(first)
        begin, end = place[first], place[first.roll(-1, dims=-1)]  # after the last of a group comes the first of one
        of_group = quantiles[begin + end]
        in_order = of_group.repeat_interleave(end - begin + 1, output_size=first.numel()).view(first.shape)
    quartiles = ordered[..., [0, hidden // 4, hidden // 2, 3 * hidden // 4, hidden - 1]]
    return Ranked(
        torch.empty(first.shape, dtype=in_order.dtype, device=first.device).scatter_(-1, channels, in_order), quartiles
    )


def _in_order(gains: Tensor) -> tuple[Tensor, Tensor]:
    """The gains of each layer in ascending order, and their channels.

    On the CPU NumPy's argsort has vector instructions, and takes a third of the time of torch's.
    """
    if gains.device.type != "cpu":
        ordered, channels = gains.sort(dim=-1)
        return ordered, channels
    known = gains if gains.dtype.itemsize >= 4 else gains.to(torch.float32)  # NumPy has no bfloat16
    channels = torch.from_numpy(known.numpy().argsort(axis=-1))
    return gains.gather(-1, channels), channels


def score_moments(scores: Tensor) -> Moments:
    """Moments of scores in the channel blocks of the gains, exact: no pivot is needed, as their mean is near 0.

    Args:
        scores: Shape (checkpoint, layer, hidden).
    """
    checkpoints, layers, hidden = scores.shape
    edges = run_edges(hidden)
    products = scores.new_empty(checkpoints, len(edges) - 1, layers, layers)
    totals = scores.new_empty(checkpoints, len(edges) - 1, layers)
    for start, count, runs in pieces(edges, 0, hidden, hidden):
        by_run = rearrange(
            scores[..., start : start + count],
            "checkpoint layer (run channel) -> checkpoint run layer channel",
            run=runs.stop - runs.start,
        )
        products[:, runs], totals[:, runs] = by_run @ by_run.mT, by_run.sum(dim=-1)
    channels = torch.tensor(edges, dtype=torch.float64, device=scores.device).diff().expand(checkpoints, -1)
    return Moments(products, totals, torch.zeros_like(totals[:, 0]), channels, channels.sum(-1))


def score_step(hidden: int) -> float:
    """What scores of gains of a width are multiples of.

    Args:
        hidden: Number of channels.

    Example:
        >>> score_step(5120) == 2**-17
        True
    """
    bits = (_MANTISSA - max(hidden - 1, 1).bit_length()) // 2 - _WHOLE
    return 2.0**-bits


@lru_cache(maxsize=8)
def _quantiles(hidden: int) -> Tensor:
    """Scores by the sum of the first and the last place of equal gains, counted from 0: shape (2 H − 1)."""
    ranks = torch.arange(2 * hidden - 1, dtype=torch.float64) / 2 + 1
    step = score_step(hidden)
    quantiles: Tensor = torch.special.ndtri(ranks / (hidden + 1))
    return quantiles.div(step).round().mul(step)
