"""The headers of safetensors files, as bytes.

Where reads are cheap a large header is not kept: it is read anew whenever it is looked through, each into the same
buffer. Memory that the system has to hand out first takes longer to fill than the read takes, and a search of what has
just been read finds it in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gammatorch.checkpoints.base import ByteSource, Read, TensorEntry
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.magic import what_else
from gammatorch.checkpoints.safetensors.table import HEADER_CAP, LENGTH_BYTES, parse_header
from gammatorch.errors import MalformedCheckpoint

SMALL_HEADER = 65_536
"""Bytes up to which a header is kept."""

FIRST_BYTES = 256
"""Bytes of a file that are read with its header's length, at no cost: they tell whether it is a header, which may claim
100 MB, and hold what most writers say of the file."""

_NOT_KEPT = bytearray()
_BRACE = ord("{")


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
        """Its entries by key, as :func:`~gammatorch.checkpoints.safetensors.table.parse_header` gives them."""
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
    most = SMALL_HEADER if isinstance(source, LocalSource) and not source.is_remote else HEADER_CAP
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
    """The headers with their bytes, each only until the next one is asked for.

    Args:
        source: What they were read from.
        headers: What :func:`read_headers` gave.

    Raises:
        UnreadableCheckpoint: A file is not what it was.
    """
    missing = [header for header in headers if not header.is_kept]
    if not missing or not isinstance(source, LocalSource):
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
