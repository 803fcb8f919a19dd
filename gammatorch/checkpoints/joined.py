"""Tensors whose bytes stand in several places, as if they stood one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from gammatorch.checkpoints.base import Advance, ByteSource, Read
from gammatorch.checkpoints.wrapped import WrappedSource

SEVERAL = "(several files)"
"""Stands for the files of a tensor whose rows are in more than one place."""


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
    """The runs that a read goes over, where in each it begins, and the buffer for it.

    Args:
        read: A read of the file that the runs make up.
        runs: What that file is seen to hold, in order.
    """
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
    """A source whose files are joined from parts of others.

    Args:
        source: The files.
        parts: What each joined file is seen to hold, in order; other files are read as they are.
    """

    def __init__(self, source: ByteSource, parts: Mapping[str, Sequence[Part]]) -> None:
        super().__init__(source)
        self._parts = parts

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from wherever its bytes are.

        Raises:
            UnreadableCheckpoint: The underlying source failed.
        """
        real = []
        for read in reads:
            if read.file in self._parts:
                real += [
                    Read(part.file, part.at + within, into) for part, within, into in cut(read, self._parts[read.file])
                ]
            else:
                real.append(read)
        self._source.read(real, advance)
