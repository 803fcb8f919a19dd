"""Choose the tensors of one run, and refuse what does not hold together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from gammatorch.architectures.base import ANY, LAYER, PLACES, NormSite, Selection, Stack
from gammatorch.architectures.candidates import likely_first
from gammatorch.architectures.config import ModelConfig, model_config
from gammatorch.architectures.families import GAPS, SHARED_BLOCKS
from gammatorch.architectures.keys import is_batch_norm, norms_embeddings, own_name, two_for_one, unwrapped
from gammatorch.architectures.match import find_stacks
from gammatorch.architectures.places import is_strange
from gammatorch.architectures.promises import promised_layers, promised_widths
from gammatorch.architectures.shortcut import select_by_search
from gammatorch.architectures.stages import main_stage, outer_of, patterns_by_stage, stages_of
from gammatorch.architectures.sublayers import BELONGS_TO, has_part, removed_parts
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.errors import (
    IncompleteCheckpoint,
    InvalidArgument,
    MalformedCheckpoint,
    SiteNotFound,
    StackNotFound,
    WidthMismatch,
)

_FLAT = "_flat_param"
_NAMED = 8
"""Candidates that a message names."""

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Stored types of which one value is one gain."""

_RESIDUAL = frozenset({"input", "post_attention", "pre_mlp", "post_mlp", "final"})
"""Places whose norms are as wide as the residual stream."""


def select(
    checkpoint: Checkpoint,
    site: str = "auto",
    *,
    stack: str | None = None,
    pattern: str | None = None,
    stacks: Sequence[Stack] | None = None,
) -> Selection:
    """Choose the tensors of one site, one row per layer, in layer order.

    Layer indices, their count and the widths are held against each other and against config.json: none may be
    missing, and none is invented.

    Args:
        checkpoint: An open checkpoint.
        site: A place of :data:`~gammatorch.architectures.base.PLACES`, or ``"auto"``: ``input``, and where a model
            has no learned norm there, the nearest analogue.
        stack: Name of the stack, or a part of its name that no other has; the main one if None. Of a stack of stages,
            its main stage is read.
        pattern: Keys to read instead of a site, with ``{layer}`` for the index.
        stacks: The checkpoint's stacks, where :func:`~gammatorch.find_stacks` has found them already.

    Raises:
        SiteNotFound: The model has no norm at that site, or no tensor for that pattern.
        StackNotFound: It has no such stack, or several.
        IncompleteCheckpoint: Layers are missing, or more are there than config.json says.
        WidthMismatch: The rows differ in width, or are not as wide as config.json says.
        InvalidArgument: The arguments contradict each other.
    """
    if checkpoint.missing is not None and pattern is None:
        raise IncompleteCheckpoint(
            f"{checkpoint.missing}; --pattern reads the norms that are there", file=checkpoint.source.name
        )
    if pattern is not None:
        if stack is not None or site != "auto":
            raise InvalidArgument("pass a pattern, or a site and a stack, not both")
        return _by_pattern(checkpoint, pattern, stacks)
    if site != "auto" and site not in PLACES:
        raise InvalidArgument(f"there is no site {site!r}: pass auto, {', '.join(PLACES)}")
    found_quickly = select_by_search(checkpoint, site) if stack is None and stacks is None else None
    if found_quickly is not None:
        return found_quickly
    stacks = find_stacks(checkpoint) if stacks is None else stacks
    chosen, holder = choose_stack(stacks, stack, checkpoint)
    notes = (*holder.notes, *chosen.notes) if holder is not None else chosen.notes
    if site == "final" and holder is not None and chosen.site(site) is None and holder.site(site) is not None:
        chosen, holder = holder, None  # after the last block of all
    found, reason = _choose_site(chosen, site, checkpoint)
    if holder is not None:
        reason += f"; stack {chosen.name}, the main one of {len(holder.stages)} stages"
    if (outer := outer_of(chosen, stacks)) is not None:
        _check_layers(outer, found, stacks, checkpoint)
    _check_layers(chosen, found, stacks, checkpoint)
    _check_rows(chosen, found, checkpoint)
    found, left = _without_entrance(chosen, found, stacks, checkpoint)
    found, unused = _without_unused(found, model_config(checkpoint))
    left |= dict.fromkeys(unused, "")
    _check_widths(chosen, found, stacks, checkpoint)
    layers = tuple(chosen.layers[-1] if layer is None else layer for layer, _ in found.rows)
    gaps = _gap_notes(chosen, found, {*layers, *left}) if found.place != "final" else []
    if unused:
        gaps.append(f"{_named_layers(unused)} left out: the keys are an earlier layer's, so the norm does not act")
    return Selection(
        site=found.place,
        reason=reason,
        stack=chosen.name,
        pattern=found.pattern,
        offset=found.offset,
        offset_doubt=chosen.offset_doubt,
        layers=layers,
        entries=tuple(entry for _, entry in found.rows),
        notes=(*notes, *gaps, *filter(None, left.values())),
    )


def choose_stack(stacks: Sequence[Stack], name: str | None, checkpoint: Checkpoint) -> tuple[Stack, Stack | None]:
    """The stack that a name means, and the one that holds it where it is that one's main stage, chosen by rule.

    Args:
        stacks: All of them, the main one first.
        name: Name of the stack, or a part of its name that no other has; the main one if None.
        checkpoint: What they are of.

    Raises:
        SiteNotFound: There is none.
        StackNotFound: None has such a name, or several.
    """
    named = _named_stack(stacks, name, checkpoint)
    if name is None:
        return named, outer_of(named, stacks)
    main = main_stage(stages_of(named, stacks))
    return (main, named) if main is not None else (named, None)


def _named_stack(stacks: Sequence[Stack], name: str | None, checkpoint: Checkpoint) -> Stack:
    where = checkpoint.name
    if not stacks and any(".lora_" in key for key in checkpoint.entries):
        raise SiteNotFound(
            "holds a LoRA adapter, which leaves the norms of its base model as they are: pass that model", file=where
        )
    if not stacks and any(key.rpartition(".")[2].startswith(_FLAT) for key in checkpoint.entries):
        raise SiteNotFound(
            f"holds FSDP's flattened parameters ({_FLAT}), in which no norm has a name: save the model again with a "
            "full or a sharded state dict",
            file=where,
        )
    if not stacks:
        raise SiteNotFound(
            "no norm in any numbered block (norms without weights, like OLMo 1's, have no gain): "
            "`gammatorch inspect` lists what there is, --pattern reads any tensor",
            file=where,
        )
    if name is None:
        return stacks[0]
    exact = [stack for stack in stacks if stack.name == name]
    near = exact or [stack for stack in stacks if name in stack.name]
    near = [stack for stack in near if outer_of(stack, near) is None]  # a stack means its stages as well
    if len(near) == 1:
        return near[0]
    known = ", ".join(stack.name or "''" for stack in near or stacks)
    problem = "several stacks have" if near else "no stack has"
    raise StackNotFound(f"{problem} {name!r} in their name: pass --stack with one of {known}", file=where)


def _choose_site(stack: Stack, site: str, checkpoint: Checkpoint) -> tuple[NormSite, str]:
    """The site asked for and why; for ``auto`` the analogue nearest to the block's input."""
    wanted = "input" if site == "auto" else site
    found = stack.site(wanted)
    if stack.stages and (wanted != "final" or found is None):
        raise SiteNotFound(
            f"the names in the stages of stack {stack.name!r} do not tell which norm is site {wanted!r}: "
            "pass --pattern with one of those that `gammatorch inspect` lists",
            file=checkpoint.name,
        )
    if found is not None:
        on = f", here fed with {stack.fed_with}" if wanted == "input" and stack.fed_with is not None else ""
        return found, PLACES[wanted] + on
    analogue = stack.site("post_attention")
    strange = [known for known in stack.sites if known.place not in PLACES and is_strange(known.place)]
    if strange and not model_config(checkpoint).is_known:
        analogue = None  # one of these may stand on the block's input
    if site == "auto" and analogue is not None:
        return analogue, (
            f"no learned norm stands on the block's input ({stack.layout}); "
            f"post_attention is the nearest: {PLACES['post_attention']}"
        )
    within = [known for known in stack.sites if known.place not in ("query", "key", "final")]
    if site == "auto" and [known.place for known in within] == ["pre_mlp"]:
        return within[0], f"no learned norm stands on the block's input; its only one stands {PLACES['pre_mlp']}"
    places = [f"{known.place} ({known.pattern})" for known in stack.sites if known.place in PLACES]
    in_blocks = any(known.place in PLACES and known.place != "final" for known in stack.sites)
    possible = strange or [known for known in stack.sites if known.place != "final"]
    candidates = _patterns(likely_first(possible, wanted))
    if (in_blocks and not strange) or not candidates:
        raise SiteNotFound(
            f"no learned norm at site {wanted!r} in stack {stack.name!r}: pass --site with one of {', '.join(places)}"
            if places
            else f"no norm in the blocks of stack {stack.name!r}",
            file=checkpoint.name,
        )
    named = ", ".join(candidates[:_NAMED]) + (" …" if len(candidates) > _NAMED else "")
    problem = (
        f"the norms in stack {stack.name!r} are batch norms, by the running mean beside each, and no layer or RMS norm "
        f"is site {wanted!r}"
        if _are_over_batch(stack)
        else f"the names in stack {stack.name!r} do not tell which norm is site {wanted!r}"
    )
    raise SiteNotFound(
        f"{problem} (there are {named}): pass --pattern {candidates[0]!r} or another of them",
        file=checkpoint.name,
    )


def _are_over_batch(stack: Stack) -> bool:
    """Whether all norms in the blocks of a stack are batch norms."""
    kinds = frozenset().union(*stack.kinds.values())
    names = (own_name(site.pattern.partition(f"{LAYER}.")[2]) for site in stack.sites if site.place != "final")
    return all(is_batch_norm(name, kinds) for name in names)


def _patterns(sites: Sequence[NormSite]) -> list[str]:
    """Patterns by which norms can be read: within a stage where those of all stages differ in width."""
    as_wide = all(len({entry.width for _, entry in site.rows}) == 1 for site in sites)
    return ([] if as_wide else list(patterns_by_stage(sites))) or [site.pattern for site in sites]


def _check_layers(stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint) -> None:
    config = model_config(checkpoint)
    promised = promised_layers(stack, stacks, config) if SHARED_BLOCKS.isdisjoint(config.types) else None
    expected = promised if promised is not None else range(stack.layers[-1] + 1)
    said = f"config.json says {len(expected)}" if promised is not None else f"the last one is {stack.layers[-1]}"
    if extra := sorted(set(stack.layers) - set(expected)):
        raise IncompleteCheckpoint(
            f"stack {stack.name!r} has {_named_layers(extra)}, but config.json says {len(expected)} layers: "
            "config and weights are of different models",
            file=checkpoint.name,
        )
    removed = removed_parts(config)
    gone = removed["mixer"] & removed["MLP"] if removed is not None else frozenset()
    if missing := sorted(set(expected) - set(stack.layers) - gone):
        whole = "pass the whole model, not one shard" if len(checkpoint.files) == 1 else "download the model again"
        or_else = f", or --pattern {site.pattern!r} to read the norms that are there" if promised is None else ""
        raise IncompleteCheckpoint(
            f"{_named_layers(missing)} of stack {stack.name!r} missing ({said}): {whole}{or_else}",
            file=checkpoint.name,
        )


def _check_rows(stack: Stack, site: NormSite, checkpoint: Checkpoint) -> None:
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

    Args:
        stack: The stack.
        site: The norm.
        removed: What :func:`~gammatorch.architectures.sublayers.removed_parts` gives.
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


def _without_entrance(
    stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint
) -> tuple[NormSite, dict[int, str]]:
    """A norm without the row of its stack's first block, where that stands on what is of another width than the stream
    of the others: what the stage before gives (Hiera), or the stack's own input (FunASR).

    Returns:
        The norm, and the layer that is left out with a note on why.
    """
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
    hold and no forward pass uses.

    Returns:
        The norm, and the layers that are left out.
    """
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


def _check_widths(stack: Stack, site: NormSite, stacks: Sequence[Stack], checkpoint: Checkpoint) -> None:
    entries = [entry for _, entry in site.rows]
    _check_same_width(entries, checkpoint)
    if site.place not in _RESIDUAL or "hyper_connection" in site.pattern:
        return
    promised = promised_widths(stack, stacks, model_config(checkpoint), rows=len(entries))
    if promised and entries[0].width not in promised:
        raise WidthMismatch(
            f"holds {_amount(entries[0])}, but config.json says hidden size {' or '.join(map(str, promised))}: "
            "config and weights are of different models"
            + ("" if entries[0].dtype in _FLOATS else ", or the weights are packed"),
            file=checkpoint.where(entries[0]),
            tensor=entries[0].key,
        )


def _check_same_width(entries: Sequence[TensorEntry], checkpoint: Checkpoint) -> None:
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


def _by_pattern(checkpoint: Checkpoint, pattern: str, stacks: Sequence[Stack] | None) -> Selection:
    if pattern.count(LAYER) != 1:
        raise InvalidArgument(f"a pattern holds {LAYER} once, for the layer's index: {pattern!r}")
    plain = re.escape(unwrapped(pattern)).replace(re.escape(ANY), r"[^.]+")
    matcher = re.compile(plain.replace(re.escape(LAYER), r"([0-9]{1,9})"))
    matches = ((matcher.fullmatch(unwrapped(key)), key) for key in checkpoint.entries)
    rows = sorted((int(match[1]), checkpoint.entries[key]) for match, key in matches if match)
    if not rows:
        skeletons = {re.sub(r"(^|(?<=\.))[0-9]+(?=\.)", LAYER, key, count=1) for key in checkpoint.entries}
        close = difflib.get_close_matches(pattern, sorted(skeletons), n=3, cutoff=0.5)
        hint = f"closest: {', '.join(close)}" if close else "`gammatorch inspect` lists what there is"
        raise SiteNotFound(f"no tensor matches the pattern {pattern!r} ({hint})", file=checkpoint.name)
    layers, entries = tuple(layer for layer, _ in rows), tuple(entry for _, entry in rows)
    for (layer, entry), (twin, other) in pairwise(rows):
        if layer == twin:
            raise two_for_one(layer, entry, other)
    _check_same_width(entries, checkpoint)
    known = next(
        (
            (stack, site)
            for stack in (find_stacks(checkpoint) if stacks is None else stacks)
            for site in stack.sites
            if site.pattern == unwrapped(pattern)
        ),
        None,
    )
    place = known[1].place if known is not None and known[1].place in PLACES else None
    gaps = sorted(set(range(layers[-1] + 1)) - set(layers))
    return Selection(
        site=place if place is not None else "pattern",
        reason=f"the pattern asked for, {PLACES[place]}" if place is not None else "the pattern asked for",
        stack=known[0].name if known else None,
        pattern=pattern,
        offset=known[1].offset if known else 0.0,
        offset_doubt=known[0].offset_doubt if known else None,  # a tensor that is no norm has no offset
        layers=layers,
        entries=entries,
        notes=(
            *((checkpoint.missing,) if checkpoint.missing is not None else ()),
            *((f"no tensor for {_named_layers(gaps)}",) if gaps else ()),
        ),
    )


def _without(layers: Sequence[int]) -> str:
    return f"{_named_layers(layers)} {'has' if len(layers) == 1 else 'have'}"


def _named_layers(numbers: Sequence[int]) -> str:
    """A few layers as text, runs as ranges: ``layers 3, 5-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"layer{'' if len(numbers) == 1 else 's'} " + ", ".join(texts[:8]) + (" …" if len(texts) > 8 else "")
