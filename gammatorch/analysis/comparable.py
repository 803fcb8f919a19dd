"""Scores of the gains in which strangers have nothing in common: without massive channels, without a shared profile."""

from __future__ import annotations

from functools import lru_cache

import torch
from einops import rearrange, reduce
from torch import Tensor

from gammatorch.analysis.scores import normal_scores
from gammatorch.analysis.spectrum import cosines
from gammatorch.gains.stack import Origin

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


def is_rotary(origin: Origin) -> bool:
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
