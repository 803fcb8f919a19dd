"""Moments from a sketch, so that every statistic can be had from it: the method ``project``."""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.analysis.gram import CHANNEL_BLOCKS, Moments
from gammatorch.analysis.projection import Sketcher

_CHUNK_BYTES = 64_000_000


def sketched_moments(gains: Tensor, dims: int = 4096, seed: int = 0) -> tuple[Moments, float]:
    """Moments of wide gains from a sketch of them about their means.

    Means and lengths are exact; the products of different layers come from the sketch, with runs of buckets for runs
    of channels, so that intervals and nulls hold its error too: k buckets over H channels tell what
    1 / (1/H + 1/k) channels would.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        dims: Buckets, a power of two from 32 to 65,536.
        seed: Seed of the sketch.

    Returns:
        Moments, and the error stated for a correlation: twice the largest standard error.

    Raises:
        InvalidArgument: ``dims`` is no power of two from 32 to 65,536.

    Example:
        >>> found, _ = sketched_moments(torch.tensor([[3.0, 5.0]]), dims=64)
        >>> found.gram()
        tensor([[[34.]]], dtype=torch.float64)
    """
    layers, hidden = gains.shape
    sketcher = Sketcher(layers, hidden, dims, seed, gains.device)
    pivot = gains.mean(dim=-1, dtype=torch.float64)
    squares = torch.zeros_like(pivot)
    for columns in torch.split(gains, max(1, _CHUNK_BYTES // (8 * layers)), dim=-1):
        part = columns.to(torch.float64) - pivot[:, None]
        squares += part.square().sum(dim=-1)
        sketcher.add(part)
    found = sketcher.finish()
    length = torch.linalg.vector_norm(found.values, dim=-1)
    values = found.values * torch.where(length > 0, squares.sqrt() / length, 0)[:, None]
    blocks = 1 << min(CHANNEL_BLOCKS, dims, hidden).bit_length() - 1  # a power of two, as dims is
    runs = values.reshape(layers, blocks, -1).transpose(0, 1)
    worth = 1 / (1 / hidden + 1 / dims) / blocks
    totals = torch.zeros(1, blocks, layers, dtype=torch.float64, device=gains.device)
    channels = torch.full_like(totals[0, :, 0], worth)
    error = found.cosine()[1].nan_to_num().max()
    return Moments((runs @ runs.mT)[None], totals, pivot[None], channels, hidden), 2 * float(error)
