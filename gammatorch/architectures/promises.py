"""What config.json promises of a stack, of one that is a stage of another too."""

from __future__ import annotations

from collections.abc import Sequence

from gammatorch.architectures.base import Stack
from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.order import is_encoder
from gammatorch.architectures.stages import is_run, outer_of


def promised_layers(stack: Stack, stacks: Sequence[Stack], config: ModelConfig) -> range | None:
    """The layers that a stack has by config.json; None if it does not tell, as of stacks beside the main one.

    Args:
        stack: One of the stacks.
        stacks: All of them, the main one first.
        config: What config.json says.
    """
    if not _is_main(stack, stacks):
        return None
    outer, depths = outer_of(stack, stacks), config.depths
    if outer is None and not stack.stages:
        if config.of_decoder and is_encoder(stack):
            return None
        counts = [count for count, _ in config.tells(stack.name) if count is not None]
        held = stack.layers[-1] + 1
        return range(held if held in counts else counts[0]) if counts else None
    if depths is None:
        return None
    if outer is None:  # there may be other blocks among the stages
        return range(max(len(depths), stack.layers[-1] + 1)) if not is_run(stack.stages[0]) else range(sum(depths))
    if len(outer.stages) != len(depths):
        return None
    number = outer.stages.index(stack.name)
    begin = sum(depths[:number]) if is_run(stack.name) else 0
    return range(begin, begin + depths[number])


def promised_widths(stack: Stack, stacks: Sequence[Stack], config: ModelConfig, rows: int) -> list[int]:
    """Widths of its residual stream that a stack may have by config.json; none if it does not tell.

    Args:
        stack: One of the stacks.
        stacks: All of them, the main one first.
        config: What config.json says.
        rows: Layers that are read of it.
    """
    if not _is_main(stack, stacks):
        return []
    outer = outer_of(stack, stacks)
    if outer is None:
        widths = config.stage_widths(len(stack.stages))
        last = sorted(widths[-1]) if widths else []
        told = dict.fromkeys(width for _, width in config.tells(stack.name) if width is not None)
        return last or list(told)
    widths = config.stage_widths(len(outer.stages))
    number = outer.stages.index(stack.name)
    own = widths[number]
    if rows == 1 and number and own:  # a stage of one block, which may stand on what the stage before gives
        own = own | widths[number - 1]
    return sorted(own)


def _is_main(stack: Stack, stacks: Sequence[Stack]) -> bool:
    """Whether a stack is the main one, or has to do with it: the stack that holds it, or a stage beside it."""
    top = outer_of(stacks[0], stacks) or stacks[0]
    return top.name == stack.name or stack.name in top.stages
