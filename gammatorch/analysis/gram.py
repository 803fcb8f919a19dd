"""One pass over the channels: products and sums of the layers, in 32 runs of channels, whatever the width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHANNEL_BLOCKS = 32
"""Runs of channels whose products are kept apart, for the jackknife."""

CHUNK_BYTES = 32_000_000
"""Columns are cast and multiplied in chunks of about so many bytes of all layers together."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Products and sums of the gains over each run of channels, of one checkpoint or several.

    They are taken about a pivot p near each layer's mean, x = γ − p, so that correlations do not lose the digits that
    the mean would cost; ``gram`` and ``sums`` put it back.

    Attributes:
        products: Σ x_i x_j over the channels of each run, shape (checkpoint, block, layer, layer).
        totals: Σ x_i likewise, shape (checkpoint, block, layer).
        pivot: p, shape (checkpoint, layer).
        channels: Channels that each run is worth, shape (block): all of its own, or fewer where they were sketched.
        hidden: Channels in all.
    """

    products: Tensor
    totals: Tensor
    pivot: Tensor
    channels: Tensor
    hidden: int

    def gram(self) -> Tensor:
        """G = X Xᵀ of the gains themselves, shape (checkpoint, layer, layer)."""
        totals, pivot = self.totals.sum(1), self.pivot
        cross = pivot[:, :, None] * totals[:, None, :]
        return self.products.sum(1) + cross + cross.mT + self.hidden * pivot[:, :, None] * pivot[:, None, :]

    def sums(self) -> Tensor:
        """s = X·1 of the gains themselves, shape (checkpoint, layer)."""
        return self.totals.sum(1) + self.hidden * self.pivot


class Accumulator:
    """Moments of gains that arrive as column blocks of any width, in channel order.

    Cost: L² multiplications a channel, one pass, L² · 32 numbers kept.

    Args:
        layers: Number of layers, L.
        hidden: Number of channels, H.
        checkpoints: Number of checkpoints that arrive together.
        device: Where the columns are.
        dtype: Precision of products and sums.

    Example:
        >>> accumulator = Accumulator(layers=2, hidden=3)
        >>> accumulator.add(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]))
        >>> accumulator.add(torch.tensor([[[2.0], [1.0]]]))
        >>> accumulator.finish().gram()
        tensor([[[9., 4.],
                 [4., 2.]]], dtype=torch.float64)
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        checkpoints: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        blocks = min(CHANNEL_BLOCKS, hidden)
        self._edges = [block * hidden // blocks for block in range(blocks + 1)]
        self._products = torch.zeros(checkpoints, blocks, layers, layers, dtype=dtype, device=device)
        self._totals = torch.zeros(checkpoints, blocks, layers, dtype=dtype, device=device)
        self._pivot = torch.zeros(checkpoints, layers, dtype=dtype, device=device)
        self._block = 0
        self._channel = 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (checkpoint, layer, column), any floating type.
        """
        start = 0
        if self._channel == 0:
            self._pivot = columns.to(self._pivot.dtype).mean(dim=-1)
        while start < columns.shape[-1]:
            stop = min(columns.shape[-1], start + self._edges[self._block + 1] - self._channel)
            part = columns[..., start:stop].to(self._pivot.dtype) - self._pivot[..., None]
            self._products[:, self._block] += part @ part.mT
            self._totals[:, self._block] += part.sum(dim=-1)
            self._channel += stop - start
            if self._channel == self._edges[self._block + 1]:
                self._block += 1
            start = stop

    def finish(self) -> Moments:
        """The moments of all that was added."""
        edges = torch.tensor(self._edges, dtype=self._pivot.dtype, device=self._pivot.device)
        return Moments(self._products, self._totals, self._pivot, edges.diff(), self._channel)


def moments(gains: Tensor, dtype: torch.dtype = torch.float64) -> Moments:
    """Moments of gains that are in memory, cast chunk by chunk.

    Args:
        gains: Gain vectors γ, shape (layer, hidden) or (checkpoint, layer, hidden).
        dtype: Precision of products and sums.

    Returns:
        Their moments; a single checkpoint has the leading axis too.

    Example:
        >>> moments(torch.tensor([[3.0, 4.0]])).gram()
        tensor([[[25.]]], dtype=torch.float64)
    """
    stack = gains if gains.ndim == 3 else gains[None]
    checkpoints, layers, hidden = stack.shape
    accumulator = Accumulator(layers, hidden, checkpoints, gains.device, dtype)
    for columns in _chunks(stack, dtype):
        accumulator.add(columns)
    return accumulator.finish()


def _chunks(stack: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    checkpoints, layers, _ = stack.shape
    width = max(1, CHUNK_BYTES // (checkpoints * layers * dtype.itemsize))
    yield from torch.split(stack, width, dim=-1)
