"""Families whose code is in their repositories: headers as those models are saved, places and offsets as their code has them."""

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
