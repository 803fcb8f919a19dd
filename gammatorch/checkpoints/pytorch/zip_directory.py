"""The members of zip archives, from the directories at their ends, by positioned reads.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT; what PyTorch writes is miniz's, stored and aligned.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from gammatorch.checkpoints.base import Advance, ByteSource, Read, WrappedSource
from gammatorch.checkpoints.pieces import Pieces
from gammatorch.errors import MalformedCheckpoint

TAIL_BYTES = 131_072
"""Bytes read from the end of a file: a directory of some 1,500 members."""

HEAD_BYTES = 131_072
"""Bytes read from the start of a remote file, where PyTorch puts the pickle."""

MAGIC_BYTES = 64
"""Bytes read from the start of a local file, which tell what it is."""

WHOLE_BYTES = MAGIC_BYTES + TAIL_BYTES
"""Size up to which a file is read whole, wherever it is."""

DIRECTORY_CAP = 100_000_000
"""Longest directory that is read, in bytes."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_FOLDER = 0x10
"""MS-DOS's attribute of folders, which PyTorch's reader goes by."""

_ENCRYPTED, _DESCRIPTOR = 1, 8
_FULL = 0xFFFFFFFF


class Member(NamedTuple):
    """One file within an archive.

    Attributes:
        name: Its name.
        header: Position of its local header.
        start: Position of its data, as the distance to whatever follows tells; :func:`check_local_header` holds
            this against the local header.
        size: Bytes of its data in the archive.
        stored: Whether they stand there as they are, neither compressed nor encrypted.
    """

    name: str
    header: int
    start: int
    size: int
    stored: bool

    @property
    def stop(self) -> int:
        """One past the last byte of its data."""
        return self.start + self.size


class _Entry(NamedTuple):
    """A member as the directory describes it."""

    name: str
    name_bytes: int
    header: int
    size: int
    stored: bool
    descriptor: int


def fetch_ends(pieces: Pieces, files: Sequence[str], extra: Sequence[Read] = ()) -> None:
    """Read the end of each file, and of its start what is worth it, in one round."""
    ends = []
    for file in files:
        size = pieces.source.files[file]
        head = HEAD_BYTES if pieces.source.speculate(file) else MAGIC_BYTES
        if size <= head + TAIL_BYTES:
            ends.append((file, 0, size))
        else:
            ends += [(file, 0, head), (file, size - TAIL_BYTES, size)]
    pieces.fetch(ends, extra)


def read_directories(pieces: Pieces, files: Sequence[str]) -> list[dict[str, Member]]:
    """The members of each archive by name; another round only where a directory is unusually long.

    Raises:
        MalformedCheckpoint: A file is no zip archive, is cut short, or its directory contradicts itself.
    """
    places = [_locate_directory(pieces, file) for file in files]
    pieces.fetch((file, start, stop) for file, (start, stop, _) in zip(files, places, strict=True))
    return [
        _parse_directory(pieces.take(file, start, stop), count, start, f"{pieces.source.name}/{file}")
        for file, (start, stop, count) in zip(files, places, strict=True)
    ]


def check_local_header(raw: bytes, member: Member, where: str) -> None:
    """Hold a member's local header against the directory."""
    magic, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes = _LOCAL.unpack_from(raw)
    name = raw[_LOCAL.size : _LOCAL.size + name_bytes]
    sizes = {packed, size} - {_FULL} - ({0} if flags & _DESCRIPTOR else set())
    if (
        magic != b"PK\3\4"
        or name != member.name.encode()
        or flags & _ENCRYPTED
        or method
        or not sizes <= {member.size}
        or _LOCAL.size + name_bytes + extra_bytes != len(raw)
    ):
        raise MalformedCheckpoint(
            "local header and directory of the archive do not agree: download it again, or save it again with "
            "torch.save",
            file=where,
            tensor=member.name,
        )


def _locate_directory(pieces: Pieces, file: str) -> tuple[int, int, int]:
    """Start, stop and number of entries of the directory.

    Only an archive without comment is read: with one, which of several possible ends is the true one is a matter of
    taste, and PyTorch writes none.
    """
    where, size = f"{pieces.source.name}/{file}", pieces.source.files[file]
    end = size - _END.size
    if end < 0 or pieces.take(file, end, end + 4) != b"PK\5\6":
        raise MalformedCheckpoint(
            f"is cut short: no directory at the end of its {size} bytes, download it again", file=where
        )
    _, disk, first_disk, here, count, length, start, comment = _END.unpack(pieces.take(file, end, size))
    locator = end - _LOCATOR64.size
    if locator >= _END64.size and pieces.take(file, locator, locator + 4) == b"PK\6\7":
        _, disk, end64, _ = _LOCATOR64.unpack(pieces.take(file, locator, end))
        end = locator - _END64.size
        magic, rest, _, _, _, first_disk, here, count, length, start = _END64.unpack(pieces.take(file, end, locator))
        if magic != b"PK\6\6" or end64 != end or rest != _END64.size - 12:
            raise MalformedCheckpoint("end of the archive is broken: download it again", file=where)
    if disk or first_disk or comment or here != count or start + length != end or count * _ENTRY.size > length:
        raise MalformedCheckpoint("directory of the archive is not where its end says: download it again", file=where)
    if length > DIRECTORY_CAP:
        raise MalformedCheckpoint(f"directory of the archive takes {length} bytes, more than any such file", file=where)
    return start, start + length, count


def _parse_directory(raw: bytes, count: int, start: int, where: str) -> dict[str, Member]:
    """Members by name; ``start`` is the directory's own position, where the last member ends."""
    entries, position = [], 0
    try:
        for _ in range(count):
            entry, position = _parse_entry(raw, position)
            entries.append(entry)
    except (struct.error, ValueError):  # also text that is not UTF-8
        raise MalformedCheckpoint("directory of the archive is broken: download it again", file=where) from None
    if position != len(raw) or len({entry.name for entry in entries}) < count:
        raise MalformedCheckpoint("directory of the archive is broken: download it again", file=where)
    entries.sort(key=attrgetter("header"))
    bounds = [*(entry.header for entry in entries), start]
    members = {}
    for entry, (header, following) in zip(entries, pairwise(bounds), strict=True):
        data = following - entry.descriptor - entry.size
        if not 0 <= data - header - _LOCAL.size - entry.name_bytes <= 0xFFFF:
            raise MalformedCheckpoint(
                f"lies outside its place in the archive ({entry.size} bytes at {header}, next at {following}): "
                "download it again, or save it again with torch.save",
                file=where,
                tensor=entry.name,
            )
        members[entry.name] = Member(entry.name, header, data, entry.size, entry.stored)
    return members


def _parse_entry(raw: bytes, position: int) -> tuple[_Entry, int]:
    """One entry of the directory, and where the next one begins."""
    unpacked = _ENTRY.unpack_from(raw, position)
    magic, _, _, flags, method, _, _, _, packed, size, name_bytes, extra_bytes, comment_bytes, disk = unpacked[:14]
    attributes, header = unpacked[15:17]
    position += _ENTRY.size
    extra_at = position + name_bytes
    name = raw[position:extra_at].decode()
    stop = extra_at + extra_bytes + comment_bytes
    if magic != b"PK\1\2" or disk or stop > len(raw):
        raise ValueError
    stored = not method and not flags & _ENCRYPTED
    zip64 = _FULL in (size, packed, header)
    if zip64:
        wide = _zip64(raw[extra_at : extra_at + extra_bytes])
        size, packed, header = [next(wide, _FULL) if value == _FULL else value for value in (size, packed, header)]
    if stored and size != packed:
        raise ValueError
    if size and (attributes & _FOLDER or name.endswith("/")):  # torch.load gives what was in memory before
        raise ValueError
    descriptor = (24 if zip64 else 16) if flags & _DESCRIPTOR else 0
    return _Entry(name, name_bytes, header, packed, stored, descriptor), stop


def _zip64(extra: bytes) -> Iterator[int]:
    """The eight-byte numbers of the zip64 extra field, in the order of the fields that they stand for."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            return iter(struct.unpack(f"<{length // 8}Q", extra[position : position + length // 8 * 8]))
        position += length
    return iter(())


class CheckedSource(WrappedSource):
    """A source of archives that checks, with the first read of a member, that its local header says the same place.

    The directory tells where a member ends, and so where its data begins; the local header right before the data
    says it again. Reading that header along with the data costs a few bytes and no round.
    """

    def __init__(self, source: ByteSource, directories: Mapping[str, Mapping[str, Member]]) -> None:
        super().__init__(source)
        self._members = {
            file: sorted(members.values(), key=lambda member: member.header) for file, members in directories.items()
        }
        self._checked: set[tuple[str, str]] = set()

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, and the local headers of members that are read for the first time."""
        unchecked = {
            (read.file, member.name): member
            for read in reads
            if (member := self._member(read)) is not None and (read.file, member.name) not in self._checked
        }
        headers = [
            Read(file, member.header, memoryview(bytearray(member.start - member.header)))
            for (file, _), member in unchecked.items()
        ]
        both = sorted([*reads, *headers], key=lambda read: (read.file, read.start))
        self._source.read(both, _at_most(sum(len(read.into) for read in reads), advance))
        for header, member in zip(headers, unchecked.values(), strict=True):
            check_local_header(bytes(header.into), member, f"{self.name}/{header.file}")
        self._checked |= unchecked.keys()

    def _member(self, read: Read) -> Member | None:
        """The member that a read lies in, None for a file that is no archive."""
        members = self._members.get(read.file, [])
        found = bisect_right(members, read.start, key=lambda member: member.header)
        return members[found - 1] if found else None


def _at_most(total: int, advance: Advance | None) -> Advance | None:
    """An ``advance`` that never reports more than what was asked for."""
    if advance is None:
        return None
    left = total

    def capped(count: int) -> None:
        nonlocal left
        advance(min(count, left))
        left -= min(count, left)

    return capped
