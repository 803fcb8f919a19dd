"""Stacks whose blocks are stages with blocks of their own, as in Swin: each stage is a stack."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from gammatorch.architectures.base import ANY, LAYER, NormSite, Stack
from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.keys import Rows, is_batch_norm, own_name
from gammatorch.architectures.places import norm_after_convolution
from gammatorch.architectures.vocabulary import AMBIGUOUS, BARE, MOVABLE, PLAIN, VOCABULARY

_INNER = re.compile(r"(?:(?P<inside>.*?)\.)?(?P<layer>\d{1,9})\.(?P<name>.+)", re.DOTALL)
_IN_CHUNK = re.compile(r"(?P<layer>[0-9]{1,9})\.(?P<name>.+)", re.DOTALL)
_RUN = re.compile(r"(^|\.)\d+-\d+$")
_FIRST_PLACES = frozenset({*VOCABULARY["input"], *VOCABULARY["post_attention"], *AMBIGUOUS}) - PLAIN
"""Names of norms that stand first in a block; not those that a stage may give the norm after it."""

_MLP_NORMS = frozenset(VOCABULARY["pre_mlp"]) - BARE - MOVABLE


@dataclass(frozen=True)
class Stage:
    """A stack within another.

    Attributes:
        name: Its name: ``"encoder.layers.0.blocks"``, or ``"blocks.3-9"`` where its blocks are some of a list.
        number: The block that it is within the stack that holds it, or the first of those that it has of it.
        prefix: What stands before the layer's index in its keys.
        blocks: Names within its blocks, by layer.
        norms: Its norms by name and layer.
    """

    name: str
    number: int
    prefix: str
    blocks: Mapping[int, set[str]]
    norms: Mapping[str, Rows]


def split_stages(
    stack: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows], config: ModelConfig
) -> list[Stage]:
    """The stacks within a stack.

    A block is a stage if none of its own norms has a name that stands first in a block, and norms further within, after
    a second index, do, or stand between a convolution and an MLP (ConvNeXt). Blocks in one list are cut into stages
    where their widths differ and config.json counts the blocks of each stage (SAM 2).

    Returns:
        In the order of the stages; none for a stack without stages.
    """
    kinds = frozenset().union(*blocks.values())
    names = {name for name in norms if not is_batch_norm(own_name(name), kinds)}
    whole = {layer for name in names if own_name(name) in _FIRST_PLACES for layer in norms[name]}
    inner = {name: match for name in names if (match := _INNER.fullmatch(name)) is not None}
    lists = {match["inside"] for match in inner.values() if own_name(match["name"]) in _FIRST_PLACES}
    lists |= _lists_of_blocks(norms, kinds)
    numbers: dict[str, int] = {}
    found: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(dict))
    for stage in sorted(blocks.keys() - whole):
        for name, match in inner.items():
            if match["inside"] in lists and stage in norms[name]:
                of = _stage(stack, stage, match["inside"])
                numbers[of] = stage
                found[of][match["name"]][int(match["layer"])] = norms[name][stage]
    if not found:  # a mixture of experts has many names to go through for nothing
        return list(_split_by_count(stack, blocks, norms, config))
    stages: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for stage, within in sorted(blocks.items()):
        for match in filter(None, map(_INNER.fullmatch, within)):
            if (inside := _stage(stack, stage, match["inside"])) in found:
                stages[inside][int(match["layer"])].add(match["name"])
    return [Stage(name, numbers[name], name, stages[name], found[name]) for name in found]


def join_chunks(
    stack: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows]
) -> tuple[str, dict[int, set[str]], dict[str, Rows]] | None:
    """One stack of blocks that stand in chunks under their numbers in the whole stack (DINOv2's ``block_chunks``).

    Each chunk goes on counting where the one before it has ended; stages begin anew.

    Returns:
        The name, blocks and norms of the whole stack; None if these are no chunks.

    Example:
        >>> join_chunks("blocks", {0: {"0.norm1.bias", "1.norm1.bias"}, 1: {"2.norm1.bias", "3.norm1.bias"}}, {})[0]
        'blocks.*'
    """
    numbers: list[int] = []
    whole: dict[int, set[str]] = {}
    for chunk in sorted(blocks):
        inner = [_IN_CHUNK.fullmatch(name) for name in blocks[chunk]]
        if None in inner:
            return None
        within: dict[int, set[str]] = defaultdict(set)
        for match in filter(None, inner):
            within[int(match["layer"])].add(match["name"])
        numbers += sorted(within)
        whole |= within
    if len(blocks) < 2 or numbers != list(range(len(numbers))):
        return None
    joined: dict[str, Rows] = defaultdict(dict)
    for name, rows in norms.items():
        if (numbered := _IN_CHUNK.fullmatch(name)) is not None:
            joined[numbered["name"]] |= {int(numbered["layer"]): entry for entry in rows.values()}
    return f"{stack}.{ANY}".lstrip("."), whole, joined


def _lists_of_blocks(norms: Iterable[str], kinds: Collection[str]) -> set[str | None]:
    """Where within a stage its blocks are numbered, if their first norm is told by what stands beside it: ConvNeXt's,
    and those where one of the plainest name stands beside the MLP's."""
    names: dict[str | None, set[str]] = defaultdict(set)
    for match in filter(None, map(_INNER.fullmatch, norms)):
        names[match["inside"]].add(own_name(match["name"]))
    within: dict[str | None, set[str]] = defaultdict(set)
    for match in filter(None, map(_INNER.fullmatch, kinds if names else ())):
        within[match["inside"]].add(match["name"])
    return {
        inside
        for inside, own in names.items()
        if norm_after_convolution(own, within[inside]) is not None or (own & PLAIN and own & _MLP_NORMS)
    }


def _stage(stack: str, stage: int, inside: str | None) -> str:
    return ".".join(part for part in (stack, str(stage), inside) if part)


def _split_by_count(
    stack: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows], config: ModelConfig
) -> Iterator[Stage]:
    first = [rows for name, rows in norms.items() if own_name(name) in _FIRST_PLACES]
    if all(len({entry.width for entry in rows.values()}) < 2 for rows in first):
        return
    depths = config.depths or ()
    if blocks.keys() != set(range(sum(depths))):
        return
    for begin, end in pairwise(accumulate(depths, initial=0)):
        within = {
            name: kept
            for name, rows in norms.items()
            if (kept := {layer: entry for layer, entry in rows.items() if begin <= layer < end})
        }
        name = _stage(stack, begin, None) + f"-{end - 1}"
        yield Stage(name, begin, stack, {layer: blocks[layer] for layer in range(begin, end)}, within)


def main_stage(stages: Sequence[Stack]) -> Stack | None:
    """The stage to read where none is named: the one with the most layers, of several such the last, which is as wide
    as the model gets and, where it is the last of all, stands before the final norm; None if the names in their blocks
    do not tell which norm stands first.
    """
    readable = [stage for stage in stages if stage.site("input") or stage.site("post_attention")]
    return max(reversed(readable), key=lambda stage: len(stage.layers), default=None)


def choice_note(outer: str, stages: Sequence[Stack]) -> Iterator[str]:
    """Which stage is read where none is named, and how to read another."""
    main = main_stage(stages)
    if main is None:
        return
    alike = [stage for stage in stages if len(stage.layers) == len(main.layers)]
    depths = ", ".join(str(len(stage.layers)) for stage in stages)
    others = ", ".join(stage.name for stage in stages if stage is not main)
    yield (
        f"{outer or '(top)'} has {len(stages)} stages of {depths} layers: {main.name} is the main one, "
        f"{'the longest' if len(alike) == 1 else 'the last of the longest'}; --stack reads another: {others}"
        if others
        else f"{outer or '(top)'} has one stage of blocks, {main.name}"
    )


def patterns_by_stage(sites: Sequence[NormSite]) -> Iterator[str]:
    """Patterns of norms that are numbered a second time, ``stages.2.layers.{layer}.norm.weight``, those of the most
    tensors first.
    """
    found: Counter[str] = Counter()
    for site in sites:
        prefix, _, rest = site.pattern.partition(f"{LAYER}.")
        if (match := _INNER.fullmatch(rest)) is not None:
            for number, _ in site.rows:
                parts = (f"{prefix}{number}", match["inside"], LAYER, match["name"])
                found[".".join(filter(None, parts))] += 1
    for pattern, _ in found.most_common():
        yield pattern


def is_run(stage: str) -> bool:
    """Whether a stage's name says that it has some blocks of a list, so that its layers need not begin with 0.

    Example:
        >>> is_run("blocks.3-9"), is_run("encoder.layers.0.blocks")
        (True, False)
    """
    return _RUN.search(stage) is not None


def outer_of_main(stacks: Sequence[Stack]) -> Stack | None:
    """The stack that holds the main one, where that is a stage."""
    return outer_of(stacks[0], stacks) if stacks else None


def stages_of(outer: Stack, stacks: Sequence[Stack]) -> list[Stack]:
    """The stages that a stack holds, in order."""
    named = {stack.name: stack for stack in stacks}
    return [named[name] for name in outer.stages]


def outer_of(stage: Stack, stacks: Sequence[Stack]) -> Stack | None:
    """The stack that holds a stage; None for a stack that is in no other."""
    return next((stack for stack in stacks if stage.name in stack.stages), None)
