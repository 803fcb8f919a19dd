"""Scores of the gains in which strangers have nothing in common: without massive channels, without a shared profile."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import torch
from einops import rearrange, reduce
from torch import Tensor

from gammatorch.analysis.scores import normal_scores

_WAVES_BESIDE = 2
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
    first, last = (place - _WAVES_BESIDE).clamp(min=0), (place + _WAVES_BESIDE + 1).clamp(max=count)
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


MASSIVE = 8.0
"""How many times the layer's median a gain must be to be massive."""

_FEW = 8
"""Massive are at most one channel in so many; more are the layer's own spread."""

_HEADS = (64, 80, 96, 128, 160, 192, 256)
"""Widths of heads that a norm over all of them may repeat its profile with."""

_SMOOTH, _PER_WAVE = 4, 16
"""Waves over rotary frequency that a profile is made of, and channels that each of them takes at least."""

_NEIGHBOURS = 2
"""Layers on either side whose mean is taken out: near enough that a merge's other parts are not among them."""

_ROUNDING = 1e-6

_ROTARY_NAMES = ("q_norm", "k_norm", "query_norm", "key_norm", "q_layernorm", "k_layernorm")


class Placed(Protocol):
    """Gains that know where they stand: :class:`~gammatorch.gains.stack.Origin`, or rows of a site as stored."""

    @property
    def site(self) -> str:
        """The site's name."""

    @property
    def pattern(self) -> str:
        """Their keys."""


def is_rotary(origin: Placed) -> bool:
    """Whether a norm stands on what rotary positions turn, so that every model has the same profile over channels.

    Args:
        origin: Where the gains came from.
    """
    return origin.site in ("query", "key") or any(name in origin.pattern for name in _ROTARY_NAMES)


def comparable_scores(gains: Tensor, rotary: bool = False) -> Tensor:
    """Normal scores of each layer, less what checkpoints share without being related.

    Massive channels (eight times the layer's median and more) count as usual ones: which they are is often the same in
    strangers. On queries and keys strangers correlate by 0.7, for rotary positions give each frequency its own task.
    There the smooth part over frequency is taken out, in both layouts of the pairs, (j, j + d/2) and (2j, 2j + 1), and
    then what neighbouring layers share.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        rotary: Whether they stand on queries or keys.

    Returns:
        Scores of mean 0, same shape, float64, on the CPU; 0 for constant layers.

    Example:
        >>> comparable_scores(torch.tensor([[3.0, 1.0, 2.0, 4.0]])).round(decimals=3)
        tensor([[ 0.2530, -0.8420, -0.2530,  0.8420]], dtype=torch.float64)
    """
    gains = gains.detach().cpu().double()
    massive = gains.abs() > MASSIVE * gains.abs().median(dim=-1, keepdim=True).values
    massive &= massive.sum(dim=-1, keepdim=True) <= gains.shape[-1] // _FEW
    scores = normal_scores(gains).masked_fill(massive, 0.0)
    scores = scores - scores.mean(dim=-1, keepdim=True)
    return _beyond_profile(scores) if rotary else scores


def _beyond_profile(scores: Tensor) -> Tensor:
    layers, hidden = scores.shape
    if hidden <= _HEADS[-1]:
        basis = beyond_smooth(hidden)
        scores = scores @ basis @ basis.T
    for width in _HEADS:
        if hidden > width and hidden % width == 0 and hidden > _HEADS[-1]:
            heads = rearrange(scores, "layer (head channel) -> layer head channel", channel=width)
            scores = (heads - reduce(heads, "layer head channel -> layer 1 channel", "mean")).reshape(scores.shape)
    return scores - _of_neighbours(layers) @ scores if layers > 1 else scores


def _of_neighbours(layers: int) -> Tensor:
    """Weights of the mean over the neighbours of each layer, shape (layer, layer)."""
    place = torch.arange(layers, dtype=torch.float64)
    distance = (place[:, None] - place).abs()
    near = ((distance > 0) & (distance <= _NEIGHBOURS)).double()
    return near / near.sum(dim=-1, keepdim=True)


@lru_cache(maxsize=4)
def beyond_smooth(width: int) -> Tensor:
    """Axes of a head that are orthogonal to what is smooth over rotary frequency, in both layouts of its pairs.

    Args:
        width: Number of channels of a head.

    Returns:
        Orthonormal columns, shape (width, axis).

    Example:
        >>> beyond_smooth(64).shape
        torch.Size([64, 49])
    """
    if width % 2 or width < _PER_WAVE:
        return cosines(width)[:, 1:]
    waves = min(_SMOOTH, width // _PER_WAVE)
    of_half = cosines(width // 2)
    halves = torch.kron(torch.eye(2, dtype=of_half.dtype), of_half)
    by_turns = torch.arange(width).reshape(2, -1).T.flatten()  # channel (half, j) of the one layout in the other
    wave = torch.arange(width) % (width // 2)
    smooth = torch.cat([halves[:, wave < waves], halves[by_turns][:, wave < waves]], dim=1)
    left, lengths, _ = torch.linalg.svd(smooth)
    rest = left[:, int((lengths > _ROUNDING).sum()) :]
    by_frequency = rest.T @ halves @ (wave[:, None] * halves.T) @ rest
    turned: Tensor = torch.linalg.eigh(by_frequency).eigenvectors
    axes: Tensor = rest @ turned
    return axes
