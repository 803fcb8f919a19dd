"""One pass over the channels: products and sums of the layers, in 32 runs of channels, whatever the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.gains.device import summing_device

CHANNEL_BLOCKS = 32
"""Runs of channels whose products are kept apart, for the jackknife."""

CACHED_BYTES, CHUNK_BYTES = 1_000_000, 64_000_000
"""Columns are cast and multiplied in chunks of about so many bytes of all layers together: what a core's cache holds,
and on other devices enough to keep them busy."""

_SHORT = 8_192
"""Columns whose float32 products are added up in float32."""


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

    Cost: L² multiplications a channel, one pass, L² · 32 numbers kept. Products are taken in ``dtype``, a chunk at a
    time, and added up in float64.

    Args:
        layers: Number of layers, L.
        hidden: Number of channels, H.
        checkpoints: Number of checkpoints that arrive together.
        device: Where the columns are.
        dtype: Precision of the products.

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
        place = summing_device(torch.device(device))
        self._products = torch.zeros(checkpoints, blocks, layers, layers, dtype=torch.float64, device=place)
        self._totals = torch.zeros(checkpoints, blocks, layers, dtype=torch.float64, device=place)
        self._pivot = torch.zeros(checkpoints, layers, dtype=dtype, device=device)
        self._block = 0
        self._channel = 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (checkpoint, layer, column), any floating type.
        """
        for chunk in chunks(columns, self._pivot.dtype):
            if self._channel == 0:
                self._pivot = chunk.to(self._pivot.dtype).mean(dim=-1)
            self._add_chunk(chunk)

    def _add_chunk(self, chunk: Tensor) -> None:
        start = 0
        while start < chunk.shape[-1]:
            stop = min(chunk.shape[-1], start + self._edges[self._block + 1] - self._channel)
            part = about(chunk[..., start:stop], self._pivot[..., None])
            self._products[:, self._block] += (part @ part.mT).to(self._products)
            self._totals[:, self._block] += part.sum(dim=-1).to(self._totals)
            self._channel += stop - start
            if self._channel == self._edges[self._block + 1]:
                self._block += 1
            start = stop

    def finish(self) -> Moments:
        """The moments of all that was added."""
        edges = torch.tensor(self._edges, dtype=torch.float64, device=self._totals.device)
        return Moments(self._products, self._totals, self._pivot.to(self._totals), edges.diff(), self._channel)


def moments(gains: Tensor, dtype: torch.dtype = torch.float64) -> Moments:
    """Moments of gains that are in memory, cast chunk by chunk.

    Args:
        gains: Gain vectors γ, shape (layer, hidden) or (checkpoint, layer, hidden).
        dtype: Precision of the products.

    Returns:
        Their moments; a single checkpoint has the leading axis too.

    Example:
        >>> moments(torch.tensor([[3.0, 4.0]])).gram()
        tensor([[[25.]]], dtype=torch.float64)
    """
    stack = gains if gains.ndim == 3 else gains[None]
    checkpoints, layers, hidden = stack.shape
    accumulator = Accumulator(layers, hidden, checkpoints, gains.device, dtype)
    accumulator.add(stack)
    return accumulator.finish()


def chunks(columns: Tensor, dtype: torch.dtype) -> Sequence[Tensor]:
    """Columns in chunks that are small once they are cast, and in float32 short enough to add up without loss.

    Args:
        columns: Of every layer, shape (…, layer, column).
        dtype: What they will be cast to.
    """
    size = CACHED_BYTES if columns.device.type == "cpu" else CHUNK_BYTES
    width = max(1, size // (columns[..., 0].numel() * dtype.itemsize))
    return torch.split(columns, width if dtype is torch.float64 else min(width, _SHORT), dim=-1)


def about(columns: Tensor, pivot: Tensor) -> Tensor:
    """Columns less a pivot, in the pivot's type: in place where the cast has made a copy anyway."""
    cast = columns.to(pivot.dtype)
    return cast - pivot if cast is columns else cast.sub_(pivot)


class UnitProducts:
    """Cosines from a second pass in float32, for devices on which float64 is missing or slow.

    With d_i = u_i − mean(u) over layers, Σ d dᵀ holds the principal axes as they are, and cos = 1 − ‖d_i − d_j‖²/2;
    what layers share is gone before anything is multiplied, so near-parallel layers keep their digits: the error of a
    cosine is some 1e-7 of ‖d‖, where products of the gains themselves would leave 1e-7 of 1.

    Args:
        lengths: ‖γ_i‖ from the first pass, shape (checkpoint, layer), float64.
        device: Where the columns are.

    Example:
        >>> products = UnitProducts(torch.tensor([[5.0, 5.0]], dtype=torch.float64))
        >>> products.add(torch.tensor([[[3.0, 4.0], [4.0, 3.0]]]))
        >>> products.cosine().round(decimals=6)
        tensor([[[1.0000, 0.9600],
                 [0.9600, 1.0000]]], dtype=torch.float64)
    """

    def __init__(self, lengths: Tensor, device: torch.device | str = "cpu") -> None:
        self._directed = lengths > 0
        scale = torch.where(self._directed, 1 / lengths, 0)
        self._scale = scale.to(torch.float32).to(device)[..., None]
        self._mean = (self._directed / self._directed.sum(dim=-1, keepdim=True)).to(self._scale)[..., None]
        self._products = torch.zeros(*lengths.shape, lengths.shape[-1], dtype=torch.float64, device=lengths.device)

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (checkpoint, layer, column), any floating type.
        """
        for chunk in chunks(columns, torch.float32):
            units = chunk.to(torch.float32) * self._scale
            centred = units.sub_((units * self._mean).sum(dim=-2, keepdim=True))
            self._products += (centred @ centred.mT).to(self._products)

    def cosine(self) -> Tensor:
        """⟨u_i, u_j⟩, shape (checkpoint, layer, layer), float64; NaN for layers of zero length."""
        own = self._products.diagonal(dim1=-2, dim2=-1)
        apart = own[..., None] + own[..., None, :] - 2 * self._products
        both = self._directed[..., None] & self._directed[..., None, :]
        return torch.where(both, (1 - apart / 2).clamp(-1, 1), torch.nan)
