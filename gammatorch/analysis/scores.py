"""Normal scores: each gain by its rank within its layer, so that no few channels decide what the layers share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_MANTISSA, _LARGEST_BITS = 53, 3
"""Bits of a float64, and of the whole part of a score: below 2³ for any width."""


def normal_scores(gains: Tensor) -> Tensor:
    """Van der Waerden's scores of each layer's gains: rank r of H becomes the normal quantile of r / (H + 1).

    Equal gains get the quantile of their mean rank. Correlations of the scores are rank correlations with the
    efficiency of Pearson's on normal data; a channel of fifty times the usual gain counts for no more than the largest
    of H does (van der Waerden 1952). The scores are rounded to so many binary places that sums of their products over
    all channels are exact, so they have the same bits in any order and on any device.

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden), without NaN.

    Returns:
        Scores, same shape, float64; all 0 for a constant layer.

    Example:
        >>> normal_scores(torch.tensor([[5.0, 1.0, 900.0, 1.0]])).round(decimals=3)
        tensor([[ 0.2530, -0.5240,  0.8420, -0.5240]], dtype=torch.float64)
    """
    hidden = gains.shape[-1]
    ordered, channels = gains.sort(dim=-1)
    place = torch.arange(hidden, device=gains.device, dtype=torch.int32)
    new = torch.ones_like(channels, dtype=torch.bool)
    torch.ne(ordered[..., 1:], ordered[..., :-1], out=new[..., 1:])
    first = torch.where(new, place, 0).cummax(dim=-1).values  # of the equal gains each belongs to
    ends = torch.roll(new, -1, dims=-1)  # the last gain of all ends a group as the first begins one
    last = torch.where(ends, place, hidden).flip(-1).cummin(dim=-1).values.flip(-1)
    scores = _quantiles(hidden).to(gains.device)[(first + last).long()]
    return torch.empty_like(scores).scatter_(-1, channels, scores)


def score_step(hidden: int) -> float:
    """What scores of gains of a width are multiples of.

    Args:
        hidden: Number of channels.

    Example:
        >>> score_step(5120) == 2**-17
        True
    """
    bits = (_MANTISSA - max(hidden - 1, 1).bit_length()) // 2 - _LARGEST_BITS
    return 2.0**-bits


@lru_cache(maxsize=8)
def _quantiles(hidden: int) -> Tensor:
    """Scores by the sum of the first and the last place of equal gains, counted from 0: shape (2 H − 1)."""
    ranks = torch.arange(2 * hidden - 1, dtype=torch.float64) / 2 + 1
    step = score_step(hidden)
    quantiles: Tensor = torch.special.ndtri(ranks / (hidden + 1))
    return quantiles.div(step).round().mul(step)
