"""Which of a checkpoint's files hold its weights, by the names transformers gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

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
_OTHER_FORMATS = (
    (re.compile(r".*\.bin(\.index\.json)?"), "PyTorch pickles (.bin)"),
    (re.compile(r".*\.gguf"), "GGUF"),
    (re.compile(r".*\.(pt|pth|ckpt)"), "PyTorch pickles"),
    (re.compile(r".*\.h5|.*\.msgpack"), "TensorFlow or Flax weights"),
    (re.compile(r"\.metadata|.*\.distcp"), "a torch.distributed checkpoint"),
)


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
    """Choose the weight files the way transformers does: ``model.safetensors`` first, then the sharded set.

    The index of a sharded set (12 MB for a large mixture of experts) repeats what the headers say, so it is
    left alone whenever the shards' own names (``model-00001-of-00017.safetensors``) tell the whole set.

    Args:
        names: Plain names of the checkpoint's files.
        where: Name of the checkpoint, for messages.

    Raises:
        CheckpointNotFound: There are no weights at all.
        UnsupportedFormat: There are, but not as safetensors.
        IncompleteCheckpoint: A shard of the set is missing.

    Example:
        >>> find_weights(["config.json", "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"], "m")
        Weights(files=('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'), index=None, note=None)
    """
    present = set(names)
    tensors = sorted(name for name in present if name.endswith(".safetensors"))
    sets = sorted({(match["stem"], match["count"]) for name in tensors if (match := _SHARD.fullmatch(name))})
    others = [name for name in tensors if not _SHARD.fullmatch(name)]
    if SINGLE in present:
        note = f"{SINGLE} was read, as transformers does; the shards beside it were not" if sets else None
        return Weights((SINGLE,), note=note)
    if len(sets) == 1 and not others:
        return Weights(_whole_set(sets[0], present, where))
    if INDEX in present:
        return Weights((), index=INDEX)
    if len(sets) == 1:
        return Weights(
            _whole_set(sets[0], present, where), note=f"not read, because no index names them: {_some(others)}"
        )
    if len(others) == 1 and not sets:
        return Weights((others[0],), note=f"{others[0]} was read, the only weights there")
    if tensors:
        raise CheckpointNotFound(
            f"holds several safetensors files and no {INDEX} that says which belong together "
            f"({_some(tensors)}): pass one of them",
            file=where,
        )
    raise _no_safetensors(present, where)


def parse_index(raw: bytes, names: Iterable[str], where: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The shards that an index names, and the shard of each tensor.

    Args:
        raw: The index, as stored.
        names: Plain names of the files that are there.
        where: Name of the index, for messages.

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
        if not isinstance(file, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", file):
            raise MalformedCheckpoint(f"names a shard {file!r}, which is not a plain safetensors file name", file=where)
        if file not in present:
            raise IncompleteCheckpoint(f"shard {file} is missing: download it again", file=where)
    if not files:
        raise MalformedCheckpoint("names no shard", file=where)
    return tuple(files), shard_of


def _whole_set(which: tuple[str, str], present: set[str], where: str) -> tuple[str, ...]:
    stem, count = which
    held: dict[int, str] = {}
    for name in sorted(present):
        match = _SHARD.fullmatch(name)
        if match is not None and (match["stem"], match["count"]) == which:
            twin = held.setdefault(int(match["number"]), name)
            if twin != name:
                raise CheckpointNotFound(
                    f"holds two shards of one number ({twin}, {name}): remove one, or pass the index", file=where
                )
    width = max((len(name) for name in held.values()), default=0) - len(f"{stem}--of-{count}.safetensors")
    numbers = range(1, min(int(count), 100_000) + 1)
    files = tuple(held.get(number, f"{stem}-{number:0{width}d}-of-{count}.safetensors") for number in numbers)
    missing = [file for file in files if file not in present]
    if missing:
        raise IncompleteCheckpoint(
            f"{len(missing)} of {int(count)} shards missing ({_some(missing)}): download them again", file=where
        )
    return files


def _no_safetensors(present: set[str], where: str) -> CheckpointError:
    for pattern, what in _OTHER_FORMATS:
        if held := sorted(name for name in present if pattern.fullmatch(name)):
            return UnsupportedFormat(
                f"holds {what} ({_some(held)}) and no safetensors: save it again with "
                "model.save_pretrained(..., safe_serialization=True)",
                file=where,
            )
    return CheckpointNotFound("holds no safetensors weights: pass the folder of a model", file=where)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
