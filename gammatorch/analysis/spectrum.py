"""Gains as waves over their channels: there, neighbours that are alike become independent numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NEIGHBOURS = 2
"""Frequencies on either side over which power is averaged."""

_NOTHING = 1e-12
"""Share of the largest power below which there is rounding alone."""


def cosine_transform(rows: Tensor) -> Tensor:
    """The orthonormal cosine transform (DCT-II) over the last axis: an even extension, so ends need not meet.

    Of channels that are alike over any distance (autoregressive, say) the coefficients are nearly independent
    (Ahmed, Natarajan and Rao 1974). By one FFT (Makhoul 1980).

    Args:
        rows: Shape (…, channel), float64.

    Example:
        >>> cosine_transform(torch.tensor([1.0, 1.0, 1.0, 1.0]).double()).round(decimals=6).abs()
        tensor([2., 0., 0., 0.], dtype=torch.float64)
    """
    spectrum = torch.fft.fft(torch.cat([rows[..., ::2], rows[..., 1::2].flip(-1)], dim=-1))
    turned: Tensor = spectrum * _turns(rows.shape[-1])
    return turned.real * _weights(rows.shape[-1])


def inverse_transform(waves: Tensor) -> Tensor:
    """The inverse of :func:`cosine_transform`.

    Args:
        waves: Shape (…, wave), float64.

    Example:
        >>> inverse_transform(cosine_transform(torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0]).double())).round()
        tensor([3., 1., 4., 1., 5.], dtype=torch.float64)
    """
    count = waves.shape[-1]
    real = waves / _weights(count)
    mirrored = torch.cat([torch.zeros_like(real[..., :1]), real[..., 1:].flip(-1)], dim=-1)
    folded = torch.fft.ifft(torch.complex(real, -mirrored) * _turns(count).conj()).real
    rows = torch.empty_like(waves)
    rows[..., ::2], rows[..., 1::2] = folded[..., : -(-count // 2)], folded[..., -(-count // 2) :].flip(-1)
    return rows


def cosines(count: int) -> Tensor:
    """The waves themselves, slowest first, as columns, shape (channel, wave).

    Args:
        count: Number of channels.

    Example:
        >>> cosines(4)[:, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """
    return cosine_transform(torch.eye(count, dtype=torch.float64))


def whitened(waves: Tensor) -> Tensor:
    """Rows whose waves have the same power on the average of all rows and of neighbouring waves, of length 1.

    Args:
        waves: Shape (row, wave), slowest first.

    Returns:
        Same shape; rows of zeros stay.

    Example:
        >>> whitened(torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    count = waves.shape[-1]
    place = torch.arange(count)
    first, last = (place - _NEIGHBOURS).clamp(min=0), (place + _NEIGHBOURS + 1).clamp(max=count)
    sums = torch.nn.functional.pad(waves.square().mean(dim=0).cumsum(-1), (1, 0))
    power = (sums[last] - sums[first]) / (last - first)
    flat = waves / power.clamp(min=max(float(power.max()) * _NOTHING, torch.finfo(power.dtype).tiny)).sqrt()
    return torch.nn.functional.normalize(flat, dim=-1)


def _turns(count: int) -> Tensor:
    angles = torch.arange(count, dtype=torch.float64) * (-math.pi / (2 * count))
    return torch.polar(torch.ones_like(angles), angles)


def _weights(count: int) -> Tensor:
    weights = torch.full((count,), math.sqrt(2 / count), dtype=torch.float64)
    weights[0] = math.sqrt(1 / count)
    return weights
