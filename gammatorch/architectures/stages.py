"""Stacks whose blocks are stages with blocks of their own, as in Swin: each stage is a stack."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from gammatorch.architectures.families import AMBIGUOUS, PLAIN, VOCABULARY
from gammatorch.architectures.keys import Rows, is_batch_norm, own_name

_INNER = re.compile(r"(?:(?P<inside>.*?)\.)?(?P<layer>\d{1,9})\.(?P<name>.+)", re.DOTALL)
_FIRST_PLACES = frozenset({*VOCABULARY["input"], *VOCABULARY["post_attention"], *AMBIGUOUS}) - PLAIN
"""Names of norms that stand first in a block; not those that a stage may give the norm after it."""


def split_stages(
    stack: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows]
) -> tuple[dict[str, dict[int, set[str]]], dict[str, dict[str, Rows]]]:
    """The stacks within the blocks of a stack, by their names: ``encoder.layers.0.blocks``.

    A block is a stage if none of its own norms has a name that stands first in a block, and norms further within, after
    a second index, do.

    Args:
        stack: Its name.
        blocks: Names within its blocks, by layer.
        norms: Its norms by name and layer.

    Returns:
        Blocks and norms of each, in the order of the stages, as :func:`~gammatorch.architectures.keys.group_keys`
        gives them; none for a stack without stages.
    """
    kinds = frozenset().union(*blocks.values())
    names = {name for name in norms if not is_batch_norm(own_name(name), kinds)}
    whole = {layer for name in names if own_name(name) in _FIRST_PLACES for layer in norms[name]}
    inner = {name: match for name in names if (match := _INNER.fullmatch(name)) is not None}
    lists = {match["inside"] for match in inner.values() if own_name(match["name"]) in _FIRST_PLACES}
    found: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(dict))
    for stage in sorted(blocks.keys() - whole):
        for name, match in inner.items():
            if match["inside"] in lists and stage in norms[name]:
                found[_stage(stack, stage, match["inside"])][match["name"]][int(match["layer"])] = norms[name][stage]
    if not found:  # a mixture of experts has many names to go through for nothing
        return {}, {}
    stages: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for stage, within in sorted(blocks.items()):
        for match in filter(None, map(_INNER.fullmatch, within)):
            if (inside := _stage(stack, stage, match["inside"])) in found:
                stages[inside][int(match["layer"])].add(match["name"])
    return stages, found


def _stage(stack: str, stage: int, inside: str | None) -> str:
    return ".".join(part for part in (stack, str(stage), inside) if part)
