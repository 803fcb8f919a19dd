"""From the keys of a checkpoint to its stacks and their norms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from gammatorch.architectures.base import LAYER, PLACES, NormSite, Stack
from gammatorch.architectures.config import ModelConfig, read_config
from gammatorch.architectures.families import (
    AMBIGUOUS,
    BARE,
    BETWEEN,
    FINALS,
    HEAD_ONLY,
    MACARON,
    MOVABLE,
    ODD_FINALS,
    OFFSETS,
    PRE_NORM,
    VOCABULARY,
    is_known,
)
from gammatorch.checkpoints.base import Checkpoint, TensorEntry

_INDEX = re.compile(r"(?:^|(?<=\.))\d{1,9}(?=\.)")
_NORM = re.compile(r"norm|(?:^|[._])ln(?:[._]|\d|$)|^hc_", re.IGNORECASE)
_LEAVES = (".weight", ".gamma", ".scale", ".w")
_FUSED = ".layer_norm_weight"
"""Leaf of a norm that Transformer Engine keeps within the layer that it feeds."""

_BARE_LEAVES = frozenset(leaf[1:] for leaf in _LEAVES)
_TOWER = re.compile(
    r"vision|visual|image|pixel|audio|sound|(^|\.)speech[_.]|(^|\.)(vit|vpm|apm|tts|patch_.*|vq\w*)(\.|$)",
    re.IGNORECASE,
)
_TOWER_TYPE = re.compile(r"_(vision|audio|image)(_\w+)?$")
"""Types of towers that were saved on their own, so that their keys do not say it."""

_ENCODER = re.compile(r"(^|\.|_)encoder(\.|_|$)")
_ONLY_PREPARES = re.compile(r"feature_extractor|conv_layers|patch_embed")
"""Lists of convolutions that prepare the input: their norms stand at no place of a block."""

_BEFORE_BLOCKS = re.compile(r"emb|patch|stem|token|pre_?(norm|ln|layer)|(norm|ln)_?pre", re.IGNORECASE)
"""Norms outside of blocks that stand before the first one."""

_SIDE = re.compile(
    r"(^|\.)(mtp|nextn)|talker|code_predictor|token2wav|depth_decoder|diffusion|expert|assistant|draft"
    r"|multimodal_model|merger|connector|projector|" + _ONLY_PREPARES.pattern
)
"""Stacks beside the model's own: prediction heads, speech generators, action experts, what only prepares the input."""

_USUAL = ("layers", "h", "layer", "block")
_PARALLEL = ("use_parallel_residual", "parallel_attn", "parallel_block")
"""Settings of config.json by which models say that attention and MLP stand side by side."""

_SAYS_PRE_NORM = {"opt": "do_layer_norm_before", "flaubert": "pre_norm"}
"""The settings of config.json that decide it, by type."""

_WAV2VEC2 = {"layer_norm", "final_layer_norm"}
"""Names within the blocks of wav2vec2 and its kin."""

_QUERY_LATENT = {"attn.q_norm": "attn.wq_a."}
"""DeepSeek's own names: beside this projection the norm stands on the latent that the queries are made from."""

_HYPER = re.compile(r"(^|\.)hc_|hyper_connection")
"""Names of hyper-connections, which keep several residual streams and mix them before each norm."""

_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing put into names."""

_DIGITS = bytes.maketrans(b"123456789", b"000000000")

_Rows = dict[int, TensorEntry]


def find_stacks(checkpoint: Checkpoint) -> tuple[Stack, ...]:
    """Every stack of the checkpoint that has norms, with what is known of them; the main one first.

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
    blocks, norms = _group(checkpoint.entries)
    names = sorted(norms, key=lambda name: _main_order(name, blocks[name], config))
    stacks: list[Stack] = []
    for name in names:
        taken = {final.rows[0][1].key for stack in stacks if (final := stack.site("final")) is not None}
        stacks.append(_describe(name, not stacks, blocks[name], norms[name], checkpoint, config, taken))
    return tuple(stacks)


def read_names(names: Iterable[str], *, has_final: bool) -> dict[str, str]:
    """What the norms of a block are called → where they stand.

    The vocabulary's first name at each place counts. ``post_attention_layernorm`` stands before the MLP (Llama) unless
    another norm does (Gemma 2) or no norm stands on the block's input (OLMo 2): then it is on attention's output. In a
    stack without a final norm, names that post-LN models share stand after the residual.

    Args:
        names: Names within the block, without layer index and ``.weight``.
        has_final: Whether a norm stands after the last block.

    Returns:
        Place by name; names that tell no place are left out.

    Example:
        >>> read_names(["input_layernorm", "post_attention_layernorm"], has_final=True)
        {'input_layernorm': 'input', 'post_attention_layernorm': 'pre_mlp'}
        >>> read_names(["post_attention_layernorm", "post_feedforward_layernorm"], has_final=True)
        {'post_feedforward_layernorm': 'post_mlp', 'post_attention_layernorm': 'post_attention'}
        >>> read_names(["self_attn_layer_norm", "final_layer_norm"], has_final=False)
        {'self_attn_layer_norm': 'post_attention', 'final_layer_norm': 'post_mlp'}
    """
    present = set(names)
    places: dict[str, str] = {}
    for place, words in VOCABULARY.items():
        word = next((word for word in words if word in present), None)
        if word is not None:
            places[word] = place
    if places.keys() <= BARE:
        places = {}
    if {"attn_norm", "attn_norm_2"} <= present:  # GGUF's Falcon: the second feeds attention, the first the MLP
        places |= {"attn_norm_2": "input", "attn_norm": "pre_mlp"}
    if present & MACARON and "final_layer_norm" in present:  # it ends a conformer's block
        places["final_layer_norm"] = "post_mlp"
    between = {"post_attention_layernorm"} if "final_layernorm" in present else set()  # it feeds cross-attention
    strange = {name for name in present - AMBIGUOUS - places.keys() - between if is_strange(name)}
    untold = "input" not in places.values() and strange  # one of these may stand on the block's input
    for name in (present & AMBIGUOUS) - between if not untold else ():
        taken = set(places.values())
        on_output = "pre_mlp" in taken or "input" not in taken
        places[name] = "post_attention" if on_output else "pre_mlp"
    if not has_final:
        after = {"input": "post_attention", "pre_mlp": "post_mlp"}
        places = {name: after.get(place, place) if name in MOVABLE else place for name, place in places.items()}
    return _first_of_each(places)


def is_strange(name: str) -> bool:
    """Whether a norm that tells no place may stand at any: it is the block's own, and not cross-attention's.

    Example:
        >>> is_strange("first_norm"), is_strange("cross_attn_norm"), is_strange("mixer.norm")
        (True, False, False)
    """
    return "." not in name and BETWEEN.search(name) is None


def unwrapped(key: str) -> str:
    """A key without what wrappers put into it.

    Example:
        >>> unwrapped("_orig_mod.transformer.h.0.ln_1.weight")
        'transformer.h.0.ln_1.weight'
    """
    return _WRAPPERS.sub("", key)


def is_beside(stack: str) -> bool:
    """Whether a stack's name says that it is not the model's own: a tower, a head, an encoder."""
    return any(pattern.search(stack) is not None for pattern in (_TOWER, _SIDE, _ENCODER))


def _first_of_each(places: Mapping[str, str]) -> dict[str, str]:
    """Each place once, for the name that came to it first."""
    unique: dict[str, str] = {}
    for name, place in places.items():
        if place not in unique.values():
            unique[name] = place
    return unique


def _group(entries: Mapping[str, TensorEntry]) -> tuple[dict[str, dict[int, set[str]]], dict[str, dict[str, _Rows]]]:
    """Blocks of each stack with the names in them, and its norms by name, leaf and layer."""
    blocks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    norms: dict[str, dict[str, _Rows]] = defaultdict(lambda: defaultdict(dict))
    for keys in _alike(list(entries)):
        plain = [unwrapped(key) for key in keys] if _WRAPPERS.search(keys[0]) else keys
        index = _INDEX.search(plain[0])
        if index is None:
            continue
        start, stop = index.span()
        rest = plain[0][stop + 1 :]
        may_be_norms = rest in _BARE_LEAVES or any(_is_norm(rest, dimensions) for dimensions in (1, 2))
        by_block: dict[str, dict[str, str]] = defaultdict(dict)
        for key, name in zip(keys, plain, strict=True):
            by_block[name[:stop]][name[stop + 1 :]] = key
        for block, names in by_block.items():
            stack, layer = block[:start].rstrip("."), int(block[start:])
            if rest in _BARE_LEAVES:  # XLM: a list of norms beside the list of attentions
                stack, _, name = stack.rpartition(".")
                names = {f"{name}.{rest}": names[rest]}
            blocks[stack][layer].update(names)
            for name, key in names.items() if may_be_norms else ():
                if _is_norm(name, len(entries[key].shape)):
                    norms[stack][name][layer] = entries[key]
    return blocks, norms


def _alike(keys: Sequence[str]) -> Iterable[list[str]]:
    """The keys that differ in nothing but digits, together: their parts stand at the same places."""
    forms = "\n".join(keys).encode("utf-8", "surrogatepass").translate(_DIGITS).split(b"\n")
    if len(forms) != len(keys):  # a key holds a line break
        forms = [key.encode("utf-8", "surrogatepass").translate(_DIGITS) for key in keys]
    alike: dict[bytes, list[str]] = defaultdict(list)
    for form, key in zip(forms, keys, strict=True):
        alike[form].append(key)
    return alike.values()


@lru_cache(maxsize=65_536)  # the blocks of a stack repeat the same few names
def _is_norm(rest: str, dimensions: int) -> bool:
    """By its name; of two dimensions, one gain per head, only where the last name says so: gates hold matrices."""
    if not rest.endswith((*_LEAVES, _FUSED)) or dimensions not in (1, 2):
        return False
    name = _own_name(rest) if dimensions == 1 else rest.split(".")[-2]
    return _NORM.search(name) is not None


def _main_order(name: str, blocks: Mapping[int, set[str]], config: ModelConfig) -> tuple[bool | int | str, ...]:
    """Sort key: text before other towers, decoders before encoders, the count of config.json, the longest."""
    count = len(blocks) - len(_prediction_heads(blocks, config))
    return (
        _TOWER.search(name) is not None,
        _SIDE.search(name) is not None,
        _ENCODER.search(name) is not None,
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
    main: bool,
    blocks: Mapping[int, set[str]],
    norms: Mapping[str, _Rows],
    checkpoint: Checkpoint,
    config: ModelConfig,
    taken: Collection[str],
) -> Stack:
    heads = _prediction_heads(blocks, config)
    entries = checkpoint.entries
    if any(_WRAPPERS.search(entry.key) for rows in norms.values() for entry in rows.values()):
        entries = {unwrapped(key): entry for key, entry in entries.items()}
    finals = [final for final in _finals_beside(name, entries, config) if final.key not in taken]
    is_tower = _TOWER.search(name) is not None or any(map(_TOWER_TYPE.search, config.types))
    # towers hand on what their last block gives, so a missing final norm says nothing of them
    pre_norm = bool(finals) or is_tower or not PRE_NORM.isdisjoint(config.types)
    said = [config.raw.get(_SAYS_PRE_NORM[model_type]) for model_type in config.types if model_type in _SAYS_PRE_NORM]
    if True in said or False in said:
        pre_norm = True in said
    kinds = frozenset().union(*blocks.values())
    own_names = {_own_name(rest) for rest in norms}
    if own_names >= _WAV2VEC2:  # its norm beside the stack may stand before the first block
        pre_norm = config.raw.get("do_stable_layer_norm") is True
        finals = finals if pre_norm else []
    on_latent = {norm for norm, beside in _QUERY_LATENT.items() if any(kind.startswith(beside) for kind in kinds)}
    known_names = set() if _ONLY_PREPARES.search(name) else own_names - on_latent
    offset_known = bool(config.types) and all(map(is_known, config.types))
    if not pre_norm and not offset_known and _may_end_elsewhere(entries):
        known_names -= MOVABLE
    places = read_names(known_names, has_final=pre_norm)
    found: dict[str, list[tuple[str, _Rows]]] = defaultdict(list)
    for rest, rows in norms.items():
        kept = {layer: entry for layer, entry in rows.items() if layer not in heads}
        if kept:
            found[places.get(_own_name(rest), _own_name(rest))].append((rest, kept))
    _fill_hybrid_layers(found)
    sites = [NormSite(place, *_merge(name, rests), offset_of(config, place, name)) for place, rests in found.items()]
    if finals:
        final = finals[0]
        sites.append(NormSite("final", final.key, ((None, final),), offset_of(config, "final", name)))
    order = list(PLACES)
    sites.sort(key=lambda site: (order.index(site.place) if site.place in order else len(order), site.place))
    return Stack(
        name=name,
        main=main,
        layout=_layout(sites, blocks.keys() - heads, config),
        layers=tuple(sorted(blocks.keys() - heads)),
        sites=tuple(sites),
        offset_known=offset_known,
        kinds={layer: frozenset(names) for layer, names in blocks.items() if layer not in heads},
        notes=tuple(_notes(name, heads, kinds)),
    )


def _notes(name: str, heads: Collection[int], kinds: Collection[str]) -> Iterator[str]:
    for layer in sorted(heads):
        yield f"multi-token-prediction head {name}.{layer} left out"
    if any(_HYPER.search(kind) for kind in kinds):
        yield f"hyper-connections: the norms of {name} stand on a mix of several residual streams"


def _fill_hybrid_layers(found: dict[str, list[tuple[str, _Rows]]]) -> None:
    """Blocks of another kind (Zamba's with attention) may have their input norm under another of its names."""
    if "input" not in found:
        return
    covered = {layer for _, rows in found["input"] for layer in rows}
    for word in VOCABULARY["input"]:
        if word in found and covered.isdisjoint(layer for _, rows in found[word] for layer in rows):
            covered |= {layer for _, rows in found[word] for layer in rows}
            found["input"] += found.pop(word)


def _merge(stack: str, rests: Iterable[tuple[str, _Rows]]) -> tuple[str, tuple[tuple[int | None, TensorEntry], ...]]:
    """Pattern and rows of a site whose tensors may be written with different leaves."""
    ordered = list(rests)
    rows = {layer: entry for _, of_rest in ordered for layer, entry in of_rest.items()}
    pattern = ".".join(part for part in (stack, LAYER, ordered[0][0]) if part)
    return pattern, tuple((layer, rows[layer]) for layer in sorted(rows))


def offset_of(config: ModelConfig, place: str, stack: str = "") -> float:
    """What the model's type adds to the stored weights of a stack's norm at a place; 0 for unknown types.

    Norms that stand at no place (inside a mixer, say) are plain unless the table names them.

    Example:
        >>> offset_of(read_config({"model_type": "gemma2"}), "input")
        1.0
    """
    for model_type in reversed(config.types):  # the text model's own type says more than its wrapper's
        if model_type in OFFSETS:
            offsets = OFFSETS[model_type]
            if _TOWER.search(stack):
                return offsets.towers
            return offsets.places.get(place, offsets.default if place in PLACES else 0.0)
    return 0.0


def _layout(sites: Iterable[NormSite], layers: Collection[int], config: ModelConfig) -> str | None:
    """How the blocks are normalised, in a few words; None if no name tells."""
    present = {site.place: site for site in sites if site.place in PLACES}
    on_output, on_input = present.keys() & {"post_attention", "post_mlp"}, present.keys() & {"input", "pre_mlp"}
    if not on_input and not on_output:
        return None
    if not on_input:
        return "output norms only" if "final" in present else "post-LN"
    layout = "sandwich norms" if on_output else "pre-norm"
    if "pre_mlp" not in present:
        layout += ", one norm per block"
    if any(config.raw.get(name) is True for name in _PARALLEL):
        layout += ", attention and MLP in parallel"
    uneven = "input" in present and len(present["input"].rows) < len(layers)
    return f"mixed: {layout}, not in all blocks" if uneven else layout


def _own_name(rest: str) -> str:
    """The norm's name without the leaf; ``input_layernorm.norm`` is an ``input_layernorm`` with a gate or the like."""
    name = rest.removesuffix("_weight") if rest.endswith(_FUSED) else rest.rpartition(".")[0]
    stem, _, last = name.rpartition(".")
    return stem if last == "norm" and _NORM.search(stem) else name


def _may_end_elsewhere(entries: Mapping[str, TensorEntry]) -> bool:
    """Whether a norm in no block, which does not stand before the first one, may be the final one of another name."""
    outside = (key for key, entry in entries.items() if not _INDEX.search(key) and _is_norm(key, len(entry.shape)))
    return not all(map(_BEFORE_BLOCKS.search, outside))


def _finals_beside(stack: str, entries: Mapping[str, TensorEntry], config: ModelConfig) -> list[TensorEntry]:
    """Norms under a final norm's name beside a stack (``model.norm``), or one level above it."""
    found = []
    parent = stack.rpartition(".")[0]
    odd = (ODD_FINALS[model_type] for model_type in config.types if model_type in ODD_FINALS)
    names = [name for name in (*odd, *FINALS) if name != "embedding_norm" or not _TOWER.search(stack)]
    for beside in dict.fromkeys((parent, parent.rpartition(".")[0])):
        for name in names:
            for leaf in _LEAVES:
                entry = entries.get(f"{beside}.{name}{leaf}" if beside else f"{name}{leaf}")
                if entry is not None and len(entry.shape) == 1:
                    found.append(entry)
    return found
