"""Whether gains are equal but for the rounding of the types they are stored in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.gains.stored import STORED_DTYPES

_UNKNOWN = "F64"
"""What is taken for rows whose stored type is not known: nothing is excused by rounding."""

_SLACK = 1.02
"""Roundings one after the other, to float16 and then to bfloat16 say, may go a little beyond half a step."""

_THROUGH = ("BF16", "F16")
"""Types that a checkpoint may have been cast to and back from."""


@dataclass(frozen=True, eq=False)
class StoredRow:
    """One layer's gain and how it is stored.

    Attributes:
        gamma: Effective gain γ, shape (hidden), float64.
        weight: Stored weight w, same shape.
        dtype: Stored type in safetensors' spelling.
    """

    gamma: Tensor
    weight: Tensor
    dtype: str = _UNKNOWN

    @property
    def reach(self) -> Tensor:
        """How far rounding to the stored type may have moved each gain: half a step of w."""
        told = torch.finfo(STORED_DTYPES[self.dtype])
        return self.weight.abs().clamp(min=told.smallest_normal) * (told.eps / 2 * _SLACK)


def coarser(one: StoredRow, other: StoredRow) -> str:
    """The type of the larger step among two.

    Args:
        one: A layer.
        other: Another.
    """
    return max(one.dtype, other.dtype, key=lambda name: torch.finfo(STORED_DTYPES[name]).eps)


def rounded_to(one: StoredRow, other: StoredRow) -> str | None:
    """The type whose rounding accounts for all differences between two layers, None if none does.

    Layers of the same type and offset are equal, or one of them has been cast to a narrower type and back. Else each
    gain may differ by half a step of either type at its stored weight.

    Args:
        one: A layer.
        other: The same of a reference.

    Example:
        >>> exact = torch.tensor([1.001, 0.507]).double()
        >>> cast = exact.bfloat16().double()
        >>> rounded_to(StoredRow(cast, cast, "BF16"), StoredRow(exact, exact, "F32"))
        'BF16'
    """
    is_same_form = one.dtype == other.dtype and torch.equal(one.gamma - one.weight, other.gamma - other.weight)
    if not is_same_form:
        near = (one.gamma - other.gamma).abs() <= one.reach + other.reach
        return coarser(one, other) if bool(near.all()) else None
    for name in _THROUGH:
        cast = STORED_DTYPES[name]
        if name != one.dtype and any(
            torch.equal(fine.to(cast).to(rough), rough)
            for fine, rough in ((one.weight, other.weight), (other.weight, one.weight))
        ):
            return name
    return None


def scaled_by(one: StoredRow, other: StoredRow, factor: float) -> bool:
    """Whether a layer is a multiple of another but for rounding.

    Args:
        one: A layer.
        other: The same of a reference.
        factor: What the reference is multiplied by.
    """
    reach = one.reach + abs(factor) * other.reach
    return bool(((one.gamma - factor * other.gamma).abs() <= 1.5 * reach).all())
