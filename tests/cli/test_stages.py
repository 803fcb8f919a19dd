"""A model whose main stack consists of stages, as each command shows it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

MAIN, OTHER = "encoder.layers.1.blocks", "encoder.layers.0.blocks"
NOTE = (
    f"encoder.layers has 2 stages of 2, 6 layers: {MAIN} is the main one, the longest; --stack reads another: {OTHER}"
)


@pytest.fixture
def swin(tmp_path):
    draw = np.random.default_rng(0)
    shapes = {
        f"encoder.layers.{stage}.blocks.{n}.{name}.weight": 64 << stage
        for stage, depth in enumerate((2, 6))
        for n in range(depth)
        for name in ("layernorm_before", "layernorm_after")
    }
    gains = {key: draw.normal(1, 0.1, width).astype(np.float32) for key, width in shapes.items()}
    save_file(gains | {"layernorm.weight": np.ones(128, np.float32)}, tmp_path / "model.safetensors")
    config = {"model_type": "swin", "depths": [2, 6], "num_layers": 2, "embed_dim": 64, "hidden_size": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_run_and_compare_say_which_stage_they_read_in_their_first_lines(call, swin):
    first, _, note = call("run", swin, "--full").stdout.splitlines()[:3]
    assert first.endswith(f"; stack {MAIN}, the main one of 2 stages") and note == f"note: {NOTE}"
    answer = " ".join(call("run", swin).stdout.split())
    assert f"before attention or whichever mixer the block has; stack {MAIN}, the main one of 2 stages" in answer
    document = json.loads(call("run", swin, "--format", "json").stdout)
    assert [document[name] for name in ("stack", "num_layers", "hidden")] == [MAIN, 6, 128]
    assert NOTE in document["notes"]
    compared = json.loads(call("compare", swin, swin, "--format", "json").stdout)
    assert compared["stack"] == MAIN and any(NOTE in note for note in compared["notes"])
    other = json.loads(call("run", swin, "--stack", "layers.0", "--format", "json").stdout)
    assert [other[name] for name in ("stack", "num_layers", "hidden")] == [OTHER, 2, 64]


def test_inspect_shows_the_stage_as_the_main_stack(call, swin):
    document = json.loads(call("inspect", swin, "--format", "json").stdout)
    assert [(stack["stack"], stack["main"]) for stack in document["stacks"]] == [
        (MAIN, True),
        ("encoder.layers", False),
        (OTHER, False),
    ]
    assert document["num_layers"] == 6 and NOTE in document["notes"]
    lines = call("inspect", swin).stdout.splitlines()
    assert "2 stages, 2 + 6 layers" in lines[1]
    assert {f"{MAIN}: 6 layers, main stack, pre-norm", "encoder.layers: 2 stages"} <= set(lines)


def test_check_says_which_stage_it_audits(call, swin):
    done = call("check", swin, "--against", swin)
    assert done.code == 0 and f"stack {MAIN} against" in done.stdout.splitlines()[0]
    document = json.loads(call("check", swin, "--format", "json").stdout)
    assert document["stack"] == MAIN
    assert [(site["site"], site["layers"]) for site in document["sites"]] == [
        ("input", 6),
        ("pre_mlp", 6),
        ("final", 1),
    ]
    assert {"level": "note", "what": "stack", "site": "all", "text": NOTE, "layers": []} in document["findings"]
    other = json.loads(call("check", swin, "--stack", OTHER, "--format", "json").stdout)
    assert other["stack"] == OTHER and not other["findings"]


def test_check_of_all_stacks_holds_each_against_the_same_of_the_reference(call, swin, tmp_path_factory):
    changed = tmp_path_factory.mktemp("changed")
    shutil.copytree(swin, changed, dirs_exist_ok=True)
    gains = load_file(changed / "model.safetensors")
    gains[f"{OTHER}.1.layernorm_before.weight"] += 1
    save_file(gains, changed / "model.safetensors")
    assert call("check", changed, "--against", swin).code == 0
    done = call("check", changed, "--against", swin, "--stack", "all", "--format", "json")
    document = json.loads(done.stdout)
    errors = [(one["what"], one["site"], one["layers"]) for one in document["findings"] if one["level"] == "error"]
    assert done.code == 3 and errors == [("shifted", f"{OTHER}: input", [1])]
    assert {site["site"] for site in document["sites"]} >= {"input", "final", f"{OTHER}: input", f"{OTHER}: pre_mlp"}
    alone = call("check", changed, "--against", swin, "--stack", OTHER, "--format", "json")
    assert alone.code == 3
