"""Gains too wide to hold: column blocks of all layers in step, one being read while the device works on the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Advance, Checkpoint, TensorEntry, stored_bytes
from gammatorch.checkpoints.opening import Model, open_checkpoint
from gammatorch.errors import InvalidArgument, OutOfDeviceMemory
from gammatorch.gains.device import choose_device, choose_dtype, release
from gammatorch.gains.memory import DEFAULT_MEMORY, parse_bytes
from gammatorch.gains.stack import Gains, Origin
from gammatorch.gains.staging import ColumnReader, column_block, held_tensors, stack_held, unpack
from gammatorch.gains.stored import STORED_DTYPES, check_dtypes, check_finite, exact_dtype, tally, tally_notes, weigh
from gammatorch.gains.stream import describe

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

BUFFER_BYTES = 64_000_000
"""Most bytes of one buffer; larger ones read no faster, and leave the device waiting for the first."""

WORKING_BYTES = 128_000_000
"""What an analysis of column blocks takes beside them: columns cast and multiplied, a chunk at a time."""

_BYTES_OF_PAIR = 2_048
"""What it takes for each pair of layers: products in 32 runs of channels, and as much again for what follows."""

LEAST_COLUMNS = 2_048
"""Blocks narrower than a page of the disk are not worth reading."""


class WideGains:
    """The gain γ of every layer at one site, as column blocks instead of one tensor.

    Whatever takes blocks in channel order can be fed from :meth:`blocks`, as often as wanted; each time the tensors
    are read anew. A reader thread fills one of two buffers (pinned for CUDA) while the device works on the other; of a
    model in memory the columns are taken where they are, and no byte goes through the host.
    Neither the host nor the device holds more than ``memory`` bytes for it, the working memory of
    :func:`~gammatorch.analyze` included.

    Args:
        checkpoint: An open checkpoint; it must stay open while blocks are read.
        selection: What :func:`~gammatorch.architectures.select.select` chose from it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``; auto leaves a model in memory where it is.
        raw: Give the stored weight, without offset.
        dtype: Precision in which an offset is added, ``"float64"`` or ``"float32"``.
        memory: Bytes, or ``"500MB"``, ``"2GiB"``.
        advance: Called with the bytes of gains that have arrived since its last call.
        among: Checkpoints read in step, which share the memory.

    Raises:
        UnsupportedFormat: A tensor is stored in a type that holds no gains, quantised ones among it.
        InvalidArgument: The memory is too small for one block.
        DeviceError: The device is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        selection: Selection,
        device: str | torch.device = "auto",
        *,
        raw: bool = False,
        dtype: str | torch.dtype = "float64",
        memory: str | int = DEFAULT_MEMORY,
        advance: Advance | None = None,
        among: int = 1,
    ) -> None:
        check_dtypes(checkpoint, selection.entries)
        self._held = held_tensors(checkpoint, selection.entries)
        self.device = choose_device(device) if device != "auto" or self._held is None else self._held[0].device
        self.layers, self.hidden = selection.layers, selection.entries[0].width
        self.offset = 0.0 if raw else selection.offset
        stored = [STORED_DTYPES[entry.dtype] for entry in selection.entries]
        exact = exact_dtype(entry.dtype for entry in selection.entries)
        self.dtype = choose_dtype(dtype, self.device) if self.offset else exact
        self.columns = self._columns(parse_bytes(memory), stored, among)
        self._checkpoint, self._selection, self._advance = checkpoint, selection, advance
        self._raw = raw
        self._weighed, self._values = torch.zeros(2, device="cpu"), 0

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width."""
        return len(self.layers), self.hidden

    @property
    def site(self) -> str:
        """Where in the block the norm stands; ``"pattern"`` for tensors chosen by pattern."""
        return self._selection.site

    @property
    def model(self) -> str:
        """The name the checkpoint was asked for by."""
        return self._checkpoint.model

    @property
    def keys(self) -> tuple[str, ...]:
        """Tensor each row comes from."""
        return tuple(entry.key for entry in self._selection.entries)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes: what one pass reads."""
        return self._selection.nbytes

    def blocks(self, columns: int | None = None) -> Iterator[Tensor]:
        """The gains as column blocks of shape (layer, column), in channel order, on the device.

        A block is in the type it is stored in, or in the narrowest that holds all of its layers or takes the offset
        exactly. It may be overwritten once the next one is asked for.

        Args:
            columns: Narrower blocks than the memory allows.

        Raises:
            UnreadableCheckpoint: A read failed.
            NonFiniteGain: A gain holds NaN or infinity.
        """
        entries = self._selection.entries
        self._weighed, self._values = torch.zeros(2, device="cpu"), 0
        columns = min(columns or self.columns, self.columns)
        starts = range(0, self.hidden, columns)
        pieces = [column_block(entries, start, min(start + columns, self.hidden)) for start in starts]
        stored = self._read(pieces) if self._held is None else self._taken(self._held, pieces)
        for start, weights in zip(starts, stored, strict=True):
            check_finite(weights, self._checkpoint, entries, first=start)
            if not self._raw:
                self._weighed = weigh(weights) if start == 0 else self._weighed + weigh(weights)
                self._values += weights.numel()
            yield weights + self.offset if self.offset else weights

    def _read(self, pieces: Sequence[Sequence[TensorEntry]]) -> Iterator[Tensor]:
        """Stored columns of a checkpoint, on the device."""
        with ColumnReader(self._checkpoint, pieces, self.device, self._advance) as reader:
            for piece, staged in zip(pieces, reader, strict=True):
                weights = unpack(staged, piece, self.device, self.dtype)
                reader.copied()
                yield weights

    def _taken(self, held: Sequence[Tensor], pieces: Sequence[Sequence[TensorEntry]]) -> Iterator[Tensor]:
        """Stored columns of a model in memory, from the device that they are on."""
        start = 0
        for piece in pieces:
            stop = start + piece[0].width
            yield stack_held([row.reshape(-1)[start:stop] for row in held], self.device, self.dtype)
            start = stop
            if self._advance is not None:
                self._advance(stored_bytes(piece))

    def origin(self) -> Origin:
        """Where the gains came from, and what reading them has cost so far."""
        notes = tally_notes(self._selection, tally(self._weighed, self._values)) if self._values else []
        return Origin(**describe(self._checkpoint, self._selection, self.offset, self._checkpoint.seconds, notes))

    def _columns(self, memory: int, stored: Sequence[torch.dtype], among: int) -> int:
        """Columns of a block: two buffers on the host, two stored copies and a cast one on the device."""
        across = sum(dtype.itemsize for dtype in stored)
        cast = len(stored) * self.dtype.itemsize if self.offset or set(stored) != {self.dtype} else 0
        fixed = WORKING_BYTES + _BYTES_OF_PAIR * len(stored) ** 2
        least = fixed + min(self.hidden, LEAST_COLUMNS) * (2 * across + 2 * cast)
        if memory < among * least:
            megabytes = -(-among * least // 10**6)
            what = f"{len(stored)} layers" + (f" of {among} checkpoints" if among > 1 else "")
            raise InvalidArgument(
                f"{what} take at least {megabytes} MB however narrow the blocks of columns are: "
                f"pass --memory {megabytes}MB or more"
            )
        columns = min((memory // among - fixed) // (2 * across + 2 * cast), BUFFER_BYTES // across)
        columns = max(columns, LEAST_COLUMNS)
        return min(self.hidden, columns - columns % LEAST_COLUMNS)


def narrower_when_full(gains: Sequence[Gains | WideGains], work: Callable[[], Result]) -> Result:
    """What some work gives; where the device's memory is full it begins again, with column blocks of half the width.

    Args:
        gains: What the work goes through, from the first block to the last.
        work: It.

    Raises:
        OutOfDeviceMemory: Not even the narrowest blocks fit, or all gains are whole.
    """
    while True:
        try:
            return work()
        except OutOfDeviceMemory:
            wide = [one for one in gains if isinstance(one, WideGains) and one.columns > LEAST_COLUMNS]
            if not wide:
                raise
        for one in wide:
            release(one.device)
            one.columns = max(LEAST_COLUMNS, one.columns // 2)
        _log.info("the device's memory is full: going on with blocks of half the width")


def gains_device(gains: Gains | WideGains | Tensor) -> torch.device:
    """Where gains of any kind are."""
    return gains.device


def scan_gains(
    checkpoint: Model,
    site: str = "auto",
    device: str | torch.device = "auto",
    *,
    stack: str | None = None,
    pattern: str | None = None,
    raw: bool = False,
    dtype: str | torch.dtype = "float64",
    memory: str | int = DEFAULT_MEMORY,
    advance: Advance | None = None,
) -> WideGains:
    """Gains of any width, to be read in column blocks by :func:`~gammatorch.analyze`: nothing is read yet.

    Args:
        checkpoint: An open checkpoint, or what :func:`~gammatorch.open_checkpoint` takes.
        site: As for :func:`~gammatorch.read_gains`, like all others but ``memory``.
        device: As there.
        stack: As there.
        pattern: As there.
        raw: As there.
        dtype: As there.
        memory: Most that is held of them on the host and on the device each: bytes, or ``"500MB"``, ``"2GiB"``.
        advance: As there.

    Raises:
        CheckpointError: The checkpoint cannot be opened.
        SelectionError: It has no such site, or its rows do not fit together.
        InvalidArgument: The memory is too small.
        DeviceError: The device is not there.
    """
    opened = open_checkpoint(checkpoint)
    selection = select(opened, site, stack=stack, pattern=pattern)
    return WideGains(opened, selection, device, raw=raw, dtype=dtype, memory=memory, advance=advance)
