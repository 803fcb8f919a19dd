"""Files for MLX keep a model's type, and hold the gain where the original held w of 1 + w: what tells, and what not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch.analysis.audit import audit
from gammatorch.architectures import shortcut
from gammatorch.architectures.select import select
from gammatorch.gains.stream import stored_sites

LAYERS, WIDTH, KERNEL, CHANNELS = 4, 16, 4, 24
NORMS = ("input_layernorm", "post_attention_layernorm")
TORCH_KERNEL, MLX_KERNEL = (CHANNELS, 1, KERNEL), (CHANNELS, KERNEL, 1)


@pytest.fixture
def write(tmp_path):
    """Writes a folder: its gains are 1 + 0.1 × noise, stored as they are, or less 1."""

    def write(model_type, *, stored_less, metadata=None, kernel=None, experts=None, extra=0):
        torch.manual_seed(0)
        gains = 1 + 0.1 * torch.randn(LAYERS, len(NORMS), WIDTH)
        tensors = {
            f"model.layers.{layer}.{norm}.weight": gains[layer, number] - stored_less
            for layer in range(LAYERS)
            for number, norm in enumerate(NORMS)
        }
        for layer in range(LAYERS):
            if kernel is not None and layer % 4 != 3:
                tensors[f"model.layers.{layer}.linear_attn.conv1d.weight"] = torch.zeros(kernel)
            if experts is not None:
                tensors[f"model.layers.{layer}.mlp.{experts}.weight"] = torch.zeros(2, 4, WIDTH)
            for number in range(extra):
                tensors[f"model.layers.{layer}.mlp.experts.{number}.up_proj.weight"] = torch.zeros(1)
        save_file(tensors, tmp_path / "model.safetensors", metadata)
        config = {"model_type": model_type, "num_hidden_layers": LAYERS, "hidden_size": WIDTH}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path, gains[:, 0]

    return write


MLX, TORCH = {"format": "mlx"}, {"format": "pt"}
EXPERTS = "switch_mlp.gate_proj"


@pytest.mark.parametrize(
    ("model_type", "parts", "tell"),
    [
        ("qwen3_next", {"metadata": MLX, "kernel": MLX_KERNEL}, "conv1d lies as channel, kernel, 1"),
        ("qwen3_5_text", {"kernel": MLX_KERNEL}, "conv1d lies as channel, kernel, 1"),
        ("qwen3_5_moe_text", {"experts": EXPERTS}, "experts are called switch_mlp"),
        ("qwen3_5", {"metadata": MLX}, "its format is mlx"),
        ("step3p5", {"experts": EXPERTS}, "experts are called switch_mlp"),
        ("step3p7", {"metadata": MLX, "experts": EXPERTS}, "experts are called switch_mlp"),
    ],
)
@pytest.mark.parametrize("extra", [0, 60])
def test_a_conversion_that_added_1_is_known_by_what_it_left(write, model_type, parts, tell, extra):
    folder, gains = write(model_type, stored_less=0, extra=extra, **parts)
    read = gammatorch.read_gains(folder)
    assert read.offset == 0 and torch.equal(read.gamma, gains.double())
    (note,) = [note for note in read.notes if "MLX" in note]
    assert tell in note and "offset taken as 0" in note and f"mean {gains.mean():.3g}" in note


@pytest.mark.parametrize(
    ("model_type", "parts"),
    [
        ("qwen3_next", {"metadata": TORCH, "kernel": TORCH_KERNEL}),
        ("qwen3_next", {}),
        ("qwen3_next", {"metadata": MLX, "kernel": TORCH_KERNEL}),  # copied by MLX's tools, but not converted
        ("step3p5", {"metadata": TORCH, "experts": "experts.up_proj"}),
        ("gemma2", {"metadata": MLX}),  # MLX adds the 1 of these where it multiplies
        ("nemotron", {"metadata": MLX}),
    ],
)
def test_without_that_what_the_type_adds_is_added(write, model_type, parts):
    folder, gains = write(model_type, stored_less=1, **parts)
    read = gammatorch.read_gains(folder)
    assert read.offset == 1 and not [note for note in read.notes if "MLX" in note]
    torch.testing.assert_close(read.gamma, gains.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stored_less", [0, 1])
def test_files_of_which_both_exist_are_read_by_their_type_with_what_speaks_against_it(write, stored_less):
    folder, gains = write("qwen4_exp_text", stored_less=stored_less, metadata=MLX)
    read = gammatorch.read_gains(folder)
    (note,) = [note for note in read.notes if "MLX" in note]
    assert read.offset == 1 and f"mean {gains.mean() - stored_less:.3g}" in note
    with gammatorch.open_checkpoint(folder) as checkpoint:
        (finding,) = audit(stored_sites(checkpoint, {"input": select(checkpoint, "input")})["input"])
    assert (finding.level, finding.what) == ("warning", "convention")
    assert finding.text.startswith("suspect: files for MLX of type 'qwen4_exp_text' exist with w and with 1 + w; read")


def test_the_search_of_raw_headers_gives_the_same(write):
    for kernel in (TORCH_KERNEL, MLX_KERNEL):
        folder, _ = write("qwen3_next", stored_less=0, kernel=kernel, extra=60)
        with gammatorch.open_checkpoint(folder) as checkpoint:
            found = shortcut.select_by_search(checkpoint, "input")
            assert found is not None and found.offset == (kernel == TORCH_KERNEL)
            assert found.offset == gammatorch.find_stacks(checkpoint)[0].site("input").offset
