"""The table of tensors of a torch.distributed checkpoint (DCP): the pickle in ``.metadata``, taken apart as data.

It tells of each tensor which chunks it was cut into, and of each chunk the file, the first byte and the length of what
:func:`torch.save` made of it. Format: ``torch/distributed/checkpoint/metadata.py`` and ``filesystem.py`` in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.dtypes import TORCH_DTYPES
from gammatorch.checkpoints.pytorch.tensors import as_shape, as_size
from gammatorch.checkpoints.pytorch.unpickler import OPAQUE, Broken, Machine, Name, Record, as_type
from gammatorch.errors import MalformedCheckpoint, UnsupportedFormat

VERSION = "1.0.0"
"""The format's version; the files of PyTorch before 2.7 have none, and are alike."""

TABLE_CAP = 256_000_000
"""Longest table that is read, in bytes: a chunk of a tensor takes some 140, and one saved by 512 processes with two
moments of an optimizer has a million."""

_CHUNK_BYTES = 20
"""A chunk takes more bytes of the table, unless one list stands for the chunks of many tensors."""

_DEEPEST = 64
"""Names that lead to a tensor, at most."""

_METADATA = "torch.distributed.checkpoint.metadata"
_OLD_METADATA = "torch.distributed._shard.sharded_tensor.metadata"
_TYPES = (
    "Metadata",
    "TensorStorageMetadata",
    "ChunkStorageMetadata",
    "TensorProperties",
    "BytesStorageMetadata",
    "MetadataIndex",
    "StorageMeta",
)


class Chunk(NamedTuple):
    """A part of a tensor, as it was saved by one process.

    Attributes:
        file: Name of the file.
        start: First byte there of what :func:`torch.save` made of it.
        nbytes: Bytes of that.
        offsets: Where in the tensor it begins, in each dimension.
        shape: Its shape.
    """

    file: str
    start: int
    nbytes: int
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


class DistributedTensor(NamedTuple):
    """A tensor and what it was cut into.

    Attributes:
        path: The names that lead to it in what was saved; the last one is its own.
        dtype: Stored type in safetensors' spelling.
        shape: Its shape.
        chunks: Its parts, in the order of the table.
    """

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


def read_metadata(raw: bytes, where: str) -> list[DistributedTensor]:
    """The tensors that ``.metadata`` tells of; nothing in it is executed.

    Raises:
        MalformedCheckpoint: It is broken, or contradicts itself.
        UnsupportedFormat: It is of another version, names something that no such table needs, or its tensors were
            transformed before they were written.
    """
    if len(raw) > TABLE_CAP:
        raise MalformedCheckpoint(f"is a table of {len(raw)} bytes, more than is read", file=where)
    machine = _MetadataMachine(raw, where)
    (described,) = machine.read()
    if machine.at != len(raw):
        raise MalformedCheckpoint("goes on after its pickle: copy the checkpoint again", file=where)
    try:
        metadata = _state(described, "Metadata")
        version = metadata.get("version")
        if version is not None and version != VERSION:
            raise UnsupportedFormat(
                f"is of version {version!r} of torch.distributed's format, not {VERSION}", file=where
            )
        return list(_tensors(metadata, len(raw) // _CHUNK_BYTES, where))
    except Broken as error:
        raise MalformedCheckpoint(f"contradicts itself ({error}): copy the checkpoint again", file=where) from None
    except (KeyError, ValueError, TypeError, IndexError):
        raise MalformedCheckpoint("lacks a part of its table: copy the checkpoint again", file=where) from None


def _tensors(metadata: JsonObject, most_chunks: int, where: str) -> Iterator[DistributedTensor]:
    places = _places(metadata, where)
    paths = metadata.get("planner_data")
    told_of = 0
    for key, told in as_type(dict, metadata["state_dict_metadata"]).items():
        if as_type(Record, told).kind != "TensorStorageMetadata":
            continue
        described = _state(told, "TensorStorageMetadata")
        dtype = as_type(Name, as_type(tuple, as_type(Record, described["properties"]).state)[0])
        if dtype.kind != "dtype":
            raise Broken("a tensor of no type")
        shape = as_shape(described["size"])
        chunks = as_type(list, described["chunks"])
        told_of += len(chunks)
        if told_of > most_chunks:
            raise Broken("more chunks than it has room for")
        states = [_state(chunk, "ChunkStorageMetadata") for chunk in chunks]
        cut = [(as_shape(chunk["offsets"]), as_shape(chunk["sizes"])) for chunk in states]
        if any(len(offsets) != len(shape) or len(sizes) != len(shape) for offsets, sizes in cut):
            raise Broken(f"chunks of {key!r} have another number of dimensions")
        yield DistributedTensor(
            _path(key, paths),
            dtype.value,
            shape,
            tuple(Chunk(*places[key, offsets], offsets, sizes) for offsets, sizes in cut if 0 not in sizes),
        )


def _places(metadata: JsonObject, where: str) -> dict[tuple[str, tuple[int, ...] | None], tuple[str, int, int]]:
    """File, first byte and length of each chunk, by the name of its tensor and where in that it begins."""
    places = {}
    for index, told in as_type(dict, metadata["storage_data"]).items():
        of, info = _state(index, "MetadataIndex"), _state(told, "_StorageInfo")
        offset = of.get("offset")
        chunk = (as_type(str, of["fqn"]), None if offset is None else as_shape(offset))
        if chunk in places:
            raise Broken(f"{chunk[0]!r} stands in two places")
        if info.get("transform_descriptors"):
            raise UnsupportedFormat(
                "tensors were compressed or otherwise transformed when they were written: save them without extensions",
                file=where,
            )
        file = as_type(str, info["relative_path"])
        if not file or file in (".", "..") or any(character in file for character in "/\\\0"):
            raise MalformedCheckpoint(f"names a file {file[:120]!r}, which is no plain file name", file=where)
        places[chunk] = (file, as_size(info["offset"]), as_size(info["length"]))
    return places


def _path(key: str, paths: Any) -> tuple[str, ...]:
    """The names that were joined to a key, where the planner has kept them."""
    told = paths.get(key) if isinstance(paths, dict) else None
    if isinstance(told, tuple) and 0 < len(told) <= _DEEPEST and all(isinstance(name, (str, int)) for name in told):
        return tuple(map(str, told))
    return (as_type(str, key),)


def _state(record: Any, kind: str) -> JsonObject:
    if as_type(Record, record).kind != kind:
        raise Broken(f"a {record.kind} where a {kind} belongs")
    state: JsonObject = as_type(dict, record.state)
    return state


class _MetadataMachine(Machine):
    names: ClassVar[Mapping[tuple[str, str], Name]] = {
        **{(_METADATA, name): Name("record", name) for name in _TYPES},
        (_OLD_METADATA, "TensorProperties"): Name("record", "TensorProperties"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): Name("record", "_StorageInfo"),
        **{("torch", name): Name("dtype", dtype) for name, dtype in TORCH_DTYPES.items()},
        ("torch", "Size"): Name("size"),
        ("collections", "OrderedDict"): Name("dict"),
        (_METADATA, "_MEM_FORMAT_ENCODING"): Name("opaque"),
        (_OLD_METADATA, "MEM_FORMAT_ENCODING"): Name("opaque"),
        ("torch.serialization", "_get_layout"): Name("opaque"),
        ("builtins", "getattr"): Name("opaque"),  # how Python 3.11 writes an Enum; never called
        **{
            (module, name): Name("opaque")  # the path it was saved to
            for module in ("pathlib", "pathlib._local")
            for name in ("PosixPath", "WindowsPath")
        },
    }
    returns: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "size": lambda extents: tuple(as_type(tuple, extents)),
        "dict": lambda: {},
        "opaque": lambda *_: OPAQUE,
    }
    most_operations = TABLE_CAP  # each takes a byte at least, three of four no more
    purpose = "no part of a table of tensors: nothing was executed; save the checkpoint's state dict as safetensors"
