"""From the names of a block's norms to the places where they stand."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.families import (
    AMBIGUOUS,
    BARE,
    BETWEEN,
    CROSS_FIRST,
    MACARON,
    MOVABLE,
    ODD_PLACES,
    PLAIN,
    POST_NORM,
    VOCABULARY,
)
from gammatorch.architectures.keys import is_batch_norm

_QUERY_LATENT = {"attn.q_norm": "attn.wq_a."}
"""DeepSeek's own names: beside this projection the norm stands on the latent that the queries are made from."""

_NORMS_OF_DECODERS = frozenset({"norm1", "norm2", "norm3"})
"""Norms of a block with cross-attention under PyTorch's names: the second is cross-attention's, the third the MLP's."""

_TORCH = frozenset({"self_attn.in_proj_weight", "linear1.weight", "linear2.weight"})
"""What the blocks of PyTorch's ``nn.Transformer`` hold."""

_NORMS_OF_SUB_LAYERS = {"self_attn.norm": "input", "ffn.norm": "pre_mlp", "cross_attn.norm": ""}
"""Where norms that are each within their sub-layer stand in pre-norm blocks. Their names alone do not tell:
``self_attn.norm`` is on what attention gives, before its projection, in other models."""

_BEFORE_MLP_OR_LAST = "final_layernorm"
_BESIDE_LAST = {_BEFORE_MLP_OR_LAST, "input_layernorm", "post_attention_layernorm"}
"""A name that stands before the MLP of blocks with cross-attention, which the norm after attention feeds there, and at
the end of blocks without, beside these (FunASR)."""

_QUERIES = "transformer_module."
"""What holds the decoder of queries in Mask2Former and its kin, of which alone ``pre_norm`` is said."""

_DIFFUSERS_SELF, _DIFFUSERS_CROSS = "attn1.", "attn2."
"""What diffusers calls self- and cross-attention. Its blocks go norm1, attn1, norm2, attn2, norm3, MLP
(``BasicTransformerBlock`` in diffusers/models/attention.py, and what was made after it)."""

_DEPTHWISE = ("depthwise_conv.", "dwconv.", "conv_dw.")
_MLP_AFTER_CONVOLUTION = ("pointwise_conv1.", "pwconv1.", "mlp.fc1.")
"""The convolution that ConvNeXt's blocks begin with, before their norm, and the MLP that comes after it."""

_CONVOLUTIONS = frozenset({"conv1.weight", "conv2.weight"})
"""What the blocks of ResNets and U-Nets hold: their norms are over groups of channels, and stand before the
convolutions in some and after them in others, under the same names."""

_SWIN_V2 = frozenset({"attention.self.logit_scale", "attn.logit_scale"})
"""The scale of Swin v2's cosine attention, in transformers and in timm, whose blocks norm what their sub-layers give,
under the names of v1."""

_RELATIVE, _NORMS_RESIDUALS = "attn.rel_pos.", "_rpn_"
"""What the blocks of timm's ViT with relative positions hold; and what its architecture's name does where they norm
what their sub-layers give (residual post-norm), under the same names."""

_STANDS_BEFORE = re.compile(r"\.pre_\w*norm$")
"""A norm that stands before something within the block, so that a plainly named one beside it is not the only one."""

_SAYS_PRE_NORM = {"opt": "do_layer_norm_before", "flaubert": "pre_norm", "xmod": "pre_norm", "patchtst": "pre_norm"}
_SAYS_POST_NORM = {"focalnet": "use_post_layernorm"}
"""The settings of config.json that decide it, by type."""

_SAID_OF_EACH = frozenset({"fastspeech2_conformer", "fastspeech2_conformer_with_hifigan"})
"""Types where ``encoder_normalize_before`` and ``decoder_normalize_before`` decide it, for these two stacks."""

_SAY_BEFORE = ("normalize_before", "encoder_normalize_before", "decoder_normalize_before", "pre_norm")
"""Settings by which other types say that norms stand before sub-layers, some of them in the encoder alone."""

_SAY_ON_OUTPUT = ("norm_after", "swin_norm")
"""Settings of Molmo 2 and Chameleon by which the norms of a pre-norm block stand on what the sub-layers give."""

AFTER: Mapping[str, str] = {"input": "post_attention", "pre_mlp": "post_mlp"}
"""The place after a sub-layer by that before it."""

_BERT_PRE_NORM = {"attention.output.LayerNorm": "input", "output.LayerNorm": "pre_mlp"}
"""Where BERT's norms stand in blocks that config.json says are pre-norm (X-MOD): under the names of post-LN."""

_NORMED_RESIDUAL = ("apply_residual_connection_post_layernorm", "postnorm")
_NORMED_RESIDUAL_TYPES = frozenset({"minimax"})
"""Settings and types whose residual is what the norm before a sub-layer gives, not what it is fed with."""


def read_places(
    names: Collection[str], kinds: Collection[str], config: ModelConfig, *, has_final: bool, said: bool | None
) -> dict[str, str]:
    """What the norms of a block are called → where they stand, by their names and by what stands beside them.

    Args:
        names: Names within the block, without layer index and ``.weight``.
        kinds: Names of all tensors in the stack's blocks.
        config: What config.json says.
        has_final: Whether a norm stands after the last block.
        said: What :func:`says_pre_norm` gives for the stack.

    Returns:
        Place by name; names that tell no place are left out.
    """
    on_latent = {norm for norm, beside in _QUERY_LATENT.items() if any(kind.startswith(beside) for kind in kinds)}
    after_convolution = PLAIN if any(kind.startswith(_DEPTHWISE) for kind in kinds) else frozenset()
    if _CONVOLUTIONS.issubset(kinds):
        return {}
    if (only := norm_after_convolution(names, kinds)) is not None:
        return {only: "post_attention"}
    over_batch = {name for name in names if is_batch_norm(name, kinds)}
    told = set(names) - on_latent - over_batch - after_convolution
    at_end = {_BEFORE_MLP_OR_LAST} if told >= _BESIDE_LAST and not any(map(BETWEEN.search, kinds)) else set()
    told -= at_end
    if is_diffusers(kinds):
        places = read_names(told - _NORMS_OF_DECODERS, has_final=True) | _read_diffusers(told, kinds)
    else:
        places = read_names(told, has_final=has_final)
    places |= dict.fromkeys(at_end, "post_mlp")
    if is_swin_v2(kinds):
        places = {name: AFTER.get(place, place) for name, place in places.items()}
    if said is not None and _NORMS_OF_SUB_LAYERS.keys() <= set(names):
        places |= {name: place if said else AFTER[place] for name, place in _NORMS_OF_SUB_LAYERS.items() if place}
    if said:
        places |= {name: place for name, place in _BERT_PRE_NORM.items() if name in places}
        for first in {CROSS_FIRST.get(model_type, "") for model_type in config.types} & set(names):
            places = {name: place for name, place in places.items() if place != "input"} | {first: "input"}
    if residual_is_normed(config):
        places = {
            name: "post_attention" if place == "pre_mlp" and name in AMBIGUOUS else place
            for name, place in places.items()
        }
    for model_type in config.types:
        places |= {name: place for name, place in ODD_PLACES.get(model_type, {}).items() if name in names}
    return places


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
    if not has_final:  # the MLP that a conformer's block begins with is none that a place is named after
        present -= MACARON & MOVABLE
    ends = present & (PLAIN | {"final_layer_norm"}) if present & MACARON else set()
    if any(_STANDS_BEFORE.search(name) for name in present):
        present -= PLAIN
    places: dict[str, str] = {}
    for place, words in VOCABULARY.items():
        word = next((word for word in words if word in present), None)
        if word is not None:
            places[word] = place
    if present >= _NORMS_OF_DECODERS:
        places = {name: place for name, place in places.items() if name != "norm2"} | {"norm3": "pre_mlp"}
    if places.keys() <= BARE:
        places = {}
    if {"attn_norm", "attn_norm_2"} <= present:  # GGUF's Falcon: the second feeds attention, the first the MLP
        places |= {"attn_norm_2": "input", "attn_norm": "pre_mlp"}
    places |= dict.fromkeys(ends, "post_mlp")
    between = {"post_attention_layernorm"} if "final_layernorm" in present else set()  # it feeds cross-attention
    strange = {name for name in present - AMBIGUOUS - places.keys() - between if is_strange(name)}
    untold = "input" not in places.values() and strange  # one of these may stand on the block's input
    for name in (present & AMBIGUOUS) - between if not untold else ():
        taken = set(places.values())
        on_output = "pre_mlp" in taken or "input" not in taken
        places[name] = "post_attention" if on_output else "pre_mlp"
    if not has_final:
        places = {name: AFTER.get(place, place) if name in MOVABLE else place for name, place in places.items()}
    return _first_of_each(places)


def norm_after_convolution(names: Collection[str], kinds: Collection[str]) -> str | None:
    """The one norm of blocks that mix by a depthwise convolution, between it and the MLP (ConvNeXt); None in others.

    Args:
        names: Names of the norms in a block, without ``.weight``.
        kinds: Names of all tensors in the blocks.

    Example:
        >>> norm_after_convolution(["layernorm"], ["dwconv.weight", "layernorm.weight", "pwconv1.weight"])
        'layernorm'
    """
    (first, *others) = names or [""]
    has_both = all(any(kind.startswith(part) for kind in kinds) for part in (_DEPTHWISE, _MLP_AFTER_CONVOLUTION))
    return first if not others and first in PLAIN | BARE and has_both and not is_batch_norm(first, kinds) else None


def is_diffusers(kinds: Collection[str]) -> bool:
    """Whether the blocks are those of diffusers, pre-norm all of them."""
    return any(kind.startswith(_DIFFUSERS_SELF) for kind in kinds)


def is_swin_v2(kinds: Collection[str]) -> bool:
    """Whether the blocks are those of Swin v2, which norm what their sub-layers give."""
    return not _SWIN_V2.isdisjoint(kinds)


def is_torch(kinds: Collection[str]) -> bool:
    """Whether the blocks are PyTorch's own ``nn.TransformerEncoderLayer`` or ``nn.TransformerDecoderLayer``.

    Their norms stand after the residual, and before the sub-layers with ``norm_first=True``, under the same names; and
    ``nn.Transformer`` has a norm after the last block in either case.
    """
    return set(kinds) >= _TORCH


def may_be_on_output(kinds: Collection[str], config: ModelConfig) -> bool:
    """Whether such blocks exist with norms on either side of their sub-layers, and no architecture's name tells."""
    return any(kind.startswith(_RELATIVE) for kind in kinds) and "architecture" not in config.whole


def _read_diffusers(names: Collection[str], kinds: Collection[str]) -> dict[str, str]:
    """Places in diffusers' blocks; the norm after their last one has no weights, so that it is missing says nothing."""
    crosses = any(kind.startswith(_DIFFUSERS_CROSS) for kind in kinds)
    places = {"norm1": "input", "norm3": "pre_mlp"}
    if not crosses and "norm3" not in names:
        places["norm2"] = "pre_mlp"
    return {name: place for name, place in places.items() if name in names}


def is_strange(name: str) -> bool:
    """Whether a norm that tells no place may stand at any: it is the block's own, and not cross-attention's.

    Example:
        >>> is_strange("first_norm"), is_strange("cross_attn_norm"), is_strange("mixer.norm")
        (True, False, False)
    """
    return "." not in name and BETWEEN.search(name) is None


def says_pre_norm(config: ModelConfig, stack: str) -> bool | None:
    """What a setting of config.json says on whether a stack is pre-norm; None if there is no such setting."""
    if "decoder" in stack and not POST_NORM.isdisjoint(config.types):
        return _QUERIES in stack and config.raw.get("pre_norm") is True
    part, types = config.part_of(stack)
    if not _SAID_OF_EACH.isdisjoint(config.types):
        own = part.get("normalize_before")  # decoder_config's, which goes before what stands beside it
        side = "decoder" if "decoder" in stack else "encoder"
        return own if isinstance(own, bool) else config.says(f"{side}_normalize_before")
    for table, meaning in ((_SAYS_PRE_NORM, True), (_SAYS_POST_NORM, False)):
        for model_type in types:
            said = part.get(table.get(model_type, ""))
            if isinstance(said, bool):
                return said is meaning
    return None


def may_be_pre_norm(config: ModelConfig) -> bool:
    """Whether a setting of config.json says that norms stand before sub-layers, not necessarily in every stack."""
    return any(config.raw.get(name) is True for name in _SAY_BEFORE)


def norms_stand_on_output(config: ModelConfig) -> bool:
    """Whether config.json puts the main stack's norms on what the sub-layers give."""
    norms_residuals = _NORMS_RESIDUALS in str(config.whole.get("architecture"))
    return norms_residuals or any(config.raw.get(name) is True for name in _SAY_ON_OUTPUT)


def residual_is_normed(config: ModelConfig) -> bool:
    """Whether the residual passes through the norms: what they give goes on, not what they are fed with."""
    set_so = any(config.raw.get(name) is True for name in _NORMED_RESIDUAL)
    return set_so or not _NORMED_RESIDUAL_TYPES.isdisjoint(config.types)


def _first_of_each(places: Mapping[str, str]) -> dict[str, str]:
    """Each place once, for the name that came to it first."""
    unique: dict[str, str] = {}
    for name, place in places.items():
        if place not in unique.values():
            unique[name] = place
    return unique
