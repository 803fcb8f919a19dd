"""Gains of one site, streamed shard by shard onto the device."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.architectures.config import model_config
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Advance, Checkpoint, TensorEntry, stored_bytes
from gammatorch.checkpoints.opening import Model, open_checkpoint
from gammatorch.errors import OutOfDeviceMemory
from gammatorch.gains.device import DTYPES, choose_device, choose_dtype, device_errors, free_bytes
from gammatorch.gains.stack import Gains, StoredWeights
from gammatorch.gains.staging import held_tensors, stack_held, stage, stage_together, unpack
from gammatorch.gains.stored import check_dtypes, check_finite, exact_dtype, offset_notes

_WORKING_COPIES = 4
"""Copies of the gains that an analysis holds at most (gains, units, centred units, their factor)."""

_SMALL = 100_000_000
"""Bytes that any device has."""


def read_gains(
    checkpoint: Model,
    site: str = "auto",
    device: str | torch.device = "auto",
    *,
    stack: str | None = None,
    pattern: str | None = None,
    raw: bool = False,
    dtype: str | torch.dtype = "float64",
    advance: Advance | None = None,
) -> Gains:
    """Read the gain γ of every layer at one site, and nothing else of the checkpoint.

    ``γ = offset + weight``: the offset is 1 for zero-centred norms (Gemma), 0 elsewhere. The stored values are cast
    on the device; float64 holds every sum exactly that the stored types can produce, down to weights of 2⁻⁴⁵.

    Args:
        checkpoint: An open checkpoint, or what :func:`~gammatorch.open_checkpoint` takes.
        site: ``"auto"``, ``"input"``, ``"post_attention"``, ``"pre_mlp"``, ``"post_mlp"``, ``"query"``, ``"key"``
            or ``"final"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``; auto leaves a model in memory where it is.
        stack: Name of the stack; the main one if None.
        pattern: Keys to read instead of a site, with ``{layer}`` for the index; tensors of any shape are flattened.
        raw: Give the stored weight, without offset.
        dtype: ``"float64"`` or ``"float32"``.
        advance: Called with the bytes of gains that have arrived since its last call.

    Returns:
        The gains, shape (layer, hidden).

    Raises:
        CheckpointError: The checkpoint cannot be opened or read.
        SelectionError: It has no such site, or its rows do not fit together.
        NonFiniteGain: A gain holds NaN or infinity.
        DeviceError: The device is not there, or too small.
    """
    if not isinstance(checkpoint, Checkpoint):
        with open_checkpoint(checkpoint) as opened:
            return read_gains(opened, site, device, stack=stack, pattern=pattern, raw=raw, dtype=dtype, advance=advance)
    selection = select(checkpoint, site, stack=stack, pattern=pattern)
    return stream_gains(checkpoint, selection, device, raw=raw, dtype=dtype, advance=advance)


@device_errors()
def stream_gains(
    checkpoint: Checkpoint,
    selection: Selection,
    device: str | torch.device = "auto",
    *,
    raw: bool = False,
    dtype: str | torch.dtype = "float64",
    advance: Advance | None = None,
) -> Gains:
    """Read the tensors of a selection: the second half of :func:`read_gains`, whose arguments and errors it shares.

    Args:
        checkpoint: An open checkpoint.
        selection: What :func:`~gammatorch.architectures.select.select` chose from it.
        device: As there.
        raw: As there.
        dtype: As there.
        advance: As there.
    """
    started = time.perf_counter()
    check_dtypes(checkpoint, selection.entries)
    held = held_tensors(checkpoint, selection.entries)
    chosen = choose_device(device) if device != "auto" or held is None else held[0].device
    precision = choose_dtype(dtype, chosen)
    _check_memory(selection.entries, chosen, precision)
    if held is None:
        weights = unpack(stage(checkpoint, selection.entries, chosen, advance), selection.entries, chosen, precision)
    else:
        weights = stack_held(held, chosen, precision)
    total = check_finite(weights, checkpoint, selection.entries)
    notes = offset_notes(selection, weights, raw, total)
    offset = 0.0 if raw else selection.offset
    return Gains(
        gamma=weights.add_(offset) if offset else weights,
        **describe(checkpoint, selection, offset, checkpoint.seconds + time.perf_counter() - started, notes),
    )


def stored_gains(checkpoint: Checkpoint, selection: Selection, *, raw: bool = False) -> Gains:
    """Gains as stored, on the CPU and without the offset, for sending those of many checkpoints to a device at once.

    Args:
        checkpoint: An open checkpoint.
        selection: What was chosen from it.
        raw: Whether the stored weight is what is asked for.

    Returns:
        ``gamma`` in the narrowest type that holds every stored value; ``offset`` is still to be added.

    Raises:
        CheckpointError: As :func:`read_gains`, like all others.
    """
    stored = stream_gains(checkpoint, selection, "cpu", raw=True)
    return replace(
        stored,
        gamma=stored.gamma.to(exact_dtype(entry.dtype for entry in selection.entries)),
        offset=0.0 if raw else selection.offset,
        notes=(*stored.notes, *offset_notes(selection, stored.gamma, raw)),
    )


def stored_sites(
    checkpoint: Checkpoint, selections: Mapping[str, Selection], advance: Advance | None = None
) -> dict[str, StoredWeights]:
    """The weights of several sites as stored, read in one round, on the CPU, with NaN and infinities.

    Args:
        checkpoint: An open checkpoint.
        selections: What was chosen from it, by the site's name.
        advance: Called with the bytes that have arrived since its last call.

    Raises:
        UnsupportedFormat: An entry is stored in a type that holds no gains.
    """
    weights = stored_rows(checkpoint, {site: selection.entries for site, selection in selections.items()}, advance)
    return {site: _as_stored(site, selection, weights[site]) for site, selection in selections.items()}


def stored_rows(
    checkpoint: Checkpoint, entries: Mapping[str, Sequence[TensorEntry]], advance: Advance | None = None
) -> dict[str, Tensor]:
    """Groups of tensors as stored, read in one round, each of shape (row, value), float64, on the CPU.

    Args:
        checkpoint: An open checkpoint.
        entries: Its tensors in each group, all of one width.
        advance: Called with the bytes that have arrived since its last call.

    Raises:
        UnsupportedFormat: An entry is stored in a type that holds no gains.
    """
    for group in entries.values():
        check_dtypes(checkpoint, group)
    device = torch.device("cpu")
    stagings = stage_together(checkpoint, list(entries.values()), device, advance)
    return {
        name: unpack(staging, group, device, torch.float64)
        for (name, group), staging in zip(entries.items(), stagings, strict=True)
    }


def _as_stored(site: str, selection: Selection, weights: Tensor) -> StoredWeights:
    """The weights of a site with what the checkpoint says of them."""
    return StoredWeights(
        site=site,
        layers=selection.layers,
        keys=tuple(entry.key for entry in selection.entries),
        offset=selection.offset,
        weights=weights,
        doubt=selection.offset_doubt,
        dtypes=tuple(entry.dtype for entry in selection.entries),
    )


def describe(
    checkpoint: Checkpoint, selection: Selection, offset: float, seconds: float, notes: Sequence[str]
) -> dict[str, Any]:
    """The attributes of :class:`~gammatorch.gains.stack.Origin`, with the traffic so far."""
    traffic = checkpoint.source.traffic
    return {
        "layers": selection.layers,
        "keys": tuple(entry.key for entry in selection.entries),
        "site": selection.site,
        "site_reason": selection.reason,
        "stack": selection.stack,
        "pattern": selection.pattern,
        "offset": offset,
        "stored_dtype": "+".join(sorted({entry.dtype for entry in selection.entries})),
        "model": checkpoint.model,
        "model_type": model_config(checkpoint).model_type,
        "revision": checkpoint.revision,
        "bytes_read": traffic.bytes_read,
        "bytes_cached": traffic.bytes_cached,
        "checkpoint_bytes": checkpoint.checkpoint_bytes,
        "shards": len(checkpoint.files),
        "requests": traffic.requests,
        "rounds": traffic.rounds,
        "seconds": seconds,
        "notes": (*checkpoint.notes, *selection.notes, *notes),
    }


def bytes_held(entries: Sequence[TensorEntry], dtype: str | torch.dtype = "float64") -> int:
    """Bytes that it takes to hold gains in memory and analyse them there."""
    itemsize = (DTYPES[dtype] if isinstance(dtype, str) else dtype).itemsize
    return stored_bytes(entries) + _WORKING_COPIES * len(entries) * entries[0].width * itemsize


def _check_memory(entries: Sequence[TensorEntry], device: torch.device, dtype: torch.dtype) -> None:
    """Refuse before reading what an analysis could not hold, rather than be killed at the end."""
    needed = bytes_held(entries, dtype)
    if needed < _SMALL:
        return
    free = free_bytes(device)
    if free is not None and needed > free:
        raise OutOfDeviceMemory(
            f"{len(entries)} rows of {entries[0].width} values need {needed / 1e9:.1f} GB on {device}, "
            f"{free / 1e9:.1f} GB are free: read them in column blocks (gammatorch.scan_gains, --memory 2GB)"
        )
