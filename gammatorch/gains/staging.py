"""From stored bytes to rows: buffers on the host, one copy to the device, one cast there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.checkpoints.base import Advance, Checkpoint, Read, TensorEntry, stored_bytes
from gammatorch.gains.device import current
from gammatorch.gains.stored import STORED_DTYPES

_PLACE = itemgetter(0, 1)  # file, start


def stage(
    checkpoint: Checkpoint, entries: Sequence[TensorEntry], device: torch.device, advance: Advance | None = None
) -> Tensor:
    """The stored bytes of all entries, read into one buffer on the host (pinned for CUDA).

    The rows of the buffer stand in layer order, whatever shard they come from; where the layers are stored in
    several types, the rows of each type stand together.

    Args:
        checkpoint: An open checkpoint.
        entries: Tensors of it, in layer order.
        device: Where they go afterwards.
        advance: Called with the bytes that have arrived since its last call.

    Returns:
        The buffer, shape (byte), for :func:`unpack`.
    """
    (staging,) = stage_together(checkpoint, [entries], device, advance)
    return staging


def stage_together(
    checkpoint: Checkpoint,
    groups: Sequence[Sequence[TensorEntry]],
    device: torch.device,
    advance: Advance | None = None,
) -> list[Tensor]:
    """A buffer for each group of tensors, as of :func:`stage`, all of them read in one round."""
    stagings = [make_staging(stored_bytes(entries), device) for entries in groups]
    reads = [read for staging, entries in zip(stagings, groups, strict=True) for read in _reads(staging, entries)]
    checkpoint.source.read(sorted(reads, key=_PLACE), advance)
    return stagings


def make_staging(count: int, device: torch.device) -> Tensor:
    """A buffer of so many bytes on the host, pinned for CUDA."""
    with current(device):
        return torch.empty(count, dtype=torch.uint8, device="cpu", pin_memory=device.type == "cuda")


def fill(staging: Tensor, checkpoint: Checkpoint, entries: Sequence[TensorEntry], advance: Advance | None) -> None:
    """Read the stored bytes of all entries into a buffer that holds just them; see :func:`stage`."""
    checkpoint.source.read(sorted(_reads(staging, entries), key=_PLACE), advance)


def _reads(staging: Tensor, entries: Sequence[TensorEntry]) -> list[Read]:
    """What fills a buffer with the stored bytes of all entries."""
    buffer = memoryview(staging.numpy())  # type: ignore[arg-type]  # an ndarray is a buffer since Python 3.12's typing
    reads, position = [], 0
    for row in _order(entries):
        _, _, _, file, start, stop = entries[row]
        end = position + stop - start
        reads.append(Read(file, start, buffer[position:end]))
        position = end
    return reads


def unpack(staging: Tensor, entries: Sequence[TensorEntry], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The stored values of a staged buffer, shape (layer, hidden), in layer order, cast on the device.

    Args:
        staging: What :func:`stage` read.
        entries: The tensors it was read for.
        device: Where to.
        dtype: To what.
    """
    on_device = staging.to(device, non_blocking=True)
    if len(kinds := {entry.dtype for entry in entries}) == 1:
        values = on_device.view(STORED_DTYPES[kinds.pop()])
        return rearrange(values, "(layer hidden) -> layer hidden", layer=len(entries)).to(dtype)
    order = _order(entries)
    blocks, position = [], 0
    for stored, rows in groupby((entries[row] for row in order), key=lambda entry: entry.dtype):
        block_bytes = stored_bytes(rows)
        values = on_device[position : position + block_bytes].view(STORED_DTYPES[stored])
        blocks.append(rearrange(values, "(layer hidden) -> layer hidden", hidden=entries[0].width).to(dtype))
        position += block_bytes
    restored = torch.tensor(order, device="cpu").argsort()
    return torch.cat(blocks)[restored.to(device)]


def held_tensors(checkpoint: Checkpoint, entries: Sequence[TensorEntry]) -> list[Tensor] | None:
    """The tensors of a model in memory, where they are; None for a checkpoint whose bytes have to be read."""
    if checkpoint.tensors is None:
        return None
    return [torch.as_tensor(checkpoint.tensors[entry.key]).detach() for entry in entries]


def stack_held(rows: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Tensors of one width as rows, shape (layer, hidden), cast on the device: those that are there are not moved."""
    return torch.stack([row.to(device).reshape(-1).to(dtype) for row in rows])


def _order(entries: Sequence[TensorEntry]) -> list[int]:
    """Rows by stored type, widest first, so that each type's values are aligned."""
    if len({entry.dtype for entry in entries}) == 1:
        return list(range(len(entries)))
    return sorted(range(len(entries)), key=lambda row: (-_itemsize(entries[row]), entries[row].dtype, row))


def _itemsize(entry: TensorEntry) -> int:
    return STORED_DTYPES[entry.dtype].itemsize


class ColumnReader:
    """Staged bytes of one piece after another, the next being read meanwhile.

    A thread of its own fills one of two buffers (pinned for CUDA) while the device works on the other.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        pieces: Sequence[Sequence[TensorEntry]],
        device: torch.device,
        advance: Advance | None,
    ) -> None:
        self._checkpoint, self._pieces, self._device, self._advance = checkpoint, pieces, device, advance
        largest = stored_bytes(pieces[0])
        self._buffers = [make_staging(largest, device) for _ in range(min(2, len(pieces)))]
        self._copies: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0
        self._abandoned = threading.Event()
        self._pool = ThreadPoolExecutor(1, "gammatorch-columns")

    def __enter__(self) -> ColumnReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Tensor]:
        reading = self._pool.submit(self._read, 0)
        for turn in range(len(self._pieces)):
            self._turn = turn
            staged = reading.result()
            if turn + 1 < len(self._pieces):
                reading = self._pool.submit(self._read, turn + 1)
            yield staged

    def copied(self) -> None:
        """The piece has been sent to the device: its buffer is free once the copy is done."""
        if self._device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device))
            self._copies[self._turn % 2] = event

    def _read(self, turn: int) -> Tensor:
        event = self._copies[turn % 2]
        if event is not None:
            with current(self._device):
                event.synchronize()
        piece = self._pieces[turn]
        staged = self._buffers[turn % 2][: stored_bytes(piece)]
        fill(staged, self._checkpoint, piece, self._arrived)
        return staged

    def _arrived(self, count: int) -> None:
        if self._abandoned.is_set():
            raise _Abandoned
        if self._advance is not None:
            self._advance(count)


class _Abandoned(Exception):
    """Nobody waits for what is being read."""


def column_block(entries: Sequence[TensorEntry], start: int, stop: int) -> list[TensorEntry]:
    """Columns of flattened tensors as entries of their own."""
    pieces = []
    for entry in entries:
        size = STORED_DTYPES[entry.dtype].itemsize
        first, last = entry.start + start * size, entry.start + stop * size
        pieces.append(entry._replace(shape=(stop - start,), start=first, stop=last))
    return pieces
