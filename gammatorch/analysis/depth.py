"""How the correlation of two layers falls with the distance between them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gammatorch.analysis.alternation import lag_sums
from gammatorch.analysis.correlations import Correlations, pair_mean
from gammatorch.analysis.intervals import jackknife
from gammatorch.analysis.odd import odd_rows


def depth_profile(correlations: Correlations) -> Tensor:
    """Mean correlation of the layers that stand a given number of layers apart.

    ``profile[k − 1] = mean over i of pearson[i, i + k]``, k = 1 … L − 1. Flat: the layers share what they share at
    any distance; falling: the direction drifts. The last entries are means of few pairs.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        Shape (checkpoint, layer - 1), lag 1 first; NaN where no pair at that distance has a correlation.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> depth_profile(Correlations(moments(gains), (0, 1, 2))).round(decimals=12)
        tensor([[ 0., -1.]], dtype=torch.float64)
    """
    pairs = correlations.pairs.to(correlations.filled)
    return (lag_sums(correlations.filled * pairs) / lag_sums(pairs))[:, 1:]


def depth_contrast(correlations: Correlations) -> Mapping[str, Tensor]:
    """What near layers share, what the far ones still do, and what is lost between.

    ``near`` is the mean correlation up to L/8 layers apart, ``far`` from L/2 layers on. With ``far`` for what all
    depths have in common, ``value`` = near − far is what drifts, and 1 − near what each layer has to itself. Odd layers
    (:func:`~gammatorch.analysis.odd.odd_rows`) are left out: one at an end is in more far pairs than near ones,
    and would look like a drift.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        ``near``, ``far``, and ``value``, ``low``, ``high`` of their difference (95 %, jackknife over channels), each
        of shape (checkpoint), over the pairs that have a correlation; NaN where none is near or none far, as with
        two layers.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> round(float(depth_contrast(Correlations(moments(gains), (0, 1, 2)))["value"]), 12)
        1.0
    """
    layers = len(correlations.layers)
    row = torch.arange(layers, device=correlations.norms.device)
    lag = (row[:, None] - row).abs()
    usual = ~odd_rows(correlations)
    pairs = correlations.pairs & usual[:, :, None] & usual[:, None, :]
    near = pairs & (lag <= max(1, layers // 8))
    far = pairs & (lag >= max(2, math.ceil(layers / 2)))
    close, distant = pair_mean(correlations.filled, near), pair_mean(correlations.filled, far)
    weights = _mean_of(near) - _mean_of(far)
    without = correlations.without.flatten(2) @ weights.to(correlations.filled).flatten(1)[..., None]
    fall = jackknife(close - distant, without[..., 0], -2.0, 2.0)
    return {"near": close, "far": distant, "value": fall.value, "low": fall.low, "high": fall.high}


def _mean_of(pairs: Tensor) -> Tensor:
    """Weights of the pairs whose sum is their mean; NaN where there are none."""
    return pairs / pairs.sum(dim=(-2, -1), keepdim=True, dtype=torch.float64)
