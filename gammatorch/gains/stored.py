"""The types that gains are stored in, and what is wrong or worth knowing about stored weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from gammatorch.architectures.base import Selection
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.checkpoints.dtypes import is_known_type, remedy
from gammatorch.errors import NonFiniteGain, UnsupportedFormat

_FLOAT8 = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
"""Types that a whole model may be cast to, and that quantised weights are stored in beside a scale."""

_USUAL = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
STORED_DTYPES = {**_USUAL, **_FLOAT8}
"""Stored types that are read as gains, by safetensors' spelling."""

_NEGATIVE, _NEAR_ZERO, _NEAR_ONE = 0.1, 0.25, 0.5
"""Share of stored weights below zero, and how far their mean may be from 0 or 1, where a convention is suspected."""

_SCALE = re.compile(r"scale|zero|amax|absmax|quant", re.IGNORECASE)
"""What names of tensors hold that say how to turn a quantised tensor beside them into numbers."""


def exact_dtype(stored: Iterable[str]) -> torch.dtype:
    """The narrowest type to compute in that holds every value of the stored ones.

    Args:
        stored: Stored types by safetensors' spelling.

    Example:
        >>> exact_dtype(["F16", "BF16"]), exact_dtype(["F8_E4M3"])
        (torch.float32, torch.bfloat16)
    """
    dtypes = (torch.bfloat16 if name in _FLOAT8 else STORED_DTYPES[name] for name in stored)
    return reduce(torch.promote_types, dtypes)


def check_dtypes(checkpoint: Checkpoint, entries: Sequence[TensorEntry]) -> None:
    """Refuse types and forms that hold no gains, quantised ones among them.

    Eight-bit floats are exact numbers where a whole model was cast to them, and quantised ones where a scale stands
    beside.
    """
    for entry in entries:
        if entry.dtype not in STORED_DTYPES:
            raise UnsupportedFormat(
                f"is stored as {entry.dtype or 'nothing'}{_unread(entry.dtype)}",
                file=checkpoint.where(entry),
                tensor=entry.key,
            )
    for entry, scale in _scaled(checkpoint, [entry for entry in entries if entry.dtype in _FLOAT8]):
        raise UnsupportedFormat(
            f"is stored as {entry.dtype} with {scale} beside it, so it is quantised: {remedy(entry.dtype)}",
            file=checkpoint.where(entry),
            tensor=entry.key,
        )


def _scaled(checkpoint: Checkpoint, entries: Sequence[TensorEntry]) -> Iterator[tuple[TensorEntry, str]]:
    """Tensors beside which a scale stands, in the same module or under their own name and more."""
    if not entries:
        return
    of_module = {entry.key.rpartition(".")[0]: entry for entry in entries}
    own = {entry.key for entry in entries}
    for key in checkpoint.entries:
        module, _, name = key.rpartition(".")
        entry = of_module.get(module) or next((of for of in entries if key.startswith(f"{of.key}.")), None)
        if entry is not None and key not in own and _SCALE.search(name):
            yield entry, key


def _unread(dtype: str) -> str:
    """Why a stored type gives no gains, and what to do."""
    read = ", ".join(_USUAL)
    if is_known_type(dtype.partition(" (")[0]):
        return f", and gains are read as {read} (and F8 without a scale): {remedy(dtype)}"
    return f", a type that this version does not know: upgrade gammatorch, or save the tensor again as one of {read}"


def check_finite(
    weights: Tensor, checkpoint: Checkpoint, entries: Sequence[TensorEntry], first: int = 0
) -> float | None:
    """Refuse NaN and infinity, by file, tensor and channel; the sum of the weights, where one was taken to see it."""
    if weights.dtype is not torch.float16:
        total = float(weights.sum())
        if math.isfinite(total):
            return total
    elif seen_finite(weights):
        return None
    places = weights.isfinite().logical_not().nonzero()
    if not len(places):
        return None  # large ones
    row, channel = places[0].tolist()
    raise NonFiniteGain(
        f"holds {float(weights[row, channel])} at channel {first + channel}: "
        "the checkpoint is damaged, or training diverged",
        file=checkpoint.where(entries[row]),
        tensor=entries[row].key,
    )


def seen_finite(values: Tensor) -> bool:
    """Whether one quick pass shows that no number is NaN or infinite; if not, some may only be large.

    Neither can be summed away. Half precision ends at 65,504, which sums of wide gains reach, so there the least and
    the largest are looked at, which are NaN if any is.

    Args:
        values: Any, shape (…, channel).

    Example:
        >>> seen_finite(torch.full((2, 70_000), 2.0, dtype=torch.float16)), seen_finite(torch.tensor([1, torch.nan]))
        (True, False)
    """
    if values.dtype is torch.float16:
        return bool(torch.stack((values.amin(), values.amax())).isfinite().all())
    return bool(values.sum(dim=-1).isfinite().all())


class Tally(NamedTuple):
    """What stored weights add up to: enough to see which convention of offsets they follow.

    Attributes:
        total: Their sum.
        negative: How many are below zero.
        values: How many they are.
    """

    total: float
    negative: float
    values: int

    @property
    def mean(self) -> float:
        """Mean of the weights."""
        return self.total / self.values

    @property
    def share_negative(self) -> float:
        """Share of them below zero."""
        return self.negative / self.values

    def __str__(self) -> str:
        return f"mean {self.mean:.3g}, {self.share_negative:.1%} below zero"


def weigh(weights: Tensor) -> Tensor:
    """Sum of stored weights, and how many are below zero, on their device, which is not waited for; shape (2,)."""
    precise = torch.float32 if weights.device.type == "mps" else torch.float64
    return torch.stack([weights.sum(dtype=precise), (weights < 0).sum(dtype=precise)])


def tally(weighed: Tensor, values: int) -> Tally:
    """What so many weights add up to, from the sum of what :func:`weigh` gave; the device is waited for once.

    Example:
        >>> weights = torch.tensor([[0.5, -0.5], [1.0, 1.0]])
        >>> print(tally(weigh(weights), weights.numel()))
        mean 0.5, 25.0% below zero
    """
    total, negative = weighed.tolist()
    return Tally(total, negative, values)


def offset_notes(selection: Selection, weights: Tensor, raw: bool, total: float | None = None) -> list[str]:
    """What a reader should know where an offset is taken, not known, or where the weights look like another one's.

    Args:
        selection: What was chosen.
        weights: As stored, shape (layer, hidden).
        raw: Whether the stored weights are what was asked for.
        total: Their sum, where it is known: most often it shows that there is nothing to count.
    """
    if raw or (selection.offset_doubt is None and total is not None and _usual(selection, total / weights.numel())):
        return []
    return tally_notes(selection, tally(weigh(weights), weights.numel()))


def _usual(selection: Selection, mean: float) -> bool:
    """Whether weights of such a mean look like those of no other convention, whatever their signs."""
    away, near = (abs(mean), _NEAR_ZERO) if selection.offset == 0 else (abs(mean - 1), _NEAR_ONE)
    return away > near


def tally_notes(selection: Selection, of: Tally) -> list[str]:
    """The same from what the stored weights add up to."""
    if selection.offset_doubt is not None:
        taken = "0, so γ is the stored weight" if not selection.offset else f"{selection.offset:g}, so γ is that plus w"
        return [
            f"{selection.offset_doubt}: offset taken as {taken} ({of}); "
            "a zero-centred norm (γ = 1 + w) would have a mean near 0"
        ]
    if selection.offset == 0 and looks_zero_centred(of.mean, of.share_negative):
        return [f"suspect: read as γ = w, but the stored weights lie about 0 ({of}), as those of γ = 1 + w do"]
    if selection.offset == 1 and abs(of.mean - 1) <= _NEAR_ONE and not of.negative:
        return [f"suspect: read as γ = 1 + w, but the stored weights lie about 1 ({of}), as those of γ = w do"]
    return []


def looks_zero_centred(mean: float, negative: float) -> bool:
    """Whether stored weights look like those of norms that multiply by 1 + w: about 0, and a tenth of them below it.

    Args:
        mean: Their mean.
        negative: The share of them below zero.

    Example:
        >>> looks_zero_centred(0.02, 0.4), looks_zero_centred(0.02, 0.0)
        (True, False)
    """
    return negative >= _NEGATIVE and abs(mean) <= _NEAR_ZERO
