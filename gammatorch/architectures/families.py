"""Model families as data: which name in a block is which place, and what to add to the stored weight.

To add a family, add one :class:`Family` to :data:`FAMILIES` and one line to the table in
``tests/architectures/test_families.py``, which builds the model with transformers and holds the entry against what
its modules do in a forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """Blocks that share names and the meaning of their norms.

    Attributes:
        types: ``model_type`` values of config.json that it covers.
        layout: How its blocks are normalised, in a few words.
        places: Name within the block (after the layer index, without ``.weight``) → place.
        finals: Possible names of the norm after the last block, beside the stack; empty: it has none, and a stack
            that has one is another family.
        offset: γ = offset + stored weight.
        config: Settings of config.json that it needs, where the names alone do not tell.
        source: Where the places and the offset were read.
    """

    types: tuple[str, ...]
    layout: str
    places: Mapping[str, str]
    finals: tuple[str, ...]
    source: str
    offset: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)


_PRE_NORM = {"input_layernorm": "input", "post_attention_layernorm": "pre_mlp"}
_QUERY_KEY = {"self_attn.q_norm": "query", "self_attn.k_norm": "key"}
_SANDWICH = {
    "input_layernorm": "input",
    "post_attention_layernorm": "post_attention",
    "pre_feedforward_layernorm": "pre_mlp",
    "post_feedforward_layernorm": "post_mlp",
}
_POST_LN = {"attention.output.LayerNorm": "post_attention", "output.LayerNorm": "post_mlp"}
_GGUF_QUERY_KEY = {"attn_q_norm": "query", "attn_k_norm": "key"}
_GGUF = {"attn_norm": "input", "ffn_norm": "pre_mlp"} | _GGUF_QUERY_KEY

FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        types=("llama", "mistral", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3"),
        layout="pre-norm",
        places=_PRE_NORM | _QUERY_KEY,
        finals=("norm",),
        source="transformers LlamaDecoderLayer, LlamaRMSNorm: weight * x̂",
    ),
    "phi": Family(
        types=("phi",),
        layout="pre-norm, attention and MLP in parallel",
        places={"input_layernorm": "input", "self_attn.q_layernorm": "query", "self_attn.k_layernorm": "key"},
        finals=("final_layernorm",),
        source="transformers PhiDecoderLayer: one LayerNorm feeds both branches",
    ),
    "olmo2": Family(
        types=("olmo2", "olmo3"),
        layout="output norms only",
        places={"post_attention_layernorm": "post_attention", "post_feedforward_layernorm": "post_mlp"} | _QUERY_KEY,
        finals=("norm",),
        source="transformers Olmo2DecoderLayer: norms on the outputs of attention and MLP, before their residuals",
    ),
    "gemma": Family(
        types=("gemma",),
        layout="pre-norm",
        places=_PRE_NORM,
        finals=("norm",),
        offset=1.0,
        source="transformers GemmaRMSNorm: (1 + weight) * x̂",
    ),
    "gemma2": Family(
        types=("gemma2", "gemma3", "gemma3_text"),
        layout="sandwich norms",
        places=_SANDWICH | _QUERY_KEY,
        finals=("norm",),
        offset=1.0,
        source="transformers Gemma2DecoderLayer, Gemma3RMSNorm: (1 + weight) * x̂",
    ),
    "gpt2": Family(
        types=("gpt2",),
        layout="pre-norm",
        places={"ln_1": "input", "ln_2": "pre_mlp"},
        finals=("ln_f",),
        source="transformers GPT2Block",
    ),
    "gpt_neox": Family(
        types=("gpt_neox",),
        layout="pre-norm, attention and MLP in parallel unless use_parallel_residual is false",
        places=_PRE_NORM,
        finals=("final_layer_norm",),
        source="transformers GPTNeoXLayer",
    ),
    "falcon": Family(
        types=("falcon",),
        layout="pre-norm, mostly with attention and MLP in parallel",
        places=_PRE_NORM | {"ln_attn": "input", "ln_mlp": "pre_mlp"},
        finals=("ln_f",),
        source="transformers FalconDecoderLayer: ln_attn and ln_mlp where num_ln_in_parallel_attn is 2",
    ),
    "bloom": Family(
        types=("bloom",),
        layout="pre-norm",
        places=_PRE_NORM,
        finals=("ln_f",),
        source="transformers BloomBlock",
    ),
    "opt_post": Family(
        types=("opt",),
        layout="post-LN",
        places={"self_attn_layer_norm": "post_attention", "final_layer_norm": "post_mlp"},
        finals=(),
        config={"do_layer_norm_before": False},
        source="transformers OPTDecoderLayer with do_layer_norm_before=False (OPT-350m)",
    ),
    "opt": Family(
        types=("opt",),
        layout="pre-norm",
        places={"self_attn_layer_norm": "input", "final_layer_norm": "pre_mlp"},
        finals=("final_layer_norm",),
        source="transformers OPTDecoderLayer: its final_layer_norm stands before the MLP",
    ),
    "bert": Family(
        types=("bert", "roberta", "xlm-roberta", "camembert"),
        layout="post-LN",
        places=_POST_LN,
        finals=(),
        source="transformers BertSelfOutput, BertOutput: LayerNorm(x + residual)",
    ),
    "gguf_sandwich": Family(
        types=("gguf:gemma2", "gguf:gemma3"),
        layout="sandwich norms",
        places=_GGUF | {"post_attention_norm": "post_attention", "post_ffw_norm": "post_mlp"},
        finals=("output_norm",),
        source="llama.cpp src/models/gemma2.cpp, gemma3.cpp; conversion/gemma.py stores 1 + w",
    ),
    "gguf_output": Family(
        types=("gguf:olmo2",),
        layout="output norms only",
        places=_GGUF_QUERY_KEY | {"post_attention_norm": "post_attention", "post_ffw_norm": "post_mlp"},
        finals=("output_norm",),
        source="llama.cpp src/models/olmo2.cpp",
    ),
    "gguf_bert": Family(
        types=("gguf:bert",),
        layout="post-LN",
        places={"attn_output_norm": "post_attention", "layer_output_norm": "post_mlp"},
        finals=(),
        source="llama.cpp src/models/bert.cpp",
    ),
    "gguf_falcon": Family(
        types=("gguf:falcon",),
        layout="pre-norm, with attention and MLP in parallel",
        places={"attn_norm_2": "input"},
        finals=("output_norm",),
        source="llama.cpp src/models/falcon.cpp: where there is an attn_norm_2, it feeds attention",
    ),
    "gguf": Family(
        types=("gguf",),
        layout="pre-norm",
        places=_GGUF,
        finals=("output_norm",),
        source="llama.cpp build_norm multiplies by the stored weight, whatever the architecture: converters have "
        "added the 1 of zero-centred norms. post_attention_norm stands before the MLP in some architectures "
        "(glm4moe, gpt-oss, qwen3next), so its place is told only for those above",
    ),
}
"""By name. Families of one type are tried in this order; so are all of them for an unknown type."""
