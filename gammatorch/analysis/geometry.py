"""Lengths and angles of the gain vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def norms(gains: Tensor) -> Tensor:
    """Euclidean length of each layer's gain.

    ``n_i = ‖γ_i‖₂``.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Lengths in the unit of γ, shape (layer).

    Example:
        >>> norms(torch.tensor([[3.0, 4.0], [6.0, 8.0]]))
        tensor([ 5., 10.])
    """
    lengths: Tensor = torch.linalg.vector_norm(gains, dim=-1)
    return lengths


def units(gains: Tensor) -> Tensor:
    """Direction of each layer's gain.

    ``u_i = γ_i / ‖γ_i‖₂``.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Unit vectors, shape (layer, hidden); NaN for a layer of zero norm, which has no direction.

    Example:
        >>> units(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return gains / norms(gains)[:, None]


def cosine_matrix(gains: Tensor) -> Tensor:
    """Cosine similarity between the gain vectors of every pair of layers.

    ``cosine[i, j] = ⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖)``: the raw vectors are multiplied and the (layer, layer) result is
    normalised, which rounds less than multiplying rounded units.

    Args:
        gains: Gain vectors γ, shape (layer, hidden), floating point.

    Returns:
        Cosines in [-1, 1], shape (layer, layer), unit diagonal, in the precision of ``gains``; NaN in the row and
        column of a layer of zero norm, which has no direction.

    Example:
        >>> cosine_matrix(torch.tensor([[3.0, 4.0], [4.0, 3.0]], dtype=torch.float64))
        tensor([[1.0000, 0.9600],
                [0.9600, 1.0000]], dtype=torch.float64)
    """
    lengths = norms(gains)
    cosine = ((gains @ gains.mT) / (lengths[:, None] * lengths)).clamp_(-1, 1)
    cosine.diagonal().copy_(torch.where(lengths > 0, 1, torch.nan))
    return cosine
