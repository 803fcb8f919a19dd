"""What config.json says of a stack, held against the rows that are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from gammatorch.architectures.base import LAYER, NormSite, Stack
from gammatorch.architectures.config import ModelConfig, model_config
from gammatorch.architectures.families import GAPS, SHARED_BLOCKS
from gammatorch.architectures.keys import norms_embeddings, unwrapped
from gammatorch.architectures.order import is_encoder
from gammatorch.architectures.stages import is_run, outer_of
from gammatorch.architectures.sublayers import BELONGS_TO, has_part, removed_parts
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.errors import IncompleteCheckpoint, MalformedCheckpoint, WidthMismatch

_RESIDUAL = frozenset({"input", "post_attention", "pre_mlp", "post_mlp", "final"})
"""Places whose norms are as wide as the residual stream."""

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Stored types of which one value is one gain."""


def expected_layers(stack: Stack, stacks: Sequence[Stack], config: ModelConfig) -> range | None:
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


def expected_widths(stack: Stack, stacks: Sequence[Stack], config: ModelConfig, rows: int) -> list[int]:
    """Widths of its residual stream that a stack may have by config.json; none if it does not tell."""
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


def check_site(
    stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint
) -> tuple[NormSite, list[str]]:
    """A norm with the rows that are read of it, once they hold together and with config.json, and notes on the others.

    Args:
        stack: The stack that it is of.
        site: The norm.
        stacks: All stacks, the main one first.
        checkpoint: What they are of.
    """
    if (outer := outer_of(stack, stacks)) is not None:
        _check_layers(outer, site, stacks, checkpoint)
    _check_layers(stack, site, stacks, checkpoint)
    _check_rows(stack, site, checkpoint)
    site, entrance = _without_entrance(stack, site, stacks, checkpoint)
    site, unused = _without_unused(site, model_config(checkpoint))
    _check_widths(stack, site, stacks, checkpoint)
    told_of = {*layers_of(stack, site), *entrance, *unused}
    notes = _gap_notes(stack, site, told_of) if site.place != "final" else []
    if unused:
        notes.append(f"{named_layers(unused)} left out: the keys are an earlier layer's, so the norm does not act")
    return site, [*notes, *entrance.values()]


def layers_of(stack: Stack, site: NormSite) -> tuple[int, ...]:
    """Layer of each row; a norm after the last block counts as that one's."""
    return tuple(stack.layers[-1] if layer is None else layer for layer, _ in site.rows)


def _check_layers(stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint) -> None:
    """Refuse a stack that lacks layers, or has more than config.json says."""
    config = model_config(checkpoint)
    by_config = expected_layers(stack, stacks, config) if SHARED_BLOCKS.isdisjoint(config.types) else None
    expected = by_config if by_config is not None else range(stack.layers[-1] + 1)
    said = f"config.json says {len(expected)}" if by_config is not None else f"the last one is {stack.layers[-1]}"
    if extra := sorted(set(stack.layers) - set(expected)):
        raise IncompleteCheckpoint(
            f"stack {stack.name!r} has {named_layers(extra)}, but config.json says {len(expected)} layers: "
            "config and weights are of different models",
            file=checkpoint.name,
        )
    removed = removed_parts(config)
    gone = removed["mixer"] & removed["MLP"] if removed is not None else frozenset()
    if missing := sorted(set(expected) - set(stack.layers) - gone):
        whole = "pass the whole model, not one shard" if len(checkpoint.files) == 1 else "download the model again"
        or_else = f", or --pattern {site.pattern!r} to read the norms that are there" if by_config is None else ""
        raise IncompleteCheckpoint(
            f"{named_layers(missing)} of stack {stack.name!r} missing ({said}): {whole}{or_else}",
            file=checkpoint.name,
        )


def _check_rows(stack: Stack, site: NormSite, checkpoint: Checkpoint) -> None:
    """Refuse a site that lacks the norm of a layer which should have it."""
    config = model_config(checkpoint)
    of_site = re.compile(re.escape(site.pattern).replace(re.escape(LAYER), "[0-9]{1,9}"))
    if absent := sorted(key for key in checkpoint.absent if of_site.fullmatch(unwrapped(key))):
        raise IncompleteCheckpoint(
            "the index names it, and no shard holds it: download the model again",
            file=checkpoint.name,
            tensor=absent[0],
        )
    lost = lost_layers(stack, site, removed_parts(config))
    if lost == [stack.layers[0]] and _begins_normed(config, checkpoint):
        return
    if lost:
        raise IncompleteCheckpoint(
            f"{_without(lost)} no tensor for site {site.place!r}, the other layers have: "
            f"download the model again, or pass --pattern {site.pattern!r} to read those that are there",
            file=checkpoint.name,
            tensor=site.pattern.replace(LAYER, str(lost[0])),
        )


def _begins_normed(config: ModelConfig, checkpoint: Checkpoint) -> bool:
    """Whether the first block has no norm on its input since the embeddings are normalised already: as of the types
    that are built so, and of unknown ones that have such a norm (YaLM)."""
    if config.is_known:
        return not GAPS.isdisjoint(config.types)
    return norms_embeddings(checkpoint.entries)


def _check_widths(stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint) -> None:
    """Refuse rows that differ in width, or are not as wide as config.json says."""
    entries = [entry for _, entry in site.rows]
    check_same_width(entries, checkpoint)
    if site.place not in _RESIDUAL or "hyper_connection" in site.pattern:
        return
    by_config = expected_widths(stack, stacks, model_config(checkpoint), rows=len(entries))
    if by_config and entries[0].width not in by_config:
        raise WidthMismatch(
            f"holds {_amount(entries[0])}, but config.json says hidden size {' or '.join(map(str, by_config))}: "
            "config and weights are of different models"
            + ("" if entries[0].dtype in _FLOATS else ", or the weights are packed"),
            file=checkpoint.where(entries[0]),
            tensor=entries[0].key,
        )


def check_same_width(entries: Sequence[TensorEntry], checkpoint: Checkpoint) -> None:
    """Refuse rows that differ in width, or are empty."""
    for entry in entries:
        if entry.width != entries[0].width:
            raise WidthMismatch(
                f"holds {_amount(entry)} where {entries[0].key} holds {_amount(entries[0])}: "
                "rows of different widths cannot be compared",
                file=checkpoint.where(entry),
                tensor=entry.key,
            )
    if entries[0].width == 0:
        raise MalformedCheckpoint(
            "is empty, as in the files that DeepSpeed's ZeRO-3 writes beside the partitioned parameters: "
            "gather them into one file with its zero_to_fp32.py and pass that",
            file=checkpoint.where(entries[0]),
            tensor=entries[0].key,
        )


def _amount(entry: TensorEntry) -> str:
    """How many values a tensor holds, and their type where it is none that is read as it is."""
    return f"{entry.width} values" + ("" if entry.dtype in _FLOATS else f" stored as {entry.dtype}")


def _gap_notes(stack: Stack, site: NormSite, layers: Collection[int]) -> list[str]:
    """Notes on the layers that have no norm at a site, and why."""
    without = sorted(set(range(stack.layers[-1] + 1)) & set(stack.layers) - set(layers))
    part = BELONGS_TO.get(site.place, "mixer")
    pruned = [layer for layer in without if not has_part(stack.kinds[layer], part)]
    others = [layer for layer in without if layer not in pruned]
    notes = [f"{_without(pruned)} no norm at this site, and no {part} that it would belong to"] if pruned else []
    return notes + ([f"{_without(others)} no norm at this site"] if others else [])


def lost_layers(stack: Stack, site: NormSite, removed: Mapping[str, Collection[int]] | None = None) -> list[int]:
    """Layers that should have the norm and do not: blocks of the kind that have it.

    A block is of that kind if it has no tensor that those do not have, or all that those have in common but the norm:
    then the norm is there under another name. A block of another kind (attention among Mamba blocks) lacks some of
    these, has tensors of its own, and may lack the norm rightly; and so may one that lacks what the norm belongs to,
    but where config.json lists the blocks that do and this is none of them.
    """
    if site.place == "final":
        return []
    with_norm = [stack.kinds[layer] for layer, _ in site.rows if layer is not None]
    usual, common = frozenset().union(*with_norm), frozenset.intersection(*with_norm)
    norm = site.pattern.partition(f"{LAYER}.")[2]
    shared = {name for name in common if not name.startswith(norm.rpartition(".")[0])}
    part = BELONGS_TO.get(site.place, "mixer")
    elsewhere = {layer for one in stack.sites if one.pattern == site.pattern for layer, _ in one.rows}
    is_told = any(has_part(kinds, part) for kinds in with_norm)
    gone = removed.get(part) if removed is not None else None
    return [
        layer
        for layer in sorted(set(stack.layers) - elsewhere)
        if (stack.kinds[layer] <= usual or (shared and shared <= stack.kinds[layer]))
        and (not is_told or has_part(stack.kinds[layer], part) or (gone is not None and layer not in gone))
    ]


def _without(layers: Sequence[int]) -> str:
    return f"{named_layers(layers)} {'has' if len(layers) == 1 else 'have'}"


def named_layers(layers: Sequence[int], most: int | None = 8) -> str:
    """Layer indices in words, runs of them by their ends.

    Args:
        layers: Ascending.
        most: Runs that are named one by one; None for all.

    Example:
        >>> named_layers([0, 1, 2, 5]), named_layers([7]), named_layers([1, 3, 5], 2)
        ('layers 0-2, 5', 'layer 7', 'layers 1, 3 …')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    more = " …" if most is not None and len(texts) > most else ""
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(texts[:most])}{more}"


def _without_entrance(
    stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint
) -> tuple[NormSite, dict[int, str]]:
    """A norm without the row of its stack's first block, where that stands on what is of another width than the stream
    of the others: what the stage before gives (Hiera), or the stack's own input (FunASR). Also the layer
    that is left out, with a note on why."""
    (layer, entry), *rest = site.rows
    widths = {kept.width for _, kept in rest}
    if layer != stack.layers[0] or len(widths) != 1 or entry.width in widths:
        return site, {}
    outer = outer_of(stack, stacks)
    if outer is not None:
        fed = "what the stage before gives" if entry.width in _given_before(stack, outer, stacks) else None
    else:
        said = {width for _, width in model_config(checkpoint).tells(stack.name)}
        beside = [other for other in stack.sites if other is not site and other.place in _RESIDUAL]
        within = {row.width for other in beside for number, row in other.rows if number == layer}
        fed = "the stack's own input" if widths <= said and entry.width not in said and within == widths else None
    if fed is None:
        return site, {}
    return replace(site, rows=tuple(rest)), {
        layer: f"layer {layer} left out: the norm stands on {fed}, {entry.width} wide"
    }


def _without_unused(site: NormSite, config: ModelConfig) -> tuple[NormSite, list[int]]:
    """The norm on the keys without those of layers that share an earlier one's keys (Gemma 3n and 4), which files may
    hold and no forward pass uses. Also these layers."""
    shared = config.raw.get("num_kv_shared_layers")
    if site.place != "key" or type(shared) is not int or config.num_layers is None:
        return site, []
    first = config.num_layers - shared
    unused = [layer for layer, _ in site.rows if layer is not None and layer >= first]
    kept = tuple(row for row in site.rows if row[0] not in unused)
    return (replace(site, rows=kept), unused) if kept else (site, [])


def _given_before(stage: Stack, outer: Stack, stacks: Sequence[Stack]) -> set[int]:
    """Widths of the norms in the last block of the stage before; none before the first stage."""
    number = outer.stages.index(stage.name)
    before = next((one for one in stacks if number and one.name == outer.stages[number - 1]), None)
    if before is None:
        return set()
    return {entry.width for of in before.sites for layer, entry in of.rows if layer == before.layers[-1]}
