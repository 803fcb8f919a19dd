"""How well a single direction explains the correlations between layers, each with noise of its own."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS, _STEP = 12, 0.7
"""Steps from the largest correlation of each layer, and the share of the way that each goes: whole ones may swing."""

_TINY = 1e-9


def loadings(correlation: Tensor) -> Tensor:
    """How much of each layer lies in the one direction that explains most of the correlations between layers.

    The a that minimises ``Σ_{i≠j} (r_ij − a_i a_j)²``: one common factor, by alternating least squares (minres: Harman
    and Jones 1966). The diagonal, which holds each layer's own noise, has no part in it, so a layer of much noise is no
    other direction.

    Args:
        correlation: Between layers, shape (…, layer, layer).

    Returns:
        Shape (…, layer).

    Example:
        >>> import torch
        >>> of_one = torch.tensor([0.9, 0.8, 0.5])
        >>> loadings(of_one[:, None] * of_one).round(decimals=2)
        tensor([0.9000, 0.8000, 0.5000])
    """
    others = correlation.clone()
    others.diagonal(dim1=-2, dim2=-1).zero_()
    found = others.abs().amax(dim=-1).sqrt()
    for _ in range(_STEPS):
        squares = found * found
        best = torch.linalg.vecdot(others, found[..., None, :]) / (squares.sum(-1, keepdim=True) - squares + _TINY)
        found = torch.lerp(found, best.clamp_(-1, 1), _STEP)
    return found


def unexplained(correlation: Tensor, of_one: Tensor) -> Tensor:
    """What one direction leaves of the correlations between different layers, 0 on the diagonal.

    Args:
        correlation: Shape (…, layer, layer).
        of_one: Loadings, shape (…, layer).

    Example:
        >>> import torch
        >>> bool(unexplained(torch.ones(3, 3), torch.ones(3)).any())
        False
    """
    left = correlation - of_one[..., :, None] * of_one[..., None, :]
    left.diagonal(dim1=-2, dim2=-1).zero_()
    return left
