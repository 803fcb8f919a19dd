"""Pieces of files: read once and taken apart, or seen as if they stood one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from gammatorch.checkpoints.base import Advance, ByteSource, Read, WrappedSource

Range = tuple[str, int, int]
"""A file, the first byte, and one past the last."""

SEVERAL = "(several files)"
"""Stands for the files of a tensor whose rows are in more than one place."""


class Pieces:
    """Bytes of a source's files that have been read, so that no byte is asked for twice."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self._held: dict[str, list[tuple[int, bytearray]]] = defaultdict(list)

    def fetch(self, ranges: Iterable[Range], extra: Sequence[Read] = ()) -> None:
        """Read the ranges that are not held yet, in one round; no round where all are held."""
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


class Run(Protocol):
    """A run of bytes of a file that readers see and that is not there as such."""

    @property
    def start(self) -> int:
        """Its first byte."""

    @property
    def stop(self) -> int:
        """One past its last."""


class Part(NamedTuple):
    """A run of bytes, and where they are.

    Attributes:
        start: Its first byte, as entries give it.
        stop: One past its last.
        file: The file that holds them.
        at: Where in that file they begin.
    """

    start: int
    stop: int
    file: str
    at: int


_Run = TypeVar("_Run", bound=Run)


def cut(read: Read, runs: Sequence[_Run]) -> Iterator[tuple[_Run, int, memoryview]]:
    """The runs that a read goes over, where in each it begins, and the buffer for it."""
    file, start, into = read
    number, filled = bisect_right(runs, start, key=lambda run: run.start) - 1, 0
    while filled < len(into):
        run = runs[number]
        within = start + filled - run.start
        count = min(len(into) - filled, run.stop - run.start - within)
        if count <= 0:
            raise AssertionError(f"{file}: no tensor stands at byte {start + filled}")
        yield run, within, into[filled : filled + count]
        filled, number = filled + count, number + 1


class JoinedSource(WrappedSource):
    """A source whose files are joined from parts of others."""

    def __init__(self, source: ByteSource, parts: Mapping[str, Sequence[Part]]) -> None:
        super().__init__(source)
        self._parts = parts

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from wherever its bytes are."""
        real = []
        for read in reads:
            if read.file in self._parts:
                real += [
                    Read(part.file, part.at + within, into) for part, within, into in cut(read, self._parts[read.file])
                ]
            else:
                real.append(read)
        self._source.read(real, advance)
