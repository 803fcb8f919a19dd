"""Tiny models of every family, built and saved by transformers: one table that every test of readers crosses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LLAMA = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2)


@dataclass(frozen=True)
class TinyModel:
    """How to build one.

    Attributes:
        config: Name of its configuration class in transformers.
        settings: Arguments of that class.
        attention: Name of the attention module within a block, the one whose output is attention's output.
        mlp: Name of the module that the MLP begins with, and of the one that it ends with.
        places: Norms that a block has, by the place where they stand.
        auto: The place that ``--site auto`` takes.
        blocks: Name of the list of blocks in the model that AutoModel builds.
        head: Auto class to build with.
    """

    config: str
    settings: dict[str, Any] = field(default_factory=dict)
    attention: str = "self_attn"
    mlp: tuple[str, str] = ("mlp", "mlp")
    places: tuple[str, ...] = ("input", "pre_mlp")
    auto: str = "input"
    blocks: str = "layers"
    head: str = "AutoModelForCausalLM"


_GEMMA = ("input", "post_attention", "pre_mlp", "post_mlp")
_BERT = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=4)
_FALCON = dict(vocab_size=64, hidden_size=32, num_attention_heads=4, num_hidden_layers=3)
_OPT = dict(vocab_size=64, hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_attention_heads=4)

TABLE: dict[str, TinyModel] = {
    "llama": TinyModel("LlamaConfig", _LLAMA | {"num_hidden_layers": 12}),
    "mistral": TinyModel("MistralConfig", _LLAMA | {"num_hidden_layers": 4}),
    "qwen2": TinyModel("Qwen2Config", _LLAMA | {"num_hidden_layers": 4}),
    "qwen3": TinyModel(
        "Qwen3Config", _LLAMA | {"num_hidden_layers": 12, "head_dim": 8}, places=("input", "pre_mlp", "query", "key")
    ),
    "phi3": TinyModel("Phi3Config", _LLAMA | {"num_hidden_layers": 4, "pad_token_id": 0}),
    "phi": TinyModel("PhiConfig", _LLAMA | {"num_hidden_layers": 4, "num_key_value_heads": 4}, places=("input",)),
    "olmo2": TinyModel(
        "Olmo2Config",
        _LLAMA | {"num_hidden_layers": 4},
        places=("post_attention", "post_mlp", "query", "key"),
        auto="post_attention",
    ),
    "gemma": TinyModel("GemmaConfig", _LLAMA | {"num_hidden_layers": 4, "head_dim": 8}),
    "gemma2": TinyModel("Gemma2Config", _LLAMA | {"num_hidden_layers": 4, "head_dim": 8}, places=_GEMMA),
    "gemma3": TinyModel(
        "Gemma3TextConfig", _LLAMA | {"num_hidden_layers": 4, "head_dim": 8}, places=(*_GEMMA, "query", "key")
    ),
    "gpt2": TinyModel("GPT2Config", dict(vocab_size=64, n_embd=32, n_head=4, n_layer=4), attention="attn", blocks="h"),
    "gpt_neox": TinyModel(
        "GPTNeoXConfig", _BERT | {"use_parallel_residual": False}, attention="attention", places=("input", "pre_mlp")
    ),
    "pythia": TinyModel("GPTNeoXConfig", _BERT, attention="attention"),
    "falcon_parallel": TinyModel("FalconConfig", _FALCON, attention="self_attention", places=("input",), blocks="h"),
    "falcon_serial": TinyModel(
        "FalconConfig", _FALCON | {"parallel_attn": False}, attention="self_attention", blocks="h"
    ),
    "falcon_two_norms": TinyModel(
        "FalconConfig", _FALCON | {"new_decoder_architecture": True}, attention="self_attention", blocks="h"
    ),
    "bloom": TinyModel(
        "BloomConfig", dict(vocab_size=64, hidden_size=32, n_head=4, n_layer=4), attention="self_attention", blocks="h"
    ),
    "opt": TinyModel("OPTConfig", _OPT | {"num_hidden_layers": 4}, mlp=("fc1", "fc2")),
    "opt_post": TinyModel(
        "OPTConfig",
        _OPT | {"num_hidden_layers": 4, "do_layer_norm_before": False},
        mlp=("fc1", "fc2"),
        places=("post_attention", "post_mlp"),
        auto="post_attention",
    ),
    **{
        name: TinyModel(
            config,
            _BERT,
            attention="attention.output.dense",
            mlp=("intermediate", "output.dense"),
            places=("post_attention", "post_mlp"),
            auto="post_attention",
            blocks="layer",
            head="AutoModelForMaskedLM",
        )
        for name, config in (("bert", "BertConfig"), ("roberta", "RobertaConfig"))
    },
}


def build_tiny_model(tiny: TinyModel) -> Any:
    """The model with random weights, norms among them, ready for a forward pass."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, tiny.config)(**tiny.settings)
    model = getattr(transformers, tiny.head).from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (parameter.ndim == 1 and "norm" in name.lower()) or ".ln_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (0.0 if "gemma" in tiny.config.lower() else 1.0))
            elif parameter.ndim > 1:
                parameter.mul_(5)  # so that each sub-layer moves the residual stream by more than rounding
    return model


def save_tiny_model(tiny: TinyModel, folder: Path) -> None:
    """Save it the way people do, in several shards."""
    build_tiny_model(tiny).save_pretrained(folder, max_shard_size="40KB")
