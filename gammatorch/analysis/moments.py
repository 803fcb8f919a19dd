"""One pass over the channels: products and sums of the layers, in 32 runs of channels, whatever the width."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.analysis.host import HostMoments
from gammatorch.gains.device import summing_device

CHANNEL_BLOCKS = 32
"""Runs of channels whose products are kept apart, for the jackknife."""

CACHED_BYTES, CHUNK_BYTES = 2_000_000, 64_000_000
"""Columns are cast and multiplied about so many bytes at a time: what the cores' caches hold, and on other devices
enough to keep them busy."""

PIVOT_CHANNELS = 64
"""First channels, of whose gains the median is the pivot."""

_SHORT = 8_192
"""Columns whose float32 products are added up in float32."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Products and sums of the gains over each run of channels, of one checkpoint or several.

    They are taken about a pivot p near each layer's mean, x = γ − p, so that correlations do not lose the digits that
    the mean would cost; what comes home puts it back, see :class:`~gammatorch.analysis.host.HostMoments`.

    The pivot is one of the layer's own gains, so x stands on the same grid of numbers as they do. With b bits from the
    lowest that is set in any gain of a layer to the highest of any |x|, no product and no sum in float64 rounds where
    2 b + log₂ H ≤ 53, and any order of adding up gives the same bits: block widths, batches, threads, devices. For
    H = 5,120 this allows 20 bits. Gains of 16 bits mostly keep within them, also behind an offset that is added in
    float64: they have 8 or 11 bits, and the rest is the range of their exponents. Gains of all of float32 or float64
    do not, nor 16-bit ones where some are thousands of times smaller than the largest, nor products in float32: there
    the last bits depend on the order.

    Attributes:
        products: Σ x_i x_j over the channels of each run, shape (checkpoint, block, layer, layer).
        totals: Σ x_i likewise, shape (checkpoint, block, layer).
        pivot: p, shape (checkpoint, layer).
        channels: Channels that each run is worth, shape (checkpoint, block): all of its own, or fewer where they were
            sketched or some were taken out.
        hidden: Channels in all, shape (checkpoint).
    """

    products: Tensor
    totals: Tensor
    pivot: Tensor
    channels: Tensor
    hidden: Tensor

    def home(self) -> list[HostMoments]:
        """Those of each checkpoint as NumPy arrays, in one transfer."""
        parts = [getattr(self, one.name) for one in fields(self)]
        if self.products.device.type != "cpu":
            flat = torch.cat([part.reshape(-1) for part in parts]).cpu()
            there = torch.split(flat, [part.numel() for part in parts])
            parts = [part.view(like.shape) for part, like in zip(there, parts, strict=True)]
        *arrays, hidden = (part.numpy() for part in parts)
        return [HostMoments(*of_one) for of_one in zip(*arrays, hidden.tolist(), strict=True)]


def run_edges(hidden: int) -> list[int]:
    """First channel of every run of channels, and the end of the last; the longer runs come first.

    Args:
        hidden: Number of channels.

    Example:
        >>> run_edges(34)[:4], len(run_edges(34))
        ([0, 2, 4, 5], 33)
    """
    runs = min(CHANNEL_BLOCKS, hidden)
    width, wider = divmod(hidden, runs)
    return [run * width + min(run, wider) for run in range(runs + 1)]


def pieces(edges: Sequence[int], first: int, count: int, width: int) -> Iterator[tuple[int, int, slice]]:
    """Columns as pieces of no more than a width, each a part of one run or several whole ones of the same length.

    Args:
        edges: Of the runs, see :func:`run_edges`.
        first: Channel of the first column.
        count: Number of columns.
        width: Most columns of a piece.

    Yields:
        First channel, channels, runs.

    Example:
        >>> list(pieces([0, 2, 4, 5], 1, 4, 8))
        [(1, 1, slice(0, 1, None)), (2, 2, slice(1, 2, None)), (4, 1, slice(2, 3, None))]
    """
    channel, end = first, first + count
    while channel < end:
        run = bisect_right(edges, channel) - 1
        of_run = edges[run + 1] - edges[run]
        runs = 1
        if channel == edges[run]:
            alike = bisect_right(edges, min(end, channel + width)) - 1 - run
            while runs < alike and edges[run + runs + 1] - edges[run + runs] == of_run:
                runs += 1
        left = edges[run + runs] - channel
        stop = min(channel + -(-left // -(-left // width)), end)  # in equal parts
        yield channel, stop - channel, slice(run, run + runs)
        channel = stop


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
        >>> accumulator.finish().home()[0].gram()
        array([[9., 4.],
               [4., 2.]])
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        checkpoints: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._edges = run_edges(hidden)
        place = summing_device(torch.device(device))
        blocks = len(self._edges) - 1
        self._first = FirstColumns(hidden)
        self._products = torch.zeros(checkpoints, blocks, layers, layers, dtype=torch.float64, device=place)
        self._totals = torch.zeros(checkpoints, blocks, layers, dtype=torch.float64, device=place)
        self._pivot = torch.zeros(checkpoints, layers, dtype=dtype, device=device)
        self._channel = 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (checkpoint, layer, column), any floating type.
        """
        ready = self._first.join(columns)
        if ready is None:
            return
        if self._channel == 0:
            self._pivot = pivot_of(ready, self._pivot.dtype)
        width = summed_width(ready, self._pivot.dtype)
        cut = list(pieces(self._edges, self._channel, ready.shape[-1], width))
        for few in groups(ready, self._pivot.dtype):
            for start, count, runs in cut:
                self._add_piece(ready[few, :, start - self._channel : start - self._channel + count], few, runs)
        self._channel += ready.shape[-1]

    def _add_piece(self, part: Tensor, few: slice, runs: slice) -> None:
        count = runs.stop - runs.start
        by_run = rearrange(part, "checkpoint layer (run channel) -> checkpoint run layer channel", run=count)
        apart = about(by_run, self._pivot[few, None, :, None])
        self._products[few, runs] += (apart @ apart.mT).to(self._products)
        self._totals[few, runs] += apart.sum(dim=-1).to(self._totals)

    @property
    def pivot(self) -> Tensor:
        """p, shape (checkpoint, layer); 0 until the first 64 columns, or all of fewer, have come."""
        return self._pivot

    def finish(self) -> Moments:
        """The moments of all that was added."""
        widths = torch.tensor(self._edges, dtype=torch.float64, device=self._totals.device).diff()
        channels = widths.expand(len(self._totals), -1)
        return Moments(self._products, self._totals, self._pivot.to(self._totals), channels, channels.sum(-1))


def moments(gains: Tensor, dtype: torch.dtype = torch.float64) -> Moments:
    """Moments of gains that are in memory, cast chunk by chunk.

    Args:
        gains: Gain vectors γ, shape (layer, hidden) or (checkpoint, layer, hidden).
        dtype: Precision of the products.

    Returns:
        Their moments; a single checkpoint has the leading axis too.

    Example:
        >>> moments(torch.tensor([[3.0, 4.0]])).home()[0].gram()
        array([[25.]])
    """
    stack = gains if gains.ndim == 3 else gains[None]
    checkpoints, layers, hidden = stack.shape
    accumulator = Accumulator(layers, hidden, checkpoints, gains.device, dtype)
    accumulator.add(stack)
    return accumulator.finish()


def side_by_side(stack: Tensor, dtype: torch.dtype = torch.float64) -> Moments:
    """Moments of a batch, each checkpoint multiplied by itself: the same bits whatever lies beside it.

    Args:
        stack: Gain vectors γ, shape (checkpoint, layer, hidden).
        dtype: Precision of the products.
    """
    return joined([moments(one.clone(), dtype) for one in stack])  # in a batch it may begin at an odd address


def joined(parts: Sequence[Moments]) -> Moments:
    """Moments of several batches as those of one.

    Args:
        parts: Of checkpoints of the same layers.
    """
    return Moments(**{one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Moments)})


class FirstColumns:
    """The first column blocks, held back until there are channels enough for a pivot, whatever their width.

    Args:
        hidden: Number of channels.

    Example:
        >>> first = FirstColumns(hidden=3)
        >>> first.join(torch.ones(1, 2)) is None, first.join(torch.zeros(1, 1))
        (True, tensor([[1., 1., 0.]]))
    """

    def __init__(self, hidden: int) -> None:
        self._least = min(hidden, PIVOT_CHANNELS)
        self._held: Tensor | None = None

    def join(self, columns: Tensor) -> Tensor | None:
        """The next columns, with those held back before them; None while there are too few.

        Args:
            columns: Of every layer, shape (…, layer, column).
        """
        if self._least == 0:
            return columns
        joined = columns if self._held is None else torch.cat([self._held, columns], dim=-1)
        if joined.shape[-1] < self._least:
            self._held = joined.clone()  # what a block stands in may be used for the next
            return None
        self._held, self._least = None, 0
        return joined


def pivot_of(columns: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """A number near the mean of each layer that is one of its gains: the lower median of the first 64 channels.

    Args:
        columns: The first columns of every layer, at least as many, shape (…, layer, column).
        dtype: To what it is cast.

    Returns:
        Shape (…, layer).

    Example:
        >>> pivot_of(torch.tensor([[3.0, 90.0, 4.0, 1.0]]))
        tensor([3.], dtype=torch.float64)
    """
    some = columns[..., :PIVOT_CHANNELS].to(dtype).sort(dim=-1).values
    return some[..., (some.shape[-1] - 1) // 2]


def chunk_width(columns: Tensor, itemsize: int) -> int:
    """How many columns of one checkpoint are worked on at a time.

    Args:
        columns: Of every layer, shape (…, layer, column).
        itemsize: Bytes that the work takes for each number.
    """
    return max(1, _chunk_bytes(columns) // (columns.shape[-2] * itemsize))


def summed_width(columns: Tensor, dtype: torch.dtype) -> int:
    """How many columns are cast and added up at a time, in float32 few enough to do so without loss.

    Args:
        columns: Of every layer, shape (…, layer, column).
        dtype: What they will be cast to.
    """
    width = chunk_width(columns, dtype.itemsize)
    return width if dtype is torch.float64 else min(width, _SHORT)


def groups(columns: Tensor, dtype: torch.dtype) -> list[slice]:
    """Checkpoints that are worked on together, being small once they are cast.

    Args:
        columns: Of every layer, shape (checkpoint, layer, column).
        dtype: What they will be cast to.
    """
    of_one = columns.shape[-2] * min(columns.shape[-1], summed_width(columns, dtype)) * dtype.itemsize
    together = max(1, _chunk_bytes(columns) // max(of_one, 1))
    return [slice(first, first + together) for first in range(0, len(columns), together)]


def _chunk_bytes(columns: Tensor) -> int:
    return CACHED_BYTES if columns.device.type == "cpu" else CHUNK_BYTES


def about(columns: Tensor, pivot: Tensor) -> Tensor:
    """Columns less a pivot, in the pivot's type, next to each other in memory.

    Where the types differ, other devices cast on the fly; on the CPU that would take the memory of another copy.
    """
    apart = torch.empty(columns.shape, dtype=pivot.dtype, device=columns.device)
    if columns.dtype == pivot.dtype or columns.device.type != "cpu":
        return torch.sub(columns, pivot, out=apart)
    return apart.copy_(columns).sub_(pivot)


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
        for few in groups(columns, torch.float32):
            for chunk in torch.split(columns[few], summed_width(columns, torch.float32), dim=-1):
                units = chunk.to(torch.float32) * self._scale[few]
                centred = units.sub_((units * self._mean[few]).sum(dim=-2, keepdim=True))
                self._products[few] += (centred @ centred.mT).to(self._products)

    def cosine(self) -> Tensor:
        """⟨u_i, u_j⟩, shape (checkpoint, layer, layer), float64; NaN for layers of zero length."""
        own = self._products.diagonal(dim1=-2, dim2=-1)
        apart = own[..., None] + own[..., None, :] - 2 * self._products
        both = self._directed[..., None] & self._directed[..., None, :]
        return torch.where(both, (1 - apart / 2).clamp(-1, 1), torch.nan)
