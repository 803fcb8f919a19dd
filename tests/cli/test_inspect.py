"""``gammatorch inspect`` as a user sees it."""

from __future__ import annotations

import json

import pytest

from gammatorch.bench.synthetic import write_checkpoint
from tests.zoo import TABLE


@pytest.mark.parametrize("name", TABLE)
def test_the_document_lists_every_norm_tensor_of_the_blocks_once(call, tiny, name):
    from safetensors import safe_open

    document = json.loads(call("inspect", tiny(name), "--format", "json").stdout)
    assert list(document) == ["model", "revision", "model_type", "num_layers", "checkpoint_bytes", "stacks", "notes"]
    listed = [tensor for stack in document["stacks"] for site in stack["sites"] for tensor in site["tensors"]]
    theirs = {}
    for path in tiny(name).glob("*.safetensors"):
        with safe_open(path, "np") as file:
            for key in file.keys():  # noqa: SIM118
                theirs[key] = (path.name, list(file.get_slice(key).get_shape()))
    for tensor in listed:
        assert theirs[tensor["key"]] == (tensor["shard"], tensor["shape"])
    keys = [tensor["key"] for tensor in listed]
    assert len(keys) == len(set(keys))
    in_blocks = {
        key for key in theirs if ("norm" in key.lower() or ".ln_" in key) and ".0." in key and key.endswith("weight")
    }
    assert in_blocks <= set(keys)
    (main,) = [stack for stack in document["stacks"] if stack["main"]]
    assert [site["site"] for site in main["sites"] if site["site"] != "final"] == list(TABLE[name].places)
    assert all(site["bytes"] == sum(4 * tensor["shape"][0] for tensor in site["tensors"]) for site in main["sites"])
    offset = 1 if name.startswith("gemma") else 0
    assert {site["offset"] for site in main["sites"]} == {offset}
    assert {tensor["layer"] for tensor in main["sites"][-1]["tensors"]} == (
        {None} if TABLE[name].auto == "input" or name == "olmo2" else set(range(4))
    )


def test_the_tree_reads_from_stack_to_key(call, tmp_path):
    write_checkpoint(tmp_path)
    done = call("inspect", tmp_path)
    lines = done.stdout.splitlines()
    assert done.code == 0 and done.stderr == ""
    assert lines[0] == str(tmp_path)
    assert lines[1] == "model type qwen3 · 64 layers · hidden size 5120 · 707 tensors in 17 shards · 65.5 GB"
    assert lines[2] == "model.layers: 64 layers, main stack, pre-norm"
    assert lines[3] == "├── input: 64 × BF16 (5120), γ = w, 0.7 MB"
    assert lines[4] == "│   └── model.layers.{layer}.input_layernorm.weight"
    assert lines[-1].endswith("of 65.5 GB, headers only")


def test_what_the_headers_leave_open_is_noted(call, tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=16, shards=1)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "novel", "num_hidden_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    notes = json.loads(call("inspect", tmp_path, "--format", "json").stdout)["notes"]
    assert notes == [
        "config.json says 4 layers, stack 'model.layers' has 3",
        "model type 'novel' is not among the known ones: offsets of stack 'model.layers' are taken as 0",
    ]
    (tmp_path / "config.json").unlink()
    assert "note: no config.json beside the weights" in call("inspect", tmp_path).stdout
