"""How well a single direction explains the correlations between layers, each with noise of its own."""

from __future__ import annotations

import numpy as np

from gammatorch.analysis.host import Array

_STEPS, _STEP = 12, 0.7
"""Steps from the largest correlation of each layer, and the share of the way that each goes: whole ones may swing."""

_TINY = 1e-9


def loadings(correlation: Array) -> Array:
    """How much of each layer lies in the one direction that explains most of the correlations between layers.

    The a that minimises ``Σ_{i≠j} (r_ij − a_i a_j)²``: one common factor, by alternating least squares (minres: Harman
    and Jones 1966). The diagonal, which holds each layer's own noise, has no part in it, so a layer of much noise is no
    other direction.

    Args:
        correlation: Between layers, shape (layer, layer).

    Returns:
        Shape (layer).

    Example:
        >>> of_one = np.array([0.9, 0.8, 0.5])
        >>> loadings(np.outer(of_one, of_one)).round(2)
        array([0.9, 0.8, 0.5])
    """
    others = correlation.copy()
    np.fill_diagonal(others, 0)
    found = np.sqrt(np.abs(others).max(axis=-1))
    for _ in range(_STEPS):
        squares = found * found
        best = (others @ found) / (squares.sum() - squares + _TINY)
        found += _STEP * (best.clip(-1, 1) - found)
    return np.asarray(found)


def unexplained(correlation: Array, of_one: Array) -> Array:
    """What one direction leaves of the correlations between different layers, 0 on the diagonal.

    Args:
        correlation: Shape (layer, layer).
        of_one: Loadings, shape (layer).

    Example:
        >>> bool(unexplained(np.ones((3, 3)), np.ones(3)).any())
        False
    """
    left = correlation - np.outer(of_one, of_one)
    np.fill_diagonal(left, 0)
    return np.asarray(left)
