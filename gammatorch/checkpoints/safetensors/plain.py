"""A table of tensors from headers as safetensors itself writes them, made in one sweep over their bytes.

Those headers have no spaces between the parts, no escapes, ``dtype, shape, data_offsets`` in this order, and tensors in
the order of their bytes. One expression takes such a header apart; what is left to check is checked column by column,
and an entry is made when it is asked for: a mixture of experts has a hundred thousand tensors of a few types and
shapes, of which sixty matter. Any other header is left to
:func:`gammatorch.checkpoints.safetensors.headers.parse_header`, which gives the same entries for these.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import sub

from gammatorch.checkpoints.base import TensorEntry, collector_resting
from gammatorch.checkpoints.safetensors.headers import RawHeader, check_extent, unique_object

KEY = r'"([ !#-\[\]-\xff]*+)"'  # no quote, no escape, no control character
TEXT = KEY.replace("(", "").replace(")", "")
METADATA = rf'"__metadata__":\{{(?:{TEXT}:{TEXT}(?:,{TEXT}:{TEXT})*+)?+\}}'
NUMBER = r"(?:0|[1-9]\d{0,18}+)"  # of any more digits Python would make no number
NUMBERS = rf"(?:{NUMBER}(?:,{NUMBER})*+)?+"
FIRST = re.compile(rf"\{{(?:{METADATA},)?+".encode())
"""All that stands before the first tensor."""

_TENSOR = re.compile(
    rf'{KEY}:\{{"dtype":"(\w++","shape":\[{NUMBERS})\],"data_offsets":\[({NUMBER},{NUMBER})\]\}}(?:,|\}}\Z)'.encode()
)
_AROUND = len('"":{"dtype":"],"data_offsets":[]},')
_BETWEEN = '","shape":['

Kind = tuple[str, tuple[int, ...]]


class _Shard:
    """The tensors of one file, as columns.

    Attributes:
        names: Their keys.
        file: The file.
        data_start: Where in it the tensors begin.
        raw_kinds: What the header says of each one's type and shape.
        kinds: What that means.
        bounds: Where each begins and ends, one after the other, counted from ``data_start``.
    """

    def __init__(self, header: RawHeader) -> None:
        """Take a header apart.

        Raises:
            ValueError: It is not plain, or broken.
        """
        raw = bytes(memoryview(header.block)[header.start : header.stop])
        first, stop = FIRST.match(raw), len(raw.rstrip(b" "))
        tensors = _TENSOR.findall(raw, first.end(), stop) if first is not None else []
        if first is None or not tensors or not raw.endswith(b"}}", 0, stop):
            raise ValueError("of another form")
        keys, self.raw_kinds, bounds = zip(*tensors, strict=True)
        joined, offsets = b'"'.join(keys), b",".join(bounds)
        inner = len(joined) + len(offsets) - 2 * (len(tensors) - 1) + sum(map(len, self.raw_kinds))
        if first.end() + inner + len(tensors) * _AROUND != stop:
            raise ValueError("the matches, which do not overlap, leave something out")
        json.loads(first[0].rstrip(b",") + b"}", object_pairs_hook=unique_object)
        self.file, self.data_start = header.file, header.data_start
        self.names = joined.decode().split('"')
        self.kinds = {raw_kind: _kind(raw_kind) for raw_kind in set(self.raw_kinds)}
        self.bounds: list[int] = json.loads(b"[%b]" % offsets)
        self._check(header.file_bytes)

    def _check(self, file_bytes: int) -> None:
        """Each tensor begins where the one before it ends, the last ends with the file, and each fits its kind."""
        starts, stops = self.bounds[::2], self.bounds[1::2]
        if starts[0] != 0 or starts[1:] != stops[:-1] or self.data_start + stops[-1] != file_bytes:
            raise ValueError("the tensors do not lie one after the other")
        for raw_kind, length in set(zip(self.raw_kinds, map(sub, stops, starts), strict=True)):
            check_extent(*self.kinds[raw_kind], 0, length)

    def entry(self, number: int) -> TensorEntry:
        """The entry of one of its tensors."""
        dtype, shape = self.kinds[self.raw_kinds[number]]
        start, stop = self.bounds[2 * number : 2 * number + 2]
        return TensorEntry(self.names[number], dtype, shape, self.file, self.data_start + start, self.data_start + stop)


def _kind(raw_kind: bytes) -> Kind:
    """Type and shape from what stands around their names."""
    dtype, _, shape = raw_kind.decode().partition(_BETWEEN)
    return dtype, tuple(map(int, shape.split(","))) if shape else ()


class PlainEntries(Mapping[str, TensorEntry]):
    """Every tensor of some shards by key; each entry is made when it is asked for."""

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._shards = shards
        self._firsts: list[int] = []
        self._numbers: dict[str, int] = {}
        first = 0
        for shard in shards:
            self._firsts.append(first)
            self._numbers.update(zip(shard.names, range(first, first := first + len(shard.names)), strict=True))
        if len(self._numbers) < first or "__metadata__" in self._numbers:
            raise ValueError("a key is there twice, or is none")

    def __getitem__(self, key: str) -> TensorEntry:
        number = self._numbers[key]
        place = bisect(self._firsts, number) - 1
        return self._shards[place].entry(number - self._firsts[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def parse_plain(headers: Iterable[RawHeader]) -> PlainEntries | None:
    """The entries of plain headers, checked against each other and against their files.

    Args:
        headers: The headers with their bytes; each is needed only until the next one is asked for.

    Returns:
        Entries by key, as :func:`~gammatorch.checkpoints.safetensors.headers.parse_header` gives them for each shard;
        None if a header is of another form or broken, or two shards hold the same key.

    Example:
        >>> raw = bytearray(b'{"norm.weight":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}')
        >>> header = RawHeader("model.safetensors", raw, 0, len(raw), 8 + len(raw) + 8, "model.safetensors")
        >>> parse_plain([header])["norm.weight"].shape
        (4,)
    """
    try:
        with collector_resting():
            return PlainEntries([_Shard(header) for header in headers])
    except ValueError:
        return None
