"""Open a checkpoint: read its headers, none of its tensors."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

from gammatorch.checkpoints.base import (
    ByteSource,
    Checkpoint,
    Contents,
    JsonObject,
    Read,
    Search,
    TensorEntry,
    merge_entries,
    unsearchable,
)
from gammatorch.checkpoints.gguf import read_gguf
from gammatorch.checkpoints.held import hold, is_model
from gammatorch.checkpoints.locate import folders_with_weights, locate, pointed_folder, strange_weights
from gammatorch.checkpoints.pytorch.dcp import read_dcp
from gammatorch.checkpoints.pytorch.pipeline import read_layer_files, read_rank_folders, read_torch_files
from gammatorch.checkpoints.safetensors.headers import read_headers
from gammatorch.checkpoints.safetensors.metadata import (
    SHARDING_INFO,
    add_aliases,
    is_part,
    read_dcp_shards,
    read_metadata,
)
from gammatorch.checkpoints.safetensors.search import SearchedEntries
from gammatorch.checkpoints.shards import index_suffix, parse_index, some
from gammatorch.checkpoints.weights import (
    ADAPTER_CONFIG,
    CONFIG,
    CONFIG_YAML,
    DCP_SHARDS,
    DCP_SUFFIX,
    LAYER_FILES,
    RANK_FOLDERS,
    TORCH_SUFFIXES,
    Weights,
    as_weights,
    find_weights,
    is_adapter,
    left_out,
)
from gammatorch.errors import (
    CheckpointError,
    CheckpointNotFound,
    InvalidArgument,
    MalformedCheckpoint,
    UnsupportedFormat,
)

DEFAULT_MODEL = "Qwen/Qwen3-32B"

JSON_CAP, YAML_CAP = 256_000_000, 256_000
"""Longest config.json or index, and longest config.yaml, that is read, in bytes."""

_OTHER_CONFIG = "download it again, or take it away to have the names of the tensors tell what they can"

Model = str | os.PathLike[str] | Checkpoint | Mapping[str, Any] | Any
"""What functions that take a checkpoint take: a name or path, an open one, a module or a state dict."""

READERS: Mapping[str, Callable[[ByteSource, Sequence[str], Sequence[Read]], Contents]] = {
    **dict.fromkeys(TORCH_SUFFIXES, read_torch_files),
    ".gguf": read_gguf,
    DCP_SUFFIX: read_dcp,
    DCP_SHARDS: read_dcp_shards,
    LAYER_FILES: read_layer_files,
    RANK_FOLDERS: read_rank_folders,
}
"""By the layout of several files, or by how the names of the files end. Safetensors is in none of them."""


def open_checkpoint(
    model: Model = DEFAULT_MODEL,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache: bool = True,
) -> Checkpoint:
    """Open a checkpoint without loading it: its config.json and the headers of its shards are read.

    Args:
        model: Folder, single weight file (``.safetensors``, ``.bin``, ``.pt``, ``.pth``, ``.ckpt``, ``.gguf``),
            ``*.index.json``, ``org/name`` or ``org/name@revision`` on the Hub; a local path that exists wins. Or a
            module or state dict in memory, whose tensors stay where they are. An open checkpoint is given back.
        revision: Branch, tag or commit on the Hub; the default branch if None.
        token: Access token for the Hub; None for the one huggingface_hub knows.
        cache: Whether what comes from the Hub is kept on disk, and what is there already is used
            (``GAMMATORCH_CACHE`` says where, ``GAMMATORCH_CACHE_GB`` how much of it).

    Returns:
        The checkpoint, with the table of its tensors.

    Raises:
        CheckpointError: It is not there, cannot be read, is broken, incomplete, or of another format.
        InvalidArgument: A revision was asked of a local path, or the argument is nothing of these.
    """
    if isinstance(model, Checkpoint):
        return model
    if is_model(model):
        return hold(model)
    if not isinstance(model, str | os.PathLike):
        raise InvalidArgument(
            f"a checkpoint is a name or path, an open checkpoint, a module or a state dict, not {type(model).__name__}"
        )
    started = time.perf_counter()
    location = locate(model, revision, token, cache=cache)
    try:
        checkpoint = open_source(
            location.source,
            model=location.model,
            target=location.target,
            suffix=location.suffix,
            above=location.above,
        )
    except (CheckpointNotFound, UnsupportedFormat) as error:
        pointed = pointed_folder(model) if location.target is None else None
        if pointed is None:
            raise _better_told(error, model) from None
        checkpoint = open_checkpoint(pointed[0])
        return replace(checkpoint, notes=(pointed[1], *checkpoint.notes))
    notes = (*location.notes, *checkpoint.notes)
    return replace(checkpoint, notes=notes, seconds=time.perf_counter() - started)


def _better_told(error: CheckpointError, model: str | os.PathLike[str]) -> CheckpointError:
    """What to raise where no weights were found: what stands in their place, if anything does."""
    if isinstance(error, UnsupportedFormat):
        return error
    if inside := folders_with_weights(model):
        return CheckpointNotFound(
            f"holds no weights itself, but its folders do ({some(inside)}): pass one of them, or all to "
            "`gammatorch sweep`",
            file=os.fspath(model),
        )
    strange = strange_weights(model)
    return CheckpointNotFound(strange[1], file=strange[0]) if strange else error


def open_source(
    source: ByteSource,
    *,
    model: str | None = None,
    target: str | None = None,
    suffix: str | None = None,
    above: ByteSource | None = None,
) -> Checkpoint:
    """Open the checkpoint that a source of bytes holds.

    Args:
        source: Its files.
        model: The name it goes by; the source's own if None.
        target: The one weight file or index to open; None to find the weights by their names.
        suffix: How the name of that file would end if it told its format; None where it does.
        above: Where config.json is if the source has none.

    Raises:
        CheckpointError: As :func:`open_checkpoint`.
    """
    if target is None:
        weights, missing = find_weights(source.files, source.name), None
    else:
        weights, missing = as_weights(target, source.files)
    return _open_weights(source, weights, missing, model, target, suffix, above)


def _open_weights(
    source: ByteSource,
    weights: Weights,
    missing: str | None,
    model: str | None,
    target: str | None,
    suffix: str | None,
    above: ByteSource | None,
) -> Checkpoint:
    """Open the files that were chosen."""
    config = _json_read(source, CONFIG) if CONFIG in source.files else None
    settings = _yaml_read(source) if config is None and above is None else None
    first = [read for read in (config, settings) if read is not None]
    if config is None and above is not None:
        config = _json_read(above, CONFIG)
        above.read([config])
    shard_of: Mapping[str, str] = {}
    files = weights.files
    if weights.index is not None:  # without it the shards are unknown, so it costs a round
        index = _json_read(source, weights.index)
        source.read([index, *first])
        first = []
        files, shard_of = parse_index(
            bytes(index.into), source.files, f"{source.name}/{weights.index}", index_suffix(weights.index)
        )
    adapter = _json_read(source, ADAPTER_CONFIG) if is_adapter(files) and ADAPTER_CONFIG in source.files else None
    first += [adapter] if adapter is not None else []
    reader = READERS.get(weights.layout or suffix or PurePath(files[0]).suffix)
    if reader is None:
        contents, entries, search = _read_safetensors(source, files, first)
    else:
        contents = reader(source, files, first)
        entries, search = merge_entries(contents.tables, source.name), unsearchable
    absent = frozenset(shard_of.keys() - entries.keys()) if shard_of else frozenset()
    index_notes = _index_notes(weights.index, shard_of, entries, absent) if shard_of else ()
    holder = source if above is None else above
    stored_config = _parse_config(bytes(config.into), f"{holder.name}/{CONFIG}") if config is not None else None
    beside = {CONFIG_YAML: settings, ADAPTER_CONFIG: adapter}
    told = {name: read_yaml(bytes(read.into)) for name, read in beside.items() if read is not None}
    notes = (*weights.notes, *index_notes, *contents.notes)
    left = left_out(files, notes, source.files) if suffix is None and weights.layout is None else ()
    return Checkpoint(
        model=model if model is not None else source.name,
        source=contents.source,
        files=files,
        entries=entries,
        config=contents.config if contents.config is not None else stored_config,
        notes=(*notes, *left),
        target=target,
        settings={**{name: held for name, held in told.items() if held}, **contents.settings},
        missing=missing or contents.missing,
        metadata=contents.metadata,
        absent=absent,
        search=search,
        ranks={
            rank: partial(_open_weights, source, Weights(own, layout=weights.layout), None, model, None, suffix, above)
            for rank, own in weights.ranks.items()
        },
    )


def _read_safetensors(
    source: ByteSource, files: Sequence[str], extra: Sequence[Read]
) -> tuple[Contents, Mapping[str, TensorEntry], Search]:
    """What the headers say of the files, the tensors, whose entries are made when they are needed, and their search."""
    headers = read_headers(source, files, extra)
    metadata = read_metadata(source, headers)
    told = f"{files[0]} holds a part of every tensor ({SHARDING_INFO} in its header): pass the folder of all ranks"
    missing = told if SHARDING_INFO in metadata and is_part(metadata) else None
    contents = Contents([], source, metadata=metadata, missing=missing)
    searched = SearchedEntries(headers, source)
    entries = add_aliases(searched, metadata)
    return contents, entries, searched.search if entries is searched else unsearchable


def _index_notes(
    index: str | None, shard_of: Mapping[str, str], entries: Mapping[str, TensorEntry], absent: Collection[str]
) -> Iterator[str]:
    """What an index says otherwise than the headers, which are believed, as loaders do."""
    if absent:
        yield f"{index} names {some(sorted(absent))}, which no shard holds"
    elsewhere = [key for key, shard in shard_of.items() if key not in absent and entries[key].file != shard]
    if elsewhere:
        yield f"{index} puts {some(elsewhere)} into other shards than those that hold them"


def _yaml_read(source: ByteSource) -> Read | None:
    """A read of the settings that a trainer has written to config.yaml, None where there are none, or more than any."""
    size = source.files.get(CONFIG_YAML, 0)
    return Read(CONFIG_YAML, 0, memoryview(bytearray(size))) if 0 < size <= YAML_CAP else None


def _json_read(source: ByteSource, file: str) -> Read:
    size = source.files[file]
    if size > JSON_CAP:
        raise MalformedCheckpoint(f"is {size} bytes long, more than any such file", file=f"{source.name}/{file}")
    return Read(file, 0, memoryview(bytearray(size)))


def _parse_config(raw: bytes, where: str) -> JsonObject:
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint(f"is not valid JSON ({error}): {_OTHER_CONFIG}", file=where) from None
    if not isinstance(config, dict):
        raise MalformedCheckpoint(f"is not a JSON object: {_OTHER_CONFIG}", file=where)
    return config


def read_yaml(raw: bytes) -> JsonObject:
    """The settings in a YAML file; none where it is no plain mapping. Nothing is made of its tags.

    Aliases are not followed: a few of them can stand for more values than memory holds.

    Example:
        >>> read_yaml(b"model: {norm_after: true}"), read_yaml(b"!!python/object:os.system x"), read_yaml(b"a: &b [*b]")
        ({'model': {'norm_after': True}}, {}, {})
    """
    import yaml  # type: ignore[import-untyped]  # takes as long as some runs, and few have such a file

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, yaml.SafeLoader)):
            return {}
        told = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
