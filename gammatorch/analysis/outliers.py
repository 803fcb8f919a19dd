"""Channels whose gain stands far from those of all others, and what the layers share without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import Moments, groups, joined

FAR = 10.0
"""Robust standard deviations from the median beyond which a gain stands out."""

_SAMPLE = 256
"""Channels from which median and deviation are estimated: more change them by some 5 %."""

_DRAWN_FROM = 65_536
"""Wider gains are sampled with replacement."""

_TO_DEVIATION = 1.4826
"""Standard deviation of a normal law in units of its median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """The outlier channels of one checkpoint or several.

    Attributes:
        channels: Their indices, ascending, for each checkpoint.
        rest: What the layers share without them, of the checkpoints that have any; None if none has.
    """

    channels: list[list[int]]
    rest: Correlations | None


def standing_out(gains: Tensor) -> Tensor:
    """Which gains stand out of their layer: further than ten robust deviations from its median.

    ``|γ_h − median γ| > 10 · 1.4826 · median |γ − median γ|`` (Hampel 1974), the medians over a fixed sample of 256
    channels. Unlike a standard deviation, they are not widened by the outliers themselves. Where more than half of the
    gains are equal, as early in training, ten standard deviations stand for it.

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden).

    Returns:
        Of each gain, same shape.

    Example:
        >>> gains = torch.linspace(0.9, 1.1, 64).repeat(2, 1)
        >>> gains[0, 5] = 20
        >>> standing_out(gains).nonzero().tolist()
        [[0, 5]]
    """
    low, high = usual_range(_summary(gains)[2], partial(_deviation, gains))
    return (gains < low) | (gains > high)


def outlier_channels(gains: Tensor) -> Tensor:
    """Channels that stand out in at least half of the layers that vary, shape (…, hidden).

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden).

    Example:
        >>> gains = torch.linspace(0.9, 1.1, 64).repeat(4, 1)
        >>> gains[:3, 5] = 20
        >>> outlier_channels(gains).nonzero().tolist()
        [[5]]
    """
    least, most, sample = _summary(gains)
    return out_of_most(gains, *usual_range(sample, partial(_deviation, gains)), most > least)


def without_outliers(gains: Tensor, correlations: Correlations) -> Outliers:
    """What the layers share once the outlier channels are taken out.

    Few channels with gains of ten times the usual carry most of the variance, and so the correlation: layers that
    share nothing else then correlate by 0.9. The products of these channels are subtracted, so no second pass is made.

    Args:
        gains: Gain vectors γ, shape (checkpoint, layer, hidden).
        correlations: Of the same, and perhaps of more after them.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.randn(1, 8, 512, generator=torch.Generator().manual_seed(0))
        >>> gains[..., 7] = 100
        >>> found = without_outliers(gains, Correlations(moments(gains), tuple(range(8))))
        >>> found.channels, bool(found.rest.filled.tril(-1).abs().max() < 0.2)
        ([[7]], True)
    """
    parts = [_summary(gains[few]) for few in groups(gains, gains.dtype)]  # while they are in the cache
    least, most, sample = (torch.cat(part) for part in zip(*parts, strict=True))
    low, high = usual_range(sample, partial(_deviation, gains))
    varied = most > least
    far = ((least < low[..., 0]) | (most > high[..., 0])) & varied
    suspects = (2 * far.sum(dim=-1) >= varied.sum(dim=-1)) & far.any(dim=-1)
    found: list[list[int]] = [[]] * len(gains)
    rest = []
    for row in suspects.nonzero()[:, 0].tolist():
        channels = _channels_out(gains[row], low[row], high[row], varied[row], far[row].nonzero()[:, 0])
        if len(channels):
            found[row] = channels.tolist()
            rest.append(
                without(gains[row][:, channels], channels, correlations.moments.only(channels.new_tensor([row])))
            )
    return Outliers(found, Correlations(joined(rest), correlations.layers) if rest else None)


def _channels_out(gains: Tensor, low: Tensor, high: Tensor, varied: Tensor, far: Tensor) -> Tensor:
    """The outlier channels of one checkpoint, of which only the rows ``far`` hold gains that are out."""
    needed = -(-int(varied.sum()) // 2)
    watched = far[: len(far) - needed + 1]  # what is out in so many of all rows is out in one of these
    some = gains[watched]
    suspects = ((some < low[watched]) | (some > high[watched])).sum(dim=0).nonzero()[:, 0]
    return suspects[out_of_most(gains[:, suspects], low, high, varied)]


def out_of_most(gains: Tensor, low: Tensor, high: Tensor, varied: Tensor) -> Tensor:
    """Channels out of the usual range in at least half of the layers that vary, shape (…, hidden).

    Args:
        gains: Gain vectors γ, shape (…, layer, hidden).
        low: Lowest usual gain, shape (…, layer, 1).
        high: Highest.
        varied: Which layers vary, shape (…, layer).
    """
    out = ((gains < low) | (gains > high)).logical_and_(varied[..., None]).sum(dim=-2)
    return (2 * out >= varied.sum(dim=-1, keepdim=True)) & (out > 0)


def _summary(gains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least and largest gain of each layer, shape (…, layer), and the sample, shape (…, layer, channel)."""
    sample = gains.index_select(-1, sampled_channels(gains.shape[-1]).to(gains.device))
    return gains.amin(dim=-1), gains.amax(dim=-1), sample  # each is faster alone than aminmax


@lru_cache
def sampled_channels(hidden: int) -> Tensor:
    """The channels from which median and deviation are estimated, ascending.

    Args:
        hidden: Number of channels.

    Example:
        >>> sampled_channels(3).tolist(), len(sampled_channels(4096))
        ([0, 1, 2], 256)
    """
    seeded = torch.Generator().manual_seed(0)
    if hidden > _DRAWN_FROM:  # a permutation would take more memory than the gains
        return torch.randint(hidden, (_SAMPLE,), generator=seeded).sort().values
    return torch.randperm(hidden, generator=seeded)[:_SAMPLE].sort().values


def _deviation(gains: Tensor) -> Tensor:
    return gains.std(dim=-1, correction=0, keepdim=True)


def usual_range(sample: Tensor, deviation: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What a gain may be without standing out, lowest and highest, shape (…, layer, 1).

    Args:
        sample: Of the gains of each layer, shape (…, layer, channel).
        deviation: Their standard deviation, shape (…, layer, 1), for layers in which more than half are equal.
    """
    median = sample.median(dim=-1, keepdim=True).values
    apart = (sample - median).abs().median(dim=-1, keepdim=True).values
    reach = FAR * _TO_DEVIATION * apart
    if not bool((apart > 0).all()):
        reach = torch.where(apart > 0, reach, FAR * deviation())
    return median - reach, median + reach


def without(gains: Tensor, channels: Tensor, taken: Moments) -> Moments:
    """Moments of one checkpoint less those of some of its channels.

    Args:
        gains: Of these channels, shape (layer, channel).
        channels: Their indices, ascending.
        taken: The moments.
    """
    products, totals, widths = taken.products.clone(), taken.totals.clone(), taken.channels.clone()
    run = torch.searchsorted(widths[0].cumsum(0), channels.to(widths), right=True)
    apart = gains.to(products) - taken.pivot[0][:, None]
    for block in sorted(set(run.tolist())):
        part = apart[:, run == block]
        products[0, block] -= part @ part.mT
        totals[0, block] -= part.sum(dim=-1)
        widths[0, block] -= part.shape[1]
    return replace(taken, products=products, totals=totals, channels=widths, hidden=taken.hidden - len(channels))
