"""How the correlation of two layers falls with the distance between them."""

from __future__ import annotations

import numpy as np

from gammatorch.analysis.alternation import lag_sums
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Array

_SHORTEST, _TRIED = 0.5, 256
"""Shortest correlation length that can be told, in layers, and how many are tried."""


def depth_profile(correlations: Correlations) -> Array:
    """Mean correlation of the layers that stand a given number of layers apart.

    ``profile[k − 1] = mean over i of pearson[i, i + k]``, k = 1 … L − 1. Flat: the layers share what they share at
    any distance; falling: the direction drifts. The last entries are means of few pairs.

    Args:
        correlations: Of one checkpoint.

    Returns:
        Shape (layer - 1), lag 1 first; NaN where no pair at that distance has a correlation.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> depth_profile(Correlations(moments(gains).home()[0], (0, 1, 2))).round(12)
        array([ 0., -1.])
    """
    sums, counts = lag_sums(correlations.filled * correlations.pairs), lag_sums(correlations.pairs.astype(np.float64))
    with np.errstate(invalid="ignore"):
        return np.asarray((sums / counts)[1:])


def correlation_length(profile: Array) -> float | None:
    """Layers over which correlation falls by a factor e towards what the farthest layers keep.

    The ξ of the best fit ``r(k) = a + b exp(−k / ξ)`` to the profile up to half the depth, each distance weighted by
    its number of pairs, over 256 lengths from half a layer to twice the depth.

    Args:
        profile: Mean correlation by distance, from distance 1 on.

    Returns:
        In layers; None where the fit is best at an end of that range, as where correlation falls along a straight
        line, or fewer than six distances are known.

    Example:
        >>> round(correlation_length(0.2 + 0.7 * 2 ** (-np.arange(1, 64) / 5)), 1)  # 5 / ln 2
        7.3
    """
    layers = len(profile) + 1
    values = profile[: max(layers // 2, 1)]
    distance = np.arange(1.0, len(values) + 1)
    known = np.isfinite(values)
    if np.count_nonzero(known) < 6:
        return None
    values, distance = values[known], distance[known]
    lengths = np.geomspace(_SHORTEST, 2 * layers, _TRIED)
    weights = (layers - distance) / (layers - distance).sum()
    shapes = np.exp(-distance / lengths[:, None])
    shapes -= (shapes @ weights)[:, None]
    values = values - values @ weights
    squares = np.square(shapes) @ weights
    slopes = shapes @ (weights * values) / squares
    best = int(np.argmax(np.square(slopes.clip(min=0)) * squares))
    return float(lengths[best]) if 0 < best < _TRIED - 1 else None
