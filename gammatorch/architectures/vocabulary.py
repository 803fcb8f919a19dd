"""What the names of norms mean, as data, and how they are read.

One vocabulary reads the names of all models (:data:`VOCABULARY`): a new name is added to its place there. What a model
type stores other than γ itself is in :mod:`gammatorch.architectures.families`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_WORDS = {
    "input": """
        input_layernorm input_layernorm.0 input_rmsnorm pre_attn_norm attn_hyper_connection.hc_norm
        pre_self_attn_layernorm pre_attention_layer_norm pre_mixer_norm pre_sa_norm attention_layernorm
        attention_layer_norm attention_norm attention_norm1 attn_norm attn_ln sa_norm input_norm operator_norm
        temporal_pre_norm norm_attn_norm.norm_1 norm_feed_forward1 ff1.pre_norm feed_forward1.pre_layer_norm
        ffn1_layer_norm ffw_layer_start.pre_layer_norm ff_macaron_layer_norm norm_self_att norm_mlstm ln_attn
        ln_1 ln1 layernorm1 layernorm_1 norm_1 norm1 rms_norm1 layer_norm1 layer_norm_1 norm_sublayer1
        temporal_layernorm layernorm_before before_norm self_attn_layer_norm attention.self_attn_layer_norm
        attention.ln attention.LayerNorm attention.layer_norm self_attention.layer_norm
        self_attention.linear_qkv.layer_norm mixer.in_proj.layer_norm retention_layer_norm
        attention.self.layernorm1 self_att.layernorm_before_attention layer.0.layer_norm
        channel_feature_mixer.norm patch_mixer.norm norm layer_norm
    """,
    "post_attention": """
        post_self_attn_layernorm post_attn_norm attention_norm2 post_mixer_norm post_operator_norm post_norm1
        attention.output.LayerNorm fourier.output.LayerNorm albert_layers.0.attention.LayerNorm
        rel_attn.layer_norm sa_layer_norm post_attention.layernorm
    """,
    "pre_mlp": """
        pre_feedforward_layernorm pre_mlp_layernorm pre_mlp_layer_norm pre_mlp_norm pre_moe_norm
        pre_ff_layernorm channel_pre_norm feedforward_layernorm feedforward_layer_norm ffn_norm ffn_norm1
        mlp_norm mlp_ln ff_norm norm_attn_norm.norm_2 mlp_hyper_connection.hc_norm norm_ffn ln_mlp ln_2 ln2
        layernorm2 layernorm_2 norm_2 norm2 rms_norm2 layer_norm2 norm_sublayer3 layer_norm_3 layer_norm_2
        layernorm_after after_norm norm_feed_forward2 ff2.pre_norm feed_forward2.pre_layer_norm ffn2_layer_norm
        ffw_layer_end.pre_layer_norm ffn.layernorm_before_ffn feed_forward_layer_norm feed_forward_norm
        ff_layer_norm ffn_layer_norm intermediate.LayerNorm feed_forward.layer_norm mlp.layer_norm
        mlp.linear_fc1.layer_norm LayerNorm layernorm ln feature_mixer.norm layer.2.layer_norm
        layer.1.layer_norm final_layer_norm final_layernorm
    """,
    "post_mlp": """
        post_feedforward_layernorm post_mlp_layernorm post_mlp_norm post_moe_norm post_ffn_norm ffn_norm2
        post_ffw_norm post_norm2 output.LayerNorm albert_layers.0.full_layer_layer_norm ff.layer_norm
        output_layer_norm output.layernorm ffn.layer_norm layer_output_norm norm_out
    """,
    "query": """
        self_attn.q_norm self_attn.q_layernorm self_attn.query_layernorm self_attn.query_norm self_attn.norm_q
        self_attention.q_layernorm attn.q_norm attn.norm_q attn1.norm_q attention.q_norm mixer.q_norm
        attn_q_norm
    """,
    "key": """
        self_attn.k_norm self_attn.k_layernorm self_attn.key_layernorm self_attn.key_norm self_attn.norm_k
        self_attention.k_layernorm attn.k_norm attn.norm_k attn1.norm_k attention.k_norm mixer.k_norm
        attn_k_norm
    """,
}
VOCABULARY: Mapping[str, tuple[str, ...]] = {place: tuple(words.split()) for place, words in _WORDS.items()}
"""Names within a block (after the layer index, without ``.weight``) by place; the first that a block has counts.

``post_attention_layernorm`` is not here: it stands before the MLP or on attention's output, and only the names beside
it tell which (:func:`gammatorch.architectures.vocabulary.read_names`). ``attn_norm``, ``ffn_norm``, ``post_ffw_norm``
and ``attn_output_norm`` are also GGUF's, for all its architectures.
"""

AMBIGUOUS = frozenset(
    {
        *("post_attention_layernorm", "post_attention_rmsnorm", "post_attention_norm"),
        *("attn_output_norm", "post_sa_norm"),
    }
)
"""Names that stand before the MLP in some models and on attention's output in others."""

BARE = frozenset({"LayerNorm", "layernorm", "ln"})
"""Names so plain that they tell a place only beside a norm whose place is known."""

PLAIN = frozenset({"norm", "layer_norm"})
"""Names of an input norm that is its block's only one, and of norms elsewhere."""

MACARON = frozenset(
    {
        *("norm_feed_forward1", "ff1.pre_norm", "feed_forward1.pre_layer_norm", "ffn1_layer_norm"),
        *("ffw_layer_start.pre_layer_norm", "ff_macaron_layer_norm"),
    }
)
"""First norms of conformers, whose blocks begin and end with an MLP."""

STEMS = tuple(
    f"{word}{joint}" for word in ("ln", "norm", "layernorm", "layer_norm", "rmsnorm", "rms_norm") for joint in ("", "_")
)
"""What stands before the number in :data:`NUMBERED`."""

NUMBERED = frozenset(f"{stem}{number}" for stem in STEMS for number in (1, 2, 3))
"""Names that count the norms of a block, and tell nothing else."""

MOVABLE = NUMBERED | frozenset(
    {
        *("attn_ln", "mlp_ln", "self_attn_layer_norm", "attention.LayerNorm", "attention.layer_norm", "layer_norm"),
        *("feed_forward_layer_norm", "ff_layer_norm", "ff_macaron_layer_norm", "final_layer_norm"),
        *("norm_sublayer1", "norm_sublayer3"),
    }
)
"""Names that pre-norm and post-LN models share. A stack without a norm after its last block has no pre-norm, so there
they stand after the residual."""

FINALS = (
    *("norm", "ln_f", "norm_f", "final_norm", "final_layer_norm", "final_layernorm", "transformer_norm"),
    *("layernorm_final", "layer_norm", "layernorm", "LayerNorm", "rms_norm", "ln", "post_layernorm"),
    *("layernorm_post", "ln_post"),
    *("ln_out", "ln_final", "out_norm", "output_layernorm", "output_norm", "embedding_norm", "head_norm", "fc_norm"),
    *("emb_layer_norm_after", "hyper_connection_mixer.hc_norm"),
    *("post_trunk_norm", "merger.ln_q", "merger.norm", "perceive.before_rms"),
)
"""Names of the norm after the last block, beside the stack or one level above it, the first that is there."""

BETWEEN = re.compile(r"cross|enc(oder)?_?(dec|att)")
"""Names of norms that stand at cross-attention, which is no place of its own."""

CROSSES = re.compile(
    r"(^|[._])(cross_?att\w*|(enc(oder)?|src|context|memory|multihead)_att\w*|enc_?dec_?att\w*|attn2)[._]",
    re.IGNORECASE,
)
"""Names of tensors of cross-attention, whatever libraries call it."""

HEAD_ONLY = ("eh_proj.", "enorm.", "hnorm.", "nextn.")
"""Names that only the block of a multi-token-prediction head has."""

EMBEDDING_NORMS = frozenset({"pre_ln", "ln0", "pre_norm"})
"""Norms that the first block alone has, on the embeddings, before its input norm (RWKV)."""

AFTER: Mapping[str, str] = {"input": "post_attention", "pre_mlp": "post_mlp"}
"""The place after a sub-layer by that before it."""

NORMS_OF_DECODERS = frozenset({"norm1", "norm2", "norm3"})
"""Norms of a block with cross-attention under PyTorch's names: the second is cross-attention's, the third the MLP's."""

_STANDS_BEFORE = re.compile(r"\.pre_\w*norm$")
"""A norm that stands before something within the block, so that a plainly named one beside it is not the only one."""


def read_names(names: Iterable[str], *, has_final: bool) -> dict[str, str]:
    """What the norms of a block are called → where they stand.

    The vocabulary's first name at each place counts. ``post_attention_layernorm`` stands before the MLP (Llama) unless
    another norm does (Gemma 2) or no norm stands on the block's input (OLMo 2): then it is on attention's output. In a
    stack without a final norm, names that post-LN models share stand after the residual.

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
    if present >= NORMS_OF_DECODERS:
        places = {name: place for name, place in places.items() if name != "norm2"} | {"norm3": "pre_mlp"}
    if places.keys() <= BARE:
        places = {}
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


def is_strange(name: str) -> bool:
    """Whether a norm that tells no place may stand at any: it is the block's own, and not cross-attention's.

    Example:
        >>> is_strange("first_norm"), is_strange("cross_attn_norm"), is_strange("mixer.norm")
        (True, False, False)
    """
    return "." not in name and BETWEEN.search(name) is None


def _first_of_each(places: Mapping[str, str]) -> dict[str, str]:
    """Each place once, for the name that came to it first."""
    unique: dict[str, str] = {}
    for name, place in places.items():
        if place not in unique.values():
            unique[name] = place
    return unique
