"""Gains from whatever a user has: gains, a name or path, an open checkpoint, a model in memory, an array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Advance, Checkpoint
from gammatorch.checkpoints.held import is_model
from gammatorch.checkpoints.opening import open_checkpoint
from gammatorch.errors import InvalidArgument
from gammatorch.gains.memory import DEFAULT_MEMORY, parse_bytes
from gammatorch.gains.stack import Gains
from gammatorch.gains.stored import STORED_DTYPES
from gammatorch.gains.stream import bytes_held, stored_gains, stream_gains
from gammatorch.gains.wide import WideGains

ARRAY = "array"
"""The site of gains that were given as numbers."""


def open_gains(
    chosen: Sequence[tuple[Checkpoint, Selection]],
    device: str | torch.device = "auto",
    *,
    raw: bool = False,
    dtype: str | torch.dtype = "float64",
    memory: str | int = DEFAULT_MEMORY,
    advance: Advance | None = None,
    widest: int | None = None,
) -> list[Gains] | list[WideGains]:
    """The gains of selections, whole or to be read in column blocks: the one place where that is decided.

    Whole where all of them fit in the memory. Or, given a width, up to that one, and then as stored on the CPU
    (:func:`~gammatorch.gains.stream.stored_gains`).

    Args:
        chosen: Open checkpoints, and what was selected from each.
        device: As for :func:`~gammatorch.read_gains`.
        raw: As there.
        dtype: As there.
        memory: Bytes that all of them may take together, or ``"500MB"``.
        advance: As there.
        widest: Width up to which gains are read whole, whatever the memory; None to go by the memory.

    Raises:
        CheckpointError: As :func:`~gammatorch.read_gains` and :func:`~gammatorch.scan_gains`, like all others.
    """
    limit = parse_bytes(memory)
    if widest is not None and all(selection.entries[0].width <= widest for _, selection in chosen):
        return [stored_gains(*one, raw=raw) for one in chosen]
    if widest is None and sum(bytes_held(selection.entries, dtype) for _, selection in chosen) <= limit:
        return [stream_gains(*one, device, raw=raw, dtype=dtype, advance=advance) for one in chosen]
    wide = {"raw": raw, "dtype": dtype, "memory": limit, "advance": advance, "among": len(chosen)}
    return [WideGains(*one, device, **wide) for one in chosen]  # type: ignore[arg-type]


def as_gains(value: Any) -> Gains | WideGains | Tensor:
    """Gains to analyse: those of a checkpoint's site ``auto``, or an array as a tensor.

    Args:
        value: Gains, a tensor or NumPy array of shape (layer, hidden), or what
            :func:`~gammatorch.open_checkpoint` takes.

    Raises:
        InvalidArgument: It is nothing of these.
        CheckpointError: The checkpoint cannot be opened or read.
        SelectionError: Its rows do not fit together.
    """
    if isinstance(value, Gains | WideGains | Tensor):
        return value
    if isinstance(value, str | os.PathLike | Checkpoint) or is_model(value):
        checkpoint = open_checkpoint(value)
        gains = open_gains([(checkpoint, select(checkpoint))])[0]
        if isinstance(gains, Gains) and not isinstance(value, Checkpoint):
            checkpoint.close()  # wide ones are still to be read
        return gains
    if hasattr(value, "__array__"):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"gains are numbers, and an array of {getattr(value, 'dtype', '?')} is none: {error}"
            ) from None
    raise InvalidArgument(
        "gains are a tensor or array, what read_gains returned, a checkpoint's name or path, an open checkpoint, a "
        f"module or a state dict, not {type(value).__name__}"
    )


def as_rows(value: Any, number: int) -> Gains | WideGains:
    """Gains to compare, an array as gains of no checkpoint.

    Args:
        value: As for :func:`as_gains`.
        number: Its number among those that are compared, from 1.

    Raises:
        InvalidArgument: It is no matrix.
        CheckpointError: As there.
    """
    gains = as_gains(value)
    if not isinstance(gains, Tensor):
        return gains
    names = {dtype: name for name, dtype in STORED_DTYPES.items()}
    if gains.ndim != 2 or gains.dtype not in names:
        raise InvalidArgument(f"gains have shape (layer, hidden), in floats, not {tuple(gains.shape)} in {gains.dtype}")
    nbytes = gains.numel() * gains.element_size()
    return Gains(
        gamma=gains.detach().double(),
        layers=tuple(range(len(gains))),
        keys=(),
        site=ARRAY,
        site_reason="numbers that were given",
        stack=None,
        pattern="",
        offset=0.0,
        stored_dtype=names[gains.dtype],
        model=f"array {number}",
        model_type=None,
        revision=None,
        bytes_read=0,
        bytes_cached=0,
        checkpoint_bytes=nbytes,
        shards=0,
        requests=0,
        rounds=0,
        seconds=0.0,
    )
