"""Find a few tensors in the raw bytes of a header, without parsing the rest of it.

The header of a mixture of experts describes 100,000 tensors to name 60 gains: parsing it takes twenty times as long as
reading it. One forward pass over its bytes finds the keys, and only their entries are parsed.

All of this holds for headers as safetensors itself writes them: without spaces between the parts, ``dtype, shape,
data_offsets`` in this order, tensors in the order of their bytes. Others are parsed in full.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from gammatorch.checkpoints.base import ByteSource, TensorEntry, merge_entries
from gammatorch.checkpoints.dtypes import stored_bits
from gammatorch.checkpoints.safetensors.headers import LENGTH_BYTES, SMALL_HEADER, RawHeader, look_through
from gammatorch.checkpoints.safetensors.plain import FIRST, NUMBER, NUMBERS, parse_plain

PARSED_ANYWAY = 16_384
"""Bytes of all headers together up to which the whole table is parsed and judged, since that costs a fifth of a
millisecond at most. Beyond, only the entries that are read are judged."""

_POSITION = r"[1-9][0-9]{0,18}+"
_FIELDS = r'"([^"]*+)":\{"dtype":"([^"]*+)","shape":\[([^\]]*+)\],"data_offsets":\['
_END = r"\}(?=,|\} *+\Z)"

_LATER_ENTRY = re.compile(rf"\[[0-9]++,({_POSITION})\]\}},{_FIELDS}\1,({_POSITION})\]{_END}".encode())
"""An entry that begins where the one before it ends, and that end."""

_FIRST_ENTRY = re.compile(rf"(){_FIELDS}0,({NUMBER})\]{_END}".encode())
_KIND = re.compile(rf"\w++ {NUMBERS}".encode())
_OFFSETS = b'"data_offsets":['
_LAST_OFFSETS = re.compile(rb'"data_offsets":\[\d++,(\d{1,19}+)\]\}\} *')
Finder = Callable[[bytes, int, int], int]


def is_plain(header: RawHeader) -> bool:
    """Whether a header looks whole: one object, no escapes, and its last tensor ends where the file ends.

    It is what writers of safetensors make, and what a download cut short is not.
    """
    _, block, start, stop, file_bytes, _, _ = header
    last = _LAST_OFFSETS.fullmatch(block, max(start, block.rfind(_OFFSETS, start, stop)), stop)
    whole = last is not None and header.data_start + int(last[1]) == file_bytes
    return whole and block.startswith(b"{", start, stop) and block.find(b"\\", start, stop) < 0


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
        Their entries by key, as :func:`~gammatorch.checkpoints.safetensors.headers.parse_header` gives them; None in
        doubt.

    Example:
        >>> raw = bytearray(b'{"a.norm.weight":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}')
        >>> header = RawHeader("model.safetensors", raw, 0, len(raw), 8 + len(raw) + 8, "model.safetensors")
        >>> search(header, b".norm.")["a.norm.weight"].shape
        (4,)
    """
    file, block, start, stop, file_bytes, _, _ = header
    data_start = LENGTH_BYTES + stop - start
    find = make_finder(block) if stop - start > SMALL_HEADER else block.find
    found: dict[str, TensorEntry] = {}
    position = find(text, start, stop)
    while position >= 0:
        opening = block.rfind(b'"', start, position)
        before = block.rfind(b"[", start, opening) if opening >= 0 else -1
        if before >= 0:
            described = _LATER_ENTRY.match(block, before, stop)
        else:
            described = _first_entry(block, start, opening, stop)
        if described is None:
            return None
        first, raw_key, raw_dtype, raw_shape, last = described.groups()
        begin, end = int(first or 0), int(last)
        try:
            dtype, shape, bits = _extent(raw_dtype, raw_shape)
            key = raw_key.decode()
        except ValueError:
            return None
        if begin > end or bits not in (8 * (end - begin), None) or data_start + end > file_bytes:
            return None
        if key in found or not key.isprintable():  # JSON allows no control characters
            return None
        found[key] = TensorEntry(key, dtype, shape, file, data_start + begin, data_start + end)
        position = find(text, described.end(), stop)
    return found


def _first_entry(block: bytearray, start: int, opening: int, stop: int) -> re.Match[bytes] | None:
    """The entry whose key begins at a quote, if nothing but the metadata stands before it."""
    return _FIRST_ENTRY.match(block, opening, stop) if FIRST.fullmatch(block, start, opening) else None


@lru_cache(maxsize=256)  # the norms of a site are all alike
def _extent(dtype: bytes, shape: bytes) -> tuple[str, tuple[int, ...], int | None]:
    """A stored type and shape, and the bits that they take.

    Raises:
        ValueError: They are not written as JSON writes them, or in another alphabet.
    """
    if _KIND.fullmatch(b"%b %b" % (dtype, shape)) is None:
        raise ValueError("of another form")
    extents = tuple(map(int, shape.split(b","))) if shape else ()
    return dtype.decode(), extents, stored_bits(dtype.decode(), extents)


class SearchedEntries(Mapping[str, TensorEntry]):
    """Every tensor of the shards, parsed when the whole table is first needed; a few can be had without.

    Args:
        headers: The headers of the shards.
        source: What they were read from.
    """

    def __init__(self, headers: Sequence[RawHeader], source: ByteSource) -> None:
        self._headers = headers
        self._source = source
        self._parsed: Mapping[str, TensorEntry] | None = None
        self._plain = all(is_plain(header) for header in headers if header.is_kept)
        if not self._plain or sum(header.stop - header.start for header in headers) <= PARSED_ANYWAY:
            self._parsed = self._parse()

    def search(self, text: str, near: str | None = None) -> dict[str, TensorEntry] | None:
        """The tensors whose key holds a text; None if only the whole table can tell.

        Args:
            text: What the key holds, without quotes and escapes.
            near: A file to begin with. The files are then searched from there on, and only until one has such keys.
        """
        if self._parsed is not None and near is None:
            return {key: entry for key, entry in self._parsed.items() if text in key}
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


def make_finder(buffer: bytearray) -> Finder:
    """What finds a text in a buffer, with the arguments of ``bytearray.find``: text, start, stop.

    The buffer keeps its size as long as the finder lives.

    Example:
        >>> find = make_finder(bytearray(b"model.norm.weight"))
        >>> find(b"norm", 0, 17), find(b"norm", 0, 9)
        (6, -1)
    """
    memmem = _MEMMEM
    if memmem is None or not buffer:
        return buffer.find
    first = ctypes.c_char.from_buffer(buffer)  # holds the buffer: it can neither move nor go
    base = ctypes.addressof(first)

    def find(text: bytes, start: int, stop: int, _holds: object = first) -> int:
        found: int | None = memmem(base + start, stop - start, text, len(text)) if start < stop else None
        return -1 if found is None else found - base

    return find


def _load_memmem() -> Any:
    """The C library's function; None where there is none (Windows)."""
    try:
        memmem = ctypes.CDLL(None).memmem
    except (AttributeError, OSError, TypeError):
        return None
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    return memmem


_MEMMEM = _load_memmem()
