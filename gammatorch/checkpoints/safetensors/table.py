"""The safetensors format: eight bytes of header length, a JSON header, then the tensors without gaps.

Format: https://huggingface.co/docs/safetensors (the rules checked here are those of its Rust parser).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from operator import itemgetter
from typing import Any

from gammatorch.checkpoints.base import TensorEntry
from gammatorch.errors import MalformedCheckpoint

HEADER_CAP = 100_000_000
"""Longest header the format allows, in bytes."""

LENGTH_BYTES = 8

DTYPE_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Width in bits of each stored type."""


def parse_header(header: bytes, file: str, file_bytes: int, where: str) -> dict[str, TensorEntry]:
    """The entries that a header describes, checked against each other and against the file.

    Args:
        header: The JSON header, without the eight bytes of its length.
        file: Name of the file, for the entries.
        file_bytes: Size of the file in bytes.
        where: Name of the file, for messages.

    Returns:
        Entries by key, with byte positions counted from the start of the file.

    Raises:
        MalformedCheckpoint: It is not such a header, or it does not fit the file.

    Example:
        >>> header = b'{"norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}'
        >>> parse_header(header, "model.safetensors", 8 + len(header) + 8, "model.safetensors")["norm.weight"].start
        80
    """
    try:
        described = _load_object(header)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint(f"header is not valid JSON ({error}): download it again", file=where) from None
    metadata = described.pop("__metadata__", None)
    if metadata is not None and not _is_texts(metadata):
        raise MalformedCheckpoint("__metadata__ in its header is not an object of texts: write it again", file=where)
    data_start = LENGTH_BYTES + len(header)
    entries = {}
    for key, tensor in described.items():
        try:
            entries[key] = read_entry(key, tensor, file, data_start)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise MalformedCheckpoint(
                f"header entry is broken ({reason}): download the file again", file=where, tensor=key
            ) from None
    _check_layout(entries, data_start, file_bytes, where)
    return entries


def read_entry(key: str, tensor: Any, file: str, data_start: int) -> TensorEntry:
    """One tensor as its header describes it, once its fields agree with each other.

    Args:
        key: Name of the tensor.
        tensor: What the header says of it.
        file: Name of the file.
        data_start: Where in the file the tensors begin.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another type.
        ValueError: The fields contradict each other, or there are others.
    """
    dtype, shape, (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if len(tensor) > 3:  # an object in there could be taken for a tensor of its own, so nothing may be in there
        raise ValueError("dtype, shape and data_offsets are all that an entry holds")
    _check_types(dtype, shape, start, stop)
    check_extent(dtype, shape, start, stop)
    return TensorEntry(key, dtype, tuple(shape), file, data_start + start, data_start + stop)


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs, for a decoder's ``object_pairs_hook``.

    Raises:
        ValueError: A name is there twice.
    """
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return unique


def _is_texts(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _load_object(raw: bytes) -> dict[str, Any]:
    """A JSON object without repeated names.

    The hook that sees repetitions costs a call per object. Every name is followed by a colon, so no more colons in
    the bytes than names in what was loaded, three to a tensor, prove that nothing was said twice.
    """
    text = raw.decode("utf-8")  # strict: json would also take UTF-16 and a byte order mark
    if not text.startswith("{"):
        raise ValueError("it does not start with {")
    loaded = json.loads(text, parse_constant=_refuse_constant)
    metadata = loaded.get("__metadata__")
    names = len(loaded) + 3 * (len(loaded) - ("__metadata__" in loaded))
    if raw.count(b":") != names + (len(metadata) if isinstance(metadata, dict) else 0):
        loaded = json.loads(text, object_pairs_hook=unique_object, parse_constant=_refuse_constant)
    return loaded  # type: ignore[no-any-return]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def stored_bits(dtype: str, shape: Sequence[int]) -> int | None:
    """Bits that a tensor takes; None where the width of its type is not known.

    Example:
        >>> stored_bits("BF16", [5120])
        81920
    """
    bits = DTYPE_BITS.get(dtype)
    return None if bits is None else bits * prod(shape)


def check_extent(dtype: str, shape: Sequence[int], start: int, stop: int) -> None:
    """Hold the offsets against the shape: shape × item size = length, where the item size is known.

    Raises:
        ValueError: They contradict each other.
    """
    if not 0 <= start <= stop:
        raise ValueError("data_offsets must be two growing whole numbers")
    if stored_bits(dtype, shape) not in (8 * (stop - start), None):
        raise ValueError(f"{dtype} {list(shape)} does not take {stop - start} bytes")


def _check_types(dtype: object, shape: object, start: object, stop: object) -> None:
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError("dtype must be text and shape a list")
    if type(start) is not int or type(stop) is not int:
        raise ValueError("data_offsets must be two growing whole numbers")
    for extent in shape:
        if type(extent) is not int or extent < 0:
            raise ValueError("shape must hold whole numbers")


def _check_layout(entries: dict[str, TensorEntry], data_start: int, file_bytes: int, where: str) -> None:
    """The tensors fill the rest of the file, without gap or overlap."""
    position = data_start
    for entry in sorted(entries.values(), key=itemgetter(4, 5)):  # start, stop
        if entry.start != position:
            raise MalformedCheckpoint(
                f"starts at byte {entry.start}, not at {position} where the tensor before it ends: "
                "the header is broken, download the file again",
                file=where,
                tensor=entry.key,
            )
        position = entry.stop
    if position != file_bytes:
        what = "is cut short" if position > file_bytes else "has bytes that no tensor owns"
        raise MalformedCheckpoint(
            f"{what} (header describes {position} bytes, file has {file_bytes}): download it again", file=where
        )
