"""What model types do that their names do not say, as data: zero-centred norms first of all.

To add a model type whose norms are plain and whose names the vocabulary knows, add it to ``known_types.txt``; for a
zero-centred one add one entry to :data:`OFFSETS`; a new name goes to its place in
:data:`gammatorch.architectures.vocabulary.VOCABULARY`. ``gammatorch inspect --verify`` says which of them a model
needs. ``tests/verify/test_matrix.py`` builds every type with transformers and holds all of this against what its
modules do in a forward pass; ``tests/verify/test_offsets.py`` calls the norms of all classes by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

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
