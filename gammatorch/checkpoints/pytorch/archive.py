"""PyTorch's files (``.bin``, ``.pt``, ``.pth``, ``.ckpt``): a pickle tells of the tensors, their bytes stand beside it.

Read are the directory at the end of the archive and the pickle, which
:mod:`gammatorch.checkpoints.pytorch.pickled` takes apart without executing it; from a Hub both come in one round. Files
from before PyTorch 1.6 are no archives: :mod:`gammatorch.checkpoints.pytorch.legacy` finds the same in them.
Format: ``caffe2/serialize/inline_container.h`` and
``torch/serialization.py`` in PyTorch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from gammatorch.checkpoints.base import Advance, ByteSource, Read, TensorEntry
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.magic import what_else
from gammatorch.checkpoints.pieces import Pieces
from gammatorch.checkpoints.pytorch.forms import in_form
from gammatorch.checkpoints.pytorch.legacy import LEGACY_MAGIC, read_legacy
from gammatorch.checkpoints.pytorch.pickle_machine import PICKLE_CAP
from gammatorch.checkpoints.pytorch.pickled import read_pickle
from gammatorch.checkpoints.pytorch.settings import find_settings
from gammatorch.checkpoints.pytorch.state_dict import find_state_dict
from gammatorch.checkpoints.pytorch.tensors import Storage, StoredTensor
from gammatorch.checkpoints.pytorch.zip_directory import (
    MAGIC_BYTES,
    Member,
    check_local_header,
    fetch_ends,
    read_directories,
)
from gammatorch.checkpoints.wrapped import WrappedSource
from gammatorch.errors import CheckpointError, MalformedCheckpoint, UnsupportedFormat

_PICKLE, _BYTE_ORDER, _VERSION = "data.pkl", "byteorder", "version"
_LATEST_VERSION = 10


def read_torch(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of each file, from its directory and its pickle; no pickle is executed.

    Args:
        source: Where the files are.
        files: Names of files that :func:`torch.save` has written.
        extra: Other reads to make in the first round, so that they cost no round of their own.

    Returns:
        For each file its entries by key, the settings that a trainer has kept in the first one that has any, and a
        source that holds each tensor's place against the archive.

    Raises:
        MalformedCheckpoint: A file is cut short, or contradicts itself.
        UnsupportedFormat: It is compressed, or more than a file of tensors.
        UnreadableCheckpoint: The source failed.
    """
    pieces = Pieces(source)
    fetch_ends(pieces, files, extra)
    heads = {file: pieces.take(file, 0, min(source.files[file], MAGIC_BYTES)) for file in files}
    for file, head in heads.items():
        _check_magic(head, _where(source, file))
    old = {file: read_legacy(pieces, file) for file, head in heads.items() if head.startswith(LEGACY_MAGIC)}
    archives = [file for file in files if file not in old]
    opened = dict(zip(archives, read_archives(pieces, archives), strict=True))
    tables, notes = [], []
    settings: dict[str, Any] = {}
    place: Callable[[Storage], int]
    for file in files:
        if file in old:
            described, starts = old[file]
            place = partial(_place_of_old, starts)
        else:
            described, place = opened[file].described, opened[file].place
        table, found = _table(described, place, file, _where(source, file))
        tables.append(table)
        notes += found
        settings = settings or find_settings(described)
    checked = CheckedSource(source, {file: archive.members for file, archive in opened.items()})
    return Contents(tables, checked, notes=tuple(dict.fromkeys(notes)), settings=settings)


def read_settings(source: ByteSource, file: str) -> dict[str, Any]:
    """The settings that a trainer has kept in a file that holds no model; none where it cannot be read.

    Args:
        source: Where the file is.
        file: Its name.
    """
    pieces = Pieces(source)
    try:
        fetch_ends(pieces, [file], ())
        return find_settings(read_archives(pieces, [file])[0].described)
    except CheckpointError:  # nothing of the model stands in it
        return {}


class Archive(NamedTuple):
    """What one archive holds.

    Attributes:
        members: Its members by name.
        prefix: What the names of all of them begin with.
        described: What its pickle describes.
    """

    members: Mapping[str, Member]
    prefix: str
    described: Any

    def member(self, storage: Storage) -> Member:
        """The member that holds a storage.

        Raises:
            ValueError: There is none of that size.
        """
        member = self.members.get(f"{self.prefix}data/{storage.key}")
        if member is None or member.size != storage.nbytes:
            found = "is not there" if member is None else f"has {member.size} bytes"
            raise ValueError(f"its storage of {storage.nbytes} bytes {found} in the archive")
        return member

    def place(self, storage: Storage) -> int:
        """Where in the archive a storage begins; errors as of :meth:`member`."""
        return self.member(storage).start


def read_archives(pieces: Pieces, files: Sequence[str]) -> list[Archive]:
    """What each archive holds, from its directory and its pickle, in two rounds at most.

    Args:
        pieces: The bytes of the files, whose ends have been fetched.
        files: Names of archives that :func:`torch.save` has written.

    Raises:
        MalformedCheckpoint: As :func:`read_torch`.
        UnsupportedFormat: As :func:`read_torch`.
    """
    directories = read_directories(pieces, files)
    wheres = [_where(pieces.source, file) for file in files]
    pickles = [_find_pickle(members, where) for members, where in zip(directories, wheres, strict=True)]
    pieces.fetch(
        (file, member.header, member.stop)
        for file, members, pickle in zip(files, directories, pickles, strict=True)
        for member in (pickle, *(members.get(_beside(pickle, name)) for name in (_BYTE_ORDER, _VERSION)))
        if member is not None
    )
    return [
        _read_archive(pieces, file, members, pickle)
        for file, members, pickle in zip(files, directories, pickles, strict=True)
    ]


class CheckedSource(WrappedSource):
    """A source of archives that checks, with the first read of a member, that its local header says the same place.

    The directory tells where a member ends, and so where its data begins; the local header right before the data
    says it again. Reading that header along with the data costs a few bytes and no round.

    Args:
        source: The files.
        directories: Members of each archive by name.
    """

    def __init__(self, source: ByteSource, directories: Mapping[str, Mapping[str, Member]]) -> None:
        super().__init__(source)
        self._members = {
            file: sorted(members.values(), key=lambda member: member.header) for file, members in directories.items()
        }
        self._checked: set[tuple[str, str]] = set()

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer, and the local headers of members that are read for the first time.

        Raises:
            MalformedCheckpoint: A local header contradicts the directory.
            UnreadableCheckpoint: The underlying source failed.
        """
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
            check_local_header(bytes(header.into), member, _where(self, header.file))
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


def _where(source: ByteSource, file: str) -> str:
    return f"{source.name}/{file}"


def _check_magic(head: bytes, where: str) -> None:
    """Refuse what is something else, by how it begins."""
    if not head.startswith((b"PK", LEGACY_MAGIC)):
        told = what_else(head) or "no file that torch.save has written, by how it begins: download it again"
        raise MalformedCheckpoint(f"is {told}", file=where)


def _find_pickle(members: Mapping[str, Member], where: str) -> Member:
    found = [member for name, member in members.items() if name.partition("/")[2] == _PICKLE]
    if len(found) != 1:
        raise UnsupportedFormat(
            f"is an archive with {len(found)} files named {_PICKLE}, not a checkpoint that torch.save has written",
            file=where,
        )
    if _beside(found[0], "constants.pkl") in members:
        raise UnsupportedFormat("is a TorchScript program: save its state_dict() with torch.save", file=where)
    packed = next((name for name, member in members.items() if not member.stored), None)
    if packed is not None:
        raise UnsupportedFormat(
            "is compressed or encrypted, and single tensors can be read only where they are stored as they are: "
            "save the file again with torch.save",
            file=where,
            tensor=packed,
        )
    if found[0].size > PICKLE_CAP:
        raise MalformedCheckpoint(
            f"holds a pickle of {found[0].size} bytes, more than any checkpoint's: save the state dict alone",
            file=where,
        )
    return found[0]


def _beside(pickle: Member, name: str) -> str:
    return f"{pickle.name.removesuffix(_PICKLE)}{name}"


def _read_archive(pieces: Pieces, file: str, members: Mapping[str, Member], pickle: Member) -> Archive:
    where = _where(pieces.source, file)
    order = members.get(_beside(pickle, _BYTE_ORDER))
    if order is not None and _content(pieces, file, order, where) != b"little":
        raise UnsupportedFormat(
            "was saved on a big-endian machine: load it there and save it as safetensors", file=where
        )
    version = members.get(_beside(pickle, _VERSION))
    if version is not None and _later(_content(pieces, file, version, where)):
        raise UnsupportedFormat(
            f"was written in a later version of torch.save's format than {_LATEST_VERSION}: save it as safetensors",
            file=where,
        )
    return Archive(members, _beside(pickle, ""), read_pickle(_content(pieces, file, pickle, where), where))


def _later(version: bytes) -> bool:
    digits = version.strip()
    return not digits.isdigit() or len(digits) > 9 or int(digits) > _LATEST_VERSION


def _table(
    described: Any, place: Callable[[Storage], int], file: str, where: str
) -> tuple[dict[str, TensorEntry], list[str]]:
    """Entries of what a file describes, and notes.

    Args:
        described: What its pickle says.
        place: Where in the file a storage begins; raises ValueError if it is not there as described.
        file: Its name.
        where: Its name, for messages.
    """
    found = find_state_dict(described, StoredTensor, where)
    table = {key: _entry(key, tensor, place, file, where) for key, tensor in found.tensors.items()}
    formed = [key for key in table if found.tensors[key].form]
    notes = list(found.notes(file))
    if formed:
        more = f" and {len(formed) - 1} more" if len(formed) > 1 else ""
        notes.append(f"{formed[0]} ({found.tensors[formed[0]].form}){more} cannot be read in place")
    return table, notes


def _content(pieces: Pieces, file: str, member: Member, where: str) -> bytes:
    check_local_header(pieces.take(file, member.header, member.start), member, where)
    return pieces.take(file, member.start, member.stop)


def _entry(key: str, tensor: StoredTensor, place: Callable[[Storage], int], file: str, where: str) -> TensorEntry:
    """The absolute place of a tensor; all of its storage, or nowhere, for one that cannot be read in place."""
    dtype = in_form(tensor.dtype, tensor.form)
    if tensor.storage is None:
        return TensorEntry(key, dtype, tensor.shape, file, 0, 0)
    try:
        begin = place(tensor.storage)
    except ValueError as error:
        raise MalformedCheckpoint(f"{error}: download it again", file=where, tensor=key) from None
    if tensor.form:
        return TensorEntry(key, dtype, tensor.shape, file, begin, begin + tensor.storage.nbytes)
    start = begin + tensor.start
    return TensorEntry(key, dtype, tensor.shape, file, start, start + tensor.nbytes)


def _place_of_old(starts: Mapping[str, int], storage: Storage) -> int:
    return starts[storage.key]
