"""What names mean and which norms are zero-centred, as data.

Names are read by one vocabulary for all models (:data:`VOCABULARY`); what a model type stores other than γ itself is in
:data:`OFFSETS`. To add a model type whose norms are plain and whose names the vocabulary knows, add it to
``known_types.txt``; for a zero-centred one add one entry to :data:`OFFSETS`; for a new name add it to its place in
:data:`VOCABULARY`. ``gammatorch inspect --verify`` says which of them a model needs. ``tests/verify/test_matrix.py``
builds every type with transformers and holds all of this against what its modules do in a forward pass;
``tests/verify/test_offsets.py`` calls the norms of all classes of all types by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "input": (
        "input_layernorm",
        "input_layernorm.0",
        "input_rmsnorm",
        "pre_attn_norm",
        "attn_hyper_connection.hc_norm",
        "pre_self_attn_layernorm",
        "pre_attention_layer_norm",
        "pre_mixer_norm",
        "pre_sa_norm",
        "attention_layernorm",
        "attention_layer_norm",
        "attention_norm",
        "attention_norm1",
        "attn_norm",
        "attn_ln",
        "sa_norm",
        "input_norm",
        "operator_norm",
        "temporal_pre_norm",
        "norm_attn_norm.norm_1",
        "norm_feed_forward1",
        "ff1.pre_norm",
        "feed_forward1.pre_layer_norm",
        "ffn1_layer_norm",
        "ffw_layer_start.pre_layer_norm",
        "ff_macaron_layer_norm",
        "norm_self_att",
        "norm_mlstm",
        "ln_attn",
        "ln_1",
        "ln1",
        "layernorm1",
        "layernorm_1",
        "norm_1",
        "norm1",
        "rms_norm1",
        "layer_norm1",
        "layer_norm_1",
        "norm_sublayer1",
        "temporal_layernorm",
        "layernorm_before",
        "before_norm",
        "self_attn_layer_norm",
        "attention.self_attn_layer_norm",
        "attention.ln",
        "attention.LayerNorm",
        "attention.layer_norm",
        "self_attention.layer_norm",
        "self_attention.linear_qkv.layer_norm",
        "mixer.in_proj.layer_norm",
        "retention_layer_norm",
        "attention.self.layernorm1",
        "self_att.layernorm_before_attention",
        "layer.0.layer_norm",
        "channel_feature_mixer.norm",
        "patch_mixer.norm",
        "norm",
        "layer_norm",
    ),
    "post_attention": (
        "post_self_attn_layernorm",
        "post_attn_norm",
        "attention_norm2",
        "post_mixer_norm",
        "post_operator_norm",
        "post_norm1",
        "attention.output.LayerNorm",
        "fourier.output.LayerNorm",
        "albert_layers.0.attention.LayerNorm",
        "rel_attn.layer_norm",
        "sa_layer_norm",
        "post_attention.layernorm",
    ),
    "pre_mlp": (
        "pre_feedforward_layernorm",
        "pre_mlp_layernorm",
        "pre_mlp_layer_norm",
        "pre_mlp_norm",
        "pre_moe_norm",
        "pre_ff_layernorm",
        "channel_pre_norm",
        "feedforward_layernorm",
        "feedforward_layer_norm",
        "ffn_norm",
        "ffn_norm1",
        "mlp_norm",
        "mlp_ln",
        "ff_norm",
        "norm_attn_norm.norm_2",
        "mlp_hyper_connection.hc_norm",
        "norm_ffn",
        "ln_mlp",
        "ln_2",
        "ln2",
        "layernorm2",
        "layernorm_2",
        "norm_2",
        "norm2",
        "rms_norm2",
        "layer_norm2",
        "norm_sublayer3",
        "layer_norm_3",
        "layer_norm_2",
        "layernorm_after",
        "after_norm",
        "norm_feed_forward2",
        "ff2.pre_norm",
        "feed_forward2.pre_layer_norm",
        "ffn2_layer_norm",
        "ffw_layer_end.pre_layer_norm",
        "ffn.layernorm_before_ffn",
        "feed_forward_layer_norm",
        "feed_forward_norm",
        "ff_layer_norm",
        "ffn_layer_norm",
        "intermediate.LayerNorm",
        "feed_forward.layer_norm",
        "mlp.layer_norm",
        "mlp.linear_fc1.layer_norm",
        "LayerNorm",
        "layernorm",
        "ln",
        "feature_mixer.norm",
        "layer.2.layer_norm",
        "layer.1.layer_norm",
        "final_layer_norm",
        "final_layernorm",
    ),
    "post_mlp": (
        "post_feedforward_layernorm",
        "post_mlp_layernorm",
        "post_mlp_norm",
        "post_moe_norm",
        "post_ffn_norm",
        "ffn_norm2",
        "post_ffw_norm",
        "post_norm2",
        "output.LayerNorm",
        "albert_layers.0.full_layer_layer_norm",
        "ff.layer_norm",
        "output_layer_norm",
        "output.layernorm",
        "ffn.layer_norm",
        "layer_output_norm",
        "norm_out",
    ),
    "query": (
        "self_attn.q_norm",
        "self_attn.q_layernorm",
        "self_attn.query_layernorm",
        "self_attn.query_norm",
        "self_attn.norm_q",
        "self_attention.q_layernorm",
        "attn.q_norm",
        "attn.norm_q",
        "attn1.norm_q",
        "attention.q_norm",
        "mixer.q_norm",
        "attn_q_norm",
    ),
    "key": (
        "self_attn.k_norm",
        "self_attn.k_layernorm",
        "self_attn.key_layernorm",
        "self_attn.key_norm",
        "self_attn.norm_k",
        "self_attention.k_layernorm",
        "attn.k_norm",
        "attn.norm_k",
        "attn1.norm_k",
        "attention.k_norm",
        "mixer.k_norm",
        "attn_k_norm",
    ),
}
"""Names within a block (after the layer index, without ``.weight``) by place; the first that a block has counts.

``post_attention_layernorm`` is not here: it stands before the MLP or on attention's output, and only the names beside
it tell which (:func:`gammatorch.architectures.places.read_names`). ``attn_norm``, ``ffn_norm``, ``post_ffw_norm``
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
        "attn_ln",
        "mlp_ln",
        "self_attn_layer_norm",
        "attention.LayerNorm",
        "attention.layer_norm",
        "layer_norm",
        "feed_forward_layer_norm",
        "ff_layer_norm",
        "ff_macaron_layer_norm",
        "final_layer_norm",
        "norm_sublayer1",
        "norm_sublayer3",
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

_VIDEOPRISM_FINALS = {"spatial_layers": "layernorm1", "temporal_layers": "layernorm2"}

ODD_FINALS: Mapping[str, Mapping[str, str]] = {
    "bigbird_pegasus": {"layers": "layernorm_embedding"},
    **dict.fromkeys(("videoprism", "videoprism_vision_model"), _VIDEOPRISM_FINALS),
}
"""The norm after the last block in types that give it a name which means something else in others, by type and the
last part of the stack's name."""

ODD_PLACES: Mapping[str, Mapping[str, str]] = {
    "blt": {"q_norm": "input"},
}
"""Places of norms whose name tells none, or another one in other types, by type and name within the block."""

GGUF_PLACES: Mapping[str, Mapping[str, str]] = {
    "gguf:falcon": {"attn_norm_2": "input", "attn_norm": "pre_mlp"},
    "gguf:rwkv6": {"attn_norm_2": "pre_mlp"},
    "gguf:rwkv7": {"attn_norm_2": "pre_mlp"},
}
"""Places of GGUF's names that mean something else in one of llama.cpp's architectures than in the others, where a
block has all of them."""

BETWEEN = re.compile(r"cross|enc(oder)?_?(dec|att)")
"""Names of norms that stand at cross-attention, which is no place of its own."""

CROSSES = re.compile(
    r"(^|[._])(cross_?att\w*|(enc(oder)?|src|context|memory|multihead)_att\w*|enc_?dec_?att\w*|attn2)[._]",
    re.IGNORECASE,
)
"""Names of tensors of cross-attention, whatever libraries call it."""

HEAD_ONLY = ("eh_proj.", "enorm.", "hnorm.", "nextn.")
"""Names that only the block of a multi-token-prediction head has."""


@dataclass(frozen=True)
class Offsets:
    """What a model type adds to its stored weights: γ = offset + w.

    Attributes:
        source: Where that was read.
        default: The offset of its text stacks' norms.
        places: Offsets of places that differ from the default, and of norms that stand at none of them.
        elsewhere: The offset of all other norms that stand at no place.
        towers: The offset of its towers for images and sound.
    """

    source: str
    default: float = 1.0
    places: Mapping[str, float] = field(default_factory=dict)
    elsewhere: float = 0.0
    towers: float = 0.0


_GEMMA = Offsets("transformers GemmaRMSNorm: x̂ * (1 + weight)", elsewhere=1.0)
_QWEN = Offsets("transformers Qwen3NextRMSNorm: x̂ * (1 + weight); the linear attention's own norm is plain")
_QWEN4 = Offsets(
    "transformers Qwen4ExpTextRMSNorm: x̂ * (1 + weight)",
    places={"self_attn.indexer.q_layernorm": 1, "self_attn.indexer.k_layernorm": 1},
)
_MUSE = Offsets("transformers MuseSparkTextCenteredRMSNorm: x̂ * (1 + weight); the final is plain", places={"final": 0})
_MUSE_SPARK = Offsets(
    _MUSE.source,
    places={"final": 0, "post_attention": 0, "mlp.pre_expert_norm": 1, "mlp.experts.post_expert_norm": 1},
)
_PLAMO = Offsets(
    "pfnet/plamo-2 modeling_plamo.py: RMSNorm(offset) * x̂ with 1, 1/5 and 1/5^1.5",
    places={"post_attention": 1 / 5, "post_mlp": 5**-1.5},
)
_VIDEOPRISM = Offsets("transformers VideoPrismLayerNorm: layer_norm(x, weight + 1)", towers=1.0)

OFFSETS: Mapping[str, Offsets] = {
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "vaultgemma", "recurrent_gemma"), _GEMMA),
    **dict.fromkeys(("t5_gemma_module", "t5gemma2_text", "t5gemma2_decoder"), _GEMMA),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _QWEN),
    "interns2_mobius_text": replace(_QWEN, source="sglang interns2_mobius.py: GemmaRMSNorm, else as Qwen3.5"),
    "qwen4_exp_text": _QWEN4,
    "nemotron": Offsets("transformers NemotronLayerNorm1P: layer_norm(x, weight + 1)"),
    **dict.fromkeys(("videoprism", "videoprism_text_model", "videoprism_vision_model"), _VIDEOPRISM),
    "minimax_m3_vl_text": Offsets("transformers MiniMaxM3VLRMSNorm: x̂ * (1 + weight)"),
    "step3p5": Offsets("transformers Step3p7RMSNorm: x̂ * (1 + weight)"),
    "muse_glimmer_text": _MUSE,
    "muse_spark_text": _MUSE_SPARK,
    "moonshine_streaming_encoder": Offsets("transformers MoonshineStreamingLayerNorm: x̂ * (1 + gamma)"),
    "plamo2": _PLAMO,
    "plamo3": replace(_PLAMO, source="vllm plamo3.py: weights loaded as w + 1, 1/5 and 1/5^1.5", elsewhere=1.0),
}
"""By ``model_type`` of config.json, or of the part of it that tells of the stack
(:func:`gammatorch.architectures.parts.types_of`)."""

PARTS: Mapping[str, Mapping[str, str]] = {
    "gemma3": {"text_config": "gemma3_text"},
    "t5gemma": {"encoder": "t5_gemma_module", "decoder": "t5_gemma_module"},
    "t5gemma2": {"encoder": "t5gemma2_encoder", "decoder": "t5gemma2_decoder"},
    "t5gemma2_encoder": {"text_config": "t5gemma2_text"},
    "qwen3_5": {"text_config": "qwen3_5_text"},
    "qwen3_5_moe": {"text_config": "qwen3_5_moe_text"},
    "interns2_mobius": {"text_config": "interns2_mobius_text", "vision_config": "qwen3_5_moe_vision"},
    "qwen4_exp": {"text_config": "qwen4_exp_text"},
    "videoprism": {"text_config": "videoprism_text_model", "vision_config": "videoprism_vision_model"},
    "minimax_m3_vl": {"text_config": "minimax_m3_vl_text"},
    "step3p7": {"text_config": "step3p5"},
    "muse_glimmer": {"text_config": "muse_glimmer_text"},
    "muse_spark": {"text_config": "muse_spark_text"},
    "moonshine_streaming": {"encoder_config": "moonshine_streaming_encoder"},
}
"""Parts that are of one type whatever config.json says of them, in types that hold a part in :data:`OFFSETS`.

In files that were made for the code of a repository a part may say another type, or one that is nowhere else."""

USUAL_PARTS: Mapping[str, Mapping[str, str]] = {
    "paligemma": {"text_config": "gemma"},
    "shieldgemma2": {"text_config": "gemma3_text"},
    "colpali": {"vlm_config": "paligemma"},
    "pi0": {"vlm_config": "paligemma", "dit_config": "gemma"},
    **{holder: {"text_config": "qwen3_5_text"} for holder in ("minicpm_ocr", "minicpmv4_6", "minicpmv4_7", "jev")},
    "plamo2vl": {"text_config": "plamo2"},
}
"""Parts of such types that may be of any type, and which they are of where config.json does not say."""

ODD_PARTS: Mapping[str, Mapping[str, str]] = {"pi0": {"gemma_expert": "dit_config"}}
"""What the names of stacks call a part of a type, where that is not the part's own name."""

EMBEDDING_NORMS = frozenset({"pre_ln", "ln0", "pre_norm"})
"""Norms that the first block alone has, on the embeddings, before its input norm (RWKV)."""

GAPS = frozenset({"modernbert", "modernbert-decoder", "gguf:modern-bert"})
"""Types whose first block lacks the norm that the others have, because the embeddings are normalised already."""

PRE_NORM: Mapping[str, str] = {
    "sam2_hiera_det_model": "",
    **dict.fromkeys(("radio", "vitdet", "sapiens2", "mgp-str", "sam_vision_model", "sam_hq_vision_model"), ""),
    **dict.fromkeys(("sam3", "sam3_lite_text"), r"(^|\.)(detr|geometry)_encoder\."),
    "pp_formulanet": r"(^|\.)encoder\.",
}
"""Types that are pre-norm although no final norm stands beside the stack under a final norm's name, and what the names
of the stacks hold for which that is so."""

POST_NORM = frozenset(
    {
        "detr",
        "conditional_detr",
        "maskformer",
        "mask2former",
        "oneformer",
        "rf_detr",
        "lw_detr",
        "grounding-dino",
        "mm-grounding-dino",
        *("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "pp_doclayout_v2", "pp_doclayout_v3", "pp_doclayout_v4"),
    }
)
"""Types whose decoder is post-LN although a norm follows its last block, or ``normalize_before`` is said of the
encoder."""

CROSS_FIRST: Mapping[str, str] = {"mask2former": "cross_attn_layer_norm", "oneformer": "cross_attn.norm"}
"""The norm of cross-attention in types whose decoder's blocks begin with it: where they are pre-norm, it stands on the
block's input."""

ONE_BLOCK_LESS = frozenset({"mask2former", "oneformer"})
"""Types with one decoder block less than config.json counts."""

STEMMED = frozenset(f"vibevoice_acoustic_tokenizer{part}" for part in ("", "_encoder", "_decoder"))
"""Types of codecs whose stem holds the first of the stages that config.json counts, and whose ``hidden_size`` is the
width of the latents that they make, not of any block."""

SHARED_BLOCKS = frozenset({"albert"})
"""Types that run the same block several times, so that fewer are stored than config.json counts."""


GGUF_TYPE = "gguf"
"""Begins the model type of a GGUF file. llama.cpp multiplies by the stored weight whatever the architecture
(``build_norm``), since its converters have added the 1 of zero-centred norms (``conversion/gemma.py``)."""


def is_known(model_type: str) -> bool:
    """Whether the offsets of a type are known."""
    return model_type.startswith(GGUF_TYPE) or model_type in known_types()


@cache
def known_types() -> frozenset[str]:
    """Every ``model_type`` whose offsets are known: those of :data:`OFFSETS`, and those checked to store γ itself."""
    listed = files("gammatorch.architectures").joinpath("known_types.txt").read_text(encoding="utf-8")
    words = (line.partition("#")[0].split() for line in listed.splitlines())
    return frozenset(OFFSETS) | {word for line in words for word in line}
