"""PyTorch's files (``.bin``, ``.pt``, ``.pth``, ``.ckpt``): a pickle tells of the tensors, their bytes stand beside it.

Read are the directory at the end of the archive and the pickle, which is taken apart without being executed; from a Hub
both come in one round. What torch.save wrote before PyTorch 1.6 is no archive: five pickles (a magic number, the
format's version, facts of the machine, the object, the order of the storages), then each storage after its number of
values in eight bytes. Format: ``caffe2/serialize/inline_container.h`` and ``torch/serialization.py`` in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gammatorch.checkpoints.base import ByteSource, Contents, JsonObject, Read, TensorEntry
from gammatorch.checkpoints.dtypes import in_form
from gammatorch.checkpoints.foreign import what_else
from gammatorch.checkpoints.pieces import Pieces
from gammatorch.checkpoints.pytorch.pickled import read_pickle, read_pickles
from gammatorch.checkpoints.pytorch.state_dict import find_settings, find_state_dict
from gammatorch.checkpoints.pytorch.tensors import Storage, StoredTensor
from gammatorch.checkpoints.pytorch.unpickler import PICKLE_CAP
from gammatorch.checkpoints.pytorch.zip_directory import (
    MAGIC_BYTES,
    CheckedSource,
    Member,
    check_local_header,
    fetch_ends,
    read_directories,
)
from gammatorch.errors import CheckpointError, MalformedCheckpoint, UnsupportedFormat

_PICKLE, _BYTE_ORDER, _VERSION = "data.pkl", "byteorder", "version"
_LATEST_VERSION = 10
_BIG_ENDIAN = "was saved on a big-endian machine: load it there and save it as safetensors"

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How such a file begins: the pickle of its magic number."""

_PICKLES = 5
_LEGACY_VERSION = 1001
_COUNT_BYTES = 8
_FIRST_BYTES = 65_536
_GROWTH = 4


def read_torch(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of each file, from its directory and its pickle; no pickle is executed.

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
    old = {file: _read_legacy(pieces, file) for file, head in heads.items() if head.startswith(LEGACY_MAGIC)}
    new = [file for file in files if file not in old]
    archives = dict(zip(new, read_archives(pieces, new), strict=True))
    opened: Mapping[str, Archive | _Legacy] = {**old, **archives}
    tables, notes = [], []
    settings: JsonObject = {}
    for file in files:
        table, found = _table(opened[file], file, _where(source, file))
        tables.append(table)
        notes += found
        settings = settings or find_settings(opened[file].described)
    checked = CheckedSource(source, {file: archive.members for file, archive in archives.items()})
    return Contents(tables, checked, notes=tuple(dict.fromkeys(notes)), settings=settings)


def read_settings(source: ByteSource, file: str) -> JsonObject:
    """The settings that a trainer has kept in a file that holds no model; none where it cannot be read."""
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


class _Legacy(NamedTuple):
    """What a file from before PyTorch 1.6 holds, and the first byte of each storage by key."""

    described: Any
    starts: Mapping[str, int]

    def place(self, storage: Storage) -> int:
        """Where in the file a storage begins."""
        return self.starts[storage.key]


def read_archives(pieces: Pieces, files: Sequence[str]) -> list[Archive]:
    """What each archive holds, from its directory and its pickle, in two rounds at most.

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
        raise UnsupportedFormat(_BIG_ENDIAN, file=where)
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


def _table(opened: Archive | _Legacy, file: str, where: str) -> tuple[dict[str, TensorEntry], list[str]]:
    """Entries of what a file describes, and notes."""
    found = find_state_dict(opened.described, StoredTensor, where)
    table = {key: _entry(key, tensor, opened.place, file, where) for key, tensor in found.tensors.items()}
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


def _read_legacy(pieces: Pieces, file: str) -> _Legacy:
    """What a file holds whose five pickles stand before its storages, and where these are."""
    where, size = f"{pieces.source.name}/{file}", pieces.source.files[file]
    (_, version, system, described, order), storages, end = _read_head(pieces, file, size, where)
    if version != _LEGACY_VERSION:
        found = version if type(version) is int else "?"
        raise UnsupportedFormat(f"is of version {found} of PyTorch's old format, not {_LEGACY_VERSION}", file=where)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsupportedFormat(_BIG_ENDIAN, file=where)
    if not _is_texts(order) or sorted(order) != sorted(storages):
        raise MalformedCheckpoint("does not hold the storages of its tensors: download it again", file=where)
    starts = {}
    for key in order:
        starts[key] = end + _COUNT_BYTES
        end = starts[key] + storages[key].nbytes
    if end != size:
        what = "is cut short" if size < end else "goes on after its last storage"
        raise MalformedCheckpoint(
            f"{what} (it describes {end} bytes, the file has {size}): download it again", file=where
        )
    return _Legacy(described, starts)


def _read_head(pieces: Pieces, file: str, size: int, where: str) -> tuple[list[Any], dict[str, Storage], int]:
    """The pickles, whose length nothing tells: more of the file is read until they are whole."""
    length = min(_FIRST_BYTES, size)
    while True:
        pieces.fetch([(file, 0, length)])
        try:
            return read_pickles(pieces.take(file, 0, length), _PICKLES, where)
        except MalformedCheckpoint:
            if length == min(size, PICKLE_CAP):
                raise
            length = min(length * _GROWTH, size, PICKLE_CAP)


def _is_texts(order: Any) -> bool:
    return isinstance(order, list) and all(isinstance(key, str) for key in order)
