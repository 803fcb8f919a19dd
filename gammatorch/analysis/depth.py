"""How the correlation of two layers falls with the distance between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gammatorch.analysis.alternation import lag_sums
from gammatorch.analysis.correlations import Correlations

_SHORTEST, _TRIED = 0.5, 256
"""Shortest correlation length that can be told, in layers, and how many are tried."""


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


def correlation_length(profile: Sequence[float]) -> float | None:
    """Layers over which correlation falls by a factor e towards what the farthest layers keep.

    The ξ of the best fit ``r(k) = a + b exp(−k / ξ)`` to the profile up to half the depth, each distance weighted by
    its number of pairs, over 256 lengths from half a layer to twice the depth.

    Args:
        profile: Mean correlation by distance, from distance 1 on.

    Returns:
        In layers; None where the fit is best at an end of that range, as where correlation falls along a straight
        line, or fewer than six distances are known.

    Example:
        >>> round(correlation_length([0.2 + 0.7 * 2 ** (-k / 5) for k in range(1, 64)]), 1)  # 5 / ln 2
        7.3
    """
    layers = len(profile) + 1
    values = torch.tensor(profile[: max(layers // 2, 1)], dtype=torch.float64)
    distance = torch.arange(1, len(values) + 1, dtype=torch.float64)
    known = values.isfinite()
    if int(known.sum()) < 6:
        return None
    values, distance = values[known], distance[known]
    lengths = torch.logspace(0, 1, _TRIED, base=2 * layers / _SHORTEST, dtype=torch.float64) * _SHORTEST
    weights = (layers - distance) / (layers - distance).sum()
    shapes = torch.exp(-distance / lengths[:, None])
    shapes = shapes - (shapes * weights).sum(-1, keepdim=True)
    values = values - (values * weights).sum()
    squares = (weights * shapes.square()).sum(-1)
    slopes = (weights * shapes * values).sum(-1) / squares
    best = int((slopes.clamp(min=0).square() * squares).argmax())
    return float(lengths[best]) if 0 < best < _TRIED - 1 else None
