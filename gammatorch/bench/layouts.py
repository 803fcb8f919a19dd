"""Names and shapes of whole model families, from their number of layers and their hidden size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Config = dict[str, Any]
"""What goes into config.json."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Tensors by name and shape."""

FULL_SIZE: Mapping[str, Config] = {
    "Qwen3-32B": {"family": "qwen3", "layers": 64, "hidden": 5120, "shards": 17},
    "DeepSeek-V3": {"family": "deepseek_v3", "layers": 61, "hidden": 7168, "shards": 163},
    "Kimi-K2": {"family": "kimi_k2", "layers": 61, "hidden": 7168, "shards": 61},
}
"""Arguments of :func:`~gammatorch.bench.synthetic.write_checkpoint` for layouts of real size: 707, 91,991 and 139,583
tensors."""


def _qwen3(layers: int, hidden: int) -> tuple[Config, Shapes]:
    query, grouped, mlp, head = 8 * hidden // 5, hidden // 5, 5 * hidden, min(128, hidden)
    vocabulary = 151_936

    def shapes() -> Shapes:
        yield "model.embed_tokens.weight", (vocabulary, hidden)
        for layer in range(layers):
            block = f"model.layers.{layer}"
            yield f"{block}.input_layernorm.weight", (hidden,)
            yield f"{block}.mlp.down_proj.weight", (hidden, mlp)
            yield f"{block}.mlp.gate_proj.weight", (mlp, hidden)
            yield f"{block}.mlp.up_proj.weight", (mlp, hidden)
            yield f"{block}.post_attention_layernorm.weight", (hidden,)
            yield f"{block}.self_attn.k_norm.weight", (head,)
            yield f"{block}.self_attn.k_proj.weight", (grouped, hidden)
            yield f"{block}.self_attn.o_proj.weight", (hidden, query)
            yield f"{block}.self_attn.q_norm.weight", (head,)
            yield f"{block}.self_attn.q_proj.weight", (query, hidden)
            yield f"{block}.self_attn.v_proj.weight", (grouped, hidden)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (vocabulary, hidden)

    return {"model_type": "qwen3", "num_hidden_layers": layers, "hidden_size": hidden}, shapes()


def _gemma2(layers: int, hidden: int) -> tuple[Config, Shapes]:
    def shapes() -> Shapes:
        yield "model.embed_tokens.weight", (256_000, hidden)
        for layer in range(layers):
            block = f"model.layers.{layer}"
            for norm in ("input", "post_attention", "post_feedforward", "pre_feedforward"):
                yield f"{block}.{norm}_layernorm.weight", (hidden,)
            for name, rows, columns in (("down", 1, 4), ("gate", 4, 1), ("up", 4, 1)):
                yield f"{block}.mlp.{name}_proj.weight", (rows * hidden, columns * hidden)
            for name in "kovq":
                yield f"{block}.self_attn.{name}_proj.weight", (hidden, hidden)
        yield "model.norm.weight", (hidden,)

    return {"model_type": "gemma2", "num_hidden_layers": layers, "hidden_size": hidden}, shapes()


def _gpt2(layers: int, hidden: int) -> tuple[Config, Shapes]:
    def shapes() -> Shapes:
        yield "wte.weight", (50_257, hidden)
        yield "wpe.weight", (1024, hidden)
        for layer in range(layers):
            for norm in ("ln_1", "ln_2"):
                yield f"h.{layer}.{norm}.weight", (hidden,)
                yield f"h.{layer}.{norm}.bias", (hidden,)
            for name, rows, columns in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4)):
                yield f"h.{layer}.{name}.weight", (rows * hidden, columns * hidden)
            yield f"h.{layer}.mlp.c_proj.weight", (4 * hidden, hidden)
        yield "ln_f.weight", (hidden,)
        yield "ln_f.bias", (hidden,)

    return {"model_type": "gpt2", "n_layer": layers, "n_embd": hidden}, shapes()


def _deepseek_v3(layers: int, hidden: int) -> tuple[Config, Shapes]:
    """DeepSeek-V3: 256 experts after three dense blocks, and a block more for multi-token prediction."""
    config = {"model_type": "deepseek_v3", "n_routed_experts": 256, "first_k_dense_replace": 3}
    return _mixture(config, layers, hidden, heads=128, vocabulary=129_280, predictors=1)


def _kimi_k2(layers: int, hidden: int) -> tuple[Config, Shapes]:
    """Kimi-K2: DeepSeek-V3's names with 384 experts after one dense block."""
    config = {"model_type": "kimi_k2", "n_routed_experts": 384, "first_k_dense_replace": 1}
    return _mixture(config, layers, hidden, heads=64, vocabulary=163_840, predictors=0)


def _mixture(
    config: Config, layers: int, hidden: int, heads: int, vocabulary: int, predictors: int
) -> tuple[Config, Shapes]:
    config |= {"num_hidden_layers": layers, "hidden_size": hidden, "num_nextn_predict_layers": predictors}
    query, latent, expert, dense = max(3 * hidden // 14, 1), max(hidden // 14, 1), 2 * hidden // 7, 18 * hidden // 7

    def quantized(name: str, rows: int, columns: int) -> Shapes:
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.weight_scale_inv", (-(-rows // 128), -(-columns // 128))

    def mlp(name: str, width: int) -> Shapes:
        yield from quantized(f"{name}.gate_proj", width, hidden)
        yield from quantized(f"{name}.up_proj", width, hidden)
        yield from quantized(f"{name}.down_proj", hidden, width)

    def block(name: str, experts: int) -> Shapes:
        yield f"{name}.input_layernorm.weight", (hidden,)
        yield from quantized(f"{name}.self_attn.q_a_proj", query, hidden)
        yield f"{name}.self_attn.q_a_layernorm.weight", (query,)
        yield from quantized(f"{name}.self_attn.q_b_proj", heads * 192, query)
        yield from quantized(f"{name}.self_attn.kv_a_proj_with_mqa", latent + 64, hidden)
        yield f"{name}.self_attn.kv_a_layernorm.weight", (latent,)
        yield from quantized(f"{name}.self_attn.kv_b_proj", heads * 256, latent)
        yield from quantized(f"{name}.self_attn.o_proj", hidden, heads * 128)
        yield f"{name}.post_attention_layernorm.weight", (hidden,)
        if not experts:
            yield from mlp(f"{name}.mlp", dense)
            return
        yield f"{name}.mlp.gate.weight", (experts, hidden)
        yield f"{name}.mlp.gate.e_score_correction_bias", (experts,)
        for number in range(experts):
            yield from mlp(f"{name}.mlp.experts.{number}", expert)
        yield from mlp(f"{name}.mlp.shared_experts", expert)

    def shapes() -> Shapes:
        yield "model.embed_tokens.weight", (vocabulary, hidden)
        for layer in range(layers + predictors):
            name = f"model.layers.{layer}"
            yield from block(name, config["n_routed_experts"] if layer >= config["first_k_dense_replace"] else 0)
            if layer >= layers:
                yield f"{name}.embed_tokens.weight", (vocabulary, hidden)
                yield f"{name}.enorm.weight", (hidden,)
                yield f"{name}.hnorm.weight", (hidden,)
                yield f"{name}.eh_proj.weight", (hidden, 2 * hidden)
                yield f"{name}.shared_head.norm.weight", (hidden,)
                yield f"{name}.shared_head.head.weight", (vocabulary, hidden)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (vocabulary, hidden)

    return config, shapes()


LAYOUTS: Mapping[str, Callable[[int, int], tuple[Config, Shapes]]] = {
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gpt2": _gpt2,
    "deepseek_v3": _deepseek_v3,
    "kimi_k2": _kimi_k2,
}
"""By name: the config.json and the tensors of a family, from its number of layers and its hidden size."""
