"""Sources of bytes for tests: one that writes down what is read, one that lives in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gammatorch.checkpoints.base import Advance, ByteSource, Read, Traffic


class RecordingSource:
    """Another source, with a list of every read: file, start, stop."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.reads: list[tuple[str, int, int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def read_in_turn(self, reads: Iterable[Read]) -> Iterator[Read]:
        for read in self._source.read_in_turn(reads):
            self.reads.append((read.file, read.start, read.start + len(read.into)))
            yield read

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        self.reads += [(read.file, read.start, read.start + len(read.into)) for read in reads]
        self._source.read(reads, advance)


class MemorySource(ByteSource):
    """Files held in memory; speculates like a remote one."""

    name = "memory"
    revision = None

    def __init__(self, contents: Mapping[str, bytes], speculation: int = 0) -> None:
        self._contents = contents
        self._speculation = speculation
        self.files = {name: len(content) for name, content in contents.items()}
        self.traffic = Traffic()

    def speculate(self, file: str) -> int:
        return self._speculation

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        for file, start, into in reads:
            into[:] = self._contents[file][start : start + len(into)]
            if advance is not None:
                advance(len(into))

    def close(self) -> None:
        pass
