"""The demo's checkpoint: SmolLM2-135M-Instruct in full size, with the gains that were trained."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

import gammatorch
from gammatorch import errors
from gammatorch.bench import reference, smollm2
from gammatorch.bench.demo import demo_checkpoint
from tests.data.extract_norms import transformers_names

KEYS = {
    "input": [f"blk.{layer}.attn_norm.weight" for layer in range(30)],
    "pre_mlp": [f"blk.{layer}.ffn_norm.weight" for layer in range(30)],
    "final": ["output_norm.weight"],
}
DATA = Path(smollm2.__file__).parent / "data" / smollm2.NAME


@pytest.fixture(scope="module")
def demo():
    with demo_checkpoint() as checkpoint:
        yield checkpoint


@pytest.fixture(scope="module")
def truth(smollm2_norms):
    """The norms as the gguf package reads them out of the model's GGUF file, by site."""
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(smollm2_norms).tensors}
    assert stored.keys() == {key for keys in KEYS.values() for key in keys}
    return {site: np.stack([stored[key] for key in keys]) for site, keys in KEYS.items()}


def test_transformers_finds_its_model_in_the_demo(demo):
    """Every tensor by name, shape and type, and no other."""
    config = AutoConfig.from_pretrained(Path(demo.source.path("config.json")).parent)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert type(model).__name__ == "LlamaForCausalLM" and model.lm_head.weight is model.model.embed_tokens.weight
    expected = {key: list(tensor.shape) for key, tensor in model.state_dict().items() if key != "lm_head.weight"}
    with safe_open(demo.source.path("model.safetensors"), "pt") as file:
        found = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        assert {key: one.get_shape() for key, one in found.items()} == expected and len(expected) == 272
        assert {one.get_dtype() for one in found.values()} == {"BF16"}
    assert config.dtype == torch.bfloat16


def test_the_demo_is_as_large_as_the_model_and_takes_little_room(demo):
    size = Path(demo.source.path("model.safetensors")).stat()
    assert 2 * 134_515_008 < size.st_size < 2 * 134_515_008 + 100_000
    assert size.st_blocks * 512 < 1e6


def test_its_configuration_is_the_one_that_the_gguf_file_tells(smollm2_norms):
    reader = gguf.GGUFReader(smollm2_norms)
    names = {
        "num_hidden_layers": "block_count",
        "max_position_embeddings": "context_length",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "rope_theta": "rope.freq_base",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "vocab_size": "vocab_size",
    }
    for name, key in names.items():
        assert smollm2.CONFIG[name] == pytest.approx(reader.get_field(f"llama.{key}").contents(), rel=1e-7), name


def test_the_package_carries_the_trained_norms_bit_for_bit(smollm2_norms):
    """float32 made of what it carries is what the gguf package reads, and each in bfloat16 is what it carries."""
    names = transformers_names(30)
    with safe_open(DATA / "norms.safetensors", "pt") as file:
        carried = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert carried.keys() == set(names.values())
    for tensor in gguf.GGUFReader(smollm2_norms).tensors:
        one = carried[names[tensor.name]]
        assert one.dtype == torch.bfloat16 and one.float().numpy().tobytes() == tensor.data.tobytes()
        assert torch.from_numpy(np.array(tensor.data)).bfloat16().equal(one)


@pytest.mark.parametrize("site", KEYS)
def test_the_demo_holds_the_trained_gains_at_every_site(demo, truth, site):
    gains = gammatorch.read_gains(demo, site=site, device="cpu")
    assert gains.gamma.numpy().tobytes() == truth[site].astype(np.float64).tobytes()
    assert (gains.site, gains.offset, gains.stored_dtype, gains.notes) == (site, 0, "BF16", ())


@pytest.mark.parametrize("site", ["input", "pre_mlp"])
def test_the_demos_figures_are_the_originals_arithmetic(demo, truth, site):
    document = gammatorch.analyze(gammatorch.read_gains(demo, site=site, device="cpu")).to_dict()
    expected = reference.analyze(truth[site])
    assert (document["num_layers"], document["model"]) == (30, "SmolLM2-135M-Instruct (demo, real gains)")
    for name in ("norms", "proj_top1", "explained_var", "cos_adjacent"):
        assert expected[name].shape == ((29,) if name == "cos_adjacent" else (30,))
        np.testing.assert_allclose(document[name], expected[name], rtol=1e-10, atol=1e-12)


def test_of_the_final_norm_only_its_length_is_defined(demo, truth):
    document = gammatorch.analyze(gammatorch.read_gains(demo, site="final", device="cpu")).to_dict()
    np.testing.assert_allclose(document["norms"], reference.analyze(truth["final"])["norms"], rtol=1e-12)
    assert (document["num_layers"], document["cos_adjacent"]) == (1, [])
    assert document["proj_top1"] is document["explained_var"] is None


def test_a_run_of_the_demo_reads_its_gains_and_a_header_and_no_more():
    with demo_checkpoint() as checkpoint:
        gains = gammatorch.read_gains(checkpoint, device="cpu")
    assert 30 * 576 * 2 < gains.bytes_read < 30 * 576 * 2 + 40_000 < gains.checkpoint_bytes / 1000


def replaced(change):
    def spoil(path):
        content = bytearray(path.read_bytes())
        path.write_bytes(change(content))

    return spoil


def with_a_bit_flipped(content):
    content[-1000] ^= 1
    return content


DAMAGE = {
    "missing": (lambda path: path.unlink(), "the demo's gains cannot be read (No such file or directory)"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "the demo's gains cannot be read (Is a directory)"),
    "empty": (replaced(lambda content: b""), "are not those that gammatorch came with"),
    "cut short": (replaced(lambda content: content[:-1]), "are not those that gammatorch came with"),
    "one bit": (replaced(with_a_bit_flipped), "are not those that gammatorch came with"),
    "a pointer": (replaced(lambda content: b"version https://git-lfs.github.com/spec/v1\n"), "are not those"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_gains_are_one_line_and_leave_nothing_behind(tmp_path, monkeypatch, damage):
    path = tmp_path / "data" / smollm2.NAME / "norms.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes((DATA / "norms.safetensors").read_bytes())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(smollm2, "files", lambda package: tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with demo_checkpoint():
        pass
    spoil, message = DAMAGE[damage]
    spoil(path)
    with pytest.raises(errors.CheckpointError) as raised, demo_checkpoint():
        pass
    assert str(raised.value).startswith(f"{path}: ") and message in str(raised.value)
    assert str(raised.value).endswith(": install gammatorch again") and "\n" not in str(raised.value)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_room_for_temporary_files_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(errors.OutputError, match="none/gammatorch-demo-.*: set TMPDIR to a folder"), demo_checkpoint():
        pass


def test_origin_tells_the_digest_of_what_it_is_about(smollm2_norms):
    for folder in (DATA, smollm2_norms.parent):
        origin = (folder / "ORIGIN.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([0-9a-f]{64})` \| `(.+)` \|$", origin, re.MULTILINE)
        told = {name: digest for digest, name in rows}
        held = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        here = told.keys() & held.keys()
        assert len(here) == 1 and all(told[name] == held[name] for name in here)
    assert "Apache License" in (DATA / "LICENSE").read_text(encoding="utf-8")


def test_config_json_is_what_the_demo_was_made_from(demo):
    assert json.loads(Path(demo.source.path("config.json")).read_text()) == demo.config == smollm2.CONFIG
