"""Open a checkpoint: read its headers, none of its tensors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from gammatorch.checkpoints.base import ByteSource, Checkpoint, Read, TensorEntry, merge_entries
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.formats import READERS
from gammatorch.checkpoints.locate import locate, strange_weights
from gammatorch.checkpoints.safetensors.headers import read_headers
from gammatorch.checkpoints.safetensors.search import SearchedEntries
from gammatorch.checkpoints.weights import (
    CONFIG,
    FOLDER_SUFFIXES,
    Weights,
    find_weights,
    index_suffix,
    parse_index,
    some,
)
from gammatorch.errors import CheckpointNotFound, MalformedCheckpoint

JSON_CAP = 256_000_000
"""Longest config.json or index that is read, in bytes."""

DEFAULT_MODEL = "Qwen/Qwen3-32B"


def open_checkpoint(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache: bool = True,
) -> Checkpoint:
    """Open a checkpoint without loading it: its config.json and the headers of its shards are read.

    Args:
        model: Folder, single weight file (``.safetensors``, ``.bin``, ``.pt``, ``.pth``, ``.ckpt``, ``.gguf``),
            ``*.index.json``, ``org/name`` or ``org/name@revision`` on the Hub. A local path that exists wins.
        revision: Branch, tag or commit on the Hub; the default branch if None.
        token: Access token for the Hub; None for the one huggingface_hub knows.
        cache: Whether what comes from the Hub is kept on disk, and what is there already is used
            (``GAMMATORCH_CACHE`` says where, ``GAMMATORCH_CACHE_GB`` how much of it).

    Returns:
        The checkpoint, with the table of its tensors.

    Raises:
        CheckpointError: It is not there, cannot be read, is broken, incomplete, or of another format.
        InvalidArgument: A revision was asked of a local path.
    """
    started = time.perf_counter()
    location = locate(model, revision, token, cache=cache)
    try:
        checkpoint = open_source(location.source, model=location.model, target=location.target)
    except CheckpointNotFound:
        if inside := _folders_with_weights(model):
            raise CheckpointNotFound(
                f"holds no weights itself, but its folders do ({some(inside)}): pass one of them, or all to "
                "`gammatorch sweep`",
                file=os.fspath(model),
            ) from None
        if strange := strange_weights(model):
            raise CheckpointNotFound(strange[1], file=strange[0]) from None
        raise
    notes = (*location.notes, *checkpoint.notes)
    return replace(checkpoint, notes=notes, seconds=time.perf_counter() - started)


def open_source(source: ByteSource, *, model: str | None = None, target: str | None = None) -> Checkpoint:
    """Open the checkpoint that a source of bytes holds.

    Args:
        source: Its files.
        model: The name it goes by; the source's own if None.
        target: The one weight file or index to open; None to find the weights by their names.

    Raises:
        CheckpointError: As :func:`open_checkpoint`.
    """
    weights = find_weights(source.files, source.name) if target is None else _as_weights(target)
    config = _json_read(source, CONFIG) if CONFIG in source.files else None
    first = [config] if config is not None else []
    shard_of: Mapping[str, str] = {}
    files = weights.files
    if weights.index is not None:  # without it the shards are unknown, so it costs a round
        index = _json_read(source, weights.index)
        source.read([index, *first])
        first = []
        files, shard_of = parse_index(
            bytes(index.into), source.files, f"{source.name}/{weights.index}", index_suffix(weights.index)
        )
    reader = READERS.get(PurePath(files[0]).suffix)
    entries: Mapping[str, TensorEntry]
    if reader is None:
        contents = Contents([], source)
        entries = SearchedEntries(read_headers(source, files, first), source)
    else:
        contents = reader(source, files, first)
        entries = merge_entries(contents.tables, source.name)
    for key, shard in shard_of.items():
        if key not in entries or entries[key].file != shard:
            raise MalformedCheckpoint(
                f"the index puts it in {shard}, whose header does not have it: download both again",
                file=f"{source.name}/{weights.index}",
                tensor=key,
            )
    stored_config = _parse_config(bytes(config.into), f"{source.name}/{CONFIG}") if config is not None else None
    return Checkpoint(
        model=model if model is not None else source.name,
        source=contents.source,
        files=files,
        entries=entries,
        config=contents.config if contents.config is not None else stored_config,
        notes=(*((weights.note,) if weights.note is not None else ()), *contents.notes),
        target=target,
    )


def _folders_with_weights(folder: str | os.PathLike[str]) -> list[str]:
    """Names of a folder's own folders that hold weights, where it holds none: a trainer's, a pipeline's, or those of
    the Hub's cache, which has a folder for each commit in ``snapshots``."""
    try:
        if _holds_weights(folder):
            return []
        return [
            f"{within}{name}"
            for within in ("", "snapshots/")
            if os.path.isdir(parent := os.path.join(folder, within))
            for name in sorted(os.listdir(parent))
            if os.path.isdir(path := os.path.join(parent, name)) and _holds_weights(path)
        ]
    except OSError:  # not a folder, or not to be listed
        return []


def _holds_weights(folder: str | os.PathLike[str]) -> bool:
    with os.scandir(folder) as held:
        return any(entry.name.endswith(FOLDER_SUFFIXES) for entry in held)


def _as_weights(target: str) -> Weights:
    return Weights((), index=target) if target.endswith(".index.json") else Weights((target,))


def _json_read(source: ByteSource, file: str) -> Read:
    size = source.files[file]
    if size > JSON_CAP:
        raise MalformedCheckpoint(f"is {size} bytes long, more than any such file", file=f"{source.name}/{file}")
    return Read(file, 0, memoryview(bytearray(size)))


def _parse_config(raw: bytes, where: str) -> Mapping[str, Any]:
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint(f"is not valid JSON ({error})", file=where) from None
    if not isinstance(config, dict):
        raise MalformedCheckpoint("is not a JSON object", file=where)
    return config
