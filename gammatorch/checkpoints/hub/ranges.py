"""Runs of neighbouring reads, each filled by one request, or by several that go on where the last one broke off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from gammatorch.checkpoints.base import Advance, Read
from gammatorch.checkpoints.hub.client import Retry
from gammatorch.errors import UnreadableCheckpoint

MERGE_GAP = 32_768
"""Two ranges with at most this many bytes between them travel as one request."""


def merge_reads(reads: Sequence[Read]) -> list[list[Read]]:
    """Group the reads of each file so that neighbours share a request.

    Example:
        >>> reads = [Read("a", start, memoryview(bytearray(8))) for start in (0, 100_000, 8)]
        >>> [[read.start for read in group] for group in merge_reads(reads)]
        [[0, 8], [100000]]
    """
    groups: list[list[Read]] = []
    ordered = sorted(reads, key=lambda read: (read.file, read.start))
    for _, of_file in groupby(ordered, key=lambda read: read.file):
        stop = None
        for read in of_file:
            if stop is not None and read.start - stop <= MERGE_GAP:
                groups[-1].append(read)
            else:
                groups.append([read])
            stop = max(stop or 0, read.start + len(read.into))
    return groups


class FileRange:
    """A range of a file that arrives from the network.

    Args:
        reads: Reads of one file, by where they start; together they are the range.
        file_bytes: Size of the file.
        link: Where the Hub said before that the file is to be had; None if it has not been asked.

    Attributes:
        file: Name of the file.
        link: Where the Hub says it is to be had, None if it has to be asked.
        filled: Bytes of it that are there.
    """

    def __init__(self, reads: Sequence[Read], file_bytes: int, link: str | None = None) -> None:
        self.file = reads[0].file
        self.link = link
        self._reads = reads
        self._file_bytes = file_bytes
        self._start = reads[0].start
        self._stop = max(read.start + len(read.into) for read in reads)
        self._buffer = reads[0].into if len(reads) == 1 else memoryview(bytearray(self._stop - self._start))
        self.filled = 0

    @property
    def is_filled(self) -> bool:
        """Whether nothing is missing."""
        return self.filled == len(self._buffer)

    @property
    def headers(self) -> dict[str, str]:
        """How to ask for what is missing."""
        return {"Range": f"bytes={self._start + self.filled}-{self._stop - 1}", "Accept-Encoding": "identity"}

    def accept(self, status: int, headers: Mapping[str, str], where: str) -> None:
        """Make sure that an answer is what was asked for, before its body is read.

        Args:
            status: Its HTTP status, below 300.
            headers: Its headers.
            where: Name of the file, for messages.

        Raises:
            UnreadableCheckpoint: It is something else.
            Retry: It contradicts itself.
        """
        asked = f"bytes {self._start + self.filled}-{self._stop - 1}/{self._file_bytes}"
        if status == 200 and len(self._buffer) == self._file_bytes:
            self.filled = 0  # the whole file is what the range is
            answered = f"bytes 0-{self._file_bytes - 1}/{self._file_bytes}"
            asked = answered
        else:
            answered = headers.get("Content-Range", "no Content-Range") if status == 206 else f"status {status}"
        if answered != asked:  # hanging up here, before a whole shard arrives
            raise UnreadableCheckpoint(
                f"the server answered {answered} to a request for {asked}: "
                "a proxy in between ignores ranges, go around it or download the model",
                file=where,
            )
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise UnreadableCheckpoint(
                f"the server sends it as {encoding}, which was not asked for: a proxy in between changes "
                "what it passes on, go around it or download the model",
                file=where,
            )
        missing = str(len(self._buffer) - self.filled)
        if headers.get("Content-Length", missing) != missing:
            raise Retry("an answer of another length than was asked for")

    def take(self, chunk: bytes, where: str) -> None:
        """The next bytes of the body.

        Raises:
            UnreadableCheckpoint: There are more than were asked for.
        """
        if self.filled + len(chunk) > len(self._buffer):
            raise UnreadableCheckpoint("more bytes came than were asked for: try again later", file=where)
        self._buffer[self.filled : self.filled + len(chunk)] = chunk
        self.filled += len(chunk)

    def finish(self) -> None:
        """The body has ended.

        Raises:
            Retry: Too early.
        """
        if not self.is_filled:
            raise Retry(f"{self.filled} of {len(self._buffer)} bytes came")

    def hand_over(self, advance: Advance | None) -> None:
        """Give every read its bytes, once all are there; ``advance`` is told how many these are."""
        if not self.is_filled:
            return
        if len(self._reads) > 1:
            for read in self._reads:
                read.into[:] = self._buffer[read.start - self._start :][: len(read.into)]
        if advance is not None:
            advance(sum(len(read.into) for read in self._reads))
