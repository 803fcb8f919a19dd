"""Conversions that have added the 1 of zero-centred norms to the stored weights, by what they leave in the files.

GGUF says so by its type; files for MLX keep the model's type, and tell by their layout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gammatorch.checkpoints.base import TensorEntry

MLX = "mlx"
"""What files for MLX say of their format."""

_ADDED = "the conversion to MLX has added 1 to w"

Matching = Callable[[str], Iterable[TensorEntry]]
"""Gives the tensors whose keys hold a text."""


class Conversion(NamedTuple):
    """What a conversion has done to a checkpoint's norms.

    Attributes:
        added: Whether it has added the 1 of zero-centred norms.
        told_by: How that shows, or why it does not, in words; None where no conversion was at work.
    """

    added: bool = False
    told_by: str | None = None


NONE = Conversion()


@dataclass(frozen=True)
class Tell:
    """How files of a type tell that the 1 was added when they were converted.

    Attributes:
        source: Whose code does so, and when.
        convolutions: Whether its convolutions tell, by the order of their axes: (channel, kernel, 1) for MLX.
        experts: Whether its experts tell, which MLX has in one tensor under another name.
    """

    source: str
    convolutions: bool = False
    experts: bool = False


_QWEN = Tell("mlx-lm qwen3_next.py and qwen3_5.py, mlx-vlm, mlx-swift-lm: sanitize adds 1", True, True)
_STEP = Tell("mlx-lm step3p5.py, mlx-vlm step3p7: sanitize adds 1 to every norm", False, True)

TELLS: Mapping[str, Tell] = {
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _QWEN),
    "step3p5": _STEP,
}
"""Types of text models whose norms are zero-centred, and hold γ itself after a conversion to MLX. Gemma's, Nemotron's
and others keep w, and MLX adds the 1 where it multiplies."""

EITHER = frozenset({"qwen4_exp_text"})
"""Types of which conversions to MLX exist with the 1 added and without, under the same names and shapes."""

_EXPERTS = ".switch_mlp."


def find_conversion(types: Collection[str], metadata: Mapping[str, str], matching: Matching) -> Conversion:
    """What a conversion has done to the norms of a stack.

    Args:
        types: The type that tells of the stack.
        metadata: What the headers say of the files.
        matching: Gives the tensors whose keys hold a text.
    """
    is_mlx = metadata.get("format") == MLX
    if is_mlx and not EITHER.isdisjoint(types):
        return Conversion(told_by=f"files for MLX of type {min(EITHER & set(types))!r} exist with w and with 1 + w")
    tell = next((TELLS[name] for name in types if name in TELLS), None)
    if tell is None:
        return NONE
    kernels = (
        {entry.shape[1:] for entry in matching("conv1d.weight") if len(entry.shape) == 3}
        if tell.convolutions
        else set()
    )
    if kernels:
        if all(kernel[1] == 1 != kernel[0] for kernel in kernels):
            return Conversion(added=True, told_by=f"{_ADDED} (its conv1d lies as channel, kernel, 1)")
        return NONE
    if tell.experts and any(True for _ in matching(_EXPERTS)):
        return Conversion(added=True, told_by=f"{_ADDED} (its experts are called {_EXPERTS.strip('.')})")
    return Conversion(added=True, told_by=f"{_ADDED} (its format is {MLX})") if is_mlx else NONE
