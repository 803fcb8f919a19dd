"""Ranges of files that are read once and then taken apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from gammatorch.checkpoints.base import ByteSource, Read

Range = tuple[str, int, int]
"""A file, the first byte, and one past the last."""


class Pieces:
    """Bytes of a source's files that have been read, so that no byte is asked for twice.

    Args:
        source: Where the files are.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self._held: dict[str, list[tuple[int, bytearray]]] = defaultdict(list)

    def fetch(self, ranges: Iterable[Range], extra: Sequence[Read] = ()) -> None:
        """Read the ranges that are not held yet, in one round; no round where all are held.

        Args:
            ranges: What will be asked for.
            extra: Other reads to make in the same round.
        """
        reads = list(extra)
        for file, start, stop in ranges:
            if self._find(file, start, stop) is None:
                piece = bytearray(stop - start)
                self._held[file].append((start, piece))
                reads.append(Read(file, start, memoryview(piece)))
        if reads:
            self.source.read(reads)

    def take(self, file: str, start: int, stop: int) -> bytes:
        """The bytes of a range that lies within a fetched one."""
        held = self._find(file, start, stop)
        if held is None:
            raise AssertionError(f"{file}: bytes {start} to {stop} were never fetched")
        return held

    def _find(self, file: str, start: int, stop: int) -> bytes | None:
        for first, piece in self._held[file]:
            if first <= start and stop <= first + len(piece):
                return bytes(memoryview(piece)[start - first : stop - first])
        return None
