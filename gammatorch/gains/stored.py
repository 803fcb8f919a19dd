"""The types that gains are stored in, and what is wrong or worth knowing about stored weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.architectures.config import read_config
from gammatorch.architectures.match import unknown_type
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.checkpoints.pytorch.forms import remedy
from gammatorch.errors import NonFiniteGain, UnsupportedFormat

STORED_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Stored types that are read as gains, by safetensors' spelling."""


def check_dtypes(checkpoint: Checkpoint, entries: Sequence[TensorEntry]) -> None:
    """Refuse types and forms that hold no gains, quantised ones among them.

    Raises:
        UnsupportedFormat: An entry is stored in such a type.
    """
    for entry in entries:
        if entry.dtype not in STORED_DTYPES:
            raise UnsupportedFormat(
                f"is stored as {entry.dtype}, and gains are read as {', '.join(STORED_DTYPES)}: {remedy(entry.dtype)}",
                file=checkpoint.where(entry),
                tensor=entry.key,
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
    negative = (weights < 0).to(weights.dtype).mean().item()
    return [offset_note(checkpoint, selection, weights.mean().item(), negative)]


def offset_note(checkpoint: Checkpoint, selection: Selection, mean: float, negative: float) -> str:
    """Evidence on an offset that is not known.

    Args:
        checkpoint: Where the weights are from.
        selection: What was chosen from it.
        mean: Mean of the stored weights.
        negative: The share of them below zero.
    """
    unknown = unknown_type(read_config(checkpoint.config), selection.stack)
    if unknown:
        who = f"model type {unknown!r} is not among the known ones"
    else:
        who = "no config.json" if checkpoint.config is None else "config.json names no model type"
    taken = "0, so γ is the stored weight" if not selection.offset else f"{selection.offset:g}, so γ is that plus w"
    return (
        f"{who}: offset taken as {taken} (mean {mean:.3g}, {negative:.1%} below zero); "
        "a zero-centred norm (γ = 1 + w) would have a mean near 0"
    )
