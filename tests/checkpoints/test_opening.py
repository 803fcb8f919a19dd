"""From what a user types to an open checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.shards import parse_index
from gammatorch.checkpoints.weights import find_weights


@pytest.fixture
def folder(tmp_path):
    write_checkpoint(tmp_path, layers=12, hidden=16, dtype="F32", shards=3)
    return tmp_path


def test_folder_index_and_path_object_open_the_same(folder):
    gammas = [
        gammatorch.read_gains(model, device="cpu").gamma
        for model in (folder, str(folder), f"{folder}/", folder / "model.safetensors.index.json")
    ]
    for gamma in gammas[1:]:
        assert gamma.equal(gammas[0])


def test_a_single_file_opens_with_the_config_beside_it(tmp_path):
    made = write_checkpoint(tmp_path, layers=3, hidden=16, shards=1)
    (tmp_path / "notes.safetensors").write_bytes(b"not weights")
    gains = gammatorch.read_gains(tmp_path / "model.safetensors", device="cpu")
    assert gains.model_type == "qwen3"
    for row, key in zip(gains.gamma, gains.keys, strict=True):
        torch.testing.assert_close(row, torch.from_numpy(made.stored[key].copy()), rtol=0, atol=0)


def test_layers_come_in_numeric_order(folder):
    gains = gammatorch.read_gains(folder, device="cpu")
    assert gains.layers == tuple(range(12))
    assert gains.keys == tuple(f"model.layers.{layer}.input_layernorm.weight" for layer in range(12))


def test_one_shard_of_several_says_that_it_is_not_the_whole(tmp_path):
    write_checkpoint(tmp_path, layers=12, hidden=2048, shards=3)
    shard = tmp_path / "model-00002-of-00003.safetensors"
    gains = gammatorch.read_gains(shard, device="cpu")
    assert gains.layers == tuple(range(12))
    assert gains.notes[0] == f"{shard.name} is one of 3 shards: all of them were read"
    (tmp_path / "model-00001-of-00003.safetensors").unlink()
    with pytest.raises(errors.IncompleteCheckpoint, match="-00001-of-00003.* not beside it: pass the whole model"):
        gammatorch.read_gains(shard, device="cpu")
    pattern = "model.layers.{layer}.input_layernorm.weight"
    part = gammatorch.read_gains(shard, pattern=pattern, device="cpu")
    assert 0 < len(part.layers) < 12 and any("is one of 3 shards by its name" in note for note in part.notes)


def test_without_config_the_count_is_not_checked_and_the_reader_is_told(folder):
    (folder / "config.json").unlink()
    gains = gammatorch.read_gains(folder, device="cpu")
    assert gains.layers == tuple(range(12))
    assert "no config.json: offset taken as 0" in gains.notes[0]


def rewrite_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_hidden_layers": 13}, errors.IncompleteCheckpoint, r"layer 12 of stack 'model.layers' missing"),
        ({"num_hidden_layers": 10}, errors.IncompleteCheckpoint, r"has layers 10-11, but config.json says 10 layers"),
        ({"hidden_size": 32}, errors.WidthMismatch, r"input_layernorm.weight: holds 16 values, .* hidden size 32"),
        ({"num_hidden_layers": "12"}, errors.MalformedCheckpoint, r"num_hidden_layers is '12', not a positive"),
        ({"model_type": 3}, errors.MalformedCheckpoint, r"model_type is not a text"),
    ],
)
def test_headers_are_held_against_the_config(folder, settings, error, message):
    rewrite_config(folder, **settings)
    with pytest.raises(error, match=message):
        gammatorch.read_gains(folder, device="cpu")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"weight_map": ' * 9])
def test_a_broken_config_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(errors.MalformedCheckpoint, match=r"config\.json: is not"):
        gammatorch.open_checkpoint(folder)


def test_a_missing_shard_is_named(folder):
    (folder / "model-00002-of-00003.safetensors").unlink()
    for model in (folder, folder / "model.safetensors.index.json"):
        with pytest.raises(
            errors.IncompleteCheckpoint, match=r"index.json: 1 of 3 shards missing \(model-00002-of-00003.safetensors\)"
        ):
            gammatorch.open_checkpoint(model)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(
        errors.IncompleteCheckpoint, match=r"1 of 3 shards missing \(model-00002-of-00003.safetensors\)"
    ):
        gammatorch.open_checkpoint(folder)


def rewrite_index(folder, **shards):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= shards
    path.write_text(json.dumps(index))
    return path


def test_shards_are_believed_where_an_index_says_otherwise(folder):
    first, gain = "model-00001-of-00003.safetensors", "model.layers.12.input_layernorm.weight"
    checkpoint = gammatorch.open_checkpoint(rewrite_index(folder, **{"model.norm.weight": first, "tied": first}))
    assert checkpoint.notes == (
        "model.safetensors.index.json names tied, which no shard holds",
        "model.safetensors.index.json puts model.norm.weight into other shards than those that hold them",
    )
    assert gammatorch.read_gains(checkpoint, device="cpu").layers == tuple(range(12))
    (folder / "config.json").unlink()
    with pytest.raises(errors.IncompleteCheckpoint, match=rf"{gain}: the index names it, and no shard holds it"):
        gammatorch.read_gains(rewrite_index(folder, **{gain: first}), device="cpu")


def test_an_index_decides_where_shards_are_fewer_than_their_names_count(folder):
    for number in (1, 2, 3):
        (folder / f"model-0000{number}-of-00003.safetensors").rename(
            folder / f"model-0000{number}-of-00030.safetensors"
        )
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text().replace("-of-00003", "-of-00030"))
    gains = gammatorch.read_gains(folder, device="cpu")
    assert gains.layers == tuple(range(12)) and "and 24 more not there, and the index names" in gains.notes[0]


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/passwd", "a\\b.safetensors", "", "x.bin", 7, "a/b.safetensors"]
)
def test_an_index_names_plain_files_or_is_refused(name):
    raw = json.dumps({"weight_map": {"a": name}}).encode()
    with pytest.raises(errors.MalformedCheckpoint, match="which is not a plain safetensors file name"):
        parse_index(raw, ["passwd"], "index")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"weight_map": 3}', b'{"weight_map": {"a": []}}', b'{"weight_map": {}}']
)
def test_what_is_no_index_is_refused(raw):
    with pytest.raises(errors.MalformedCheckpoint, match="^index: "):
        parse_index(raw, [], "index")


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    shutil.copy(tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(errors.MalformedCheckpoint, match="stands in both model-00001-of-00002.safetensors and"):
        gammatorch.read_gains(tmp_path)


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
TORCH_SHARDS = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]


@pytest.mark.parametrize(
    ("names", "files", "index"),
    [
        (["model.safetensors"], ("model.safetensors",), None),
        (["model.safetensors", *SHARDS], ("model.safetensors",), None),
        (SHARDS, tuple(SHARDS), None),
        ([*SHARDS, "model.safetensors.index.json"], tuple(SHARDS), None),
        ([*SHARDS, "mtp.safetensors", "model.safetensors.index.json"], (), "model.safetensors.index.json"),
        ([*SHARDS, "mtp.safetensors"], tuple(SHARDS), None),
        ([*SHARDS, "model-00001-of-00001.safetensors", "model.safetensors.index.json"], (), "model.safetensors.index.json"),
        (["layers-1.safetensors", "layers-2.safetensors", "model.safetensors.index.json"], (), "model.safetensors.index.json"),
        (["weights.safetensors", "config.json"], ("weights.safetensors",), None),
        (["model-00001-of-00001.safetensors"], ("model-00001-of-00001.safetensors",), None),
        (["model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"], ("model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"), None),
        ([f"model-{n}-of-10.safetensors" for n in range(1, 11)], tuple(f"model-{n}-of-10.safetensors" for n in range(1, 11)), None),
        (["model.safetensors", "pytorch_model.bin", "q4.gguf"], ("model.safetensors",), None),
        ([*SHARDS, "pytorch_model.bin"], tuple(SHARDS), None),
        (["pytorch_model.bin", "training_args.bin", "optimizer.pt"], ("pytorch_model.bin",), None),
        (["pytorch_model.bin", *TORCH_SHARDS, "pytorch_model.bin.index.json"], ("pytorch_model.bin",), None),
        ([*TORCH_SHARDS, "pytorch_model.bin.index.json"], tuple(TORCH_SHARDS), None),
        (["a.bin", "b.bin", "pytorch_model.bin.index.json"], (), "pytorch_model.bin.index.json"),
        (["pytorch_model.bin", "q4.gguf"], ("pytorch_model.bin",), None),
        (["q4.gguf", "config.json"], ("q4.gguf",), None),
        ([".metadata", "__1_0.distcp", "__0_0.distcp", "rng.pt"], ("__0_0.distcp", "__1_0.distcp"), None),
        ([".metadata", "__0_0.distcp", "q4.gguf"], ("q4.gguf",), None),
        (["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"], ("a-00001-of-00002.gguf", "a-00002-of-00002.gguf"), None),
        (["ckpt.pt", "optimizer.pt", "rng_state_0.pth", "training_args.bin"], ("ckpt.pt",), None),
        ([".metadata", "__0_0.distcp", "ckpt.pt"], ("__0_0.distcp",), None),
        (["ckpt.pt", "q4.gguf"], ("q4.gguf",), None),
    ],
)  # fmt: skip
def test_the_weight_files_are_those_transformers_loads(names, files, index):
    weights = find_weights(names, "m")
    assert (weights.files, weights.index) == (files, index)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], errors.CheckpointNotFound, "holds no weights"),
        (["training_args.bin"], errors.UnsupportedFormat, r"PyTorch files of other names \(training_args.bin\): pass"),
        (["a.pt", "b.ckpt"], errors.UnsupportedFormat, r"PyTorch files of other names \(a.pt, b.ckpt\): pass"),
        (
            ["__0_0.distcp", "__1_0.distcp"],
            errors.IncompleteCheckpoint,
            r"a torch.distributed checkpoint .* without its .metadata",
        ),
        (
            ["tf_model.h5"],
            errors.UnsupportedFormat,
            r"no weights but an HDF5 file, .* \(tf_model.h5\), which gammatorch does",
        ),
        (["q4.gguf", "q8.gguf"], errors.CheckpointNotFound, "several GGUF models .* pass the file of one"),
        (["a-00001-of-00002.gguf"], errors.IncompleteCheckpoint, "a-00002-of-00002.gguf"),
        (["pytorch_model-00001-of-00002.bin"], errors.IncompleteCheckpoint, "pytorch_model-00002-of-00002.bin"),
        (["a.safetensors", "b.safetensors"], errors.CheckpointNotFound, "pass one of them"),
        (["model.safetensors.index.json"], errors.IncompleteCheckpoint, r"1 of 1 shards missing \(a.safetensors\)"),
        ([SHARDS[1]], errors.IncompleteCheckpoint, "model-00001-of-00002.safetensors"),
        (
            ["model-1-of-2.safetensors", "model-01-of-2.safetensors"],
            errors.CheckpointNotFound,
            "two shards of one number",
        ),
        (["model-00002-of-000002.safetensors"], errors.IncompleteCheckpoint, r"\(model-00001-of-000002.safetensors\)"),
    ],
)
def test_what_cannot_be_read_is_told_apart(names, error, message):
    with pytest.raises(error, match=message):
        weights = find_weights(names, "m")
        parse_index(b'{"weight_map": {"a": "a.safetensors"}}', names, "m") if weights.index else None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./runs/none", r"\./runs/none: no such file or folder$"),
        ("/no/such/folder", "no such file or folder"),
        ("gpt2", "and a Hub id is written org/name"),
        ("org/name/more", "no such file or folder"),
        ("a\0b", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("../escape/name", "no such file or folder"),
        ("https://huggingface.co/org/name", "no such file or folder, for the Hub pass org/name$"),
        ("https://huggingface.co/org/name/blob/v1.0/model.safetensors", "for the Hub pass org/name@v1.0$"),
        ("hf://org/name@main", "for the Hub pass org/name@main$"),
        ("org/name/tree/main", "for the Hub pass org/name@main$"),
        ("s3://bucket/model", "download what stands at that address, or mount it, and pass its folder$"),
    ],
)
def test_what_looks_like_a_path_is_never_sent_to_the_hub(model, message, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gammatorch.checkpoints.hub.repository", None)
    with pytest.raises(errors.CheckpointNotFound, match=message):
        gammatorch.open_checkpoint(model)


def test_a_revision_is_not_for_local_paths(folder):
    with pytest.raises(errors.InvalidArgument, match="revisions are the Hub's"):
        gammatorch.open_checkpoint(folder, "main")
    with pytest.raises(errors.InvalidArgument, match="names a revision already"):
        gammatorch.open_checkpoint("org/name@main", "step1")


def test_other_files_are_refused_by_name(tmp_path):
    for name in ("model.ckpt.index", "model.h5", "tf_model.index.json", "README"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(errors.UnsupportedFormat, match=name):
            gammatorch.open_checkpoint(tmp_path / name)


def test_a_folder_of_checkpoints_is_pointed_into(tmp_path):
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_checkpoint(tmp_path / f"checkpoint-{step}", layers=1, hidden=8, shards=1)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.log").write_text("")
    with pytest.raises(
        errors.CheckpointNotFound, match=r"its folders do \(checkpoint-1000, checkpoint-500\): pass one"
    ):
        gammatorch.open_checkpoint(tmp_path)


def test_a_repository_in_the_hubs_cache_is_pointed_into(tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    (tmp_path / "refs").mkdir()
    (tmp_path / "snapshots" / commit).mkdir(parents=True)
    write_checkpoint(tmp_path / "snapshots" / commit, layers=1, hidden=8, shards=1)
    with pytest.raises(errors.CheckpointNotFound, match=rf"its folders do \(snapshots/{commit}\): pass one"):
        gammatorch.open_checkpoint(tmp_path)


def test_a_message_names_the_file_that_was_asked_for(tmp_path):
    save_file({"0.weight": torch.ones(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(errors.SiteNotFound) as caught:
        gammatorch.read_gains(tmp_path / "odd.safetensors", device="cpu")
    assert caught.value.file == str(tmp_path / "odd.safetensors")


def test_a_folder_that_holds_weights_itself_is_not_pointed_into(tmp_path):
    (tmp_path / "checkpoint-500").mkdir()
    for folder in (tmp_path, tmp_path / "checkpoint-500"):
        for name in ("one", "other"):
            write_checkpoint(folder, layers=1, hidden=8, shards=1)
            (folder / "model.safetensors").rename(folder / f"{name}.safetensors")
    with pytest.raises(errors.CheckpointNotFound, match="several safetensors files"):
        gammatorch.open_checkpoint(tmp_path)
