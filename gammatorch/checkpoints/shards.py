"""Files that are parts of one model: sets of shards by their names, and the index that names them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gammatorch.errors import CheckpointNotFound, IncompleteCheckpoint, MalformedCheckpoint

NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.[a-z]+)", re.ASCII)
"""``00001-of-00017`` by transformers, ``00001-of-000163`` in DeepSeek-V3, ``1-of-61`` in Kimi-K2."""

_MOST_SHARDS = 100_000


@dataclass(frozen=True)
class ShardSet:
    """Files whose names say that they are shards of one model.

    Attributes:
        stem: What their names begin with.
        count: How many there are, as the names write it.
        suffix: How the names end.
        held: The files that are there, by number.
    """

    stem: str
    count: str
    suffix: str
    held: Mapping[int, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are there, in order."""
        return tuple(self.held[number] for number in sorted(self.held))

    @property
    def numbers(self) -> range:
        """Numbers of all of its files."""
        return range(1, min(int(self.count), _MOST_SHARDS) + 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all of its files, in order, whether they are there or not."""
        width = max(map(len, self.held.values())) - len(f"{self.stem}--of-{self.count}{self.suffix}")
        return tuple(
            self.held.get(number, f"{self.stem}-{number:0{width}d}-of-{self.count}{self.suffix}")
            for number in self.numbers
        )

    @cached_property
    def missing(self) -> list[str]:
        """Names of the files that are not there."""
        if self.held.keys() >= set(self.numbers):  # as nearly always
            return []
        return [name for number, name in zip(self.numbers, self.names, strict=True) if number not in self.held]

    def whole(self, where: str) -> tuple[str, ...]:
        """All of its files, in order."""
        if missing := self.missing:
            raise IncompleteCheckpoint(
                f"{len(missing)} of {int(self.count)} shards missing ({some(missing)}): download them again", file=where
            )
        return tuple(self.held[number] for number in self.numbers)


def shard_sets(
    names: Iterable[str], where: str, pattern: re.Pattern[str] = NUMBERED
) -> tuple[list[ShardSet], list[str]]:
    """The sets of shards among files, and the files that are of none.

    Example:
        >>> (found,), others = shard_sets(["a-1-of-2.bin", "a-2-of-2.bin", "b.bin"], "model")
        >>> found.files, found.missing, others
        (('a-1-of-2.bin', 'a-2-of-2.bin'), [], ['b.bin'])
    """
    sets: dict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
    others = []
    for name in sorted(names):
        match = pattern.fullmatch(name)
        if match is None:
            others.append(name)
            continue
        stem, number, count, suffix = match.groups()
        held = sets[stem, count, suffix]
        twin = held.setdefault(int(number), name)
        if twin != name:
            raise CheckpointNotFound(
                f"holds two shards of one number ({twin}, {name}): remove one, or pass the index", file=where
            )
    return [ShardSet(*key, held) for key, held in sets.items()], others


def siblings(name: str) -> tuple[str, ...]:
    """Names of all shards of the set that a file's own name says it is of; none if it says nothing of the kind.

    Example:
        >>> siblings("model-00002-of-00003.gguf")
        ('model-00001-of-00003.gguf', 'model-00002-of-00003.gguf', 'model-00003-of-00003.gguf')
    """
    match = NUMBERED.fullmatch(name)
    if match is None or not 1 < int(match["count"]) <= _MOST_SHARDS:
        return ()
    return ShardSet(match["stem"], match["count"], match["suffix"], {int(match["number"]): name}).names


def parse_index(
    raw: bytes, names: Iterable[str], where: str, suffix: str = ".safetensors"
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The shards that an index names, and the shard of each tensor.

    Returns:
        The shards in order, and shard by tensor key.
    """
    try:
        shard_of = json.loads(raw)["weight_map"]
        files = sorted(set(shard_of.values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MalformedCheckpoint(
            "is not an index of shards (no weight_map in it): download it again, or pass the file of the weights",
            file=where,
        ) from None
    present = set(names)
    for file in files:
        # checked before any path or URL is built from it
        if not isinstance(file, str) or not re.fullmatch(rf"[^/\\\0]+{re.escape(suffix)}", file):
            raise MalformedCheckpoint(
                f"names a shard {file!r}, which is not a plain {suffix[1:]} file name", file=where
            )
    if missing := [file for file in files if file not in present]:
        raise IncompleteCheckpoint(
            f"{len(missing)} of {len(files)} shards missing ({some(missing)}): download them again", file=where
        )
    if not files:
        raise MalformedCheckpoint("names no shard", file=where)
    return tuple(files), shard_of


def index_suffix(index: str) -> str:
    """How the names of the shards of an index end.

    Example:
        >>> index_suffix("pytorch_model.bin.index.json")
        '.bin'
    """
    return ".bin" if index.endswith(".bin.index.json") else ".safetensors"


def some(names: Sequence[str]) -> str:
    """Names in a sentence; the first few of many.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
