"""Column blocks of all layers in step: one is read while the device works on the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from gammatorch.checkpoints.base import Advance, Checkpoint, TensorEntry, stored_bytes
from gammatorch.gains.device import current
from gammatorch.gains.staging import fill, make_staging
from gammatorch.gains.stored import STORED_DTYPES


class ColumnReader:
    """Staged bytes of one piece after another, the next being read meanwhile.

    A thread of its own fills one of two buffers (pinned for CUDA) while the device works on the other.

    Args:
        checkpoint: An open checkpoint.
        pieces: For each block of columns an entry per layer (:func:`column_block`), the largest block first.
        device: Where the bytes go afterwards.
        advance: Called with the bytes that have arrived since its last call.
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
    """Columns of flattened tensors as entries of their own.

    Args:
        entries: The tensors, one per layer.
        start: First column.
        stop: The column after the last.
    """
    pieces = []
    for entry in entries:
        size = STORED_DTYPES[entry.dtype].itemsize
        first, last = entry.start + start * size, entry.start + stop * size
        pieces.append(entry._replace(shape=(stop - start,), start=first, stop=last))
    return pieces
