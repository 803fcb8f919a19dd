"""The safetensors format: eight bytes of header length, a JSON header, then the tensors without gaps.

Where reads are cheap a large header is not kept: it is read anew whenever it is looked through, each into the same
buffer. Memory that the system has to hand out first takes longer to fill than the read takes, and a search of what has
just been read finds it in the processor's cache.

Format: https://huggingface.co/docs/safetensors (the rules checked here are those of its Rust parser).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from gammatorch.checkpoints.base import ByteSource, Read, TensorEntry
from gammatorch.checkpoints.dtypes import stored_bits
from gammatorch.checkpoints.foreign import what_else
from gammatorch.errors import MalformedCheckpoint

SMALL_HEADER = 65_536
"""Bytes up to which a header is kept."""

FIRST_BYTES = 256
"""Bytes of a file that are read with its header's length, at no cost: they tell whether it is a header, which may claim
100 MB, and hold what most writers say of the file."""

_NOT_KEPT = bytearray()
_BRACE = ord("{")

HEADER_CAP = 100_000_000
"""Longest header the format allows, in bytes."""

LENGTH_BYTES = 8


class RawHeader(NamedTuple):
    """The header of one file as it was read: a range of a buffer, which it may share with others.

    Attributes:
        file: Name of the file.
        block: The buffer.
        start: Where in it the JSON begins, after the eight bytes of its length.
        stop: One past its end.
        file_bytes: Size of the file.
        where: Name of the file, for messages.
        head: The first bytes of the file.
    """

    file: str
    block: bytearray
    start: int
    stop: int
    file_bytes: int
    where: str
    head: bytes | bytearray = b""

    @property
    def data_start(self) -> int:
        """Where in the file the tensors begin."""
        return LENGTH_BYTES + self.stop - self.start

    @property
    def is_kept(self) -> bool:
        """Whether its bytes are held, or have to be read again."""
        return self.block is not _NOT_KEPT

    def parse(self) -> dict[str, TensorEntry]:
        """Its entries by key, as :func:`~gammatorch.checkpoints.safetensors.headers.parse_header` gives them."""
        return parse_header(bytes(self.block[self.start : self.stop]), self.file, self.file_bytes, self.where)


def read_headers(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> list[RawHeader]:
    """The headers of the files, and nothing else of them.

    Args:
        source: Where the files are.
        files: Names of safetensors files.
        extra: Other reads to make in the first round, so that they cost no round of their own.

    Returns:
        The header of each file, not yet parsed. Large ones on a local disk are not kept: see :func:`look_through`.

    Raises:
        MalformedCheckpoint: A file is not safetensors by how it begins, or is cut short within its header.
        UnreadableCheckpoint: The source failed.
    """
    sizes = [source.files[file] for file in files]
    heads = []
    for file, size in zip(files, sizes, strict=True):
        if size < LENGTH_BYTES:
            raise MalformedCheckpoint(
                f"is {size} bytes long, too short for safetensors: download it again", file=f"{source.name}/{file}"
            )
        heads.append(bytearray(min(size, max(FIRST_BYTES, source.speculate(file)))))
    source.read([*extra, *(Read(file, 0, memoryview(head)) for file, head in zip(files, heads, strict=True))])
    wheres = [f"{source.name}/{file}" for file in files]
    lengths = [_length(head, size, where) for head, size, where in zip(heads, sizes, wheres, strict=True)]
    most = SMALL_HEADER if source.rereads else HEADER_CAP
    # one block for all, since the system hands out a large one faster, and again and again, than many small ones
    block = bytearray(sum(length for length in lengths if length <= most))
    view = memoryview(block)
    headers, rest, start = [], [], 0
    for file, head, size, length, where in zip(files, heads, sizes, lengths, wheres, strict=True):
        if length > most:
            headers.append(RawHeader(file, _NOT_KEPT, 0, length, size, where, head))
            continue
        known = min(len(head) - LENGTH_BYTES, length)
        if known:
            view[start : start + known] = head[LENGTH_BYTES : LENGTH_BYTES + known]
        if known < length:
            rest.append(Read(file, LENGTH_BYTES + known, view[start + known : start + length]))
        headers.append(RawHeader(file, block, start, start + length, size, where, head))
        start += length
    if rest:
        source.read(rest)
    return headers


def look_through(source: ByteSource, headers: Sequence[RawHeader]) -> Iterator[RawHeader]:
    """The headers with their bytes, each only until the next one is asked for."""
    missing = [header for header in headers if not header.is_kept]
    if not missing:
        yield from headers
        return
    buffer = bytearray(max(header.stop for header in missing))
    view = memoryview(buffer)
    arriving = source.read_in_turn(Read(header.file, LENGTH_BYTES, view[: header.stop]) for header in missing)
    for header in headers:
        if header.is_kept:
            yield header
        else:
            next(arriving)
            yield header._replace(block=buffer)


def _length(head: bytes | bytearray, file_bytes: int, where: str) -> int:
    """Length of the header in bytes, once it is plausible."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if length > HEADER_CAP:
        told = what_else(head) or f"not safetensors (header of {length} bytes announced): download it again"
        raise MalformedCheckpoint(f"is {told}", file=where)
    if LENGTH_BYTES + length > file_bytes:
        raise MalformedCheckpoint(
            f"is cut short within its header ({file_bytes} of at least {LENGTH_BYTES + length} bytes): "
            "download it again",
            file=where,
        )
    if len(head) > LENGTH_BYTES and head[LENGTH_BYTES] != _BRACE:
        begins = what_else(head)
        problem = f"is {begins}" if begins else "header is not valid JSON (it does not start with {): download it again"
        raise MalformedCheckpoint(problem, file=where)
    return length


def parse_header(header: bytes, file: str, file_bytes: int, where: str) -> dict[str, TensorEntry]:
    """The entries that a header describes, checked against each other and against the file.

    Args:
        header: The JSON header, without the eight bytes of its length.
        file: Name of the file, for the entries.
        file_bytes: Size of the file in bytes.
        where: Name of the file, for messages.

    Returns:
        Entries by key, with byte positions counted from the start of the file.

    Raises:
        MalformedCheckpoint: It is not such a header, or it does not fit the file.

    Example:
        >>> header = b'{"norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}'
        >>> parse_header(header, "model.safetensors", 8 + len(header) + 8, "model.safetensors")["norm.weight"].start
        80
    """
    try:
        described = _load_object(header)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint(f"header is not valid JSON ({error}): download it again", file=where) from None
    metadata = described.pop("__metadata__", None)
    if metadata is not None and not _is_texts(metadata):
        raise MalformedCheckpoint("__metadata__ in its header is not an object of texts: write it again", file=where)
    data_start = LENGTH_BYTES + len(header)
    entries = {}
    for key, tensor in described.items():
        try:
            entries[key] = read_entry(key, tensor, file, data_start)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise MalformedCheckpoint(
                f"header entry is broken ({reason}): download the file again", file=where, tensor=key
            ) from None
    _check_layout(entries, data_start, file_bytes, where)
    return entries


def read_entry(key: str, tensor: Any, file: str, data_start: int) -> TensorEntry:
    """One tensor as its header describes it, once its fields agree with each other.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another type.
        ValueError: The fields contradict each other, or there are others.
    """
    dtype, shape, (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if len(tensor) > 3:  # an object in there could be taken for a tensor of its own, so nothing may be in there
        raise ValueError("dtype, shape and data_offsets are all that an entry holds")
    _check_types(dtype, shape, start, stop)
    check_extent(dtype, shape, start, stop)
    return TensorEntry(key, dtype, tuple(shape), file, data_start + start, data_start + stop)


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs, for a decoder's ``object_pairs_hook``.

    Raises:
        ValueError: A name is there twice.
    """
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return unique


def _is_texts(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _load_object(raw: bytes) -> dict[str, Any]:
    """A JSON object without repeated names.

    The hook that sees repetitions costs a call per object. Every name is followed by a colon, so no more colons in
    the bytes than names in what was loaded, three to a tensor, prove that nothing was said twice.
    """
    text = raw.decode("utf-8")  # strict: json would also take UTF-16 and a byte order mark
    if not text.startswith("{"):
        raise ValueError("it does not start with {")
    loaded = json.loads(text, parse_constant=_refuse_constant)
    metadata = loaded.get("__metadata__")
    names = len(loaded) + 3 * (len(loaded) - ("__metadata__" in loaded))
    if raw.count(b":") != names + (len(metadata) if isinstance(metadata, dict) else 0):
        loaded = json.loads(text, object_pairs_hook=unique_object, parse_constant=_refuse_constant)
    return loaded  # type: ignore[no-any-return]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_extent(dtype: str, shape: Sequence[int], start: int, stop: int) -> None:
    """Hold the offsets against the shape: shape × item size = length, where the item size is known.

    Raises:
        ValueError: They contradict each other.
    """
    if not 0 <= start <= stop:
        raise ValueError("data_offsets must be two growing whole numbers")
    if stored_bits(dtype, shape) not in (8 * (stop - start), None):
        raise ValueError(f"{dtype} {list(shape)} does not take {stop - start} bytes")


def _check_types(dtype: object, shape: object, start: object, stop: object) -> None:
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError("dtype must be text and shape a list")
    if type(start) is not int or type(stop) is not int:
        raise ValueError("data_offsets must be two growing whole numbers")
    for extent in shape:
        if type(extent) is not int or extent < 0:
            raise ValueError("shape must hold whole numbers")


def _check_layout(entries: dict[str, TensorEntry], data_start: int, file_bytes: int, where: str) -> None:
    """The tensors fill the rest of the file, without gap or overlap."""
    position = data_start
    for entry in sorted(entries.values(), key=itemgetter(4, 5)):  # start, stop
        if entry.start != position:
            raise MalformedCheckpoint(
                f"starts at byte {entry.start}, not at {position} where the tensor before it ends: "
                "the header is broken, download the file again",
                file=where,
                tensor=entry.key,
            )
        position = entry.stop
    if position != file_bytes:
        what = "is cut short" if position > file_bytes else "has bytes that no tensor owns"
        raise MalformedCheckpoint(
            f"{what} (header describes {position} bytes, file has {file_bytes}): download it again", file=where
        )
