"""Models whose code is not in transformers, of repositories and of training libraries: places as that code has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

import gammatorch
from gammatorch.checkpoints.opening import open_source
from tests.sources import MemorySource

BLOCKS = {
    "internlm2": ("model.layers", ["attention_norm", "ffn_norm"], "model.norm", "attention_norm", 0.0),
    "baichuan": ("model.layers", ["input_layernorm", "post_attention_layernorm"], "model.norm", "input_layernorm", 0.0),
    "chatglm": (
        "transformer.encoder.layers",
        ["input_layernorm", "post_attention_layernorm"],
        "transformer.encoder.final_layernorm",
        "input_layernorm",
        0.0,
    ),
    "mpt": ("transformer.blocks", ["norm_1", "norm_2"], "transformer.norm_f", "norm_1", 0.0),
    "dbrx": (
        "transformer.blocks",
        ["norm_attn_norm.norm_1", "norm_attn_norm.norm_2"],
        "transformer.norm_f",
        "norm_attn_norm.norm_1",
        0.0,
    ),
    "qwen": ("transformer.h", ["ln_1", "ln_2"], "transformer.ln_f", "ln_1", 0.0),
    "RefinedWeb": ("transformer.h", ["ln_attn", "ln_mlp"], "transformer.ln_f", "ln_attn", 0.0),
    "plamo2": (
        "model.layers.layers",
        ["pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"],
        "model.norm",
        "pre_mixer_norm",
        1.0,
    ),
}


def checkpoint_of(model_type: str, layers: int = 3, width: int = 8):
    prefix, names, final, _, _ = BLOCKS[model_type]
    shapes = {f"{prefix}.{layer}.{name}.weight": (width,) for layer in range(layers) for name in names}
    shapes |= {f"{prefix}.{layer}.mlp.weight": (width, width) for layer in range(layers)}
    config = {"model_type": model_type, "num_hidden_layers": layers, "hidden_size": width}
    rng = np.random.default_rng(0)
    tensors = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    tensors[f"{final}.weight"] = rng.standard_normal(width).astype(np.float32)
    contents = {"model.safetensors": save(tensors), "config.json": json.dumps(config).encode()}
    return open_source(MemorySource(contents)), tensors


@pytest.mark.parametrize("model_type", BLOCKS)
def test_the_input_norm_is_found_with_its_offset(model_type):
    prefix, _, final, name, offset = BLOCKS[model_type]
    checkpoint, tensors = checkpoint_of(model_type)
    gains = gammatorch.read_gains(checkpoint, device="cpu")
    assert gains.keys == tuple(f"{prefix}.{layer}.{name}.weight" for layer in range(3))
    assert (gains.site, gains.offset, gains.notes) == ("input", offset, ())
    for row, key in zip(gains.gamma, gains.keys, strict=True):
        np.testing.assert_array_equal(row, tensors[key].astype(np.float64) + offset)
    assert gammatorch.read_gains(checkpoint, site="final", device="cpu").keys == (f"{final}.weight",)


def test_plamo2_adds_other_numbers_on_outputs():
    checkpoint, _ = checkpoint_of("plamo2")
    offsets = {
        place: gammatorch.read_gains(checkpoint, place, "cpu").offset
        for place in ("post_attention", "pre_mlp", "post_mlp", "final")
    }
    assert offsets == pytest.approx({"post_attention": 0.2, "pre_mlp": 1, "post_mlp": 5**-1.5, "final": 1})


LIBRARIES = {
    "nanoGPT": ("_orig_mod.transformer.h.{}.ln_1.weight", "ln_2.weight", "_orig_mod.transformer.ln_f.weight"),
    "Llama": ("layers.{}.attention_norm.weight", "ffn_norm.weight", "norm.weight"),
    "torchtune": ("layers.{}.sa_norm.scale", "mlp_norm.scale", "norm.scale"),
    "LitGPT": ("transformer.h.{}.norm_1.weight", "norm_2.weight", "transformer.ln_f.weight"),
    "OLMo": ("transformer.blocks.{}.attn_norm.weight", "ff_norm.weight", "transformer.ln_f.weight"),
    "Whisper": ("decoder.blocks.{}.attn_ln.weight", "mlp_ln.weight", "decoder.ln.weight"),
    "timm": ("blocks.{}.norm1.weight", "norm2.weight", "fc_norm.weight"),
    "OpenCLIP": ("transformer.resblocks.{}.ln_1.weight", "ln_2.weight", "ln_final.weight"),
    "fairseq": (
        "decoder.layers.{}.self_attn_layer_norm.weight",
        "final_layer_norm.weight",
        "decoder.layer_norm.weight",
    ),
    "RWKV": ("blocks.{}.ln1.weight", "ln2.weight", "ln_out.weight"),
    "Megatron-LM": (
        "language_model.encoder.layers.{}.input_norm.weight",
        "post_attention_norm.weight",
        "language_model.encoder.final_norm.weight",
    ),
    "Transformer Engine": (
        "decoder.layers.{}.self_attention.linear_qkv.layer_norm_weight",
        "mlp.linear_fc1.layer_norm_weight",
        "decoder.final_layernorm.weight",
    ),
    "Transformer Engine, Mamba": (
        "decoder.layers.{}.mixer.in_proj.layer_norm_weight",
        "pre_mlp_layernorm.weight",
        "decoder.final_norm.weight",
    ),
    "gpt-oss": ("block.{}.attn.norm.scale", "mlp.norm.scale", "norm.scale"),
    "Grok-2": ("model.layers.{}.pre_attn_norm.weight", "pre_moe_norm.weight", "model.norm.weight"),
    "StripedHyena": ("blocks.{}.pre_norm.scale", "post_norm.scale", "norm.scale"),
    "RetNet": ("layers.{}.retention_layer_norm.weight", "final_layer_norm.weight", "layer_norm.weight"),
    "torchvision": ("encoder.layers.encoder_layer_{}.ln_1.weight", "ln_2.weight", "encoder.ln.weight"),
    "Flax": (
        "encoder.layers_{}.pre_attention_layer_norm.scale",
        "pre_mlp_layer_norm.scale",
        "encoder.final_norm.scale",
    ),
    "TransformerLens": ("blocks.{}.ln1.w", "ln2.w", "ln_final.w"),
    "FSDP": (
        "_fsdp_wrapped_module.model.layers.{}._fsdp_wrapped_module.input_layernorm.weight",
        "post_attention_layernorm.weight",
        "_fsdp_wrapped_module.model.norm.weight",
    ),
    "activation checkpointing": (
        "layers.{}._checkpoint_wrapped_module.attention_norm.weight",
        "ffn_norm.weight",
        "norm.weight",
    ),
}
"""Key of the norm on the block's input; the name of that before the MLP, beside it; key of the final norm."""


BESIDE = {"gpt-oss": "attn.sinks", "StripedHyena": "projections.weight"}
"""What else a block holds, where a rule asks for it."""


def named(before: str, others: list[str], final: str | None, beside: str | None = None) -> gammatorch.Checkpoint:
    keys = [before.format(layer) for layer in range(3)]
    keys += [f"{before.partition('{}')[0]}{layer}.{name}" for layer in range(3) for name in others]
    vectors = {key: np.full(8, number, np.float32) for number, key in enumerate([*keys, *([final] if final else [])])}
    block = before.partition("{}")[0] + "{}"
    vectors |= {f"{block.format(layer)}.{beside}": np.zeros(2, np.float32) for layer in range(3) if beside}
    return open_source(MemorySource({"model.safetensors": save(vectors)}))


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_training_libraries_save_is_read_without_a_config(library):
    before, mlp, final = LIBRARIES[library]
    checkpoint = named(before, [mlp], final, BESIDE.get(library))
    gains = gammatorch.read_gains(checkpoint, device="cpu")
    assert gains.site == "input" and gains.keys == tuple(before.format(layer) for layer in range(3))
    np.testing.assert_array_equal(gains.gamma[:, 0], [0, 1, 2])
    assert gammatorch.read_gains(checkpoint, "pre_mlp", "cpu").keys[0].endswith(mlp)
    assert gammatorch.read_gains(checkpoint, "final", "cpu").keys == (final,)
    for pattern in (before.format("{layer}"), gains.pattern):  # as it is written, and without wrappers
        assert gammatorch.read_gains(checkpoint, device="cpu", pattern=pattern).site == "input"


@pytest.mark.parametrize(
    ("before", "others", "final", "candidate"),
    [
        ("blocks.{}.first_norm.weight", ["post_attention_norm.weight"], "norm.weight", "first_norm"),
        ("blocks.{}.first_norm.weight", ["post_attn_norm.weight"], "norm.weight", "first_norm"),
        ("blocks.{}.norm1.weight", ["norm2.weight"], "the_last_norm.weight", "norm1"),
    ],
    ids=[
        "beside a name with two meanings",
        "beside a norm on attention's output",
        "without a final norm that is known",
    ],
)
def test_names_that_leave_it_open_are_refused_with_the_candidates(before, others, final, candidate):
    checkpoint = named(before, others, final)
    with pytest.raises(gammatorch.SiteNotFound, match="do not tell which norm is site 'input'") as caught:
        gammatorch.read_gains(checkpoint, device="cpu")
    assert f"pass --pattern 'blocks.{{layer}}.{candidate}.weight'" in str(caught.value)


def test_norms_before_the_blocks_do_not_hide_a_post_ln_model():
    checkpoint = named(
        "layers.{}.self_attn_layer_norm.weight", ["final_layer_norm.weight"], "layernorm_embedding.weight"
    )
    gains = gammatorch.read_gains(checkpoint, device="cpu")
    assert gains.site == "post_attention" and "post-LN" in gains.site_reason


def test_x_transformers_numbers_its_sub_layers():
    """Attention, MLP, attention … : the norm before each has the number of a slot for a name."""
    parts = {"1.to_q.weight": (8, 8)}, {"1.ff.0.0.weight": (16, 8)}
    shapes = {f"attn_layers.layers.{n}.0.0.g": (8,) for n in range(6)} | {"attn_layers.final_norm.g": (8,)}
    shapes |= {f"attn_layers.layers.{n}.{name}": shape for n in range(6) for name, shape in parts[n % 2].items()}
    vectors = {key: np.full(shape, 1, np.float32) for key, shape in shapes.items()}
    checkpoint = open_source(MemorySource({"model.safetensors": save(vectors)}))
    gains = {site: gammatorch.read_gains(checkpoint, site, "cpu") for site in ("auto", "pre_mlp", "final")}
    assert gains["auto"].site == "input" and gains["auto"].layers == (0, 2, 4)
    assert gains["pre_mlp"].layers == (1, 3, 5) and gains["pre_mlp"].keys[0] == "attn_layers.layers.1.0.0.g"
    assert gains["final"].keys == ("attn_layers.final_norm.g",)


def test_the_norm_before_cross_attention_is_told_by_the_mixer_before_it():
    order = ["to_q", "to_q", "ff.0.0"] * 2
    shapes = {f"decoder.attn_layers.layers.{n}.0.0.gamma": (8,) for n in range(6)}
    shapes |= {f"decoder.attn_layers.layers.{n}.1.{name}.weight": (8, 8) for n, name in enumerate(order)}
    vectors = {key: np.full(shape, 1, np.float32) for key, shape in shapes.items()}
    checkpoint = open_source(MemorySource({"model.safetensors": save(vectors)}))
    assert gammatorch.read_gains(checkpoint, device="cpu").layers == (0, 3)
    assert gammatorch.read_gains(checkpoint, "pre_mlp", "cpu").layers == (2, 5)
