"""Bytes of the gains, shard by shard, into one staging buffer, and from there onto the device at once."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.architectures.config import read_config
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import Advance, Checkpoint, Read, TensorEntry
from gammatorch.checkpoints.opening import open_checkpoint
from gammatorch.errors import DeviceError, NonFiniteGain, UnsupportedFormat
from gammatorch.gains.device import DTYPES, choose_device, choose_dtype, free_bytes
from gammatorch.gains.stack import Gains

STORED_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Stored types that are read as gains, by safetensors' spelling."""

_WORKING_COPIES = 4
"""Copies of the gains that an analysis holds at most (gains, units, centred units, their factor)."""

_SMALL = 100_000_000
"""Bytes that any device has."""


def read_gains(
    checkpoint: Checkpoint | str | os.PathLike[str],
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
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
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
    chosen = choose_device(device)
    precision = choose_dtype(dtype, chosen)
    check_dtypes(checkpoint, selection.entries)
    _check_memory(selection.entries, chosen, precision)
    staging = stage(checkpoint, selection.entries, chosen, advance)
    weights = unpack(staging, selection.entries, chosen, precision)
    check_finite(weights, checkpoint, selection.entries)
    notes = offset_notes(checkpoint, selection, weights, raw)
    offset = 0.0 if raw else selection.offset
    return Gains(
        gamma=weights.add_(offset) if offset else weights,
        **describe(checkpoint, selection, offset, checkpoint.seconds + time.perf_counter() - started, notes),
    )


def stored_weights(checkpoint: Checkpoint, selection: Selection, advance: Advance | None = None) -> Tensor:
    """The stored weights of a selection on the CPU, without offset and with NaN and infinities: what an audit reads.

    Args:
        checkpoint: An open checkpoint.
        selection: What was chosen from it.
        advance: Called with the bytes that have arrived since its last call.

    Raises:
        UnsupportedFormat: An entry is stored in a type that holds no gains.
    """
    check_dtypes(checkpoint, selection.entries)
    device = torch.device("cpu")
    return unpack(stage(checkpoint, selection.entries, device, advance), selection.entries, device, torch.float64)


def describe(
    checkpoint: Checkpoint, selection: Selection, offset: float, seconds: float, notes: Sequence[str]
) -> dict[str, Any]:
    """The attributes of :class:`~gammatorch.gains.stack.Origin`, with the traffic so far.

    Args:
        checkpoint: An open checkpoint.
        selection: What was read from it.
        offset: What was added to the stored weights.
        seconds: Time spent on opening and reading it.
        notes: What reading has shown.
    """
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
        "model_type": read_config(checkpoint.config).model_type,
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


def stage(
    checkpoint: Checkpoint, entries: Sequence[TensorEntry], device: torch.device, advance: Advance | None = None
) -> Tensor:
    """The stored bytes of all entries, read into one buffer on the host (pinned for CUDA).

    The rows of the buffer stand in layer order, whatever shard they come from; where the layers are stored in
    several types, the rows of each type stand together.

    Args:
        checkpoint: An open checkpoint.
        entries: Tensors of it, in layer order.
        device: Where they go afterwards.
        advance: Called with the bytes that have arrived since its last call.

    Returns:
        The buffer, shape (byte), for :func:`unpack`.
    """
    staging = make_staging(sum(entry.nbytes for entry in entries), device)
    fill(staging, checkpoint, entries, advance)
    return staging


def make_staging(count: int, device: torch.device) -> Tensor:
    """A buffer of so many bytes on the host, pinned for CUDA."""
    return torch.empty(count, dtype=torch.uint8, device="cpu", pin_memory=device.type == "cuda")


def fill(staging: Tensor, checkpoint: Checkpoint, entries: Sequence[TensorEntry], advance: Advance | None) -> None:
    """Read the stored bytes of all entries into a buffer that holds just them; see :func:`stage`."""
    buffer = memoryview(staging.numpy())  # type: ignore[arg-type]  # an ndarray is a buffer since Python 3.12's typing
    reads, position = [], 0
    for row in _order(entries):
        _, _, _, file, start, stop = entries[row]
        end = position + stop - start
        reads.append(Read(file, start, buffer[position:end]))
        position = end
    checkpoint.source.read(sorted(reads, key=itemgetter(0, 1)), advance)  # file, start


def unpack(staging: Tensor, entries: Sequence[TensorEntry], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The stored values of a staged buffer, shape (layer, hidden), in layer order, cast on the device.

    Args:
        staging: What :func:`stage` read.
        entries: The tensors it was read for.
        device: Where to.
        dtype: To what.
    """
    on_device = staging.to(device, non_blocking=True)
    if len(kinds := {entry.dtype for entry in entries}) == 1:
        values = on_device.view(STORED_DTYPES[kinds.pop()])
        return rearrange(values, "(layer hidden) -> layer hidden", layer=len(entries)).to(dtype)
    order = _order(entries)
    blocks, position = [], 0
    for stored, rows in groupby((entries[row] for row in order), key=lambda entry: entry.dtype):
        block_bytes = sum(entry.nbytes for entry in rows)
        values = on_device[position : position + block_bytes].view(STORED_DTYPES[stored])
        blocks.append(rearrange(values, "(layer hidden) -> layer hidden", hidden=entries[0].width).to(dtype))
        position += block_bytes
    restored = torch.tensor(order, device="cpu").argsort()
    return torch.cat(blocks)[restored.to(device)]


def _order(entries: Sequence[TensorEntry]) -> list[int]:
    """Rows by stored type, widest first, so that each type's values are aligned."""
    if len({entry.dtype for entry in entries}) == 1:
        return list(range(len(entries)))
    return sorted(range(len(entries)), key=lambda row: (-_itemsize(entries[row]), entries[row].dtype, row))


def _itemsize(entry: TensorEntry) -> int:
    return STORED_DTYPES[entry.dtype].itemsize


def check_dtypes(checkpoint: Checkpoint, entries: Sequence[TensorEntry]) -> None:
    """Refuse types that hold no gains, quantised ones among them.

    Raises:
        UnsupportedFormat: An entry is stored in such a type.
    """
    for entry in entries:
        if entry.dtype not in STORED_DTYPES:
            raise UnsupportedFormat(
                f"is stored as {entry.dtype}, and gains are read as {', '.join(STORED_DTYPES)}: "
                "quantised weights have no gain of their own",
                file=checkpoint.where(entry),
                tensor=entry.key,
            )


def bytes_held(entries: Sequence[TensorEntry], dtype: str | torch.dtype = "float64") -> int:
    """Bytes that it takes to hold gains in memory and analyse them there.

    Args:
        entries: Their tensors.
        dtype: ``"float64"`` or ``"float32"``.
    """
    itemsize = (DTYPES[dtype] if isinstance(dtype, str) else dtype).itemsize
    return sum(entry.nbytes for entry in entries) + _WORKING_COPIES * len(entries) * entries[0].width * itemsize


def _check_memory(entries: Sequence[TensorEntry], device: torch.device, dtype: torch.dtype) -> None:
    """Refuse before reading what an analysis could not hold, rather than be killed at the end."""
    needed = bytes_held(entries, dtype)
    if needed < _SMALL:
        return
    free = free_bytes(device)
    if free is not None and needed > free:
        raise DeviceError(
            f"{len(entries)} rows of {entries[0].width} values need {needed / 1e9:.1f} GB on {device}, "
            f"{free / 1e9:.1f} GB are free: read them in column blocks (gammatorch.scan_gains, --memory 2GB)"
        )


def check_finite(weights: Tensor, checkpoint: Checkpoint, entries: Sequence[TensorEntry], first: int = 0) -> None:
    """Refuse NaN and infinity, by file, tensor and channel.

    Args:
        weights: Stored values, shape (layer, channel).
        checkpoint: Where they came from.
        entries: The tensors of the rows.
        first: Channel of the first column.

    Raises:
        NonFiniteGain: There is one.
    """
    if math.isfinite(weights.sum().item()):  # neither NaN nor infinity can be summed away
        return
    places = weights.isfinite().logical_not().nonzero()
    if not len(places):
        return  # finite numbers so large that only their sum is not
    row, channel = places[0].tolist()
    raise NonFiniteGain(
        f"holds {float(weights[row, channel])} at channel {first + channel}: "
        "the checkpoint is damaged, or training diverged",
        file=checkpoint.where(entries[row]),
        tensor=entries[row].key,
    )


def offset_notes(checkpoint: Checkpoint, selection: Selection, weights: Tensor, raw: bool) -> list[str]:
    """What a reader should know where the offset of a model type is not known.

    Args:
        checkpoint: Where the weights are from.
        selection: What was chosen from it.
        weights: As stored, shape (layer, hidden).
        raw: Whether the stored weights are what was asked for.
    """
    if raw or selection.offset_known:
        return []
    return [offset_note(checkpoint, weights.mean().item(), (weights < 0).to(weights.dtype).mean().item())]


def offset_note(checkpoint: Checkpoint, mean: float, negative: float) -> str:
    """Evidence on an offset that is not known: mean of the stored weights, and the share of them below zero."""
    model_type = read_config(checkpoint.config).model_type
    who = f"model type {model_type!r} is not among the known ones" if model_type else "no config.json"
    return (
        f"{who}: offset taken as 0, so γ is the stored weight (mean {mean:.3g}, {negative:.1%} below zero); "
        "a zero-centred norm (γ = 1 + w) would have a mean near 0"
    )
