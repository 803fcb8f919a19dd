"""What safetensors files say of themselves, in their headers' ``__metadata__``: who wrote them, what else they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gammatorch.checkpoints.base import ByteSource, TensorEntry
from gammatorch.checkpoints.safetensors.headers import RawHeader, look_through
from gammatorch.checkpoints.safetensors.table import LENGTH_BYTES

SHARDING_INFO = "DCP_SHARDING_INFO"
"""What torch.distributed.checkpoint says of where in their tensors the parts in a file begin, as JSON."""

_BEGINNING = b'{"__metadata__":'
_DECODER = json.JSONDecoder()


def read_metadata(source: ByteSource, headers: Sequence[RawHeader]) -> dict[str, str]:
    """The metadata of all files together; of a name that several have, the first file's.

    Read is what stands at the beginning of a header, where safetensors itself puts it.

    Args:
        source: What the headers were read from.
        headers: The headers.

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

    Args:
        entries: Entries by key.
        metadata: What :func:`read_metadata` gave.
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


def _offsets(of_key: Mapping[str, Any]) -> Iterable[Any]:
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
