"""The format that torch.save wrote before PyTorch 1.6: five pickles, then the storages one after the other.

The pickles hold a magic number, the format's version, facts of the machine, the object, and the order of the storages;
each storage is its number of values in eight bytes, then the values. So every tensor has a place in the file, and is
read from there like any other; no pickle is executed. Format: ``_legacy_save`` in ``torch/serialization.py``.
"""

from __future__ import annotations

from typing import Any

from gammatorch.checkpoints.pieces import Pieces
from gammatorch.checkpoints.pytorch.pickle_machine import PICKLE_CAP
from gammatorch.checkpoints.pytorch.pickled import read_pickles
from gammatorch.checkpoints.pytorch.tensors import Storage
from gammatorch.errors import MalformedCheckpoint, UnsupportedFormat

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How such a file begins: the pickle of its magic number."""

_PICKLES = 5
_VERSION = 1001
_COUNT_BYTES = 8
_FIRST_BYTES = 65_536
_GROWTH = 4


def read_legacy(pieces: Pieces, file: str) -> tuple[Any, dict[str, int]]:
    """What a file holds, and where.

    Args:
        pieces: The bytes of the files.
        file: Name of a file that begins with :data:`LEGACY_MAGIC`.

    Returns:
        The object, as :func:`~gammatorch.checkpoints.pytorch.pickled.read_pickles` gives it, and the first byte of each
        storage by key.

    Raises:
        MalformedCheckpoint: The file is cut short, or contradicts itself.
        UnsupportedFormat: It is of another version or byte order, or more than a file of tensors.
    """
    where, size = f"{pieces.source.name}/{file}", pieces.source.files[file]
    (_, version, system, described, order), storages, end = _read_head(pieces, file, size, where)
    if version != _VERSION:
        found = version if type(version) is int else "?"
        raise UnsupportedFormat(f"is of version {found} of PyTorch's old format, not {_VERSION}", file=where)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsupportedFormat(
            "was saved on a big-endian machine: load it there and save it as safetensors", file=where
        )
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
    return described, starts


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
