"""Safetensors files of the ranks of a distributed model: each holds some rows of every tensor, under its full name.

torch.distributed.checkpoint writes them before it consolidates them (``HuggingFaceStorageWriter``); where in its tensor
each part begins stands in the header's ``__metadata__``. Format: ``torch/distributed/checkpoint/_hf_utils.py``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gammatorch.checkpoints.base import ByteSource, Read, TensorEntry
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.joined import SEVERAL, JoinedSource, Part
from gammatorch.checkpoints.pytorch.forms import TILED, in_form
from gammatorch.checkpoints.safetensors.headers import RawHeader, look_through, read_headers
from gammatorch.checkpoints.safetensors.metadata import SHARDING_INFO
from gammatorch.errors import MalformedCheckpoint

_Placed = tuple[tuple[int, ...], TensorEntry]
"""Where in its tensor a part begins, and the part."""


def read_dcp_shards(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors that the files of all ranks hold together.

    How many ranks there were stands nowhere: that the parts are all of a tensor shows in its width alone.

    Args:
        source: Where the files are.
        files: The files, in the order of their ranks.
        extra: Other reads to make in the first round.

    Raises:
        MalformedCheckpoint: A header is broken, or the parts of a tensor leave a gap or overlap.
        UnreadableCheckpoint: The source failed.
    """
    placed: dict[str, list[_Placed]] = defaultdict(list)
    for header in look_through(source, read_headers(source, files, extra)):
        offsets = _offsets(header)
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


def _offsets(header: RawHeader) -> Mapping[str, tuple[int, ...]]:
    """Where each part begins in its tensor, by key.

    Raises:
        MalformedCheckpoint: The header does not tell.
    """
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
