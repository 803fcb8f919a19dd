"""Checkpoints of any size made on the spot: real names, real headers, sparse files in which only the norms are stored.

They serve the demo, the tests and the benchmarks. A 65 GB layout takes 2 MB of disk.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gammatorch.bench.layouts import LAYOUTS
from gammatorch.checkpoints.base import JsonObject
from gammatorch.errors import InvalidArgument, OutputError

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}
GAIN_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class SyntheticCheckpoint:
    """A checkpoint that was made.

    Attributes:
        folder: Where it is.
        shards: Names of its weight files.
        checkpoint_bytes: Their apparent size, in bytes.
        stored: The norm weights as stored, float64, by key.
    """

    folder: Path
    shards: tuple[str, ...]
    checkpoint_bytes: int
    stored: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)


def write_checkpoint(
    folder: str | os.PathLike[str],
    family: str = "qwen3",
    *,
    layers: int = 64,
    hidden: int = 5120,
    dtype: str = "BF16",
    shards: int = 17,
    seed: int = 0,
) -> SyntheticCheckpoint:
    """Write a checkpoint in the layout of a family, with drawn norm weights and empty matrices.

    The weights of a norm are drawn around a direction that all layers share, with a part that drifts from layer to
    layer and a part of each layer's own; their size grows with depth. The defaults are Qwen3-32B's: 707 tensors,
    65.5 GB, 17 shards.

    Args:
        folder: An existing folder.
        family: A name from :data:`~gammatorch.bench.layouts.LAYOUTS`.
        layers: Number of blocks.
        hidden: Width of the residual stream.
        dtype: Stored type, ``"BF16"``, ``"F16"`` or ``"F32"``.
        shards: Number of weight files.
        seed: Seed of the draws; the same seed gives the same bytes.

    Returns:
        What was written.

    Raises:
        InvalidArgument: There is no such family or type, or more shards than tensors.
        OutputError: The folder cannot be written to.
    """
    if family not in LAYOUTS or dtype not in GAIN_DTYPES:
        raise InvalidArgument(f"families are {', '.join(LAYOUTS)}; types are {', '.join(GAIN_DTYPES)}")
    config, shapes = LAYOUTS[family](layers, hidden)
    tensors = dict(shapes)
    dtypes = _stored_types(tensors, dtype)
    rng = np.random.default_rng(seed)
    drawn = {key: shape for key, shape in tensors.items() if len(shape) == 1 and dtypes[key] == dtype}
    encoded = {key: _encode(weight, dtype) for key, weight in _draw_norms(drawn, layers, rng).items()}
    described = {key: (dtypes[key], shape) for key, shape in tensors.items()}
    names, nbytes = write_sparse(folder, {**config, "torch_dtype": dtype.lower()}, described, encoded, shards=shards)
    return SyntheticCheckpoint(Path(folder), names, nbytes, {key: _decode(encoded[key], dtype) for key in encoded})


def write_sparse(
    folder: str | os.PathLike[str],
    config: JsonObject,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    encoded: Mapping[str, bytes],
    *,
    shards: int = 1,
) -> tuple[tuple[str, ...], int]:
    """Write config.json and safetensors files whose headers list every tensor and that hold the bytes of a few.

    All other tensors are holes in the file: they read as zeros and take no room on the disk.

    Args:
        folder: An existing folder.
        config: What config.json says.
        tensors: Stored type and shape of every tensor, by key.
        encoded: The bytes of those that are stored, by key.
        shards: Number of weight files.

    Returns:
        Names of the weight files, and their apparent size in bytes, all together.

    Raises:
        InvalidArgument: There are fewer tensors than shards.
        OutputError: The folder cannot be written to.
    """
    if not 1 <= shards <= len(tensors):
        raise InvalidArgument(f"{len(tensors)} tensors cannot be spread over {shards} shards")
    sizes = {key: math.prod(shape) * ITEM_BYTES[dtype] for key, (dtype, shape) in tensors.items()}
    parts = _spread(sizes, shards)
    names = (
        ["model.safetensors"]
        if shards == 1
        else [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
    )
    path = Path(folder)
    try:
        written = [
            _write_shard(path / name, [(key, *tensors[key], sizes[key]) for key in sorted(part)], encoded)
            for name, part in zip(names, parts, strict=True)
        ]
        if shards > 1:
            index = {
                "metadata": {"total_size": sum(sizes.values())},
                "weight_map": {key: name for name, part in zip(names, parts, strict=True) for key in part},
            }
            (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        (path / "config.json").write_text(json.dumps(dict(config), indent=2))
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", file=str(folder)) from error
    return tuple(names), sum(written)


def _draw_norms(
    shapes: Mapping[str, tuple[int, ...]], layers: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of every norm: the same name in successive layers shares a direction and drifts."""
    shared: dict[str, npt.NDArray[np.float32]] = {}
    drift: dict[str, npt.NDArray[np.float32]] = {}
    weights = {}
    for key, (width,) in shapes.items():
        parts = key.split(".")
        layer = next((int(part) for part in parts if part.isdigit()), layers)
        kind = ".".join(part for part in parts if not part.isdigit())
        if kind not in shared:
            shared[kind] = rng.standard_normal(width, dtype=np.float32)
            drift[kind] = np.zeros(width, dtype=np.float32)
        drift[kind] += rng.standard_normal(width, dtype=np.float32) / np.float32(layers**0.5)
        own = rng.standard_normal(width, dtype=np.float32)
        exponent = 0.30 * shared[kind] + 0.20 * drift[kind] + 0.08 * own
        weights[key] = np.float32(0.5 + 2.0 * layer / max(layers, 1)) * np.exp(exponent)
    return weights


def _stored_types(tensors: Mapping[str, tuple[int, ...]], dtype: str) -> dict[str, str]:
    """Stored type of each tensor: matrices that have a scale are FP8, scales and router corrections F32."""
    types = {}
    for key in tensors:
        if key.endswith(("_scale_inv", "e_score_correction_bias")):
            types[key] = "F32"
        else:
            types[key] = "F8_E4M3" if f"{key}_scale_inv" in tensors else dtype
    return types


def _spread(sizes: Mapping[str, int], shards: int) -> list[list[str]]:
    """Keys in order, in as many parts of about equal bytes, none empty."""
    total, seen = sum(sizes.values()), 0
    parts: list[list[str]] = [[]]
    for position, (key, nbytes) in enumerate(sizes.items()):
        left = len(sizes) - position
        full = seen >= total * len(parts) / shards or left == shards - len(parts)
        if parts[-1] and full and len(parts) < shards:
            parts.append([])
        parts[-1].append(key)
        seen += nbytes
    return parts


def _write_shard(
    path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...], int]], encoded: Mapping[str, bytes]
) -> int:
    """One sparse safetensors file of tensors (key, type, shape, bytes); its apparent size in bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for key, dtype, shape, nbytes in tensors:
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": (position, position + nbytes)}
        position += nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    data_start = 8 + len(raw)
    with open(path, "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(data_start + position)
        for key in header.keys() & encoded.keys():
            file.seek(data_start + header[key]["data_offsets"][0])
            file.write(encoded[key])
    return data_start + position


def _encode(values: npt.NDArray[np.float32], dtype: str) -> bytes:
    if dtype != "BF16":
        return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    bits = values.astype("<f4").view("<u4")
    rounded: npt.NDArray[np.uint32] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
    return rounded.astype("<u2").tobytes()


def _decode(stored: bytes, dtype: str) -> npt.NDArray[np.float64]:
    if dtype != "BF16":
        return np.frombuffer(stored, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)
    return (np.frombuffer(stored, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
