"""Channels whose gain stands far from those of all others, and what the layers share without them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations

FAR = 10.0
"""Robust standard deviations from the median beyond which a gain stands out."""

_SAMPLE = 256
"""Channels from which median and deviation are estimated: more change them by some 5 %."""

_TO_DEVIATION = 1.4826
"""Standard deviation of a normal law in units of its median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """The outlier channels of one checkpoint.

    Attributes:
        channels: Their indices, ascending.
        rest: What the layers share without them; None if there are none.
    """

    channels: list[int]
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
    low, high = _usual_range(gains)
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
    least, most = gains.amin(dim=-1), gains.amax(dim=-1)  # each is faster alone than aminmax
    varied = most > least
    out = (standing_out(gains) & varied[..., None]).sum(dim=-2)
    return (2 * out >= varied.sum(dim=-1, keepdim=True)) & (out > 0)


def without_outliers(gains: Tensor, correlations: Correlations) -> list[Outliers]:
    """What the layers share once the outlier channels are taken out.

    Few channels with gains of ten times the usual carry most of the variance, and so the correlation: layers that
    share nothing else then correlate by 0.9. The products of these channels are subtracted, so no second pass is made.

    Args:
        gains: Gain vectors γ, shape (checkpoint, layer, hidden).
        correlations: Of the same, and perhaps of more after them.

    Returns:
        The outlier channels of each checkpoint.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.randn(1, 8, 512, generator=torch.Generator().manual_seed(0))
        >>> gains[..., 7] = 100
        >>> (found,) = without_outliers(gains, Correlations(moments(gains), tuple(range(8))))
        >>> found.channels, bool(found.rest.filled.tril(-1).abs().max() < 0.2)
        ([7], True)
    """
    low, high = _usual_range(gains)
    least, most = gains.amin(dim=-1), gains.amax(dim=-1)  # each is faster alone than aminmax
    far = ((least < low[..., 0]) | (most > high[..., 0])) & (most > least)
    suspects = 2 * far.sum(dim=-1) >= (most > least).sum(dim=-1)
    found = [Outliers([], None)] * len(gains)
    for checkpoint in (suspects & far.any(dim=-1)).nonzero()[:, 0].tolist():
        channels = outlier_channels(gains[checkpoint]).nonzero()[:, 0]
        if len(channels):
            one = correlations.only(channels.new_tensor([checkpoint]), torch.arange(gains.shape[1]))
            found[checkpoint] = Outliers(channels.tolist(), _without(gains[checkpoint], channels, one))
    return found


def _usual_range(gains: Tensor) -> tuple[Tensor, Tensor]:
    """What a gain may be without standing out, lowest and highest, shape (…, layer, 1)."""
    hidden = gains.shape[-1]
    if hidden > _SAMPLE:
        chosen = torch.randperm(hidden, generator=torch.Generator().manual_seed(0))[:_SAMPLE]
        sample = gains.index_select(-1, chosen.sort().values.to(gains.device))  # in order, for the cache's sake
    else:
        sample = gains
    median = sample.median(dim=-1, keepdim=True).values
    deviation = (sample - median).abs().median(dim=-1, keepdim=True).values
    reach = FAR * _TO_DEVIATION * deviation
    if not bool((deviation > 0).all()):
        reach = torch.where(deviation > 0, reach, FAR * gains.std(dim=-1, correction=0, keepdim=True))
    return median - reach, median + reach


def _without(gains: Tensor, channels: Tensor, one: Correlations) -> Correlations:
    """One checkpoint's correlations without some of its channels."""
    taken = one.moments
    products, totals, widths = taken.products.clone(), taken.totals.clone(), taken.channels.clone()
    run = torch.searchsorted(taken.channels.cumsum(0), channels.to(taken.channels), right=True)
    for block in sorted(set(run.tolist())):
        part = gains[:, channels[run == block]].to(products) - taken.pivot[0][:, None]
        products[0, block] -= part @ part.mT
        totals[0, block] -= part.sum(dim=-1)
        widths[block] -= part.shape[1]
    left = taken.hidden - len(channels)
    return Correlations(replace(taken, products=products, totals=totals, channels=widths, hidden=left), one.layers)
