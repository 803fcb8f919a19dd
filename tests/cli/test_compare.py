"""``gammatorch compare`` as a user sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gammatorch.bench.synthetic import write_checkpoint
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


@pytest.fixture
def two_sites(models):
    """The parent with a second site, and a copy of it of which only the first site was trained on."""
    for name, of in (("base", "parent"), ("tuned", "child")):
        (models / name).mkdir()
        weights = {}
        for site, source in (("input_layernorm", of), ("post_attention_layernorm", "parent")):
            for key, row in load_file(models / source / "model.safetensors").items():
                weights[key.replace("input_layernorm", site)] = row
        save_file(weights, models / name / "model.safetensors")
    return models / "base", models / "tuned"


def test_all_sites_have_a_line_each_and_json_is_an_array(call, two_sites):
    lines = call("compare", *two_sites, "--site", "all").stdout.lstrip().splitlines()
    assert lines[0] == "2 sites, all layers together, against A"
    assert [(line.split()[0], line.split()[-1]) for line in lines[2:4]] == [
        ("input", "fine-tuned"),
        ("pre_mlp", "identical"),
    ]
    documents = json.loads(call("compare", *two_sites, "--site", "all", "--json").stdout)
    assert [one["site"] for one in documents] == ["input", "pre_mlp"]
    assert documents[0]["pairs"] == json.loads(call("compare", *two_sites, "--json").stdout)["pairs"]


def test_a_site_that_one_lacks_is_left_out_with_a_notice(call, two_sites, models):
    done = call("compare", two_sites[0], models / "child", "--site", "all", "--json")
    assert json.loads(done.stdout)["site"] == "input"
    assert "site pre_mlp is left out" in done.stderr


def test_a_result_file_stands_for_its_checkpoint(call, models):
    for name in ("parent", "child"):
        assert call("run", models / name, "--out", models / f"{name}.json").code == 0
    by_file = json.loads(call("compare", models / "parent.json", models / "child.json", "--json").stdout)
    by_name = json.loads(call("compare", models / "parent", models / "child", "--json").stdout)
    del by_file["provenance"], by_name["provenance"]
    assert by_file == by_name


def test_a_result_file_whose_checkpoint_has_changed_is_refused(call, models):
    call("run", models / "child", "--out", models / "child.json")
    weights = load_file(models / "child" / "model.safetensors")
    weights["model.layers.3.input_layernorm.weight"] *= 1.001
    save_file(weights, models / "child" / "model.safetensors")
    done = call("compare", models / "parent", models / "child.json")
    assert done.code == 1
    assert "child.json: " in done.stderr and "has changed since this was written (the norm of layer 3" in done.stderr


def test_a_result_of_raw_weights_asks_for_raw(call, models):
    (models / "gemma").mkdir()
    write_checkpoint(models / "gemma", "gemma2", layers=12, hidden=256, shards=1)
    call("run", models / "gemma", "--raw", "--out", models / "raw.json")
    done = call("compare", models / "raw.json", models / "gemma")
    assert done.code == 1 and "pass --raw if `run` had it" in done.stderr
    assert call("compare", models / "raw.json", models / "gemma", "--raw").code == 0


def test_a_result_of_a_folder_whose_name_holds_an_at_sign_is_opened(call, models):
    (models / "parent").rename(models / "parent@v2")
    call("run", models / "parent@v2", "--out", models / "parent.json")
    assert call("compare", models / "parent.json", models / "child").code == 0


@pytest.mark.parametrize("command", ["compare", "check"])
def test_other_results_are_no_checkpoints(call, models, command):
    call(command, models / "parent", *([models / "child"] if command == "compare" else []), "--out", models / "x.json")
    done = call("compare", models / "parent", models / "x.json")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "x.json" in done.stderr


@pytest.fixture
def swept(call, models):
    """Two runs of six steps each from one start, swept."""
    for run in ("a", "b"):
        drawn = torch.Generator().manual_seed(ord(run))
        gains = load_file(models / "parent" / "model.safetensors")
        for step in range(6):
            gains = {key: row + 0.01 * torch.randn(row.shape, generator=drawn) for key, row in gains.items()}
            folder = models / f"run-{run}" / f"step{100 * step + (50 if run == 'b' and step == 5 else 0)}"
            folder.mkdir(parents=True)
            save_file(gains, folder / "model.safetensors")
        assert call("sweep", models / f"run-{run}", "--out", models / f"swept-{run}", "-q").code == 0
    return models / "swept-a", models / "swept-b"


def test_a_sweep_stands_for_its_items(call, swept, models):
    swept_a = json.loads(call("compare", swept[0], "--json").stdout)
    steps = [models / "run-a" / f"step{100 * step}" for step in range(6)]
    direct = json.loads(call("compare", *steps, "--json").stdout)
    for ours, theirs in zip(swept_a["pairs"], direct["pairs"], strict=True):
        assert ours["verdict"] == theirs["verdict"]
        assert ours["rank_correlation"] == theirs["rank_correlation"]
        assert ours["drift"] == theirs["drift"]
    assert json.loads(call("compare", models / "parent", swept[0], "--json").stdout)["models"][0] == str(
        models / "parent"
    )


def test_sweeps_are_compared_at_the_steps_that_both_have(call, swept):
    done = call("compare", *swept, "--json")
    names = json.loads(done.stdout)["models"]
    assert [name.rpartition("step")[2] for name in names] == 2 * ["0", "100", "200", "300", "400"]
    assert "5 of its 6 items are compared, at common steps" in done.stderr


def test_of_many_items_some_are_taken_evenly(call, swept, monkeypatch):
    monkeypatch.setattr("gammatorch.sweep.compared.MOST_ITEMS", 3)
    done = call("compare", swept[0], "--json")
    assert [name.rpartition("step")[2] for name in json.loads(done.stdout)["models"]] == ["0", "200", "500"]
    assert "3 of its 6 items are compared" in done.stderr


def test_a_sweep_keeps_one_site(call, swept):
    done = call("compare", *swept, "--site", "all")
    assert done.code == 2 and "a sweep keeps one site" in done.stderr


@pytest.mark.parametrize(
    ("columns", "shown"), [(80, "Mean rank correlation of every pair"), (60, "Verdicts on all pairs")]
)
def test_many_are_a_matrix(call, swept, models, monkeypatch, columns, shown):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = call("compare", *swept, models / "stranger").stdout
    rows = [line for line in text.splitlines() if line.startswith("   ") and not line.strip().startswith("A ")]
    assert shown in text
    assert [row.split()[0] for row in rows[-11:]] == list("ABCDEFGHIJK")
    assert len(rows[-1].split()) == 11
    assert max(map(len, rows)) <= columns


def test_the_final_norm_of_another_depth_has_no_order_of_layers(call, models):
    for name, layers in (("deep", 12), ("pruned-too", 8)):
        (models / name).mkdir()
        rows = load_file(models / "parent" / "model.safetensors")
        kept = {key: row for key, row in rows.items() if int(key.split(".")[2]) < layers}
        kept["model.norm.weight"] = rows["model.layers.0.input_layernorm.weight"].clone()
        save_file(kept, models / name / "model.safetensors")
    text = call("compare", models / "deep", models / "pruned-too", "--site", "final").stdout
    assert "a copy at this site, its one gain is equal bit for bit" in text
    assert "B's layer" not in text


def test_sweeps_without_a_common_step_are_told(call, swept, models, monkeypatch):
    for step in range(6):
        (models / "run-b" / f"step{100 * step + (50 if step == 5 else 0)}").rename(
            models / "run-b" / f"step{100 * step + 7}"
        )
    assert call("sweep", models / "run-b", "--out", models / "swept-c", "-q").code == 0
    assert "no step in common" in call("compare", swept[0], models / "swept-c", "--json").stderr
