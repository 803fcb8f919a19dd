"""GGUF, the format of llama.cpp: metadata and tensor table at the front, tensors aligned behind them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from gammatorch.checkpoints.base import ByteSource, Contents, JsonObject, Read, TensorEntry
from gammatorch.checkpoints.dtypes import GGUF_TYPES
from gammatorch.checkpoints.foreign import what_else
from gammatorch.errors import MalformedCheckpoint, UnsupportedFormat

HEADER_CAP = 512_000_000
"""Longest header that is read, in bytes; vocabularies take some 10 MB."""

LOCAL_WINDOW = 262_144
"""Bytes of a local file that are read at once."""

REMOTE_WINDOWS = (1_048_576, 16_777_216)
"""First and longest read of a remote file: each one takes a round, so each is four times the one before."""

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}

_PREAMBLE = struct.Struct("<4sI2Q")
_TEXT, _ARRAY = 8, 9
_LEAST_PAIR, _LEAST_TENSOR = 13, 24
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 65_536
_LONGEST_VALUE = 1_048_576
_MOST_ITEMS = 10_000_000
_DEEPEST_ARRAY = 4
_ALIGNMENT = "general.alignment"
_SPLIT_NUMBER, _SPLIT_COUNT, _SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"


def read_gguf(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of each file, from its header alone, and what the first header says of the model.

    Raises:
        MalformedCheckpoint: A file is not GGUF, is cut short, or its header contradicts itself.
        UnsupportedFormat: It is big-endian, or of a version that is not read.
        UnreadableCheckpoint: The source failed.
    """
    headers = [_Header(source, file, extra if position == 0 else ()) for position, file in enumerate(files)]
    read = [_read_file(header) for header in headers]
    tables, told = [table for table, _ in read], [metadata for _, metadata in read]
    missing = _missing(files, told, sum(map(len, tables)), source.name)
    return Contents(tables, source, config=_config(told[0]), missing=missing)


def _missing(files: Sequence[str], told: Sequence[JsonObject], tensors: int, where: str) -> str | None:
    """What the files say of other parts of the model; None where they are the whole."""
    count = told[0].get(_SPLIT_COUNT, 0)
    numbers = [metadata.get(_SPLIT_NUMBER) for metadata in told]
    if type(count) is not int or count < 2:
        return None
    if len(files) < count:
        first = f"{files[0]} is part {numbers[0] + 1}" if type(numbers[0]) is int else f"{files[0]} is one"
        return f"{first} of {count} (split.count in it): pass the folder that holds all parts under their own names"
    expected = told[0].get(_SPLIT_TENSORS)
    if numbers != list(range(count)) or expected not in (None, tensors):
        raise MalformedCheckpoint(
            f"its files are not the {count} parts of one model, by split.no and split.tensors.count in them "
            f"({tensors} tensors, {expected} expected): download them again",
            file=where,
        )
    return None


class _Header:
    """The front of a file, read forward through a window."""

    def __init__(self, source: ByteSource, file: str, extra: Sequence[Read] = ()) -> None:
        self.source = source
        self.file = file
        self.where = f"{source.name}/{file}"
        self.size = source.files[file]
        self.at = 0
        self._extra = extra
        self._window = b""
        self._first = 0
        self._next, self._most = REMOTE_WINDOWS if source.speculate(file) else (LOCAL_WINDOW, LOCAL_WINDOW)

    def number(self, form: str) -> Any:
        """The next number, of a form that :mod:`struct` knows."""
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def text(self, longest: int) -> str:
        """The next text, which must not be longer than that many bytes."""
        length = self.number("<Q")
        if length > longest:
            raise self.broken(f"a text of {length} bytes where {longest} are many")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise self.broken("a text that is not UTF-8") from None

    def skip(self, count: int) -> None:
        """Pass over bytes, which are not read if they are not there yet."""
        self._check(count)
        self.at += count

    def skip_texts(self, count: int) -> None:
        """Pass over texts: the one part of the header that is long, so in one loop."""
        lengths = struct.Struct("<Q")
        for _ in range(count):
            start = self.at - self._first
            if start + 8 > len(self._window):
                self._load(8)
                start = self.at - self._first
            self.skip(8 + lengths.unpack_from(self._window, start)[0])

    def broken(self, what: str) -> MalformedCheckpoint:
        """The error for a header that cannot be."""
        return MalformedCheckpoint(f"header is broken ({what}): download it again", file=self.where)

    def _take(self, count: int) -> bytes:
        if self.at + count > self._first + len(self._window):
            self._load(count)
        start = self.at - self._first
        self.at += count
        return self._window[start : start + count]

    def _check(self, count: int) -> None:
        if self.at + count > min(self.size, HEADER_CAP):
            raise MalformedCheckpoint(
                f"is cut short within its header, or the header is broken ({self.size} bytes, at least "
                f"{self.at + count} described): download it again",
                file=self.where,
            )

    def _load(self, count: int) -> None:
        """Move the window so that it begins here and holds at least ``count`` bytes."""
        self._check(count)
        kept = self._window[self.at - self._first :]
        start = self.at + len(kept)
        window = bytearray(min(max(self._next, count), self.size - start))
        self.source.read([*self._extra, Read(self.file, start, memoryview(window))])
        self._extra = ()
        self._first, self._window = self.at, kept + bytes(window)
        self._next = min(4 * self._next, self._most)


def _read_file(header: _Header) -> tuple[dict[str, TensorEntry], JsonObject]:
    """Entries by key, and metadata."""
    tensors, pairs = _read_counts(header)
    if tensors * _LEAST_TENSOR + pairs * _LEAST_PAIR > header.size:
        raise header.broken(f"{tensors} tensors and {pairs} pairs in {header.size} bytes")
    metadata = _read_metadata(header, pairs)
    described = [_read_tensor(header) for _ in range(tensors)]
    alignment = metadata.get(_ALIGNMENT, 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 30 or alignment % 8:
        raise header.broken("an alignment that is no multiple of 8")
    data = math.ceil(header.at / alignment) * alignment
    entries: dict[str, TensorEntry] = {}
    for key, shape, kind, offset in described:
        if key in entries:
            raise MalformedCheckpoint("is there twice: download the file again", file=header.where, tensor=key)
        if offset % alignment:
            raise MalformedCheckpoint(
                f"starts at {offset}, which is not aligned: download the file again", file=header.where, tensor=key
            )
        name, nbytes = _stored(kind, shape, header.where, key)
        entries[key] = TensorEntry(key, name, shape, header.file, data + offset, data + offset + nbytes)
    _check_layout(entries, header)
    return entries, metadata


def _read_counts(header: _Header) -> tuple[int, int]:
    """Numbers of tensors and of pairs of metadata, after what says that it is GGUF."""
    if header.size < _PREAMBLE.size:
        raise MalformedCheckpoint(
            f"is {header.size} bytes long, too short for GGUF: download it again", file=header.where
        )
    head = header.number(f"{_PREAMBLE.size}s")
    if not head.startswith(b"GGUF"):
        told = what_else(head) or "not GGUF (it does not begin with that word): download it again"
        raise MalformedCheckpoint(f"is {told}", file=header.where)
    _, version, tensors, pairs = _PREAMBLE.unpack(head)
    if version not in (2, 3):
        big = "big-endian" if int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3) else f"version {version}"
        raise UnsupportedFormat(
            f"is {big} GGUF, and little-endian versions 2 and 3 are read: convert it again with llama.cpp",
            file=header.where,
        )
    return tensors, pairs


def _read_metadata(header: _Header, pairs: int) -> JsonObject:
    """The single values among the metadata; arrays are passed over."""
    metadata: dict[str, Any] = {}
    names = set()
    for _ in range(pairs):
        name = header.text(_LONGEST_NAME)
        if name in names:
            raise header.broken("the same key twice")
        names.add(name)
        kind = header.number("<I")
        if kind == _ARRAY:
            _skip_array(header)
        elif kind == _TEXT:
            metadata[name] = header.text(_LONGEST_VALUE)
        elif kind in _SCALARS:
            metadata[name] = header.number(_SCALARS[kind])
        else:
            raise header.broken(f"a value of the unknown kind {kind}")
    return metadata


def _skip_array(header: _Header, depth: int = 1) -> None:
    kind, count = header.number("<I"), header.number("<Q")
    if kind in _SCALARS:
        header.skip(count * struct.calcsize(_SCALARS[kind]))
    elif count > _MOST_ITEMS:
        raise header.broken(f"an array of {count} texts or arrays")
    elif kind == _TEXT:
        header.skip_texts(count)
    elif kind == _ARRAY and depth < _DEEPEST_ARRAY:
        for _ in range(count):
            _skip_array(header, depth + 1)
    else:
        raise header.broken(f"an array of the unknown kind {kind}")


def _read_tensor(header: _Header) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (slowest first, as torch counts), type and offset."""
    key = header.text(_LONGEST_NAME)
    dimensions = header.number("<I")
    if dimensions > _MOST_DIMENSIONS:
        raise header.broken(f"a tensor of {dimensions} dimensions")
    shape = tuple(header.number("<Q") for _ in range(dimensions))[::-1]
    return key, shape, header.number("<I"), header.number("<Q")


def _stored(kind: int, shape: tuple[int, ...], where: str, key: str) -> tuple[str, int]:
    """Name of a stored type, and bytes of a tensor of it."""
    if kind not in GGUF_TYPES:
        return f"GGML_{kind}", 0  # of a newer llama.cpp: listed, and refused when it is to be read
    name, values, nbytes = GGUF_TYPES[kind]
    if shape and shape[-1] % values:
        raise MalformedCheckpoint(
            f"has rows of {shape[-1]} values, which are no whole blocks of {name}: download the file again",
            file=where,
            tensor=key,
        )
    return name, math.prod(shape) // values * nbytes


def _check_layout(entries: Mapping[str, TensorEntry], header: _Header) -> None:
    """No tensor reaches into the next, or beyond the file."""
    position = header.at
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start < position:
            raise MalformedCheckpoint(
                "begins within the tensor before it: download the file again", file=header.where, tensor=entry.key
            )
        position = entry.stop
    if position > header.size:
        raise MalformedCheckpoint(
            f"is cut short (header describes {position} bytes, file has {header.size}): download it again",
            file=header.where,
        )


def _config(metadata: JsonObject) -> JsonObject:
    """The metadata in config.json's words; every architecture is also of the type ``gguf``.

    ``block_count`` counts the blocks that predict further tokens, config.json's number of layers does not.
    """
    architecture = metadata.get("general.architecture")
    blocks, heads = (metadata.get(f"{architecture}.{name}") for name in ("block_count", "nextn_predict_layers"))
    if type(blocks) is int and type(heads) is int and 0 < heads < blocks:
        blocks -= heads
    facts = {
        "num_hidden_layers": blocks,
        "hidden_size": metadata.get(f"{architecture}.embedding_length"),
        "num_nextn_predict_layers": heads,
        "swin_norm": metadata.get(f"{architecture}.swin_norm"),
        "use_parallel_residual": metadata.get(f"{architecture}.use_parallel_residual"),
    }
    return {"model_type": f"gguf:{architecture}", "text_config": {"model_type": "gguf", **facts}}
