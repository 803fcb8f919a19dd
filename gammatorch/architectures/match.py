"""From the keys of a checkpoint to its stacks and their norms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gammatorch.architectures.base import LAYER, PLACES, NormSite, Stack
from gammatorch.architectures.config import ModelConfig, read_config
from gammatorch.architectures.families import (
    FINALS,
    HEAD_ONLY,
    MOVABLE,
    NUMBERED,
    ODD_FINALS,
    OFFSETS,
    POST_NORM,
    PRE_NORM,
    VOCABULARY,
    is_known,
)
from gammatorch.architectures.keys import (
    LEAVES,
    Rows,
    embeds_patches,
    group_keys,
    is_conditioned,
    is_list_of_norms,
    is_wrapped,
    may_end_elsewhere,
    own_name,
    unwrapped,
)
from gammatorch.architectures.notes import fed_with_what, notes_on
from gammatorch.architectures.parts import types_of
from gammatorch.architectures.places import (
    AFTER,
    is_diffusers,
    is_swin_v2,
    is_torch,
    may_be_on_output,
    may_be_pre_norm,
    norm_after_convolution,
    norms_stand_on_output,
    read_places,
    residual_is_normed,
    says_pre_norm,
)
from gammatorch.architectures.stages import Stage, choice_note, main_stage, split_stages, stages_of
from gammatorch.checkpoints.base import Checkpoint, TensorEntry

_TOWER = re.compile(
    r"vision|visual|video|image|pixel|audio|sound|(^|\.)(speech|codec)[_.]|(^|\.)(vit|vpm|apm|tts|mit|patch_.*|vq\w*)(\.|$)",
    re.IGNORECASE,
)
_TOWER_TYPE = re.compile(r"_(vision|audio|image)(_\w+)?$")
"""Types of towers that were saved on their own, so that their keys do not say it."""

_ENCODER = re.compile(r"(^|\.|_)encoder(\.|_|$)")
_ONLY_PREPARES = re.compile(r"feature_extractor|\.conv_layers$|patch_embed")
"""Lists of convolutions that prepare the input, within what they prepare it for: their norms stand at no place of a
block."""

_SIDE = re.compile(
    "|".join(
        (
            r"(^|\.)(mtp|nextn|patcher|prompts_generator|(\w+_)?(predictor|adapter|pooler|head)(\.|$))",
            r"talker|t2u_model|token2wav|depth_decoder",
            r"diffusion|expert|assistant|draft",
            r"multimodal_model|merger|connector|projector|(^|\.)(neck|fusion_stage)\.",
            _ONLY_PREPARES.pattern,
        )
    )
)
"""Stacks beside the model's own: heads, speech generators, action experts, what only prepares the input."""

_USUAL = ("layers", "h", "layer", "block")
_PARALLEL = ("use_parallel_residual", "parallel_attn", "parallel_block")
"""Settings of config.json by which models say that attention and MLP stand side by side."""

_WAV2VEC2 = {"layer_norm", "final_layer_norm"}
"""Names within the blocks of wav2vec2 and its kin."""

_QUERY_FORMER = "output_query.LayerNorm"
"""A name that only the blocks of BLIP-2's query formers have, which are post-LN."""


def find_stacks(checkpoint: Checkpoint) -> tuple[Stack, ...]:
    """Every stack of the checkpoint that has norms, with what is known of them; the main one first.

    Where the main one has stages, that is the longest of these (:func:`~gammatorch.architectures.stages.main_stage`),
    and the stack that holds it comes next.

    The keys decide: a stack is whatever stands before a key's first whole-number part, a norm is a one- or
    two-dimensional ``weight``, ``gamma`` or ``scale`` with a norm's name. config.json tells the number of layers and
    the offsets.

    Args:
        checkpoint: An open checkpoint.

    Returns:
        Its stacks; none if no key looks like a norm in a numbered block.

    Raises:
        MalformedCheckpoint: config.json contradicts itself.
    """
    config = read_config(checkpoint.config, f"{checkpoint.source.name}/config.json")
    blocks, norms = group_keys(checkpoint.entries)
    entries = checkpoint.entries
    if any(is_wrapped(entry.key) for norm in norms.values() for rows in norm.values() for entry in rows.values()):
        entries = {unwrapped(key): entry for key, entry in entries.items()}
    names = sorted(norms, key=lambda name: _main_order(name, blocks[name], norms[name], config))
    text_is_named = _is_text_named(blocks, names, config)
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
                ends=bool(ends or finals),
                text_is_named=text_is_named,
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
        stack = _describe(
            name, blocks[name], own, config, entries, finals, ends=bool(finals), text_is_named=text_is_named
        )
        taken |= {site.rows[0][1].key for site in stack.sites if site.place == "final"}
        notes = (*stack.notes, *choice_note(name, stages)) if stages else stack.notes
        names_of_stages = tuple(stage.name for stage in stages)
        stacks += [replace(stack, main=not stacks, stages=names_of_stages, notes=notes), *stages]
    if not stacks:
        return ()
    first, *others = stacks
    first = replace(first, notes=(*first.notes, *_rivals(stacks), *_conditioned(first, config, entries)))
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


def _rivals(stacks: Sequence[Stack]) -> Iterator[str]:
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
    return _SIDE.search(name) is not None, _TOWER.search(name) is not None, _ENCODER.search(name) is not None


def _main_order(
    name: str, blocks: Mapping[int, set[str]], norms: Mapping[str, Rows], config: ModelConfig
) -> tuple[bool | int | str, ...]:
    """Sort key: blocks before lists of norms, text before other towers, decoders before encoders, the count of
    config.json, the longest."""
    count = len(blocks) - len(_prediction_heads(blocks, config))
    return (
        is_list_of_norms(blocks, norms),
        *_rank(name),
        count != config.num_layers,
        name.rpartition(".")[2] not in _USUAL,
        -count,
        name,
    )


def _prediction_heads(blocks: Mapping[int, set[str]], config: ModelConfig) -> set[int]:
    """Blocks beyond the last layer that predict further tokens: they have names that no other block has."""
    return {
        layer
        for layer, names in blocks.items()
        if layer >= (config.num_layers or 0) and any(name.startswith(HEAD_ONLY) for name in names)
    }


def _describe(
    name: str,
    blocks: Mapping[int, set[str]],
    norms: Mapping[str, Rows],
    config: ModelConfig,
    entries: Mapping[str, TensorEntry],
    finals: Sequence[TensorEntry],
    *,
    ends: bool,
    text_is_named: bool,
) -> Stack:
    """A stack of blocks from its names and norms, the norms that may be its final one, and whether there are any."""
    heads = _prediction_heads(blocks, config)
    is_tower = _TOWER.search(name) is not None or any(map(_TOWER_TYPE.search, config.types))
    # towers hand on what their last block gives, so a missing final norm says nothing of them
    pre_norm = (
        ends
        or is_tower
        or (not config.types and embeds_patches(name, entries))
        or any(re.search(PRE_NORM[model_type], name) for model_type in config.types if model_type in PRE_NORM)
    )
    said = says_pre_norm(config, name)
    if said is not None:
        pre_norm = said
    kinds = frozenset().union(*blocks.values())
    own_names = {own_name(rest) for rest in norms}
    if own_names >= _WAV2VEC2:  # its norm beside the stack may stand before the first block
        said = config.says("do_stable_layer_norm")
        pre_norm = said is True
        finals = finals if pre_norm else ()
    if _QUERY_FORMER in own_names:  # the norm beside its stack stands on the queries, before the first block
        pre_norm, finals = False, ()
    fed_with = fed_with_what(norms, kinds, config)
    known = bool(config.types) and all(map(is_known, config.types))
    known_names = set() if _ONLY_PREPARES.search(name) else own_names
    untold = said is None and not known and not is_diffusers(kinds)
    ends_unseen = untold and (may_end_elsewhere(entries) or is_conditioned(entries))
    if not pre_norm and (ends_unseen or (said is None and may_be_pre_norm(config))):
        known_names = known_names - MOVABLE
    notes = tuple(notes_on(name, heads, fed_with, kinds, config))
    if untold and (not pre_norm or is_torch(kinds) or may_be_on_output(kinds, config)) and not is_swin_v2(kinds):
        # that no norm stands after the last block says little: most vision models are pre-norm all the same
        known_names = known_names - NUMBERED
    if untold and is_torch(kinds):
        notes += (f"{name} is PyTorch's nn.Transformer: norm1 stands on the block's input if norm_first was set",)
    places = read_places(known_names, kinds, config, has_final=pre_norm, said=said)
    if norms_stand_on_output(config) and not is_tower:
        places = {own: AFTER.get(place, place) for own, place in places.items()}
    found: dict[str, list[tuple[str, Rows]]] = defaultdict(list)
    for rest, rows in norms.items():
        kept = {layer: entry for layer, entry in rows.items() if layer not in heads}
        if kept:
            found[places.get(own_name(rest), own_name(rest))].append((rest, kept))
    _fill_hybrid_layers(found)
    own_types, rest_of_name, _ = types_of(config.whole, name, is_beside, text_is_named=text_is_named)
    offset = partial(_offset_at, own_types, rest_of_name)
    sites = [NormSite(place, *_merge(name, rests), offset(place)) for place, rests in found.items()]
    if finals:
        final = finals[0]
        sites.append(NormSite("final", final.key, ((None, final),), offset("final")))
    order = list(PLACES)
    sites.sort(key=lambda site: (order.index(site.place) if site.place in order else len(order), site.place))
    return Stack(
        name=name,
        main=False,
        layout=_layout(sites, blocks.keys() - heads, config)
        if norm_after_convolution(known_names, kinds) is None
        else "one norm per block, between a convolution and the MLP",
        layers=tuple(sorted(blocks.keys() - heads)),
        sites=tuple(sites),
        offset_known=bool(own_types) and all(map(is_known, own_types)),
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
    rows = {layer: entry for _, of_rest in ordered for layer, entry in of_rest.items()}
    pattern = ".".join(part for part in (stack, LAYER, ordered[0][0]) if part)
    return pattern, tuple((layer, rows[layer]) for layer in sorted(rows))


def offset_of(config: ModelConfig, place: str) -> float:
    """What the type of the text model adds to the stored weights of its norm at a place; 0 for unknown types.

    Example:
        >>> offset_of(read_config({"model_type": "gemma2"}), "input")
        1.0
    """
    return _offset_at(config.types, "", place)


def unknown_type(config: ModelConfig, stack: str | None) -> str | None:
    """The first of the types that tell of a stack whose offsets are not known; None if all are.

    Args:
        config: What config.json says.
        stack: Name of the stack; the text model's if None.

    Example:
        >>> unknown_type(read_config({"model_type": "my_llava", "text_config": {"model_type": "llama"}}), None)
        'my_llava'
    """
    types = types_of(config.whole, stack or "", is_beside).types
    return next((model_type for model_type in types if not is_known(model_type)), None)


def _offset_at(types: Sequence[str], name: str, place: str) -> float:
    """What the innermost of a stack's types that is known adds; the name is what is left of the stack's within it."""
    for model_type in reversed(types):
        if model_type in OFFSETS:
            offsets = OFFSETS[model_type]
            if _TOWER.search(name):
                return offsets.towers
            return offsets.places.get(place, offsets.default if place in PLACES else offsets.elsewhere)
        if is_known(model_type):
            return 0.0
    return 0.0


def _is_text_named(blocks: Mapping[str, Mapping[int, set[str]]], names: Iterable[str], config: ModelConfig) -> bool:
    """Whether a stack with as many blocks as the text model has is named as that one's."""
    return any(
        len(blocks[name]) - len(_prediction_heads(blocks[name], config)) == config.num_layers
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
    if residual_is_normed(config):
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
    names = [name for name in (*odd, *FINALS) if name != "embedding_norm" or not _TOWER.search(stack)]
    for beside in dict.fromkeys((parent, parent.rpartition(".")[0])):
        for name in names:
            for leaf in LEAVES:
                entry = entries.get(f"{beside}.{name}{leaf}" if beside else f"{name}{leaf}")
                if entry is not None and len(entry.shape) == 1:
                    found.append(entry)
    return found
