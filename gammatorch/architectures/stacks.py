"""From the keys of a checkpoint to its stacks and their norms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gammatorch.architectures.base import ANY, LAYER, PLACES, NormSite, Stack
from gammatorch.architectures.config import ModelConfig, model_config
from gammatorch.architectures.evidence import TOWER, Evidence
from gammatorch.architectures.families import ODD_FINALS, POST_NORM
from gammatorch.architectures.keys import (
    LEAVES,
    SLOTS,
    Rows,
    group_keys,
    is_conditioned,
    is_wrapped,
    own_name,
    two_for_one,
    unwrapped,
)
from gammatorch.architectures.offsets import StackOffsets, find_offsets
from gammatorch.architectures.order import (
    ONLY_PREPARES,
    is_beside,
    is_student,
    main_order,
    prediction_heads,
    rivals,
)
from gammatorch.architectures.parts import types_of
from gammatorch.architectures.places import is_draft_head, norm_after_convolution, read_places
from gammatorch.architectures.sides import choose_side
from gammatorch.architectures.stages import Stage, choice_note, join_chunks, main_stage, split_stages, stages_of
from gammatorch.architectures.sublayers import places_of_slots
from gammatorch.architectures.vocabulary import EMBEDDING_NORMS, FINALS, VOCABULARY
from gammatorch.checkpoints.base import TensorEntry
from gammatorch.checkpoints.opening import Model, open_checkpoint

_PARALLEL = ("use_parallel_residual", "parallel_attn", "parallel_block")
"""Settings of config.json by which models say that attention and MLP stand side by side."""


def find_stacks(checkpoint: Model) -> tuple[Stack, ...]:
    """Every stack of the checkpoint that has norms, with what is known of them; the main one first.

    Where the main one has stages, that is the longest of these (:func:`~gammatorch.architectures.stages.main_stage`),
    and the stack that holds it comes next.

    The keys decide: a stack is whatever stands before a key's first whole-number part, a norm is a one- or
    two-dimensional ``weight``, ``gamma`` or ``scale`` with a norm's name. config.json tells the number of layers and
    the offsets.

    Args:
        checkpoint: An open checkpoint, or what :func:`~gammatorch.open_checkpoint` takes.

    Returns:
        Its stacks; none if no key looks like a norm in a numbered block.

    Raises:
        MalformedCheckpoint: config.json contradicts itself.
    """
    checkpoint = open_checkpoint(checkpoint)
    config = model_config(checkpoint)
    blocks, norms = group_keys(checkpoint.entries)
    entries = checkpoint.entries
    if any(is_wrapped(entry.key) for norm in norms.values() for rows in norm.values() for entry in rows.values()):
        entries = {unwrapped(key): entry for key, entry in entries.items()}
    for name in list(norms):
        if (whole := join_chunks(name, blocks[name], norms[name])) is not None:
            del blocks[name], norms[name]
            blocks[whole[0]], norms[whole[0]] = whole[1], whole[2]
    names = sorted(
        norms, key=lambda name: (is_student(name, blocks), *main_order(name, blocks[name], norms[name], config))
    )
    offsets_of = partial(find_offsets, checkpoint, config, text_is_named=_is_text_named(blocks, names, config))
    stacks: list[Stack] = []
    taken: set[str] = set()
    for name in names:
        finals = [final for final in _finals_beside(name, entries, config) if final.key not in taken]
        split = split_stages(name, blocks[name], norms[name], config)
        stages = []
        for stage in split:
            ends = _stage_finals(name, stage, finals, entries, config)
            ends += finals if stage is split[-1] else []
            described = _describe(
                stage.prefix,
                stage.blocks,
                stage.norms,
                config,
                entries,
                ends,
                offsets_of(stage.prefix),
                ends=bool(ends or finals),
            )
            taken |= {site.rows[0][1].key for site in described.sites if site.place == "final"}
            stages.append(replace(described, name=stage.name))
        within = {entry.key for stage in split for rows in stage.norms.values() for entry in rows.values()} | taken
        own = {
            rest: kept
            for rest, rows in norms[name].items()
            if (kept := {layer: entry for layer, entry in rows.items() if entry.key not in within})
        }
        if not own and not stages:  # a list of the norms that stand after each stage
            continue
        stack = _describe(name, blocks[name], own, config, entries, finals, offsets_of(name), ends=bool(finals))
        taken |= {site.rows[0][1].key for site in stack.sites if site.place == "final"}
        notes = (*stack.notes, *choice_note(name, stages)) if stages else stack.notes
        names_of_stages = tuple(stage.name for stage in stages)
        stacks += [replace(stack, main=not stacks, stages=names_of_stages, notes=notes), *stages]
    if not stacks:
        return ()
    first, *others = stacks
    first = replace(first, notes=(*first.notes, *rivals(stacks), *_conditioned(first, config, entries)))
    main = main_stage(stages_of(first, others))
    if main is None:
        return (first, *others)
    return (replace(main, main=True), replace(first, main=False), *(stack for stack in others if stack is not main))


def _stage_finals(
    stack: str, stage: Stage, finals: Sequence[TensorEntry], entries: Mapping[str, TensorEntry], config: ModelConfig
) -> list[TensorEntry]:
    """The norm after the last block of a stage, within it or in a list of such norms beside the stages, not those after
    the last stage."""
    listed = (f"{stack.rpartition('.')[0]}.{name}.{stage.number}{leaf}" for name in FINALS for leaf in LEAVES)
    found = [entries[key] for key in (key.lstrip(".") for key in listed) if key in entries]
    after_all = {final.key for final in finals}
    beside = _finals_beside(stage.name, entries, config) if stage.prefix == stage.name else []
    return [final for final in [*beside, *found] if final.key not in after_all]


def _conditioned(main: Stack, config: ModelConfig, keys: Iterable[str]) -> Iterator[str]:
    """A note on what else multiplies in diffusion models, whose final norm has no weights."""
    if not config.types and main.site("final") is None and is_conditioned(keys):
        yield "a time step conditions this model: it may scale what a norm gives further, γ is the norm's own gain"


def _describe(
    name: str,
    blocks: Mapping[int, set[str]],
    norms: Mapping[str, Rows],
    config: ModelConfig,
    entries: Mapping[str, TensorEntry],
    finals: Sequence[TensorEntry],
    offsets: StackOffsets,
    *,
    ends: bool,
) -> Stack:
    """A stack of blocks from its names and norms, the norms that may be its final one, and whether there are any."""
    heads = prediction_heads(blocks, config)
    kinds = frozenset().union(*blocks.values())
    names = set() if ONLY_PREPARES.search(name) else {own_name(rest) for rest in norms}
    evidence = Evidence(name.removesuffix(f".{ANY}"), frozenset(names), kinds, config, entries, ends)
    side = choose_side(evidence)
    places = read_places(evidence, side)
    finals = finals if side.ends else ()
    fed_with = fed_with_what(norms, kinds, config)
    notes = tuple(notes_on(name, heads, fed_with, kinds, config))
    if evidence.is_torch and not evidence.is_known:
        notes += (f"{name} is PyTorch's nn.Transformer: norm1 stands on the block's input if norm_first was set",)
    if is_draft_head(evidence):
        notes += (f"no norm stands on the input of {name}, as in EAGLE's draft heads: the one there is the MLP's",)
    found: dict[str, list[tuple[str, Rows]]] = defaultdict(list)
    for rest, rows in norms.items():
        kept = {layer: entry for layer, entry in rows.items() if layer not in heads}
        if kept and own_name(rest) in SLOTS:
            for place, of_place in places_of_slots(own_name(rest), kept, blocks).items():
                found[place].append((rest, of_place))
        elif kept:
            found[places.get(own_name(rest), own_name(rest))].append((rest, kept))
    _fill_hybrid_layers(found)
    sites = [NormSite(place, *_merge(name, rests), offsets.at(place)) for place, rests in found.items()]
    if finals:
        final = finals[0]
        sites.append(NormSite("final", final.key, ((None, final),), offsets.at("final")))
    order = list(PLACES)
    sites.sort(key=lambda site: (order.index(site.place) if site.place in order else len(order), site.place))
    return Stack(
        name=name,
        main=False,
        layout=_layout(sites, blocks.keys() - heads, config)
        if norm_after_convolution(names, kinds) is None
        else "one norm per block, between a convolution and the MLP",
        layers=tuple(sorted(blocks.keys() - heads)),
        sites=tuple(sites),
        offset_doubt=offsets.doubt,
        kinds={layer: frozenset(names) for layer, names in blocks.items() if layer not in heads},
        fed_with=fed_with,
        notes=notes,
    )


def _fill_hybrid_layers(found: dict[str, list[tuple[str, Rows]]]) -> None:
    """Blocks of another kind (Zamba's with attention) may have their input norm under another of its names."""
    if "input" not in found:
        return
    covered = {layer for _, rows in found["input"] for layer in rows}
    for word in VOCABULARY["input"]:
        if word in found and covered.isdisjoint(layer for _, rows in found[word] for layer in rows):
            covered |= {layer for _, rows in found[word] for layer in rows}
            found["input"] += found.pop(word)


def _merge(stack: str, rests: Iterable[tuple[str, Rows]]) -> tuple[str, tuple[tuple[int | None, TensorEntry], ...]]:
    """Pattern and rows of a site whose tensors may be written with different leaves."""
    ordered = list(rests)
    rows: Rows = {}
    for _, of_rest in ordered:
        for layer, entry in of_rest.items():
            if rows.setdefault(layer, entry) is not entry:
                raise two_for_one(layer, rows[layer], entry)
    pattern = ".".join(part for part in (stack, LAYER, ordered[0][0]) if part)
    return pattern, tuple((layer, rows[layer]) for layer in sorted(rows))


def _is_text_named(blocks: Mapping[str, Mapping[int, set[str]]], names: Iterable[str], config: ModelConfig) -> bool:
    """Whether a stack with as many blocks as the text model has is named as that one's."""
    return any(
        len(blocks[name]) - len(prediction_heads(blocks[name], config)) == config.num_layers
        and types_of(config.whole, name, is_beside).names_text
        for name in names
    )


def _layout(sites: Iterable[NormSite], layers: Collection[int], config: ModelConfig) -> str | None:
    """How the blocks are normalised, in a few words; None if no name tells."""
    present = {site.place: site for site in sites if site.place in PLACES}
    on_output, on_input = present.keys() & {"post_attention", "post_mlp"}, present.keys() & {"input", "pre_mlp"}
    if not on_input and not on_output:
        return None
    if not on_input:
        return "output norms only" if "final" in present and POST_NORM.isdisjoint(config.types) else "post-LN"
    if config.norms_residual:
        return "norms on the residual stream"
    layout = "sandwich norms" if on_output else "pre-norm"
    if "pre_mlp" not in present:
        layout += ", one norm per block"
    if any(config.raw.get(name) is True for name in _PARALLEL):
        layout += ", attention and MLP in parallel"
    uneven = "input" in present and len(present["input"].rows) < len(layers)
    return f"mixed: {layout}, not in all blocks" if uneven else layout


def _finals_beside(stack: str, entries: Mapping[str, TensorEntry], config: ModelConfig) -> list[TensorEntry]:
    """Norms under a final norm's name beside a stack (``model.norm``), or one level above it."""
    found = []
    parent = stack.rpartition(".")[0]
    last = stack.rpartition(".")[2]
    odd = (name for model_type in config.types if (name := ODD_FINALS.get(model_type, {}).get(last)) is not None)
    names = [name for name in (*odd, *FINALS) if name != "embedding_norm" or not TOWER.search(stack)]
    for beside in dict.fromkeys((parent, parent.rpartition(".")[0])):
        for name in names:
            for leaf in LEAVES:
                entry = entries.get(f"{beside}.{name}{leaf}" if beside else f"{name}{leaf}")
                if entry is not None and entry.is_row:
                    found.append(entry)
    return found


_STREAMS = {
    "all residual streams side by side (hyper-connections), each normed by itself": re.compile(
        r"hyper_connection\.hc_norm"
    ),
    "a mix of several residual streams (hyper-connections)": re.compile(r"(^|\.)hc_|hyper_connection"),
    "one of several residual streams, as predicted from all of them (AltUp)": re.compile(r"^altup\."),
}
"""What the norms stand on in blocks that keep several residual streams, by the names that tell."""

_HYBRID = re.compile(r"^mamba(_decoder)?\.input_layernorm\.")
"""The norm within Zamba's hybrid blocks that stands before Mamba."""


def fed_with_what(norms: Mapping[str, Rows], kinds: Collection[str], config: ModelConfig) -> str | None:
    """What the norm on the input is fed with, in words, where that is not the block's input itself."""
    for fed, names in _STREAMS.items():
        if any(names.search(kind) for kind in kinds):
            return fed
    if any("attn_res" in name for name in config.raw):
        return "what attention over the residuals of earlier blocks gives, but for the first block"
    for name, rows in norms.items():
        if own_name(name) in EMBEDDING_NORMS and len(rows) == 1:
            return f"what {own_name(name)}, before it, makes of the block's input in layer {min(rows)}"
    return None


def notes_on(
    name: str, heads: Collection[int], fed_with: str | None, kinds: Collection[str], config: ModelConfig
) -> Iterator[str]:
    """What a reader should know of a stack beside its sites."""
    for layer in sorted(heads):
        yield f"multi-token-prediction head {name}.{layer} left out"
    if fed_with is not None:
        yield f"the norm on the input in {name} is fed with {fed_with}"
    if config.raw.get("normalization_type") == "no_norm":  # MobileBERT
        yield f"config.json says no_norm: γ multiplies what comes in as it is in {name}, nothing is normalised before"
    if config.divides_norms:
        yield "AWQ has divided norms by the scales of what follows them: γ here is not the original model's"
    if hybrid := next((kind for kind in kinds if _HYBRID.search(kind)), None):
        yield (
            f"hybrid blocks of {name} begin with a shared attention block, fed with input and embeddings side by side; "
            f"{hybrid.rpartition('.')[0]} stands on the input plus what that block gives"
        )
