"""What depth does: how correlation falls with distance, whether order matters, and noise of each layer's own."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.host import Array, Rows
from gammatorch.analysis.layer_kinds import lag_sums

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
        >>> from gammatorch.analysis.moments import moments
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


def order_weights(correlation: Array, near: Array) -> Array:
    """Weights of the pairs whose weighted sum tells how much the order of the layers matters.

    Mantel's test (1967): ``z = (Σ_near r − mean) / deviation`` with the exact mean and deviation of that sum when the
    layers are permuted. Where directions turn with depth, or jump, z is some 3 to 20; where they belong to groups or
    axes that depth has nothing to do with, it has mean 0 and deviation 1.

    Args:
        correlation: Between layers, shape (layer, layer).
        near: 1 for pairs that are near, else 0; symmetric, none on the diagonal, same shape.

    Returns:
        Same shape, ``z = Σ weights · correlation``; all 0 for fewer than four layers, or where all pairs correlate
        alike.

    Example:
        >>> lag = np.abs(np.arange(8.0)[:, None] - np.arange(8))
        >>> bool((order_weights(0.9**lag, (lag == 1).astype(float)) * 0.9**lag).sum() > 3)
        True
    """
    n = len(correlation)
    off = 1 - np.eye(n)
    if n < 4:
        return np.zeros_like(off)
    sums, others = _sums(near), _sums(correlation * off)
    pairs = n * (n - 1)
    both = 2 * sums[1] * others[1] / pairs
    one = 4 * (sums[2] - sums[1]) * (others[2] - others[1]) / (pairs * (n - 2))
    none = _apart(*sums) * _apart(*others) / (pairs * (n - 2) * (n - 3))
    variance = both + one + none - (sums[0] * others[0] / pairs) ** 2
    if variance <= 1e-12 * sums[1] * others[1]:
        return np.zeros_like(off)
    return np.asarray((near - off * (sums[0] / pairs)) / math.sqrt(variance))


def _sums(pairs: Array) -> tuple[float, float, float]:
    """Σ m_ij, Σ m_ij² and Σ m_ij m_ik."""
    of_layer = pairs.sum(axis=-1)
    return float(of_layer.sum()), float(np.vdot(pairs, pairs)), float(np.vdot(of_layer, of_layer))


def _apart(total: float, square: float, chained: float) -> float:
    """Σ m_ij m_kl over pairs without a layer in common."""
    return total**2 - 4 * (chained - square) - 2 * square


FEWEST_LAYERS = 24
"""Below, the few triads at hand say too little."""

_REACH = 3
"""Neighbours on either side from which a layer's reliability is taken."""

_LEAST = 0.05
"""No reliability, and no correlation of two neighbours that is divided by, is taken to be less."""


def disattenuated(correlation: Array) -> Array:
    """Correlations divided by what each layer's own noise takes off them (Spearman 1904).

    ``r_ij / √(ρ_i ρ_j)`` with ρ_l, the reliability of layer l, the (lower) median over its neighbours a and b of
    ``r_la r_lb / r_ab``: what a layer shares with those on both sides of it, one to three layers away. Layers of one
    direction that differ in their noise alone come out as 1, a walk keeps what it loses with depth.

    Args:
        correlation: Between layers in the order of depth, shape (…, layer, layer).

    Returns:
        Same shape; noise can take them beyond 1.

    Example:
        >>> noise = np.linspace(0.5, 1, 24)
        >>> observed = np.outer(noise, noise)
        >>> np.fill_diagonal(observed, 1)
        >>> disattenuated(observed)[0, 1:3].round(3)
        array([1., 1.])
    """
    layer, one, other, middle = _triads(correlation.shape[-1])
    between = correlation[..., one, other].clip(min=_LEAST)
    shares = correlation[..., layer, one] * correlation[..., layer, other] / between
    shares[..., one == other] = np.inf  # a place that is not filled
    shares.sort(axis=-1)
    reliability = shares[..., np.arange(len(middle)), middle].clip(_LEAST, 1)
    scale = 1 / np.sqrt(reliability)
    return np.asarray(correlation * scale[..., :, None] * scale[..., None, :])


@lru_cache
def _triads(layers: int) -> tuple[Rows, Rows, Rows, Rows]:
    """Each layer with pairs of its neighbours, on both sides where it has both: three of shape (layer, pair); and the
    place of the median in each row."""
    pairs = []
    for layer in range(layers):
        before = range(max(0, layer - _REACH), layer)
        after = range(layer + 1, min(layers, layer + 1 + _REACH))
        around = [(one, other) for one in before for other in after]
        beside = list(before or after)
        pairs.append(around or [(one, other) for n, one in enumerate(beside) for other in beside[n + 1 :]])
    filled = np.array([[*of_one, *[(0, 0)] * (_REACH**2 - len(of_one))] for of_one in pairs])
    middle = np.array([(len(of_one) - 1) // 2 for of_one in pairs])
    return np.arange(layers)[:, None], filled[..., 0], filled[..., 1], middle
