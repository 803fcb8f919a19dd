"""What safetensors files say of themselves in ``__metadata__``: second names of tensors, and which part a file holds.

torch.distributed.checkpoint writes a file for each rank before it consolidates them (``HuggingFaceStorageWriter``),
with some rows of every tensor under its full name. Format: ``torch/distributed/checkpoint/_hf_utils.py``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gammatorch.checkpoints.base import ByteSource, Contents, JsonObject, Read, TensorEntry
from gammatorch.checkpoints.dtypes import TILED, in_form
from gammatorch.checkpoints.pieces import SEVERAL, JoinedSource, Part
from gammatorch.checkpoints.safetensors.headers import LENGTH_BYTES, RawHeader, look_through, read_headers
from gammatorch.errors import MalformedCheckpoint

SHARDING_INFO = "DCP_SHARDING_INFO"
"""What torch.distributed.checkpoint says of where in their tensors the parts in a file begin, as JSON."""

_BEGINNING = b'{"__metadata__":'
_DECODER = json.JSONDecoder()

_Placed = tuple[tuple[int, ...], TensorEntry]
"""Where in its tensor a part begins, and the part."""


def read_metadata(source: ByteSource, headers: Sequence[RawHeader]) -> dict[str, str]:
    """The metadata of all files together; of a name that several have, the first file's.

    Read is what stands at the beginning of a header, where safetensors itself puts it.

    Raises:
        UnreadableCheckpoint: A file is not what it was.
    """
    found: dict[str, str] = {}
    long: list[RawHeader] = []
    before = _BEGINNING + b"\0"  # shards mostly say the same; no header begins so
    for header in headers:
        if header.head.startswith(before, LENGTH_BYTES) or not header.head.startswith(_BEGINNING, LENGTH_BYTES):
            continue
        told = _decode(bytes(header.head[LENGTH_BYTES:]))
        if told is None:
            long.append(header)
            continue
        metadata, stop = told
        before = bytes(header.head[LENGTH_BYTES : LENGTH_BYTES + stop])
        found = metadata | found
    for header in look_through(source, long):
        if (told := _decode(bytes(header.block[header.start : header.stop]))) is not None:
            found = told[0] | found
    return found


def add_aliases(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> Mapping[str, TensorEntry]:
    """The entries, with those of tensors that were left out since they are others under a second name.

    ``safetensors.torch.save_model`` writes each tensor once, and in the metadata which name stands for which other.
    """
    pairs = {name: kept for name, kept in metadata.items() if "." in name and "." in kept}
    aliases = {name: entries[kept]._replace(key=name) for name, kept in pairs.items() if _is_alias(name, kept, entries)}
    return {**entries, **aliases} if aliases else entries


def is_part(metadata: Mapping[str, str]) -> bool:
    """Whether a file holds parts of tensors that do not begin where the tensors do."""
    try:
        told: Any = json.loads(metadata.get(SHARDING_INFO, "{}"))
        return any(any(_offsets(of_key)) for of_key in told.values())
    except (ValueError, TypeError, AttributeError, RecursionError):
        return True  # it says that it is one, and not where


def _offsets(of_key: JsonObject) -> Iterable[Any]:
    offsets: Iterable[Any] = of_key.get("saved_offsets", ())
    return offsets


def _is_alias(name: str, kept: str, entries: Mapping[str, TensorEntry]) -> bool:
    return name not in entries and kept in entries


def _decode(header: bytes) -> tuple[dict[str, str], int] | None:
    """The metadata at the beginning of a header, and where they end; None if they go on."""
    text = header.decode("utf-8", "replace")
    try:
        metadata, stop = _DECODER.raw_decode(text, len(_BEGINNING))
    except (ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        return None
    return metadata, len(text[:stop].encode())


def read_dcp_shards(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors that the files of all ranks hold together.

    How many ranks there were stands nowhere: that the parts are all of a tensor shows in its width alone.

    Raises:
        MalformedCheckpoint: A header is broken, or the parts of a tensor leave a gap or overlap.
        UnreadableCheckpoint: The source failed.
    """
    placed: dict[str, list[_Placed]] = defaultdict(list)
    for header in look_through(source, read_headers(source, files, extra)):
        offsets = _saved_offsets(header)
        for key, entry in header.parse().items():
            placed[key].append((offsets.get(key, (0,) * len(entry.shape)), entry))
    parts: list[Part] = []
    table = {
        key: _joined(key, sorted(of_key, key=lambda part: part[0]), parts, source) for key, of_key in placed.items()
    }
    note = (
        f"the rows of each tensor were put together from {len(files)} files of ranks; whether there were more ranks "
        "these do not tell"
    )
    return Contents([table], JoinedSource(source, {SEVERAL: parts}), notes=(note,))


def _joined(key: str, placed: Sequence[_Placed], parts: list[Part], source: ByteSource) -> TensorEntry:
    """The entry of a whole tensor; where its rows are in several files, they are appended to the parts."""
    (_, first), *others = placed
    if not others:
        if any(placed[0][0]):
            raise MalformedCheckpoint(
                f"holds no part of it before row {placed[0][0][0]}: pass the folder with the files of all ranks",
                file=f"{source.name}/{first.file}",
                tensor=key,
            )
        return first
    if all(not any(offsets) and entry.shape == first.shape for offsets, entry in placed):
        return first  # every rank holds all of it
    if any(entry.shape[1:] != first.shape[1:] or any(offsets[1:]) for offsets, entry in placed) or not first.shape:
        return TensorEntry(key, in_form(first.dtype, TILED), first.shape, first.file, first.start, first.stop)
    rows, start = 0, parts[-1].stop if parts else 0
    stop = start
    for offsets, entry in placed:
        if offsets[0] != rows or entry.dtype != first.dtype:
            raise MalformedCheckpoint(
                f"its parts leave a gap or overlap at row {rows}: copy the files of all ranks again",
                file=f"{source.name}/{entry.file}",
                tensor=key,
            )
        parts.append(Part(stop, stop + entry.nbytes, entry.file, entry.start))
        rows, stop = rows + entry.shape[0], stop + entry.nbytes
    return TensorEntry(key, first.dtype, (rows, *first.shape[1:]), SEVERAL, start, stop)


def _saved_offsets(header: RawHeader) -> Mapping[str, tuple[int, ...]]:
    """Where each part begins in its tensor, by key."""
    try:
        described: Any = json.loads(bytes(header.block[header.start : header.stop]))
        told: Any = json.loads(described["__metadata__"][SHARDING_INFO])
        found = {key: tuple(of_key["saved_offsets"]) for key, of_key in told.items()}
        if any(type(offset) is not int or offset < 0 for offsets in found.values() for offset in offsets):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise MalformedCheckpoint(
            f"is named like a rank's part and has no {SHARDING_INFO} in its header that tells where its parts belong: "
            "copy it again",
            file=header.where,
        ) from None
    return found
