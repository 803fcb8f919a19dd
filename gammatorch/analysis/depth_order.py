"""Whether the order of the layers matters: whether near layers are more alike than any two."""

from __future__ import annotations

import math

import numpy as np

from gammatorch.analysis.host import Array


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
