"""What a checkpoint is to the rest of the package: a source of bytes, and a table of tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from gammatorch.errors import MalformedCheckpoint

Advance = Callable[[int], None]

JsonObject = Mapping[str, Any]
"""An object of JSON as parsed, config.json say, or what other formats have in its place: whoever uses a value of it
looks at its type first."""

Search = Callable[[str, str | None], "Mapping[str, TensorEntry] | None"]
"""Gives the tensors whose keys hold a text, by key; None where only the whole table can tell. With the name of a file
the search begins there, and ends with the first file that has such keys."""


class Read(NamedTuple):
    """One positioned read: ``len(into)`` bytes of ``file`` from byte ``start``, straight into ``into``."""

    file: str
    start: int
    into: memoryview


@dataclass
class Traffic:
    """What a source has moved so far.

    Attributes:
        bytes_read: Bytes delivered, repository listings included.
        requests: Reads made (positioned reads, or HTTP requests with their repetitions).
        rounds: Dependent rounds: calls that had to wait for the answer of the one before.
        bytes_cached: Bytes that an earlier run had read, and that came from the cache instead.
    """

    bytes_read: int = 0
    requests: int = 0
    rounds: int = 0
    bytes_cached: int = 0


class ByteSource(Protocol):
    """The one seam to disk, network and tests: named files with known sizes, and positioned reads.

    Whatever has these members can be opened with :func:`gammatorch.checkpoints.opening.open_source`; a class that
    inherits from this one has ``hashes``, ``rereads``, ``read_in_turn`` and ``path`` of a source that is far away.

    Attributes:
        name: How people call it, for messages: a folder, or ``org/name@commit``.
        revision: The resolved commit, where there is one.
        files: Size in bytes of each file, by its plain name.
        traffic: What has been moved so far.
        hashes: What the contents of files hash to, where that is known without reading them.
        rereads: Whether reads cost so little that what is large is rather read again than kept.
    """

    name: str
    revision: str | None
    files: Mapping[str, int]
    traffic: Traffic
    hashes: Mapping[str, str] = MappingProxyType({})
    rereads: bool = False

    def speculate(self, file: str) -> int:
        """How many bytes of the head of ``file`` are worth reading before its header's length is known."""

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, or raise; the reads are independent and may run at the same time.

        Args:
            reads: What to read. One call is one round, whatever the number of reads.
            advance: Called with the number of bytes that have arrived since its last call.

        Raises:
            UnreadableCheckpoint: A read failed, came short, or the file is not what it was.
        """

    def close(self) -> None:
        """Let go of open files; the source may still be read afterwards."""

    def read_in_turn(self, reads: Iterable[Read]) -> Iterator[Read]:
        """Fill one buffer after the other, in one round, and hand each on before the next: they may all be the same.

        Raises:
            UnreadableCheckpoint: As :meth:`read`.
        """
        for read in reads:
            self.read([read])
            yield read

    def path(self, file: str) -> str | None:
        """Where a file is on a disk of this machine, None if it is on none."""
        return None


class TensorEntry(NamedTuple):
    """One tensor as the header of its file describes it.

    Attributes:
        key: Name of the tensor.
        dtype: Stored type in safetensors' spelling (``"BF16"``).
        shape: Shape as stored.
        file: The file (shard) that holds it.
        start: First byte within the file.
        stop: One past the last byte within the file.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Stored size in bytes."""
        return self.stop - self.start

    @property
    def width(self) -> int:
        """Number of values."""
        width = 1
        for extent in self.shape:
            width *= extent
        return width

    @property
    def dimensions(self) -> int:
        """Number of extents; 2 for one row of values with several extents of 1 beside it.

        Example:
            >>> [TensorEntry("", "F32", shape, "", 0, 0).dimensions for shape in ((4,), (1, 4), (4, 1, 1), (4, 2, 1))]
            [1, 2, 2, 3]
        """
        return min(len(self.shape), 2) if self.is_row else len(self.shape)

    @property
    def is_row(self) -> bool:
        """Whether it is one row of values, whatever extents of 1 stand around it."""
        return sum(extent != 1 for extent in self.shape) <= 1 and len(self.shape) > 0


def stored_bytes(entries: Iterable[TensorEntry]) -> int:
    """Bytes that tensors take as stored, all together.

    Example:
        >>> stored_bytes([TensorEntry("a", "F32", (2,), "file", 8, 16), TensorEntry("b", "F16", (2,), "file", 16, 20)])
        12
    """
    return sum(entry.stop - entry.start for entry in entries)


def unsearchable(text: str, near: str | None) -> None:
    """The :data:`Search` where only the whole table can tell."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose headers have been read and whose tensors have not.

    Attributes:
        model: The name it was asked for by.
        source: Where its bytes are.
        files: The weight files (shards), in order.
        entries: Every tensor in them, by key.
        config: The parsed ``config.json``, or None where there is none.
        seconds: Time spent on opening it.
        notes: What a reader of the results should know.
        target: The one file or index that was asked for, None for a whole folder or repository.
        settings: What the trainer that wrote the files has kept of its settings in them, in its own words.
        missing: What the files say of other parts of the model that are not among them, and what to do; None where they
            are the whole. No site is read of a part.
        absent: Keys that the index names and no shard holds.
        metadata: What the headers say of the files, as safetensors' ``__metadata__`` (``format``, say).
        tensors: The tensors themselves by key, of a model in memory; None for one whose bytes are read.
        search: Finds tensors in the headers without making the whole table, where that can be done.
        ranks: Opens the same model as each tensor-parallel rank holds it, by the rank's number, the one that was read
            first; empty where there is one. All should hold the same norms.
    """

    model: str
    source: ByteSource = field(repr=False)
    files: tuple[str, ...]
    entries: Mapping[str, TensorEntry] = field(repr=False)
    config: JsonObject | None = field(repr=False)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    target: str | None = None
    settings: JsonObject = field(default_factory=dict, repr=False)
    missing: str | None = None
    absent: frozenset[str] = field(default=frozenset(), repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    tensors: Mapping[str, Any] | None = field(default=None, repr=False)
    search: Search = field(default=unsearchable, repr=False)
    ranks: Mapping[str, Callable[[], Checkpoint]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """How messages call it: the folder, ``org/name@commit``, or the file that was asked for."""
        return self.source.name if self.target is None else f"{self.source.name}/{self.target}"

    @property
    def revision(self) -> str | None:
        """The resolved commit, where there is one."""
        return self.source.revision

    @property
    def checkpoint_bytes(self) -> int:
        """Size of all weight files together, in bytes."""
        return sum(self.source.files[file] for file in self.files)

    def matching(self, text: str) -> Iterable[TensorEntry]:
        """The tensors whose keys hold a text, from a search of the headers where they can be searched."""
        found = self.search(text, None)
        return found.values() if found is not None else (entry for key, entry in self.entries.items() if text in key)

    def where(self, entry: TensorEntry) -> str:
        """The file of a tensor as messages name it: ``folder/shard``."""
        return f"{self.source.name}/{entry.file}"

    def close(self) -> None:
        """Let go of open files; the checkpoint may still be read afterwards."""
        self.source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def merge_entries(tables: Sequence[Mapping[str, TensorEntry]], where: str) -> dict[str, TensorEntry]:
    """The tables of several shards as one."""
    merged: dict[str, TensorEntry] = {}
    for table in tables:
        if not merged.keys().isdisjoint(table):
            key = next(key for key in table if key in merged)
            raise MalformedCheckpoint(
                f"stands in both {merged[key].file} and {table[key].file}: remove the shard that does not belong",
                file=where,
                tensor=key,
            )
        merged.update(table)
    return merged


@dataclass(frozen=True)
class Contents:
    """The headers of a checkpoint's files.

    Attributes:
        tables: For each file its tensors by key.
        source: Where to read the tensors from.
        config: What the files themselves say of the model, in config.json's words; None where they do not.
        notes: What a reader of the results should know.
        settings: What the trainer that wrote them has kept of its settings, in its own words.
        missing: What the files say of other parts of the model that are not among them, and what to do; None where they
            are the whole.
        metadata: What the headers say of the files, as safetensors' ``__metadata__``.
    """

    tables: list[dict[str, TensorEntry]]
    source: ByteSource
    config: JsonObject | None = None
    notes: tuple[str, ...] = ()
    settings: JsonObject = field(default_factory=dict)
    missing: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class WrappedSource(ByteSource):
    """All of a source but its reads."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.name, self.revision = source.name, source.revision
        self.files, self.traffic, self.hashes = source.files, source.traffic, source.hashes

    def speculate(self, file: str) -> int:
        """As the underlying source."""
        return self._source.speculate(file)

    def close(self) -> None:
        """Close the underlying source."""
        self._source.close()


@contextmanager
def collector_resting() -> Iterator[None]:
    """No search for cycles, which goes through everything that was made, again and again; there are hardly any."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
