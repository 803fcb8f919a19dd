"""Find a few tensors in the raw bytes of a header, without parsing the rest of it.

The header of a mixture of experts describes 100,000 tensors to name 60 gains: parsing it takes twenty times as long as
reading it. One forward pass over its bytes finds the keys, and only their entries are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from gammatorch.checkpoints.base import TensorEntry, merge_entries
from gammatorch.checkpoints.safetensors import RawHeader, read_entry, unique_object

_OFFSETS = b'"data_offsets":['
_LAST_OFFSETS = re.compile(rb'"data_offsets":\[\d+,(?P<stop>\d+)\]\}\} *')
_END = re.compile(rb"\s*\}\s*")
_SPACE = b" \t\r\n"
_NEAR = 8
"""Bytes beside an entry in which a comma and a brace are looked for."""
_SMALL = 65_536
"""Bytes up to which a header is also held against JSON's grammar as a whole, which costs 0.03 ms."""

_DECODER = json.JSONDecoder(object_pairs_hook=unique_object)


def is_plain(header: RawHeader) -> bool:
    """Whether a header looks whole: one object, no escapes, and its last tensor ends where the file ends.

    It is what every writer of safetensors makes, and what a download cut short is not.
    """
    block, start, stop = header.block, header.start, header.stop
    if not block.startswith(b"{", start, stop) or block.find(b"\\", start, stop) >= 0:
        return False
    offsets = block.rfind(_OFFSETS, start, stop)
    last = _LAST_OFFSETS.fullmatch(block, offsets, stop) if offsets >= 0 else None
    if last is None or header.data_start + int(last["stop"]) != header.file_bytes:
        return False
    return stop - start > _SMALL or _is_json(bytes(block[start:stop]))


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def search(header: RawHeader, text: bytes) -> dict[str, TensorEntry] | None:
    """The tensors whose key holds a text, from their own entries alone.

    Sound for a plain header (:func:`is_plain`). Without escapes every quote ends or begins a string, so what stands
    between the quotes around the text is a key if a colon and an object follow. It is a tensor's key, and no name
    within ``__metadata__`` or within another entry, because neither may hold an object: the full parse refuses
    those. A key that is there twice, an entry that does not fit the file, or the text anywhere else is a doubt.

    Args:
        header: A plain header.
        text: What the key holds, without quotes: ``b".input_layernorm."``.

    Returns:
        Their entries by key, as :func:`~gammatorch.checkpoints.safetensors.parse_header` gives them; None in doubt.

    Example:
        >>> raw = bytearray(b'{"a.norm.weight":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}')
        >>> header = RawHeader("model.safetensors", raw, 0, len(raw), 8 + len(raw) + 8, "model.safetensors")
        >>> search(header, b".norm.")["a.norm.weight"].shape
        (4,)
    """
    block, stop = header.block, header.stop
    found: dict[str, TensorEntry] = {}
    position = block.find(text, header.start, stop)
    while position >= 0:
        opening = block.rfind(b'"', header.start, position)
        end = block.find(b"}", position, stop) + 1
        if opening < 0 or end == 0 or not _between_tensors(header, opening, end):
            return None
        entry = _entry(header, opening, end)
        if entry is None or entry.key in found:
            return None
        found[entry.key] = entry
        position = block.find(text, end, stop)
    return found


def _between_tensors(header: RawHeader, start: int, stop: int) -> bool:
    """Whether the bytes from ``start`` to ``stop`` stand between two entries, or at an end of the header."""
    before = header.block[max(start - _NEAR, header.start) : start].rstrip(_SPACE)
    first = start - header.start <= _NEAR and before == b"{"
    if not first and not (before.endswith(b",") and before[:-1].rstrip(_SPACE).endswith(b"}")):
        return False
    after = header.block[stop : min(stop + _NEAR, header.stop)].lstrip(_SPACE)
    return after.startswith(b",") or _END.fullmatch(header.block, stop, header.stop) is not None


def _entry(header: RawHeader, start: int, stop: int) -> TensorEntry | None:
    """The entry that is written from ``start`` to ``stop``; None if it is not one, or does not fit the file."""
    try:
        ((key, described),) = _DECODER.decode(f"{{{header.block[start:stop].decode()}}}").items()
        entry = read_entry(key, described, header.file, header.data_start)
    except (ValueError, TypeError, KeyError):
        return None
    return entry if entry.stop <= header.file_bytes else None


class SearchedEntries(Mapping[str, TensorEntry]):
    """Every tensor of the shards, parsed when the whole table is first needed; a few can be had without.

    Args:
        headers: The headers of the shards.
        where: Name of the checkpoint, for messages.

    Raises:
        MalformedCheckpoint: A header that does not look whole is broken. One that does look whole is judged when the
            table is needed.
    """

    def __init__(self, headers: Sequence[RawHeader], where: str) -> None:
        self._headers = headers
        self._where = where
        self._parsed: dict[str, TensorEntry] | None = None
        self._plain = all(is_plain(header) for header in headers)
        if not self._plain:
            self._parsed = self._parse()

    def search(self, text: str, near: str | None = None) -> dict[str, TensorEntry] | None:
        """The tensors whose key holds a text; None if only the whole table can tell.

        Args:
            text: What the key holds, without quotes and escapes.
            near: A file to begin with. The files are then searched from there on, and only until one has such keys.
        """
        if not self._plain:
            return None
        encoded = text.encode()
        found: dict[str, TensorEntry] = {}
        for header in self._from(near):
            here = search(header, encoded)
            if here is None or not found.keys().isdisjoint(here):
                return None
            found.update(here)
            if found and near is not None:
                break
        return found

    def __getitem__(self, key: str) -> TensorEntry:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, TensorEntry]:
        if self._parsed is None:
            self._parsed = self._parse()
        return self._parsed

    def _parse(self) -> dict[str, TensorEntry]:
        return merge_entries([header.parse() for header in self._headers], self._where)

    def _from(self, near: str | None) -> Sequence[RawHeader]:
        if near is None:
            return self._headers
        files = [header.file for header in self._headers]
        first = files.index(near)
        return [self._headers[number] for number in sorted(range(len(files)), key=lambda number: abs(number - first))]
