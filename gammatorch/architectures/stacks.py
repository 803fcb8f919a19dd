"""From the keys of a checkpoint to its stacks and their norms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

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
from gammatorch.architectures.offsets import find_offsets
from gammatorch.architectures.order import ONLY_PREPARES, is_beside, is_student, main_order, prediction_heads, rivals
from gammatorch.architectures.parts import types_of
from gammatorch.architectures.places import is_draft_head, norm_after_convolution, read_places
from gammatorch.architectures.sides import choose_side
from gammatorch.architectures.stages import Stage, choice_note, join_chunks, main_stage, split_stages, stages_of
from gammatorch.architectures.sublayers import places_of_slots
from gammatorch.architectures.vocabulary import EMBEDDING_NORMS, FINALS, VOCABULARY
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.checkpoints.opening import Model, open_checkpoint

_PARALLEL = ("use_parallel_residual", "parallel_attn", "parallel_block")
"""Settings of config.json by which models say that attention and MLP stand side by side."""

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
    finder = _Finder(open_checkpoint(checkpoint))
    stacks = [stack for name in finder.names for stack in finder.stacks_of(name)]
    if not stacks:
        return ()
    first, *others = stacks
    first = replace(first, main=True, notes=(*first.notes, *rivals(stacks), *finder.conditioned(first)))
    main = main_stage(stages_of(first, others))
    if main is None:
        return (first, *others)
    return (replace(main, main=True), replace(first, main=False), *(stack for stack in others if stack is not main))


class _Finder:
    """The keys of a checkpoint by stacks, and what describes these, the main one first.

    Attributes:
        names: Names of what may be stacks, in the order in which they are described: a norm is the final one of the
            first that it stands beside.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._config = config = model_config(checkpoint)
        self._blocks, self._norms = blocks, norms = group_keys(checkpoint.entries)
        self._entries = checkpoint.entries
        if any(is_wrapped(entry.key) for norm in norms.values() for rows in norm.values() for entry in rows.values()):
            self._entries = {unwrapped(key): entry for key, entry in self._entries.items()}
        for name in list(norms):
            if (whole := join_chunks(name, blocks[name], norms[name])) is not None:
                del blocks[name], norms[name]
                blocks[whole[0]], norms[whole[0]] = whole[1], whole[2]
        self.names = sorted(
            norms, key=lambda name: (is_student(name, blocks), *main_order(name, blocks[name], norms[name], config))
        )
        self._text_is_named = any(map(self._is_named_text, self.names))
        self._taken: set[str] = set()  # keys of final norms

    def stacks_of(self, name: str) -> list[Stack]:
        """The stack of a name, and the stages that it holds; none where it is a list of the norms after stages."""
        finals = [final for final in self._finals_beside(name) if final.key not in self._taken]
        split = split_stages(name, self._blocks[name], self._norms[name], self._config)
        stages = [
            self._stage(stage, [*self._finals_of(name, stage, finals), *(finals if stage is split[-1] else ())], finals)
            for stage in split
        ]
        within = {entry.key for stage in split for rows in stage.norms.values() for entry in rows.values()}
        within |= self._taken
        own = {
            rest: kept
            for rest, rows in self._norms[name].items()
            if (kept := {layer: entry for layer, entry in rows.items() if entry.key not in within})
        }
        if not own and not stages:
            return []
        stack = self._describe(name, self._blocks[name], own, finals, ends=bool(finals))
        if stages:
            notes = (*stack.notes, *choice_note(name, stages))
            stack = replace(stack, stages=tuple(stage.name for stage in stages), notes=notes)
        return [stack, *stages]

    def conditioned(self, main: Stack) -> Iterator[str]:
        """A note on what else multiplies in diffusion models, whose final norm has no weights."""
        if not self._config.types and main.site("final") is None and is_conditioned(self._entries):
            yield "a time step conditions this model: it may scale what a norm gives further, γ is the norm's own gain"

    def _stage(self, stage: Stage, ends: Sequence[TensorEntry], after_all: Sequence[TensorEntry]) -> Stack:
        described = self._describe(stage.prefix, stage.blocks, stage.norms, ends, ends=bool(ends or after_all))
        return replace(described, name=stage.name)

    def _describe(
        self,
        name: str,
        blocks: Mapping[int, set[str]],
        norms: Mapping[str, Rows],
        finals: Sequence[TensorEntry],
        *,
        ends: bool,
    ) -> Stack:
        """A stack from the names in its blocks, its norms, and those that may be its final one, if any norm may be."""
        config = self._config
        heads = prediction_heads(blocks, config)
        kinds = frozenset().union(*blocks.values())
        names = frozenset() if ONLY_PREPARES.search(name) else frozenset(map(own_name, norms))
        evidence = Evidence(name.removesuffix(f".{ANY}"), names, kinds, config, self._entries, ends)
        side = choose_side(evidence)
        offsets = find_offsets(self._checkpoint, config, name, text_is_named=self._text_is_named)
        found = _by_place(norms, blocks, heads, read_places(evidence, side))
        sites = [NormSite(place, *_merge(name, rests), offsets.at(place)) for place, rests in found.items()]
        if finals and side.ends:
            sites.append(NormSite("final", finals[0].key, ((None, finals[0]),), offsets.at("final")))
            self._taken.add(finals[0].key)
        layers = blocks.keys() - heads
        fed_with = _fed_with(norms, kinds, config)
        return Stack(
            name=name,
            main=False,
            layout=_layout(sites, layers, evidence),
            layers=tuple(sorted(layers)),
            sites=tuple(sorted(sites, key=_in_order)),
            offset_doubt=offsets.doubt,
            kinds={layer: frozenset(blocks[layer]) for layer in blocks if layer not in heads},
            fed_with=fed_with,
            notes=tuple(_notes_on(name, heads, fed_with, evidence)),
        )

    def _is_named_text(self, name: str) -> bool:
        """Whether a stack has as many blocks as the text model, and is named as that one's."""
        heads = prediction_heads(self._blocks[name], self._config)
        as_many = len(self._blocks[name]) - len(heads) == self._config.num_layers
        return as_many and types_of(self._config.whole, name, is_beside).names_text

    def _finals_of(self, stack: str, stage: Stage, after_all: Sequence[TensorEntry]) -> list[TensorEntry]:
        """The norm after the last block of a stage, within it or in a list of such norms beside the stages, not those
        after the last stage."""
        listed = (f"{stack.rpartition('.')[0]}.{name}.{stage.number}{leaf}" for name in FINALS for leaf in LEAVES)
        found = [self._entries[key] for key in (key.lstrip(".") for key in listed) if key in self._entries]
        beside = self._finals_beside(stage.name) if stage.prefix == stage.name else []
        kept = {final.key for final in after_all}
        return [final for final in [*beside, *found] if final.key not in kept]

    def _finals_beside(self, stack: str) -> list[TensorEntry]:
        """Norms under a final norm's name beside a stack (``model.norm``), or one level above it."""
        parent, _, last = stack.rpartition(".")
        odd = [ODD_FINALS[of][last] for of in self._config.types if last in ODD_FINALS.get(of, {})]
        names = [name for name in (*odd, *FINALS) if name != "embedding_norm" or not TOWER.search(stack)]
        keys = [
            f"{beside}.{name}{leaf}".removeprefix(".")
            for beside in dict.fromkeys((parent, parent.rpartition(".")[0]))
            for name in names
            for leaf in LEAVES
        ]
        return [self._entries[key] for key in keys if key in self._entries and self._entries[key].is_row]


def _by_place(
    norms: Mapping[str, Rows], blocks: Mapping[int, set[str]], heads: Collection[int], places: Mapping[str, str]
) -> dict[str, list[tuple[str, Rows]]]:
    """The norms at each place, by their names after the layer; those whose place is not told by their own names."""
    found: dict[str, list[tuple[str, Rows]]] = defaultdict(list)
    for rest, rows in norms.items():
        kept = {layer: entry for layer, entry in rows.items() if layer not in heads}
        name = own_name(rest)
        if kept and name in SLOTS:
            for place, of_place in places_of_slots(name, kept, blocks).items():
                found[place].append((rest, of_place))
        elif kept:
            found[places.get(name, name)].append((rest, kept))
    _fill_hybrid_layers(found)
    return found


def _in_order(site: NormSite) -> tuple[int, str]:
    """Sort key: the places in their order, then norms that stand at none by name."""
    order = list(PLACES)
    return order.index(site.place) if site.place in order else len(order), site.place


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


def _layout(sites: Iterable[NormSite], layers: Collection[int], evidence: Evidence) -> str | None:
    """How the blocks are normalised, in a few words; None if no name tells."""
    config = evidence.config
    if norm_after_convolution(evidence.names, evidence.kinds) is not None:
        return "one norm per block, between a convolution and the MLP"
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


def _fed_with(norms: Mapping[str, Rows], kinds: Collection[str], config: ModelConfig) -> str | None:
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


def _notes_on(name: str, heads: Collection[int], fed_with: str | None, evidence: Evidence) -> Iterator[str]:
    """What a reader should know of a stack beside its sites."""
    config = evidence.config
    for layer in sorted(heads):
        yield f"multi-token-prediction head {name}.{layer} left out"
    if fed_with is not None:
        yield f"the norm on the input in {name} is fed with {fed_with}"
    if config.raw.get("normalization_type") == "no_norm":  # MobileBERT
        yield f"config.json says no_norm: γ multiplies what comes in as it is in {name}, nothing is normalised before"
    if config.divides_norms:
        yield "AWQ has divided norms by the scales of what follows them: γ here is not the original model's"
    if hybrid := next((kind for kind in evidence.kinds if _HYBRID.search(kind)), None):
        yield (
            f"hybrid blocks of {name} begin with a shared attention block, fed with input and embeddings side by side; "
            f"{hybrid.rpartition('.')[0]} stands on the input plus what that block gives"
        )
    if evidence.is_torch and not evidence.is_known:
        yield f"{name} is PyTorch's nn.Transformer: norm1 stands on the block's input if norm_first was set"
    if is_draft_head(evidence):
        yield f"no norm stands on the input of {name}, as in EAGLE's draft heads: the one there is the MLP's"
