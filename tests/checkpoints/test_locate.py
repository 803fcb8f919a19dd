"""Folders as trainers lay them out: what stands above the weights, what says which folder is meant, what is left out."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors
from gammatorch.reports.document import refuse_overwriting

NORMS = {f"model.layers.{layer}.input_layernorm.weight": torch.arange(8.0) - layer for layer in range(3)}
OTHERS = {key: row + 5 for key, row in NORMS.items()}
GEMMA = json.dumps({"model_type": "gemma", "num_hidden_layers": 3, "hidden_size": 8})


def put(folder, name="model.safetensors", tensors=NORMS):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def read(path):
    return gammatorch.read_gains(path, device="cpu")


@pytest.mark.parametrize(
    ("within", "file"),
    [
        ("global_step5", "mp_rank_00_model_states.pt"),
        ("pytorch_model_fsdp_0", "model.safetensors"),
        ("iter_0000100/mp_rank_00", "model_optim_rng.pt"),
        ("checkpoint-500", "pytorch_model.bin"),
    ],
)
def test_config_json_above_the_folder_of_a_step_tells_of_its_weights(tmp_path, within, file):
    (tmp_path / "config.json").write_text(GEMMA)
    folder = put(tmp_path / within, file)
    for path in (folder, folder / file):
        gains = read(path)
        assert (gains.offset, gains.model_type) == (1, "gemma")
        assert any("config.json was used" in note and str(tmp_path) in note for note in gains.notes)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(errors.MalformedCheckpoint, match="config.json: is not valid JSON"):
        read(folder)
    with pytest.raises(errors.OutputError, match="belongs to the model"):
        refuse_overwriting(tmp_path / "config.json", [folder])


def test_config_json_above_any_other_folder_is_another_models(tmp_path):
    (tmp_path / "config.json").write_text(GEMMA)
    assert read(put(tmp_path / "llama-7b")).model_type is None


def test_config_json_beside_the_weights_goes_before_one_above(tmp_path):
    (tmp_path / "config.json").write_text(GEMMA)
    folder = put(tmp_path / "global_step5")
    (folder / "config.json").write_text(GEMMA.replace("gemma", "llama"))
    assert read(folder).offset == 0


@pytest.mark.parametrize(
    ("pointer", "text", "meant"),
    [
        ("latest", "global_step20\n", "global_step20"),
        ("latest", "checkpoint", "checkpoint"),
        ("latest_checkpointed_iteration.txt", "20", "iter_0000020"),
        ("latest_checkpointed_iteration.txt", "release", "release"),
        ("modules.json", '[{"idx": 0, "path": "0_Transformer"}, {"idx": 1, "path": "1_Pooling"}]', "0_Transformer"),
    ],
)
def test_a_folder_that_says_which_of_its_folders_is_meant_is_followed(tmp_path, pointer, text, meant):
    put(tmp_path / "global_step10", tensors=OTHERS)
    put(tmp_path / meant)
    (tmp_path / pointer).write_text(text)
    gains = read(tmp_path)
    assert gains.gamma.equal(torch.stack(list(NORMS.values())))
    assert gains.notes[0].startswith(f"{meant} was read") and pointer in gains.notes[0]


@pytest.mark.parametrize("text", ["gone", "..", ".", "", "../other", "\0", "global_step10\nglobal_step20"])
def test_a_pointer_to_nothing_is_not_followed(tmp_path, text):
    put(tmp_path / "run" / "global_step10")
    put(tmp_path / "other")
    (tmp_path / "run" / "latest").write_text(text)
    with pytest.raises(errors.CheckpointNotFound, match=r"its folders do \(global_step10\)"):
        read(tmp_path / "run")


def test_a_pointer_that_leads_back_is_not_followed(tmp_path):
    (tmp_path / "latest").write_text("again")
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(errors.CheckpointNotFound, match="holds no weights"):
        read(tmp_path)


def test_pointers_to_two_folders_are_not_followed(tmp_path):
    put(tmp_path / "a")
    put(tmp_path / "b")
    (tmp_path / "latest").write_text("a")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("b")
    with pytest.raises(errors.CheckpointNotFound, match=r"its folders do \(a, b\)"):
        read(tmp_path)


def test_the_hubs_cache_is_followed_to_its_only_commit(tmp_path):
    root = tmp_path / "models--org--name"
    put(root / "snapshots" / "abc")
    assert read(root).notes[0] == "snapshots/abc was read, the only commit there"
    put(root / "snapshots" / "def")
    with pytest.raises(errors.CheckpointNotFound, match="snapshots/abc, snapshots/def"):
        read(root)


def test_a_run_of_megatron_without_a_pointer_names_its_iterations(tmp_path):
    put(tmp_path / "iter_0000100" / "mp_rank_00", "model_optim_rng.pt")
    with pytest.raises(errors.CheckpointNotFound, match=r"its folders do \(iter_0000100\)"):
        read(tmp_path)


@pytest.mark.parametrize("beside", ["model_1.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_weights_that_are_not_read_are_named(tmp_path, beside):
    put(tmp_path)
    put(tmp_path, beside, OTHERS)
    put(tmp_path, "optimizer.bin", OTHERS)
    gains = read(tmp_path)
    assert gains.gamma.equal(torch.stack(list(NORMS.values())))
    assert f"not read: {beside}" in gains.notes


def test_shards_of_another_sharding_are_named(tmp_path):
    for number, (key, row) in enumerate(NORMS.items(), 1):
        put(tmp_path, f"model-{number:05}-of-00003.safetensors", {key: row})
    for number, (key, row) in enumerate(list(OTHERS.items())[:2], 1):
        put(tmp_path, f"model-{number:05}-of-00002.safetensors", {key: row})
    index = {key: f"model-{number:05}-of-00003.safetensors" for number, key in enumerate(NORMS, 1)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    notes = read(tmp_path).notes
    assert "not read: model-00001-of-00002.safetensors, model-00002-of-00002.safetensors" in notes


OLMO = {
    f"transformer.blocks.{layer}.{name}": torch.ones(8, 8)[0 if name.endswith("norm.weight") else slice(None)].clone()
    for layer in range(3)
    for name in ("attn_norm.weight", "ff_norm.weight", "q_norm.weight", "k_norm.weight", "att_proj.weight")
}


@pytest.mark.parametrize(("said", "site"), [("true", "post_attention"), ("false", "input")])
def test_settings_in_config_yaml_tell_where_olmos_norms_stand(tmp_path, said, site):
    put(tmp_path, "model.pt", OLMO | {"transformer.ln_f.weight": torch.ones(8)})
    (tmp_path / "config.yaml").write_text(f"model:\n  d_model: 8\n  norm_after: {said}\n")
    for path in (tmp_path, tmp_path / "model.pt"):
        assert read(path).site == site


@pytest.mark.parametrize("text", ["[", "!!python/object/apply:os.abort []", "a: &a [*a]", "- 1", "x" * 300_000, ""])
def test_a_config_yaml_that_is_no_plain_mapping_says_nothing(tmp_path, text):
    put(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    assert read(tmp_path).site == "input"


def test_flattened_parameters_of_fsdp_are_called_so(tmp_path):
    put(tmp_path, "pytorch_model_fsdp_0.bin", {"layers.0._fsdp_wrapped_module._flat_param": torch.ones(9)})
    with pytest.raises(errors.SiteNotFound, match="FSDP's flattened parameters"):
        read(tmp_path)


def test_a_header_of_nonsense_length_is_called_that(tmp_path):
    (tmp_path / "x.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b'{"a": 1}' + bytes(64))
    with pytest.raises(errors.MalformedCheckpoint, match=r"not safetensors \(header of 1152921504606846976 bytes"):
        read(tmp_path / "x.safetensors")
