"""Which of a checkpoint's stacks are the model's own, and in which order they are told: the main one first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from gammatorch.architectures.base import Stack
from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.evidence import TOWER
from gammatorch.architectures.keys import Rows, is_list_of_norms
from gammatorch.architectures.vocabulary import HEAD_ONLY

_ENCODER = re.compile(r"(^|\.|_)encoder(\.|_|$)")
ONLY_PREPARES = re.compile(r"feature_extractor|\.conv_layers$|patch_embed")
"""Lists of convolutions that prepare the input, within what they prepare it for: their norms stand at no place of a
block."""

_SIDE = re.compile(
    "|".join(
        (
            r"(^|\.)(mtp|nextn|patcher|prompts_generator|(\w+_)?(predictor|adapter|pooler|head)(\.|$))",
            r"talker|t2u_model|token2wav|depth_decoder",
            r"diffusion|expert|assistant|draft",
            r"multimodal_model|merger|connector|projector|(^|\.)(neck|fusion_stage)\.",
            ONLY_PREPARES.pattern,
        )
    )
)
"""Stacks beside the model's own: heads, speech generators, action experts, what only prepares the input."""

_STUDENT = re.compile(r"(?<![a-z])student(?![a-z])")
_USUAL = ("layers", "h", "layer", "block")


def rivals(stacks: Sequence[Stack]) -> Iterator[str]:
    """A note on stacks that their names put on a level with the main one."""
    main = stacks[0]
    others = [
        stack.name
        for stack in stacks[1:]
        if _rank(stack.name) == _rank(main.name)
        and not stack.name.startswith(f"{main.name}.")
        and (stack.site("input") or stack.site("post_attention"))
    ]
    if others:
        yield f"{main.name} is taken for the main stack, {', '.join(others)} may be as well: --stack reads one of them"


def is_beside(stack: str) -> bool:
    """Whether a stack's name says that it is not the model's own: a tower, a head, an encoder."""
    return any(_rank(stack))


def is_encoder(stack: Stack) -> bool:
    """Whether a stack's name says that it is an encoder."""
    return _ENCODER.search(stack.name) is not None


def _rank(name: str) -> tuple[bool, bool, bool]:
    """Whether a stack is something beside the model, a tower, an encoder: the least is the main one."""
    return _SIDE.search(name) is not None, TOWER.search(name) is not None, _ENCODER.search(name) is not None


def is_student(name: str, blocks: Mapping[str, Mapping[int, set[str]]]) -> bool:
    """Whether a stack is trained beside a teacher of the same blocks, its average, which loaders take (DINO)."""
    teacher = _STUDENT.sub("teacher", name)
    return teacher != name and teacher in blocks and blocks[teacher] == blocks[name]


def main_order(
    name: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows], config: ModelConfig
) -> tuple[bool | int | str, ...]:
    """Sort key: blocks before lists of norms, text before other towers, decoders before encoders, the count of
    config.json, the longest."""
    count = len(blocks) - len(prediction_heads(blocks, config))
    return (
        is_list_of_norms(blocks, norms),
        *_rank(name),
        count != config.num_layers,
        name.rpartition(".")[2] not in _USUAL,
        -count,
        name,
    )


def prediction_heads(blocks: Mapping[int, set[str]], config: ModelConfig) -> set[int]:
    """Blocks beyond the last layer that predict further tokens: they have names that no other block has."""
    return {
        layer
        for layer, names in blocks.items()
        if layer >= (config.num_layers or 0) and any(name.startswith(HEAD_ONLY) for name in names)
    }
