"""From the names of a block's norms to the places where they stand.

First the vocabulary says what names make plain, but for those that a rule takes out (:data:`LEFT_OUT`); then rules for
some architectures change that (:data:`MOVED`). Each rule says what it was verified on, and fires nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gammatorch.architectures.evidence import Evidence
from gammatorch.architectures.families import CROSS_FIRST, GGUF_PLACES, ODD_PLACES
from gammatorch.architectures.keys import is_batch_norm
from gammatorch.architectures.sides import Side
from gammatorch.architectures.vocabulary import (
    AFTER,
    AMBIGUOUS,
    BARE,
    BETWEEN,
    CROSSES,
    NORMS_OF_DECODERS,
    NUMBERED,
    PLAIN,
    STEMS,
    read_names,
)

_DEPTHWISE = ("depthwise_conv.", "dwconv.", "conv_dw.")
_MLP_AFTER_CONVOLUTION = ("pointwise_conv1.", "pwconv1.", "mlp.fc1.")
_CONVOLUTIONS = frozenset({"conv1.weight", "conv2.weight"})
_AT_END = "final_layernorm"
_BESIDE_LAST = frozenset({_AT_END, "input_layernorm", "post_attention_layernorm"})
_IN_SUB_LAYERS = {"self_attn.norm": "input", "ffn.norm": "pre_mlp", "cross_attn.norm": ""}
_BERT_BEFORE = {"attention.output.LayerNorm": "input", "output.LayerNorm": "pre_mlp"}
_GGUF_CONFORMER = frozenset({"ffn_norm", "ffn_norm_1", "ln1", "ln2"})
_OLMO = {"attn_norm": "post_attention", "ff_norm": "post_mlp"}
_OLMO_CORE = {"attention_norm": "post_attention", "feed_forward_norm": "post_mlp"}
_OLMO_HEADS = {"q_norm": "query", "k_norm": "key"}
_ON_HEADS = re.compile(r"(^|[._])(q|k|query|key)_?(layer_?)?(norm|ln)|norm_[qk]$")
_WITHIN_MLP = re.compile(r"(mlp|ffn?|feed_?forward)\.(layer_?norm|norm|ln)")
_EAGLE = "fc"

Places = Mapping[str, str]
"""Place by what a norm is called within its block."""


@dataclass(frozen=True)
class NameRule:
    """Names that tell no place in some architecture, whatever the vocabulary says of them.

    Attributes:
        name: What the rule goes by.
        verified: On which models, or in whose code.
        names: The names that it takes out; none where it does not apply.
    """

    name: str
    verified: str
    names: Callable[[Evidence], Collection[str]]


@dataclass(frozen=True)
class PlaceRule:
    """Places that differ in some architecture from what the names make plain.

    Attributes:
        name: What the rule goes by.
        verified: On which models, or in whose code.
        move: The places, from those before it; None where it does not apply.
    """

    name: str
    verified: str
    move: Callable[[Places, Evidence, Side], Places | None]


def read_places(evidence: Evidence, side: Side) -> Places:
    """What the norms of a block are called → where they stand, by their names and by what stands beside them.

    Returns:
        Place by name; names that tell no place are left out.
    """
    told = set(evidence.names - side.untold)
    for rule in LEFT_OUT:
        told.difference_update(rule.names(evidence))
    places: Places = read_names(told, has_final=side.before)
    for moved in MOVED:
        changed = moved.move(places, evidence, side)
        places = changed if changed is not None else places
    return places


def norm_after_convolution(names: Collection[str], kinds: Collection[str]) -> str | None:
    """The one norm of blocks that mix by a depthwise convolution, between it and the MLP (ConvNeXt); None in others.

    Example:
        >>> norm_after_convolution(["layernorm"], ["dwconv.weight", "layernorm.weight", "pwconv1.weight"])
        'layernorm'
    """
    (first, *others) = names or [""]
    has_both = all(any(kind.startswith(part) for kind in kinds) for part in (_DEPTHWISE, _MLP_AFTER_CONVOLUTION))
    return first if not others and first in PLAIN | BARE and has_both and not is_batch_norm(first, kinds) else None


def is_draft_head(evidence: Evidence) -> bool:
    """Whether the only norm of the blocks is one that stands before the MLP beside an input norm, and that is missing:
    by the model's type, or by the layer that feeds EAGLE's draft heads."""
    return bool(_alone(evidence)) and (evidence.is_known or evidence.beside(_EAGLE)) and evidence.holds("mlp.")


def _alone(evidence: Evidence) -> Collection[str]:
    """The one norm of blocks that have no other to tell its place by."""
    names = [name for name in evidence.names if not _ON_HEADS.search(name)]
    return names if len(names) == 1 and names[0] in AMBIGUOUS else ()


def _second_and_third(evidence: Evidence) -> tuple[str, str] | None:
    """The second norm of blocks that number theirs, and the one before the MLP, where there is a third norm."""
    for stem in STEMS:
        first, second, third = (f"{stem}{number}" for number in (1, 2, 3))
        if evidence.names >= {first, second, third}:
            return second, third
        within = [name for name in evidence.names if _WITHIN_MLP.fullmatch(name)]
        if evidence.names >= {first, second} and _crosses(evidence):
            return second, within[0] if len(within) == 1 else ""
    return None


def _crosses(evidence: Evidence) -> bool:
    """Whether blocks have a cross-attention, and no norm that its own name gives to it."""
    own = any(BETWEEN.search(name) and not _ON_HEADS.search(name) for name in evidence.names)
    return any(map(CROSSES.search, evidence.kinds)) and not own and not evidence.is_diffusers


def _second_of_three(evidence: Evidence) -> Collection[str]:
    found = _second_and_third(evidence)
    if found is None or evidence.is_diffusers or (not _crosses(evidence) and evidence.is_known):
        return ()
    return () if not _crosses(evidence) and evidence.names >= NORMS_OF_DECODERS else found[:1]


def _is_olmo(evidence: Evidence) -> bool:
    """Whether blocks have the names of allenai/OLMo, or of OLMo-core."""
    old = evidence.names >= _OLMO.keys() and evidence.holds("att_proj.")
    return old or (evidence.names >= _OLMO_CORE.keys() and evidence.holds("attention.w_q."))


def _is_reordered(evidence: Evidence) -> bool | None:
    """Whether OLMo's norms stand on what its sub-layers give; None where nothing says so, and False in other models."""
    if not _is_olmo(evidence):
        return False
    kinds = evidence.config.kinds_of("block")
    said = all("reordered" in kind for kind in kinds) if kinds else evidence.config.says("norm_after")
    normed = any(map(_ON_HEADS.search, evidence.names))
    return said if said is not None or normed else False


def _at_end(evidence: Evidence) -> Collection[str]:
    crosses = any(map(BETWEEN.search, evidence.kinds))
    return {_AT_END} if evidence.names >= _BESIDE_LAST and not crosses else ()


def _of_gguf_towers(evidence: Evidence) -> Collection[str]:
    if not evidence.is_of(("gguf:clip",)):
        return ()
    is_cogvlm = evidence.config.raw.get("projector_type") == "cogvlm"
    return evidence.names if is_cogvlm or evidence.names >= _GGUF_CONFORMER else ()


LEFT_OUT = (
    NameRule(
        "norms beside two convolutions",
        "ResNets and U-Nets in transformers and diffusers",
        lambda evidence: evidence.names if evidence.kinds >= _CONVOLUTIONS else (),
    ),
    NameRule(
        "batch norms",
        "by the running mean beside them: they stand on channels of a convolution",
        lambda evidence: [name for name in evidence.names if is_batch_norm(name, evidence.kinds)],
    ),
    NameRule(
        "norm of the queries' latent",
        "DeepSeek's own inference/model.py, beside attn.wq_a",
        lambda evidence: {"attn.q_norm"} if evidence.holds("attn.wq_a.") else (),
    ),
    NameRule(
        "norm after a depthwise convolution",
        "ConvNeXt, conformers' convolution modules",
        lambda evidence: PLAIN if evidence.holds(*_DEPTHWISE) else (),
    ),
    NameRule(
        "diffusers' numbers",
        "BasicTransformerBlock: norm2 is cross-attention's where there is any",
        lambda evidence: NORMS_OF_DECODERS if evidence.is_diffusers else (),
    ),
    NameRule(
        "norm at a block's end", "FunASR: its blocks have no cross-attention that would be fed before it", _at_end
    ),
    NameRule(
        "towers in GGUF",
        "llama.cpp clip.cpp: conformers number MLPs before attention, CogVLM is post-norm",
        _of_gguf_towers,
    ),
    NameRule(
        "numbers beside cross-attention",
        "OpenNMT-py, UER, x-transformers' names: the second of three is cross-attention's; untold without such a one",
        _second_of_three,
    ),
    NameRule(
        "OLMo without its settings",
        "allenai/OLMo and OLMo-core: OLMo 2 has the names of OLMo 1 and OLMoE, with norms on queries and keys as OLMoE",
        lambda evidence: (*_OLMO, *_OLMO_CORE) if _is_reordered(evidence) is None else (),
    ),
    NameRule(
        "only norm of a block",
        "SafeAILab/EAGLE leaves a Llama's first norm out; elsewhere such a norm may stand on either side of attention",
        lambda evidence: () if is_draft_head(evidence) else _alone(evidence),
    ),
    NameRule(
        "EAGLE-3 in GGUF",
        "llama.cpp eagle3.cpp: attn_norm is on the embedding of the token",
        lambda evidence: {"attn_norm"} if evidence.is_of(("gguf:eagle3",)) else (),
    ),
)
"""In order: what is taken out of the vocabulary's reach."""


def _after_convolution(places: Places, evidence: Evidence, side: Side) -> Places | None:
    only = norm_after_convolution(evidence.names, evidence.kinds)
    return {only: "post_attention"} if only is not None else None


def _diffusers(places: Places, evidence: Evidence, side: Side) -> Places | None:
    if not evidence.is_diffusers:
        return None
    of_numbers = {"norm1": "input", "norm3": "pre_mlp"}
    if not evidence.holds("attn2.") and "norm3" not in evidence.names:
        of_numbers["norm2"] = "pre_mlp"
    return {**places, **_there(of_numbers, evidence)}


def _third(places: Places, evidence: Evidence, side: Side) -> Places | None:
    numbered = _second_and_third(evidence)
    if numbered is None or not _crosses(evidence):
        return None
    third = numbered[1]
    is_said = third in evidence.names - side.untold and (side.before or third in NUMBERED)
    if not is_said:  # the MLP's own, where norms may stand after the residual, may stand there or at its beginning
        return None
    of_mlp = "pre_mlp" if side.before else "post_mlp"
    return {name: place for name, place in places.items() if place != of_mlp} | {third: of_mlp}


def _olmo(places: Places, evidence: Evidence, side: Side) -> Places | None:
    reordered = _is_reordered(evidence)
    if reordered is None or not _is_olmo(evidence):
        return None
    on_output = {**_OLMO, **_OLMO_CORE} if reordered else {}
    return {**places, **_there({**on_output, **_OLMO_HEADS}, evidence)}


def _sub_layers(places: Places, evidence: Evidence, side: Side) -> Places | None:
    if side.said is None or not evidence.names >= _IN_SUB_LAYERS.keys():
        return None
    return {**places, **{name: place if side.said else AFTER[place] for name, place in _IN_SUB_LAYERS.items() if place}}


def _xmod(places: Places, evidence: Evidence, side: Side) -> Places | None:
    return {**places, **{name: _BERT_BEFORE[name] for name in places if name in _BERT_BEFORE}} if side.said else None


def _cross_first(places: Places, evidence: Evidence, side: Side) -> Places | None:
    first = {CROSS_FIRST[name] for name in evidence.types if name in CROSS_FIRST} & evidence.names
    if not first or not side.said:
        return None
    return {name: place for name, place in places.items() if place != "input"} | dict.fromkeys(first, "input")


def _normed_residual(places: Places, evidence: Evidence, side: Side) -> Places | None:
    if not evidence.config.norms_residual:
        return None
    on_residual = {name for name, place in places.items() if place == "pre_mlp"} & AMBIGUOUS
    return {**places, **dict.fromkeys(on_residual, "post_attention")}


def _on_output(places: Places) -> Places:
    return {name: AFTER.get(place, place) for name, place in places.items()}


def _fixed(places: Places, beside: str) -> Callable[[Places, Evidence, Side], Places | None]:
    """Gives these places to blocks that have all these norms, and a tensor whose name begins so."""
    return lambda before, evidence, side: (
        {**before, **places} if evidence.names >= places.keys() and evidence.holds(beside) else None
    )


def _of_types(table: Mapping[str, Places]) -> Callable[[Places, Evidence, Side], Places | None]:
    """Gives the places that a table has for the model's types, where a block has all norms that it names."""

    def move(places: Places, evidence: Evidence, side: Side) -> Places | None:
        of_types = [table[of] for of in evidence.types if of in table and table[of].keys() <= evidence.names]
        return {**places, **{name: place for of in of_types for name, place in of.items()}}

    return move


def _there(places: Places, evidence: Evidence) -> Places:
    return {name: place for name, place in places.items() if name in evidence.names}


MOVED = (
    PlaceRule(
        "norm between a convolution and the MLP",
        "ConvNeXt, ConvNeXt v2 and DINOv3's in transformers and timm",
        _after_convolution,
    ),
    PlaceRule(
        "diffusers' blocks",
        "diffusers BasicTransformerBlock: norm1, attn1, norm2, attn2, norm3, MLP; 57 of its classes by their keys",
        _diffusers,
    ),
    PlaceRule(
        "numbers beside cross-attention",
        "OpenNMT-py decoders/transformer.py, UER transformer.py: self-attention, cross-attention, MLP",
        _third,
    ),
    PlaceRule(
        "OLMo's reordered norms",
        "allenai/OLMo model.py by norm_after, OLMo-core by block.name: x + norm(sub-layer(x))",
        _olmo,
    ),
    PlaceRule(
        "EAGLE's draft heads",
        "SafeAILab/EAGLE cnets.py: the first block of a Llama without its input norm",
        lambda places, evidence, side: (
            {**places, **dict.fromkeys(_alone(evidence), "pre_mlp")} if is_draft_head(evidence) else None
        ),
    ),
    PlaceRule(
        "norm at a block's end",
        "FunASR SANM encoder",
        lambda places, evidence, side: {**places, **dict.fromkeys(_at_end(evidence), "post_mlp")},
    ),
    PlaceRule(
        "Swin v2",
        "transformers and timm Swin v2: the names of v1, on what the sub-layers give",
        lambda places, evidence, side: _on_output(places) if evidence.is_swin_v2 else None,
    ),
    PlaceRule("norms within their sub-layers, by a setting", "OneFormer's decoder of queries", _sub_layers),
    PlaceRule("X-MOD", "transformers X-MOD with pre_norm", _xmod),
    PlaceRule("cross-attention first", "Mask2Former and OneFormer with pre_norm", _cross_first),
    PlaceRule(
        "residual through the norms",
        "MiniMax; BLOOM with apply_residual_connection_post_layernorm; postnorm",
        _normed_residual,
    ),
    PlaceRule(
        "gpt-oss's own names",
        "openai/gpt-oss torch/model.py: each sub-layer begins with its norm",
        _fixed({"attn.norm": "input", "mlp.norm": "pre_mlp"}, "attn.sinks"),
    ),
    PlaceRule(
        "StripedHyena",
        "togethercomputer/stripedhyena model.py, Evo: u = mlp(post_norm(u)) + u",
        _fixed({"pre_norm": "input", "post_norm": "pre_mlp"}, "projections."),
    ),
    PlaceRule(
        "architectures in GGUF",
        "llama.cpp's graphs: falcon.cpp, rwkv6-base.cpp, rwkv7-base.cpp",
        _of_types(GGUF_PLACES),
    ),
    PlaceRule(
        "types with names of their own",
        "the types of ODD_PLACES, built with transformers and run",
        _of_types(ODD_PLACES),
    ),
    PlaceRule(
        "settings that put norms on outputs",
        "Molmo 2 and OLMo by norm_after, Chameleon by swin_norm, timm's residual post-norm by the architecture's name",
        lambda places, evidence, side: (
            _on_output(places) if evidence.config.norms_outputs and not evidence.is_tower else None
        ),
    ),
)
"""In order; each changes what those before it have told."""
