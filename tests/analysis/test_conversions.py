"""Converted checkpoints are what they were made from, and a mistake on the way is found.

Each converter follows the rules of the tool it stands for: names and the 1 of zero-centred norms as llama.cpp and mlx-lm
write them, containers by the libraries that write them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from gguf.tensor_mapping import get_tensor_name_map
from safetensors.torch import save_file

import gammatorch
from gammatorch.bench.worlds import draw

LAYERS, HIDDEN, HEAD = 8, 256, 64
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed is disabled")
Weights = dict[str, torch.Tensor]
Planted = tuple[str, set[int]]
"""Verdict, and the layers of ``input`` that it is on."""

OFFSETS = {"qwen3": 0.0, "gemma2": 1.0, "nemotron": 1.0, "qwen3_next": 1.0}
"""What each type adds to the stored weights of its norms."""

NORMS = {
    "qwen3": ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"),
    "gemma2": tuple(f"{name}_layernorm" for name in ("input", "post_attention", "pre_feedforward", "post_feedforward")),
    "nemotron": ("input_layernorm", "post_attention_layernorm"),
    "qwen3_next": ("input_layernorm", "post_attention_layernorm"),
}
GATED = "linear_attn.norm.weight"
"""The norm of Qwen3-Next that is not zero-centred."""


def key(layer: int, norm: str) -> str:
    return f"model.layers.{layer}.{norm}.weight"


def original(model_type: str) -> Weights:
    """Norms as the model's own checkpoint has them, in bfloat16."""
    weights = {"model.norm.weight": torch.from_numpy(draw("drift", 9, 2, HIDDEN)[0])}
    for number, norm in enumerate(NORMS[model_type]):
        rows = torch.from_numpy(draw("shared-direction", number, LAYERS, HEAD if "self_attn" in norm else HIDDEN))
        weights |= {key(layer, norm): row for layer, row in enumerate(rows)}
    stored = {name: (gamma - OFFSETS[model_type]).bfloat16() for name, gamma in weights.items()}
    if model_type == "nemotron":
        stored |= {name.replace(".weight", ".bias"): 0.1 * one for name, one in stored.items()}
    if model_type == "qwen3_next":
        for layer in range(LAYERS):
            stored[f"model.layers.{layer}.{GATED}"] = torch.ones(HEAD).bfloat16() + 0.01 * layer
            stored[f"model.layers.{layer}.linear_attn.conv1d.weight"] = torch.ones(16, 1, 4).bfloat16()
    return stored


def placed(folder: Path, model_type: str) -> Path:
    folder.mkdir()
    config = {"model_type": model_type, "num_hidden_layers": LAYERS, "hidden_size": HIDDEN}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def to_safetensors(folder: Path, model_type: str, weights: Weights) -> Path:
    save_file(weights, placed(folder, model_type) / "model.safetensors", {"format": "pt"})
    return folder


def to_float16(folder: Path, model_type: str, weights: Weights) -> Path:
    return to_safetensors(folder, model_type, {name: one.half() for name, one in weights.items()})


def to_bin(folder: Path, model_type: str, weights: Weights) -> Path:
    torch.save(weights, placed(folder, model_type) / "pytorch_model.bin")
    return folder


def to_dcp(folder: Path, model_type: str, weights: Weights) -> Path:
    dcp.save(weights, checkpoint_id=str(placed(folder, model_type)), no_dist=True)
    return folder


def to_mlx(folder: Path, model_type: str, weights: Weights) -> Path:
    """mlx-lm adds the 1 to Qwen3-Next's norms, whose convolutions it turns, and keeps w for Gemma's and Nemotron's."""
    written = dict(weights)
    if model_type == "qwen3_next":
        written = {name: one + 1 if is_centred(name) else one for name, one in weights.items()}
        written = {name: one.mT.contiguous() if "conv1d" in name else one for name, one in written.items()}
    save_file(written, placed(folder, model_type) / "model.safetensors", {"format": "mlx"})
    return folder


def to_gguf(folder: Path, model_type: str, weights: Weights) -> Path:
    """llama.cpp's converter stores norms in float32, and 1 + w where the type adds 1."""
    arch = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[model_type.replace("_", "")]
    names = get_tensor_name_map(arch, LAYERS)
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "model.gguf", gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    for name, one in weights.items():
        if "conv1d" not in name:
            added = OFFSETS[model_type] if is_centred(name) else 0.0
            short = names.get_name(name, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(short, one.float().numpy() + np.float32(added))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


def is_centred(name: str) -> bool:
    """Whether a tensor is a norm to which types with an offset add it."""
    return name.endswith("norm.weight") and not name.endswith(GATED)


CONVERTERS: Mapping[str, Callable[[Path, str, Weights], Path]] = {
    "GGUF": to_gguf,
    "MLX": to_mlx,
    "torch.distributed": to_dcp,
    "bin": to_bin,
    "float16": to_float16,
}


def one_added_twice(weights: Weights) -> Planted:
    for layer in range(LAYERS):
        weights[key(layer, "input_layernorm")] += 1
    return "shifted", set(range(LAYERS))


def one_lost(weights: Weights) -> Planted:
    for layer in (2, 3):
        weights[key(layer, "input_layernorm")] -= 1
    return "shifted", {2, 3}


def layers_swapped(weights: Weights) -> Planted:
    one, other = (key(layer, "input_layernorm") for layer in (1, 6))
    weights[one], weights[other] = weights[other], weights[one]
    return "other-layer", {1, 6}


def sites_swapped(weights: Weights) -> Planted:
    one, other = (key(4, f"{name}_layernorm") for name in ("input", "post_attention"))
    weights[one], weights[other] = weights[other], weights[one]
    return "other-site", {4}


def layer_lost(weights: Weights) -> Planted:
    weights.pop(key(5, "input_layernorm"))
    return "missing", {5}


MISTAKES = (one_added_twice, one_lost, layers_swapped, sites_swapped, layer_lost)


@pytest.mark.parametrize("converter", CONVERTERS)
@pytest.mark.parametrize("model_type", OFFSETS)
def test_a_sound_conversion_is_the_same_or_rounded(tmp_path: Path, model_type: str, converter: str) -> None:
    weights = original(model_type)
    reference = to_safetensors(tmp_path / "original", model_type, weights)
    converted = CONVERTERS[converter](tmp_path / "converted", model_type, weights)
    found = gammatorch.check(converted, against=reference, exact=True)
    assert not found.errors
    norms = [name for name in weights if name.rpartition(".")[0].endswith("norm")]
    assert len(found.verdicts) == len(norms)  # biases among them
    assert {one.verdict for one in found.verdicts} <= {"same", "rounded"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("converter", CONVERTERS)
@pytest.mark.parametrize("model_type", OFFSETS)
def test_a_mistake_on_the_way_is_named_with_its_layers(
    tmp_path: Path, model_type: str, converter: str, mistake: Callable[[Weights], Planted]
) -> None:
    weights = original(model_type)
    reference = to_safetensors(tmp_path / "original", model_type, weights)
    spoilt = {name: one.clone() for name, one in weights.items()}
    verdict, layers = mistake(spoilt)
    converted = CONVERTERS[converter](tmp_path / "converted", model_type, spoilt)
    found = gammatorch.check(converted, against=reference)
    told = {one.layer for one in found.verdicts if one.site == "input" and one.verdict == verdict}
    assert told == layers
    assert found.errors


def test_a_norm_at_no_place_is_found_under_the_name_that_the_format_gives_it(tmp_path: Path) -> None:
    """``linear_attn.norm`` of Qwen3-Next is ``ssm_norm`` in GGUF; 1 added to it, as to the others, is seen."""
    weights = original("qwen3_next")
    reference = to_safetensors(tmp_path / "original", "qwen3_next", weights)
    spoilt = {name: one + 1 if name.endswith(GATED) else one for name, one in weights.items()}
    found = gammatorch.check(to_gguf(tmp_path / "converted", "qwen3_next", spoilt), against=reference)
    assert [(one.what, one.site) for one in found.errors] == [("shifted", "linear_attn.norm")]
    (note,) = [one.text for one in found.findings if one.site == "linear_attn.norm" and one.what == "stack"]
    assert note == "ssm_norm, the one norm with the same layers and width, is held against it"


def test_what_such_a_norm_shows_by_itself_is_told_once(tmp_path: Path) -> None:
    weights = original("qwen3_next")
    reference = to_safetensors(tmp_path / "original", "qwen3_next", weights)
    spoilt = {name: torch.zeros_like(one) if name.endswith(GATED) else one for name, one in weights.items()}
    found = gammatorch.check(to_gguf(tmp_path / "converted", "qwen3_next", spoilt), against=reference)
    assert [one.what for one in found.errors] == ["dead"]


def test_norms_at_no_place_are_not_paired_where_two_would_fit(tmp_path: Path) -> None:
    rows = torch.rand(LAYERS, HEAD, generator=torch.Generator().manual_seed(0)) + 0.5
    norms = {key(layer, "input_layernorm"): row for layer, row in enumerate(rows)}

    def named(*names: str) -> Weights:
        return norms | {key(layer, name): rows[layer] + n for n, name in enumerate(names) for layer in range(LAYERS)}

    found = gammatorch.check(named("mixer.one_norm"), against=named("mixer.first_norm", "mixer.second_norm"))
    kinds = {(one.what, one.site) for one in found.findings}
    assert kinds >= {("missing", "mixer.first_norm, mixer.second_norm"), ("extra", "mixer.one_norm")}
