"""Find a few tensors in the raw bytes of a header, without parsing the rest of it.

The header of a mixture of experts describes 100,000 tensors to name 60 gains: parsing it takes twenty times as long as
reading it. One forward pass over its bytes finds the keys, and only their entries are parsed.

All of this holds for headers as safetensors itself writes them: without spaces between the parts, ``dtype, shape,
data_offsets`` in this order, tensors in the order of their bytes. Others are parsed in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, TensorEntry, merge_entries
from gammatorch.checkpoints.finder import make_finder
from gammatorch.checkpoints.headers import SMALL_HEADER, RawHeader, look_through
from gammatorch.checkpoints.plain import FIRST, KEY, METADATA, NUMBER, NUMBERS, TEXT, parse_plain
from gammatorch.checkpoints.safetensors import check_extent

_TENSOR = rf'{TEXT}:\{{"dtype":{TEXT},"shape":\[(?:\d++(?:,\d++)*+)?+\],"data_offsets":\[\d++,\d++\]\}}'
_WHOLE = re.compile(rf"\{{(?:{METADATA},)?+{_TENSOR}(?:,{_TENSOR})*+\}} *".encode())

_BEFORE = rf"\[{NUMBER},({NUMBER})\]\}},"  # the end of the tensor before it
_ENTRY = (
    rf'{KEY}:\{{"dtype":"(\w++)","shape":\[({NUMBERS})\],'
    rf'"data_offsets":\[({NUMBER}),({NUMBER})\]\}}(?=,|\}} *+\Z)'
)
_LATER_ENTRY = re.compile((_BEFORE + _ENTRY).encode())
_FIRST_ENTRY = re.compile(("()" + _ENTRY).encode())
_OFFSETS = b'"data_offsets":['
_LAST_OFFSETS = re.compile(rb'"data_offsets":\[\d++,(?P<stop>\d{1,19}+)\]\}\} *')


def is_plain(header: RawHeader) -> bool:
    """Whether a header looks whole: one object, no escapes, and its last tensor ends where the file ends.

    It is what writers of safetensors make, and what a download cut short is not.
    """
    block, start, stop = header.block, header.start, header.stop
    if not block.startswith(b"{", start, stop) or block.find(b"\\", start, stop) >= 0:
        return False
    offsets = block.rfind(_OFFSETS, start, stop)
    last = _LAST_OFFSETS.fullmatch(block, offsets, stop) if offsets >= 0 else None
    if last is None or header.data_start + int(last["stop"]) != header.file_bytes:
        return False
    return stop - start > SMALL_HEADER or _is_whole(bytes(block[start:stop]))


def _is_whole(raw: bytes) -> bool:
    """Whether a header has the form throughout: 3 ns a byte, little for a small one."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return _WHOLE.fullmatch(raw) is not None


def search(header: RawHeader, text: bytes) -> dict[str, TensorEntry] | None:
    """The tensors whose key holds a text, from their own entries alone.

    Sound for a plain header (:func:`is_plain`). Without escapes every quote ends or begins a string, so what stands
    between the quotes around the text is a key if a colon and an object follow. It is a tensor's key, and no name
    within ``__metadata__`` or within another entry, because neither may hold an object: the full parse refuses
    those. A key that is there twice, an entry that does not fit the file, one that does not begin where the tensor
    before it ends, or the text anywhere else is a doubt.

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
    file, block, start, stop, file_bytes, _ = header
    data_start = header.data_start
    find = make_finder(block) if stop - start > SMALL_HEADER else block.find
    found: dict[str, TensorEntry] = {}
    position = find(text, start, stop)
    while position >= 0:
        described = _match(block, start, position, stop)
        if described is None:
            return None
        before, key, dtype, shape, first, last = described.groups()
        if first != (before or b"0"):
            return None
        entry = _entry(key, dtype, shape, file, data_start, int(first), int(last))
        if entry is None or entry.stop > file_bytes or entry.key in found:
            return None
        found[entry.key] = entry
        position = find(text, described.end(), stop)
    return found


def _match(block: bytearray, start: int, position: int, stop: int) -> re.Match[bytes] | None:
    """The entry whose key is at a position, and the end of the one before it."""
    opening = block.rfind(b'"', start, position)
    if opening < 0:
        return None
    before = block.rfind(b"[", start, opening)
    if before >= 0:
        return _LATER_ENTRY.match(block, before, stop)
    return _FIRST_ENTRY.match(block, opening, stop) if FIRST.fullmatch(block, start, opening) else None


def _entry(
    key: bytes, dtype: bytes, shape: bytes, file: str, data_start: int, start: int, stop: int
) -> TensorEntry | None:
    """The entry of these fields; None if they contradict each other."""
    extents = tuple(map(int, shape.split(b","))) if shape else ()
    try:
        entry = TensorEntry(key.decode(), dtype.decode(), extents, file, data_start + start, data_start + stop)
        check_extent(entry.dtype, extents, start, stop)
    except ValueError:
        return None
    return entry


class SearchedEntries(Mapping[str, TensorEntry]):
    """Every tensor of the shards, parsed when the whole table is first needed; a few can be had without.

    Args:
        headers: The headers of the shards.
        source: What they were read from.

    Raises:
        MalformedCheckpoint: A header that does not look whole is broken. One that does look whole, or was not kept,
            is judged when the table is needed.
    """

    def __init__(self, headers: Sequence[RawHeader], source: ByteSource) -> None:
        self._headers = headers
        self._source = source
        self._parsed: Mapping[str, TensorEntry] | None = None
        self._plain = all(is_plain(header) for header in headers if header.is_kept)
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
        headers = self._from(near)
        for listed, header in zip(headers, look_through(self._source, headers), strict=True):
            here = search(header, encoded) if listed.is_kept or is_plain(header) else None
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

    def _all(self) -> Mapping[str, TensorEntry]:
        if self._parsed is None:
            self._parsed = self._parse()
        return self._parsed

    def _parse(self) -> Mapping[str, TensorEntry]:
        plain = parse_plain(look_through(self._source, self._headers)) if self._plain else None
        if plain is not None:
            return plain
        return merge_entries(
            [header.parse() for header in look_through(self._source, self._headers)], self._source.name
        )

    def _from(self, near: str | None) -> Sequence[RawHeader]:
        if near is None:
            return self._headers
        files = [header.file for header in self._headers]
        first = files.index(near)
        return [self._headers[number] for number in sorted(range(len(files)), key=lambda number: abs(number - first))]
