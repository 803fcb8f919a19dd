"""Normal scores: each gain by its rank within its layer, so that no few channels decide what the layers share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from gammatorch.analysis.host import Array, Rows
from gammatorch.analysis.moments import Moments, pieces, run_edges
from gammatorch.gains.device import summing_device

RANKED_WIDTH = 65_536
"""Widest gains that are put in order; what is wider is a weight matrix, whose sorting would take most of the time."""

_MANTISSA, _WHOLE = 53, 3
"""Bits of a float64, and of the whole part of a score: below 2³ for any width."""

_COUNTED, _SIZE = 10, np.iinfo(np.int64).max
"""Bits behind the point up to which values are counted, as many as float16 has; all bits of a float64 but its sign."""


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
        gains: Gain vectors γ, shape (…, layer, hidden), finite.

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
        gains: Gain vectors γ, shape (…, layer, hidden), finite.
    """
    gains = gains.detach().to(summing_device(gains.device))
    if gains.device.type == "cpu":
        return _rank_on_host(gains)
    hidden = gains.shape[-1]
    ordered, channels = gains.sort(dim=-1)
    first = torch.ones_like(channels, dtype=torch.bool)  # of the gains equal to it
    torch.ne(ordered[..., 1:], ordered[..., :-1], out=first[..., 1:])
    quantiles = torch.from_numpy(_quantiles(hidden)).to(first.device)
    if bool(first.all()):
        in_order = quantiles[::2].expand(first.shape)
    else:
        place = torch.arange(hidden, device=first.device).expand_as(first)
        begin, end = place[first], place[first.roll(-1, dims=-1)]  # after the last of a group comes the first of one
        of_group = quantiles[begin + end]
        in_order = of_group.repeat_interleave(end - begin + 1, output_size=first.numel()).view(first.shape)
    scores = torch.empty(first.shape, dtype=in_order.dtype, device=first.device).scatter_(-1, channels, in_order)
    return Ranked(scores, ordered[..., _quartile_places(hidden)])


def _rank_on_host(gains: Tensor) -> Ranked:
    """The same in NumPy: by counting where gains have few values, else by its sort, which has vector instructions."""
    rows = gains.to(torch.float64).numpy().reshape(-1, gains.shape[-1])
    scores, quartiles = _by_counting(rows) or _by_sorting(rows)
    return Ranked(torch.from_numpy(scores).view(gains.shape), torch.from_numpy(quartiles).view(*gains.shape[:-1], -1))


def _by_counting(gains: Array) -> tuple[Array, Array] | None:
    """Scores and quartiles from how often each value occurs; None where gains could have too many.

    Gains of 8 or 16 bits end in zeros as a float64. Without them its bits are small whole numbers in the same order.
    """
    layers, hidden = gains.shape
    bits = gains.view(np.int64)
    union = int(np.bitwise_or.reduce(bits, axis=None))
    zeros = (union & -union).bit_length() - 1
    if zeros < _MANTISSA - 1 - _COUNTED:
        return None
    values = (np.where(bits < 0, -(bits & _SIZE), bits) if union < 0 else bits) >> zeros
    least = int(values.min())
    width = int(values.max()) - least + 1
    if layers * width > gains.size:
        return None
    values += np.arange(-least, layers * width - least, width)[:, None]
    counts = np.bincount(values.ravel(), minlength=layers * width).reshape(layers, width)
    after = counts.cumsum(axis=-1)
    of_value = _quantiles(hidden).take(2 * after - counts - 1, mode="clip")  # what does not occur is not asked for
    place = np.stack([np.count_nonzero(after <= place, axis=-1) for place in _quartile_places(hidden)], axis=-1) + least
    quartiles = np.copysign((np.abs(place) << zeros).view(np.float64), place)
    return of_value.ravel()[values.ravel()], quartiles


def _by_sorting(gains: Array) -> tuple[Array, Array]:
    """Scores and quartiles from the gains in order."""
    hidden = gains.shape[-1]
    ordered, places = _sorted_with_places(gains)
    first = np.ones(ordered.shape, dtype=np.bool_)  # of the gains equal to it
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    in_order = np.tile(_quantiles(hidden)[::2], len(gains))
    begin = np.append(first.ravel().nonzero()[0], ordered.size)
    size = np.diff(begin)
    several = (size > 1).nonzero()[0]
    if len(several):
        begin, size = begin[several], size[several]
        of_group = _quantiles(hidden)[2 * (begin % hidden) + size - 1].repeat(size)
        in_order[(begin - size.cumsum() + size).repeat(size) + np.arange(len(of_group))] = of_group
    scores = np.empty(ordered.size)
    scores[places] = in_order
    return scores, ordered[:, _quartile_places(hidden)]


def _sorted_with_places(gains: Array) -> tuple[Array, Rows]:
    """Each row in ascending order, and where in the whole array each gain stood.

    Sorting gains with their places is several times faster than sorting places by gains. Gains of up to 32 bits leave
    at least 29 bits of a float64 empty: there the places go.
    """
    bits = gains.view(np.uint64)
    places = _places(gains.size).reshape(gains.shape)
    used = np.uint64((1 << (gains.size - 1).bit_length()) - 1)
    if int(np.bitwise_or.reduce(bits, axis=None) & used):  # float64 with digits of its own
        order = gains.argsort(axis=-1)
        return np.sort(gains, axis=-1), (order + np.arange(0, gains.size, gains.shape[-1])[:, None]).ravel()
    packed = bits | places
    ordered = packed.view(np.float64)
    ordered.sort(axis=-1)
    places = packed & used
    packed ^= places
    return ordered, places.ravel().view(np.intp)


@lru_cache(maxsize=2)
def _places(count: int) -> NDArray[np.uint64]:
    """0, 1, 2 … as they are written into the gains, of the last size or two."""
    return np.arange(count, dtype=np.uint64)


def _quartile_places(hidden: int) -> list[int]:
    return [0, hidden // 4, hidden // 2, 3 * hidden // 4, hidden - 1]


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
def _quantiles(hidden: int) -> Array:
    """Scores by the sum of the first and the last place of equal gains, counted from 0: shape (2 H − 1)."""
    ranks = torch.arange(2 * hidden - 1, dtype=torch.float64) / 2 + 1
    step = score_step(hidden)
    quantiles: Array = torch.special.ndtri(ranks / (hidden + 1)).div(step).round().mul(step).numpy()
    return quantiles
