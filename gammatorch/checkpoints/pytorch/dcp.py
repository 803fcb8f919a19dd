"""Torch.distributed checkpoints (DCP): ``.metadata`` tells what stands in the ``*.distcp`` files beside it.

Each chunk of a tensor is an archive of its own within such a file, as :func:`torch.save` writes it. An archive is
looked into when its tensor is first read, and held against the table: only the gains' own are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

from gammatorch.checkpoints.base import Advance, ByteSource, Contents, Read, TensorEntry, WrappedSource
from gammatorch.checkpoints.dtypes import ITEM_BYTES, TILED, in_form
from gammatorch.checkpoints.pieces import SEVERAL, Pieces, cut
from gammatorch.checkpoints.pytorch.archive import read_archives, read_settings
from gammatorch.checkpoints.pytorch.dcp_metadata import TABLE_CAP, Chunk, DistributedTensor, read_metadata
from gammatorch.checkpoints.pytorch.pipeline import take_apart
from gammatorch.checkpoints.pytorch.state_dict import find_state_dict
from gammatorch.checkpoints.pytorch.tensors import StoredTensor
from gammatorch.checkpoints.pytorch.zip_directory import WHOLE_BYTES, check_local_header, fetch_ends
from gammatorch.checkpoints.weights import DCP_METADATA
from gammatorch.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat

MEGATRON_SETTINGS = "common.pt"
"""What Megatron-core writes beside the tensors: the settings of the run."""

_AT_ONCE = 256
"""Archives that are looked into at a time: their ends are held in memory meanwhile."""

_OPTIMIZERS = re.compile(
    r"^(chained_\d+\.)?(optim|optims|optimizer|optimizers|lr_scheduler|schedulers?)\."
    r"|(^|\.)(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|fp32_param|master_param)(\.|$)"
)
"""Names of what an optimizer keeps: as long as a gain, and no gain."""


class _Part(NamedTuple):
    """A run of bytes that readers see.

    Attributes:
        start: Its first byte, as entries give it.
        stop: One past its last.
        chunk: Where they stand.
        dtype: Their type, as the table has it.
    """

    start: int
    stop: int
    chunk: Chunk
    dtype: str


def read_dcp(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of a torch.distributed checkpoint, from its table; no pickle is executed.

    Returns:
        The entries of the model's tensors by key, and a source that finds their bytes.

    Raises:
        MalformedCheckpoint: A file is cut short, or contradicts itself.
        IncompleteCheckpoint: A file that the table names is not there.
        UnsupportedFormat: The table is of another kind, or holds no model.
        UnreadableCheckpoint: The source failed.
    """
    where = f"{source.name}/{DCP_METADATA}"
    size = source.files[DCP_METADATA]
    if size > TABLE_CAP:
        raise MalformedCheckpoint(f"is a table of {size} bytes, more than is read", file=where)
    raw = bytearray(size)
    source.read([*extra, Read(DCP_METADATA, 0, memoryview(raw))])
    nested = _nest(read_metadata(bytes(raw), where), where)
    found = find_state_dict(nested, DistributedTensor, where)
    kept = {key: tensor for key, tensor in found.tensors.items() if _OPTIMIZERS.search(key) is None}
    if not kept:
        raise UnsupportedFormat("holds the state of an optimizer, and no model", file=where)
    notes = list(found.notes(DCP_METADATA))
    if len(kept) < len(found.tensors):
        notes.append(f"{len(found.tensors) - len(kept)} tensors of an optimizer left out")
    layout = _Layout(source, files)
    table, stacked = take_apart({key: layout.place(key, tensor) for key, tensor in kept.items()})
    notes += [
        f"{stack} holds the tensors of all layers in one: {stack}.0 stands for its first rows" for stack in stacked
    ]
    settings = read_settings(source, MEGATRON_SETTINGS) if MEGATRON_SETTINGS in source.files else {}
    return Contents([table], AssembledSource(source, layout.parts()), notes=tuple(notes), settings=settings)


def _nest(tensors: Iterable[DistributedTensor], where: str) -> dict[str, Any]:
    """What was saved: dicts in dicts, by the names that the planner has joined."""
    nested: dict[str, Any] = {}
    for tensor in tensors:
        target: Any = nested
        for name in tensor.path[:-1]:
            target = target.setdefault(name, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict) or tensor.path[-1] in target:
            raise MalformedCheckpoint(
                "gives one name to two things: copy the checkpoint again", file=where, tensor=".".join(tensor.path)
            )
        target[tensor.path[-1]] = tensor
    return nested


class _Layout:
    """Where readers see each tensor: one chunk at the place of its archive, several one after the other."""

    def __init__(self, source: ByteSource, files: Sequence[str]) -> None:
        self._source = source
        self._files = frozenset(files)
        self._parts: dict[str, list[_Part]] = defaultdict(list)
        self._end = 0

    def place(self, key: str, tensor: DistributedTensor) -> TensorEntry:
        """The entry of a tensor."""
        for chunk in tensor.chunks:
            self._check(key, chunk, tensor.dtype)
        nbytes = prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        if not nbytes:
            return TensorEntry(key, tensor.dtype, tensor.shape, SEVERAL, 0, 0)
        if any(chunk.shape[1:] != tensor.shape[1:] or any(chunk.offsets[1:]) for chunk in tensor.chunks):
            return TensorEntry(key, in_form(tensor.dtype, TILED), tensor.shape, SEVERAL, 0, 0)
        rows = sorted(tensor.chunks, key=lambda chunk: chunk.offsets)
        position = 0
        for chunk in rows:
            if chunk.offsets[:1] != ((position,) if tensor.shape else ()):
                break
            position += chunk.shape[0] if tensor.shape else 1
        if len(rows) == 0 or position != (tensor.shape[0] if tensor.shape else len(rows)):
            raise MalformedCheckpoint(
                "its parts leave a gap or overlap: copy the checkpoint again", file=self._where, tensor=key
            )
        if len(rows) == 1:
            file, start = rows[0].file, rows[0].start
        else:
            file, start = SEVERAL, self._end
            self._end += nbytes
        begin = start
        for chunk in rows:
            end = begin + prod(chunk.shape) * ITEM_BYTES[tensor.dtype]
            self._parts[file].append(_Part(begin, end, chunk, tensor.dtype))
            begin = end
        return TensorEntry(key, tensor.dtype, tensor.shape, file, start, start + nbytes)

    def parts(self) -> dict[str, list[_Part]]:
        """The parts that each file is seen to hold, in order."""
        taken = sorted(
            (part.chunk.file, part.chunk.start, part.chunk.nbytes) for parts in self._parts.values() for part in parts
        )
        for (file, start, nbytes), (next_file, next_start, _) in pairwise(taken):
            if file == next_file and start + nbytes > next_start:
                raise MalformedCheckpoint(f"puts two tensors at byte {next_start} of {file}", file=self._where)
        return {file: sorted(parts, key=lambda part: part.start) for file, parts in self._parts.items()}

    @property
    def _where(self) -> str:
        return f"{self._source.name}/{DCP_METADATA}"

    def _check(self, key: str, chunk: Chunk, dtype: str) -> None:
        if chunk.file not in self._files:
            raise IncompleteCheckpoint(
                f"{chunk.file} is missing: copy the checkpoint again", file=self._source.name, tensor=key
            )
        size = self._source.files[chunk.file]
        if chunk.start + chunk.nbytes > size:
            raise MalformedCheckpoint(
                f"is cut short ({DCP_METADATA} tells of {chunk.start + chunk.nbytes} bytes, the file has {size}): "
                "copy it again",
                file=f"{self._source.name}/{chunk.file}",
                tensor=key,
            )
        if prod(chunk.shape) * ITEM_BYTES[dtype] > chunk.nbytes:
            raise MalformedCheckpoint(
                f"{list(chunk.shape)} values of {dtype} do not fit into {chunk.nbytes} bytes",
                file=self._where,
                tensor=key,
            )


class AssembledSource(WrappedSource):
    """Tensors as if their bytes stood one after the other, wherever the archives of their chunks are."""

    def __init__(self, source: ByteSource, parts: Mapping[str, Sequence[_Part]]) -> None:
        super().__init__(source)
        self._parts = parts
        self._starts: dict[Chunk, int] = {}

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, and look into the archives that are read for the first time."""
        wanted = [piece for read in reads for piece in cut(read, self._parts.get(read.file, ()))]
        new = list({part.chunk: part for part, _, _ in wanted if part.chunk not in self._starts}.values())
        held: dict[Chunk, bytes] = {}
        for first in range(0, len(new), _AT_ONCE):
            held |= self._look_into(new[first : first + _AT_ONCE])
        rest = []
        for part, within, into in wanted:
            chunk = part.chunk
            if chunk in held:
                into[:] = held[chunk][within : within + len(into)]
                if advance is not None:
                    advance(len(into))
            else:
                rest.append(Read(chunk.file, chunk.start + self._starts[chunk] + within, into))
        if rest:
            self._source.read(sorted(rest, key=itemgetter(0, 1)), advance)  # file, start

    def _look_into(self, parts: Sequence[_Part]) -> dict[Chunk, bytes]:
        """Find where in their archives the values begin; the values themselves, where they came along."""
        held = {}
        chunks = {f"{part.chunk.file} at byte {part.chunk.start}": part for part in parts}
        pieces = Pieces(_Archives(self._source, {name: part.chunk for name, part in chunks.items()}))
        fetch_ends(pieces, list(chunks))
        archives = read_archives(pieces, list(chunks))
        for (name, part), archive in zip(chunks.items(), archives, strict=True):
            where = f"{self.name}/{name}"
            tensor = archive.described
            if (
                not isinstance(tensor, StoredTensor)
                or (tensor.dtype, tensor.shape) != (part.dtype, part.chunk.shape)
                or tensor.form
                or tensor.storage is None
            ):
                raise MalformedCheckpoint(
                    f"does not hold {part.dtype} {list(part.chunk.shape)}, of which {DCP_METADATA} tells: "
                    "copy the checkpoint again",
                    file=where,
                )
            try:
                member = archive.member(tensor.storage)
            except ValueError as error:
                raise MalformedCheckpoint(f"{error}: copy the checkpoint again", file=where) from None
            pieces.fetch([(name, member.header, member.start)])
            check_local_header(pieces.take(name, member.header, member.start), member, where)
            start = self._starts[part.chunk] = member.start + tensor.start
            if part.chunk.nbytes <= WHOLE_BYTES:
                held[part.chunk] = pieces.take(name, start, start + part.stop - part.start)
        return held


class _Archives(WrappedSource):
    """Ranges of files, as files of their own."""

    def __init__(self, source: ByteSource, chunks: Mapping[str, Chunk]) -> None:
        super().__init__(source)
        self._chunks = chunks
        self.files = {name: chunk.nbytes for name, chunk in chunks.items()}

    def speculate(self, file: str) -> int:
        """Nothing: the end of an archive tells where its pickle is, and nearly all lie within a first read."""
        return 0

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from the file around its range."""
        chunks = self._chunks
        self._source.read(
            [Read(chunks[name].file, chunks[name].start + start, into) for name, start, into in reads], advance
        )
