"""Lengths and angles of the gain vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gammatorch.errors import ZeroGain


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
        Unit vectors, shape (layer, hidden).

    Raises:
        ZeroGain: If a layer has zero norm, because its direction is undefined.

    Example:
        >>> units(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    lengths = norms(gains)
    _check_directions(lengths)
    return gains / lengths[:, None]


def cosine_matrix(gains: Tensor) -> Tensor:
    """Cosine similarity between the gain vectors of every pair of layers.

    ``cosine[i, j] = ⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖)``: the raw vectors are multiplied and the (layer, layer) result is
    normalised, which rounds less than multiplying rounded units.

    Args:
        gains: Gain vectors γ, shape (layer, hidden), floating point, no zero rows.

    Returns:
        Cosines in [-1, 1], shape (layer, layer), unit diagonal, in the precision of ``gains``.

    Raises:
        ZeroGain: If a layer has zero norm, because its direction is undefined.

    Example:
        >>> cosine_matrix(torch.tensor([[3.0, 4.0], [4.0, 3.0]], dtype=torch.float64))
        tensor([[1.0000, 0.9600],
                [0.9600, 1.0000]], dtype=torch.float64)
    """
    lengths = norms(gains)
    _check_directions(lengths)
    cosine = (gains @ gains.mT) / (lengths[:, None] * lengths)
    return cosine.clamp_(-1, 1).fill_diagonal_(1)


def pearson_matrix(gains: Tensor) -> Tensor:
    """Correlation over channels between the gains of every pair of layers: the cosine once each layer's mean is gone.

    ``pearson[i, j] = cos(γ_i − mean γ_i, γ_j − mean γ_j)``. Gains are positive and alike in size, so independent
    ones already have cosines of 0.9; their correlation is 0.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Correlations in [-1, 1], shape (layer, layer); NaN in the rows and columns of layers whose gain is constant
        to rounding, where no correlation is defined.

    Example:
        >>> pearson_matrix(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    centred = gains - gains.mean(dim=-1, keepdim=True)
    spread = norms(centred)
    constant = spread <= 32 * torch.finfo(gains.dtype).eps * norms(gains)
    spread = torch.where(constant, torch.nan, spread)
    pearson = (centred @ centred.mT) / (spread[:, None] * spread)
    pearson = pearson.clamp_(-1, 1)
    return torch.where(torch.eye(len(gains), dtype=torch.bool, device=gains.device) & ~constant, 1, pearson)


def cosine_with_ones(gains: Tensor) -> Tensor:
    """Cosine between each layer's gain and the all-ones vector, the direction of a gain that only scales.

    ``cos_ones[i] = Σ_h γ_ih / (√H ‖γ_i‖)``.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).

    Returns:
        Cosines in [-1, 1], shape (layer).

    Raises:
        ZeroGain: If a layer has zero norm, because its direction is undefined.

    Example:
        >>> cosine_with_ones(torch.tensor([[2.0, 2.0], [1.0, 0.0]]))
        tensor([1.0000, 0.7071])
    """
    lengths = norms(gains)
    _check_directions(lengths)
    return (gains.sum(dim=-1) / (lengths * math.sqrt(gains.shape[-1]))).clamp_(-1, 1)


def _check_directions(lengths: Tensor) -> None:
    if not bool(lengths.all()):
        row = int((lengths == 0).nonzero()[0])
        raise ZeroGain(f"the gain of row {row} is zero everywhere, so it has no direction: leave that layer out")
