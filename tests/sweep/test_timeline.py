"""What a sweep tells from its store alone: a table by step, and what is odd."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gammatorch.bench.training_runs import Kind, draw
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.timeline import make_timeline
from tests.sweep.conftest import sweep


def write_run(root, stored, steps):
    for step, gains in zip(steps, stored, strict=True):
        folder = root / f"step{step}"
        folder.mkdir(parents=True)
        keys = {f"model.layers.{row}.input_layernorm.weight": one.clone() for row, one in enumerate(gains)}
        save_file(keys | {"model.embed_tokens.weight": torch.zeros(9, gains.shape[1])}, folder / "model.safetensors")
        config = {"model_type": "qwen3", "num_hidden_layers": len(gains), "hidden_size": gains.shape[1]}
        (folder / "config.json").write_text(json.dumps(config))
    return root


def test_the_store_alone_tells_the_table_and_the_anomalies(tmp_path):
    steps, stored = draw(Kind(), seed=12, count=12)
    stored[7] = stored[3]
    runs = write_run(tmp_path / "runs", stored, steps)
    sweep(runs, out=tmp_path / "out")
    told = make_timeline(tmp_path / "out")
    assert [entry.step for entry in told.entries] == steps
    assert told.entries[-1].pearson_last == pytest.approx(1)
    assert told.entries[1].pearson_previous is None, "step 0 is constant"
    rms = np.sqrt((stored[5].double().numpy() ** 2).mean(axis=1)).mean()
    assert told.entries[5].rms_gamma == pytest.approx(rms)
    (found,) = [finding for finding in told.findings if finding.severity == "anomaly"]
    assert found.items[0].endswith("step7000") and found.text.endswith(f"holds the gains of {runs}/step3000")


def test_equal_gains_of_different_models_are_a_note_and_constant_ones_nothing(tmp_path):
    torch.manual_seed(0)
    frozen, ones = torch.rand(4, 32) + 0.5, torch.ones(4, 32)
    for name, gains in {"base": frozen, "tuned": frozen, "seed1": ones, "seed2": ones}.items():
        write_run(tmp_path / name, [gains], [0])
    sweep(*(tmp_path / name for name in ("base", "tuned", "seed1", "seed2")), out=tmp_path / "out")
    told = make_timeline(tmp_path / "out").to_dict()
    assert not told["anomalies"]
    (note,) = told["notes"]
    assert {item.split("/")[-2] for item in note["items"]} == {"base", "tuned"}


def test_two_steps_that_are_one_checkpoint_are_told(checkpoints, tmp_path):
    runs = checkpoints(1, 2)
    (runs / "step3").symlink_to(runs / "step2")
    plan = make_plan([str(runs)], Settings())
    sweep(runs, out=tmp_path / "out")
    told = make_timeline(tmp_path / "out", aliases=plan.aliases)
    assert [finding.text.split("/")[-1] for finding in told.findings if finding.kind == "copy"] == ["step2"]
    assert told.findings[0].items == (f"{runs}/step2", f"{runs}/step3")
