"""Which of a checkpoint's files hold its weights, by the names transformers gives them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gammatorch.checkpoints.foreign import foreign_files
from gammatorch.errors import (
    CheckpointError,
    CheckpointNotFound,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsupportedFormat,
)

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors", re.ASCII)
"""``00001-of-00017`` by transformers, ``00001-of-000163`` in DeepSeek-V3, ``1-of-61`` in Kimi-K2."""

TORCH_SINGLE = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES, ".gguf")
"""How the names of weight files end, in the formats that are read."""

DCP_METADATA, DCP_SUFFIX = ".metadata", ".distcp"
"""The table of a torch.distributed checkpoint, and how the names of its other files end: a folder of them is read."""

FOLDER_SUFFIXES = (*SUFFIXES, DCP_SUFFIX, DCP_METADATA)
"""How the names of files end that hold a folder's weights."""

_TORCH_SHARD = re.compile(r"(?P<stem>pytorch_model)-(?P<number>\d{5,})-of-(?P<count>\d{5,})\.bin", re.ASCII)
_GGUF_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,})-of-(?P<count>\d{5,})\.gguf", re.ASCII)
_BESIDE_WEIGHTS = re.compile(r"training_args|optim|scheduler|scaler|rng_state|random_state|rank")
"""How the names of PyTorch files begin that trainers write beside the weights."""

_Sets = dict[tuple[str, str], list[tuple[int, str]]]
"""Number and name of each shard, by the stem and the count of its set."""


@dataclass(frozen=True)
class Weights:
    """The weight files of a checkpoint.

    Attributes:
        files: Names of the shards in order; empty where only the index can tell.
        index: The index that has to be read to know them, if any.
        note: Anything a reader of the results should know about the choice.
    """

    files: tuple[str, ...]
    index: str | None = None
    note: str | None = None


def find_weights(names: Iterable[str], where: str) -> Weights:
    """Choose the weight files the way transformers does: safetensors before PyTorch's, one file before the shards.

    GGUF comes after them, and only where there is one model of it: repositories hold many quantisations of the same.
    A torch.distributed checkpoint comes next, and last a PyTorch file of any name, if it is the only one (nanoGPT's
    ``ckpt.pt``).

    The index of a sharded set (12 MB for a large mixture of experts) repeats what the headers say, so it is
    left alone whenever the shards' own names (``model-00001-of-00017.safetensors``) tell the whole set.

    Args:
        names: Plain names of the checkpoint's files.
        where: Name of the checkpoint, for messages.

    Raises:
        CheckpointNotFound: There are no weights at all.
        UnsupportedFormat: There are, but in no format that is read.
        IncompleteCheckpoint: A shard of the set is missing.

    Example:
        >>> find_weights(["config.json", "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"], "m")
        Weights(files=('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'), index=None, note=None)
    """
    present = set(names)
    tensors = sorted(name for name in present if name.endswith(".safetensors"))
    sets, others = _sets(tensors, _SHARD)
    if SINGLE in present:
        note = f"{SINGLE} was read, as transformers does; the shards beside it were not" if sets else None
        return Weights((SINGLE,), note=note)
    if len(sets) == 1 and not others:
        return Weights(_whole_set(sets, where))
    if INDEX in present:
        return Weights((), index=INDEX)
    if len(sets) == 1:
        return Weights(_whole_set(sets, where), note=f"not read, because no index names them: {some(others)}")
    if len(others) == 1 and not sets:
        return _only(others[0])
    if tensors:
        raise CheckpointNotFound(
            f"holds several safetensors files and no {INDEX} that says which belong together "
            f"({some(tensors)}): pass one of them",
            file=where,
        )
    for find in (_find_torch, _find_gguf, _find_dcp, _find_only_torch):
        if (found := find(present, where)) is not None:
            return found
    raise _no_weights(present, where)


def is_weights(name: str) -> bool:
    """Whether a file holds weights by its name, and not what trainers write beside them.

    Example:
        >>> is_weights("ckpt.pt"), is_weights("optimizer.pt"), is_weights("config.json")
        (True, False, False)
    """
    return name.endswith(FOLDER_SUFFIXES) and _BESIDE_WEIGHTS.match(name) is None


def parse_index(
    raw: bytes, names: Iterable[str], where: str, suffix: str = ".safetensors"
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The shards that an index names, and the shard of each tensor.

    Args:
        raw: The index, as stored.
        names: Plain names of the files that are there.
        where: Name of the index, for messages.
        suffix: How the names of its shards end.

    Returns:
        The shards in order, and shard by tensor key.

    Raises:
        MalformedCheckpoint: It is no such index, or it names something other than a plain file name.
        IncompleteCheckpoint: A shard it names is not there.
    """
    try:
        shard_of = json.loads(raw)["weight_map"]
        files = sorted(set(shard_of.values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MalformedCheckpoint("is not an index of shards (no weight_map in it)", file=where) from None
    present = set(names)
    for file in files:
        # checked before any path or URL is built from it
        if not isinstance(file, str) or not re.fullmatch(rf"[^/\\\0]+{re.escape(suffix)}", file):
            raise MalformedCheckpoint(
                f"names a shard {file!r}, which is not a plain {suffix[1:]} file name", file=where
            )
        if file not in present:
            raise IncompleteCheckpoint(f"shard {file} is missing: download it again", file=where)
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


def _find_torch(present: set[str], where: str) -> Weights | None:
    if TORCH_SINGLE in present:
        return Weights((TORCH_SINGLE,))
    sets, _ = _sets(sorted(present), _TORCH_SHARD)
    if len(sets) == 1:
        return Weights(_whole_set(sets, where))
    return Weights((), index=TORCH_INDEX) if TORCH_INDEX in present else None


def _find_gguf(present: set[str], where: str) -> Weights | None:
    names = sorted(name for name in present if name.endswith(".gguf"))
    sets, others = _sets(names, _GGUF_SHARD)
    if len(sets) + len(others) > 1:
        raise CheckpointNotFound(f"holds several GGUF models ({some(names)}): pass the file of one of them", file=where)
    if sets:
        return Weights(_whole_set(sets, where))
    return Weights((others[0],)) if others else None


def _find_dcp(present: set[str], where: str) -> Weights | None:
    files = tuple(sorted(name for name in present if name.endswith(DCP_SUFFIX)))
    if files and DCP_METADATA not in present:
        raise IncompleteCheckpoint(
            f"holds a torch.distributed checkpoint ({some(list(files))}) without its {DCP_METADATA}, which is "
            "written last: it was not saved to the end, or not copied whole",
            file=where,
        )
    return Weights(files) if files else None


def _find_only_torch(present: set[str], where: str) -> Weights | None:
    names = [name for name in present if name.endswith(TORCH_SUFFIXES) and not _BESIDE_WEIGHTS.match(name)]
    return _only(names[0]) if len(names) == 1 else None


def _only(name: str) -> Weights:
    return Weights((name,), note=f"{name} was read, the only weights there")


def _sets(names: Sequence[str], pattern: re.Pattern[str]) -> tuple[_Sets, list[str]]:
    """The sets of shards by stem and count, each shard's number and name, and the names that are of none."""
    sets: _Sets = defaultdict(list)
    others = []
    for name in names:
        match = pattern.fullmatch(name)
        if match is None:
            others.append(name)
        else:
            stem, number, count = match.groups()
            sets[stem, count].append((int(number), name))
    return sets, others


def _whole_set(sets: _Sets, where: str) -> tuple[str, ...]:
    """The shards of the one set, in order."""
    (((stem, count), shards),) = sets.items()
    held: dict[int, str] = {}
    for number, name in shards:
        twin = held.setdefault(number, name)
        if twin != name:
            raise CheckpointNotFound(
                f"holds two shards of one number ({twin}, {name}): remove one, or pass the index", file=where
            )
    numbers = range(1, min(int(count), 100_000) + 1)
    missing = [number for number in numbers if number not in held]
    if missing:
        suffix = name[name.rindex(".") :]
        width = max(map(len, held.values())) - len(f"{stem}--of-{count}{suffix}")
        names = [f"{stem}-{number:0{width}d}-of-{count}{suffix}" for number in missing]
        raise IncompleteCheckpoint(
            f"{len(names)} of {int(count)} shards missing ({some(names)}): download them again", file=where
        )
    return tuple(held[number] for number in numbers)


def _no_weights(present: set[str], where: str) -> CheckpointError:
    if held := sorted(name for name in present if name.endswith(TORCH_SUFFIXES)):
        remedy = f"pass the one that holds the weights, or name it {TORCH_SINGLE}"
        return UnsupportedFormat(f"holds PyTorch files of other names ({some(held)}): {remedy}", file=where)
    if found := foreign_files(present):
        held, what, remedy = found
        return UnsupportedFormat(
            f"holds no weights but {what} ({some(held)}), which gammatorch does not read: {remedy}", file=where
        )
    return CheckpointNotFound("holds no weights: pass the folder of a model", file=where)


def some(names: list[str]) -> str:
    """Names in a sentence; the first few of many.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
