"""Whether the order of the layers matters: whether near layers are more alike than any two."""

from __future__ import annotations

import torch
from torch import Tensor


def order_weights(correlation: Tensor, near: Tensor) -> Tensor:
    """Weights of the pairs whose weighted sum tells how much the order of the layers matters.

    Mantel's test (1967): ``z = (Σ_near r − mean) / deviation`` with the exact mean and deviation of that sum when the
    layers are permuted. Where directions turn with depth, or jump, z is some 3 to 20; where they belong to groups or
    axes that depth has nothing to do with, it has mean 0 and deviation 1.

    Args:
        correlation: Between layers, shape (layer, layer).
        near: Which pairs are near, symmetric, none on the diagonal, same shape.

    Returns:
        Same shape, ``z = Σ weights · correlation``; all 0 for fewer than four layers, or where all pairs correlate
        alike.

    Example:
        >>> lag = (torch.arange(8.0)[:, None] - torch.arange(8)).abs()
        >>> bool((order_weights(0.9**lag, lag == 1) * 0.9**lag).sum() > 3)
        True
    """
    n = len(correlation)
    off = 1 - torch.eye(n, dtype=correlation.dtype, device=correlation.device)
    if n < 4:
        return torch.zeros_like(off)
    near = near.to(correlation)
    sums, others = _sums(near), _sums(correlation * off)
    pairs = n * (n - 1)
    both = 2 * sums[1] * others[1] / pairs
    one = 4 * (sums[2] - sums[1]) * (others[2] - others[1]) / (pairs * (n - 2))
    none = _apart(*sums) * _apart(*others) / (pairs * (n - 2) * (n - 3))
    variance = both + one + none - (sums[0] * others[0] / pairs) ** 2
    if variance <= 1e-12 * sums[1] * others[1]:
        return torch.zeros_like(off)
    deviation: float = variance**0.5
    return (near - off * sums[0] / pairs) / deviation


def _sums(pairs: Tensor) -> tuple[float, float, float]:
    """Σ m_ij, Σ m_ij² and Σ m_ij m_ik."""
    total, square, chained = torch.stack([pairs.sum(), pairs.square().sum(), pairs.sum(-1).square().sum()]).tolist()
    return total, square, chained


def _apart(total: float, square: float, chained: float) -> float:
    """Σ m_ij m_kl over pairs without a layer in common."""
    return total**2 - 4 * (chained - square) - 2 * square
