"""What is added to the stored weights of a stack's norms to give their gains, and whether that is known.

The types that config.json says of the stack tell it, and where they do not, the settings that a trainer kept. What a
conversion has added to the weights already is not added again: GGUF says so by its type; files for MLX keep the model's
type, and tell by their layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from gammatorch.architectures.base import PLACES
from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.evidence import TOWER
from gammatorch.architectures.families import OFFSETS, PARTS, USUAL_PARTS, is_known, known_types
from gammatorch.architectures.order import is_beside
from gammatorch.architectures.parts import types_of
from gammatorch.checkpoints.base import Checkpoint, TensorEntry

MLX = "mlx"
"""What files for MLX say of their format."""

_ADDED = "the conversion to MLX has added 1 to w"

Matching = Callable[[str], Iterable[TensorEntry]]
"""Gives the tensors whose keys hold a text."""

EITHER = frozenset({"qwen4_exp_text"})
"""Types of which conversions to MLX exist with the 1 added and without, under the same names and shapes."""

_EXPERTS = ".switch_mlp."
_CLASS, _JOINTS = re.compile(r"(For[A-Z]|LMHead|Model).*"), re.compile("[-_]")


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


def find_conversion(types: Collection[str], metadata: Mapping[str, str], matching: Matching) -> Conversion:
    """What a conversion has done to the norms of a stack."""
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


@dataclass(frozen=True)
class StackOffsets:
    """The offsets of one stack: γ = offset + w.

    Attributes:
        types: The types that tell of the stack, from the whole model's to that of the part that it is of.
        within: What is left of its name within that part.
        zero_centred: What a trainer's settings say, where the types do not tell.
        conversion: What a conversion has done to the weights.
        doubt: Why the offsets are taken to be what they are; None if they are known.
    """

    types: tuple[str, ...]
    within: str = ""
    zero_centred: bool | None = None
    conversion: Conversion = NONE
    doubt: str | None = None

    def at(self, place: str) -> float:
        """The offset of the norm at a place, or of a norm that stands at none, by its own name.

        Example:
            >>> StackOffsets(("gemma2",)).at("input")
            1.0
        """
        if self.conversion.added:
            return 0.0
        known = next((model_type for model_type in reversed(self.types) if is_known(model_type)), None)
        if known is None:
            return 1.0 if self.zero_centred else 0.0
        return offset_of_type(known, place, self.within)


def offset_of_type(model_type: str, place: str, within: str = "") -> float:
    """What a known type adds to the stored weights of a norm; 0 for those that store γ itself."""
    offsets = OFFSETS.get(model_type)
    if offsets is None:
        return 0.0
    if TOWER.search(within):
        return offsets.towers
    return offsets.places.get(place, offsets.default if place in PLACES else offsets.elsewhere)


def find_offsets(
    checkpoint: Checkpoint, config: ModelConfig, stack: str, *, text_is_named: bool = False
) -> StackOffsets:
    """The offsets of a stack, by its name."""
    types, within, _ = types_of(config.whole, stack, is_beside, text_is_named=text_is_named)
    conversion = find_conversion(types[-1:], checkpoint.metadata, checkpoint.matching)
    if conversion.told_by is not None and offset_of_type(types[-1], "input", within) == 0:
        conversion = NONE  # a tower's norms stay as they are
    unknown = next((model_type for model_type in types if not is_known(model_type)), None)
    if types and unknown is None:
        doubt = conversion.told_by or _contradiction(config, types)
        return StackOffsets(types, within, conversion=conversion, doubt=doubt)
    doubt = None
    if config.zero_centred is None and unknown is not None:
        doubt = f"model type {unknown!r} is not among the known ones"
    elif config.zero_centred is None:
        doubt = "no config.json" if checkpoint.config is None else "config.json names no model type"
    return StackOffsets(types, within, config.zero_centred, conversion, doubt)


def _contradiction(config: ModelConfig, types: tuple[str, ...]) -> str | None:
    """What ``architectures`` says of the offset that the types do not, None where the two agree or do not tell.

    It names the class of the whole, so it says nothing of a part with a type of its own, as a text model in another.
    """
    named = config.whole.get("architectures")
    is_whole = types[-1] == config.whole.get("model_type")
    for name in named if isinstance(named, list) and is_whole else ():
        of_class = _types_by_class().get(_JOINTS.sub("", _CLASS.sub("", str(name)).lower()))
        if of_class is None or of_class in types or of_class in PARTS or of_class in USUAL_PARTS:
            continue
        if offset_of_type(of_class, "input") != offset_of_type(types[-1], "input"):
            return f"config.json says model type {types[-1]!r} and architecture {name!r}, whose norms differ"
    return None


@cache
def _types_by_class() -> Mapping[str, str]:
    """Known types by what the names of their classes begin with, in small letters."""
    return {_JOINTS.sub("", known): known for known in known_types()}
