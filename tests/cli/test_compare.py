"""``gammatorch compare`` as a user sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gammatorch.bench.worlds import draw


@pytest.fixture
def models(tmp_path):
    parent = torch.from_numpy(draw("drift", 0, 12, 256)).float()
    noise = torch.randn(parent.shape, generator=torch.Generator().manual_seed(0))
    gammas = {
        "parent": parent,
        "copy": parent,
        "child": parent * (1 + 0.01 * noise),
        "stranger": torch.from_numpy(draw("drift", 9, 12, 256)).float(),
        "pruned": parent[[0, 1, 2, *range(5, 12)]],
        "narrow": parent[:, :128],
        "dead": parent * torch.tensor([1.0] * 11 + [0.0])[:, None],
    }
    gammas["merge"] = (parent + gammas["stranger"]) / 2
    for name, gamma in gammas.items():
        (tmp_path / name).mkdir()
        weights = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(gamma)}
        save_file(weights, tmp_path / name / "model.safetensors")
    return tmp_path


def test_the_document_holds_every_pair_and_the_file_is_the_same(call, models):
    names = [models / name for name in ("parent", "copy", "child", "stranger")]
    done = call("compare", *names, "--format", "json", "--out", models / "out.json")
    document = json.loads(done.stdout)
    assert done.code == 0 and document == json.loads((models / "out.json").read_text())
    verdicts = {(pair["model"], pair["against"]): pair["verdict"] for pair in document["pairs"]}
    parent, copy, child, stranger = map(str, names)
    assert verdicts == {
        (copy, parent): "identical",
        (child, parent): "fine-tuned",
        (stranger, parent): "unrelated",
        (child, copy): "fine-tuned",
        (stranger, copy): "unrelated",
        (stranger, child): "unrelated",
    }
    assert document["families"] == [[parent, copy, child], [stranger]]
    drift = document["pairs"][1]["drift"]
    assert len(drift["value"]) == 12
    np.testing.assert_allclose(drift["value"], 0.01, rtol=0.3)


def test_the_tables_name_the_models_and_end_with_the_verdict(call, models):
    done = call("compare", models / "parent", models / "child")
    lines = done.stdout.splitlines()
    assert lines[0] == f"A  {models / 'parent'} · F32" and lines[1] == f"B  {models / 'child'} · F32"
    assert sum(line.split()[:1] == [str(layer)] for line in lines for layer in range(12)) == 12
    assert any(line.startswith("B and A: fine-tuned: one descends from the other, or both") for line in lines)


def test_what_is_undefined_is_null(call, models):
    document = json.loads(call("compare", models / "parent", models / "dead", "--format", "json").stdout)
    (pair,) = document["pairs"]
    assert pair["pearson"]["value"][11] is None and pair["cosine"]["value"][11] is None
    assert pair["drift"]["value"][11] == pytest.approx(1)
    assert "nan" not in call("compare", models / "parent", models / "dead").stdout


def test_a_model_with_layers_taken_out_is_told_which_they_are(call, models):
    done = call("compare", models / "parent", models / "pruned")
    assert done.code == 0 and "12 layers × 256, 10 layers × 256" in done.stdout
    assert "B and A: fine-tuned: one descends from the other" in done.stdout
    assert "B's layers 0-2 are A's 0-2, layers 3-9 are A's 5-11." in done.stdout
    document = json.loads(call("compare", models / "parent", models / "pruned", "--format", "json").stdout)
    (pair,) = document["pairs"]
    assert document["layer_counts"] == [12, 10] and pair["mapping"] == [0, 1, 2, *range(5, 12)]
    assert pair["layers"] == list(range(10)) and len(pair["drift"]["value"]) == 10 and pair["share_beyond"] == 1


def test_widths_that_differ_are_said_to_tell_nothing(call, models):
    done = call("compare", models / "parent", models / "narrow")
    assert done.code == 0 and "B and A: undetermined: gains of width 128 and 256 have no channels" in done.stdout


def test_a_bridge_is_named(call, models):
    done = call("compare", *(models / name for name in ("parent", "stranger", "merge")))
    assert "C links A and B, which are unrelated to each other." in done.stdout


def test_one_model_is_no_comparison(call, models):
    done = call("compare", models / "parent")
    assert done.code == 2 and "name two checkpoints or more" in done.stderr


UP = "model.layers.{layer}.mlp.up_proj.weight"


@pytest.fixture
def wide(tmp_path):
    """Two steps of one run, and a stranger: 8 matrices of a million entries each, in two types."""
    rng = torch.Generator().manual_seed(0)
    parent = torch.randn(8, 500, 2000, generator=rng)
    steps = {
        "step1": parent.bfloat16(),
        "step2": parent * (1 + 0.01 * torch.randn(parent.shape, generator=rng)),
        "stranger": torch.randn(parent.shape, generator=rng).bfloat16(),
    }
    for name, matrices in steps.items():
        (tmp_path / name).mkdir()
        named = {UP.replace("{layer}", str(layer)): one.clone() for layer, one in enumerate(matrices)}
        save_file(named, tmp_path / name / "model.safetensors")
    return [tmp_path / name for name in steps]


def test_matrices_wider_than_memory_are_compared_in_blocks(call, wide, monkeypatch):
    from gammatorch.gains import wide as blocks

    monkeypatch.setattr(blocks, "BUFFER_BYTES", 3_000_000)  # so that a million columns come in several blocks
    held, streamed = (
        json.loads(call("compare", *wide, "--pattern", UP, "--memory", memory, "--format", "json").stdout)
        for memory in ("8GB", "450MB")
    )
    assert streamed["hidden"] == 1_000_000 and streamed["families"] == [list(map(str, wide[:2])), [str(wide[2])]]
    assert [pair["basis"] for pair in streamed["pairs"]] == 3 * ["pearson"]
    assert "have no ranks" in streamed["pairs"][0]["sentence"]
    for ours, theirs in zip(streamed.pop("pairs"), held.pop("pairs"), strict=True):
        assert ours["verdict"] == theirs["verdict"]
        for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift", "cka"):
            for part in ("value", "low", "high"):
                np.testing.assert_allclose(ours[name][part], theirs[name][part], rtol=1e-9, atol=1e-12)
        assert ours["largest_change"] == theirs["largest_change"]
    streamed.pop("provenance"), held.pop("provenance")
    assert streamed == held


def test_matrices_are_compared_within_the_memory_or_the_least_is_named(call, wide):
    done = call("compare", wide[0], wide[2], "--pattern", UP, "--memory", "200MB")
    assert done.code == 1 and done.stderr.count("\n") == 1
    assert "8 layers of 2 checkpoints take at least 257 MB" in done.stderr and "--memory 257MB or more" in done.stderr


SCRIPT = """
import resource, sys, gammatorch
from gammatorch.cli import main
small, one, other, pattern = sys.argv[1:]
gammatorch.compare([gammatorch.scan_gains(small, pattern=pattern, device="cpu") for _ in range(2)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    main(["compare", one, other, "--pattern", pattern, "--memory", "400MB", "--device", "cpu", "-q"])
except SystemExit as ended:
    print(ended.code or 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux")
@pytest.mark.slow
def test_no_more_memory_is_taken_than_was_allowed(tmp_path):
    folders = [tmp_path / name for name in ("small", "one", "other")]
    for folder in folders:  # the large ones hold 128 MB each in bfloat16, which would be 512 MB in float64
        folder.mkdir()
        row = torch.rand(1, 5_000 if folder.name == "small" else 8_000_000).bfloat16()
        for layer in range(8):
            name = folder / f"model-0000{layer + 1}-of-00008.safetensors"
            save_file({UP.replace("{layer}", str(layer)): row + layer / 7}, name)
    done = subprocess.run([sys.executable, "-c", SCRIPT, *folders, UP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, peak_kilobytes = map(int, done.stdout.split()[-2:])
    assert code == 0 and peak_kilobytes * 1024 <= 400e6
