"""``gammatorch check`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gammatorch.analysis.audit import non_finite
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.gains.stack import StoredWeights
from tests.analysis.test_ranks import deepspeed, drawn, megatron, next_up
from tests.checkpoints.test_gguf import write as write_gguf

KEY = "model.layers.{}.input_layernorm.weight"


@pytest.fixture
def folder(tmp_path):
    def make(name="model", family="qwen3", change=None):
        folder = tmp_path / name
        folder.mkdir()
        write_checkpoint(folder, family, layers=6, hidden=64, shards=1, dtype="F32")
        if change is not None:
            (path,) = folder.glob("*.safetensors")
            weights = load_file(path)
            change(weights)
            save_file(weights, path)
        return folder

    make.top = tmp_path
    return make


def findings(done):
    return {(one["level"], one["what"], one["site"]) for one in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_a_sound_checkpoint_has_no_errors(call, folder, family):
    done = call("check", folder(family=family), "--format", "json")
    document = json.loads(done.stdout)
    assert done.code == 0 and document["errors"] == 0
    assert {site["site"] for site in document["sites"]} >= {"input", "pre_mlp", "final"}


def spoil(layer, value):
    def change(weights):
        weights[KEY.format(layer)] = value(weights[KEY.format(layer)])

    return change


BROKEN = {
    "non-finite": spoil(2, lambda w: w.index_fill(0, torch.tensor([5]), float("nan"))),
    "dead": spoil(2, torch.zeros_like),
    "missing": lambda weights: weights.pop(KEY.format(2)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_an_error_and_ends_with_3(call, folder, what):
    done = call("check", folder(change=BROKEN[what]), "--format", "json")
    assert done.code == 3 and findings(done) == {("error", what, "input")}


def test_a_convention_is_never_more_than_suspect_without_a_reference(call, folder):
    def centre(weights):
        weights.update({KEY.format(n): 0.1 * torch.randn(64) for n in range(6)})

    done = call("check", folder(change=centre), "--format", "json")
    assert done.code == 0 and findings(done) == {("warning", "convention", "input")}
    (found,) = json.loads(done.stdout)["findings"]
    assert found["text"].startswith("suspect: read as γ = w, but the weights look zero-centred")


def test_outlier_channels_are_a_note_with_their_numbers(call, folder):
    def change(weights):
        for layer in range(6):
            weights[KEY.format(layer)][[7, 40]] *= 40

    done = call("check", folder(change=change), "--format", "json")
    assert done.code == 0
    assert [one["text"] for one in json.loads(done.stdout)["findings"] if one["site"] == "input"] == ["2 of 64: 7, 40"]


def test_an_offset_that_was_added_twice_is_seen_against_the_reference(call, folder):
    def twice(weights):
        for layer in range(6):
            weights[KEY.format(layer)] += 1

    reference = folder("reference")
    done = call("check", folder("converted", change=twice), "--against", reference)
    assert done.code == 3
    assert (
        "error: input: shifted: γ of all 6 layers stands 1 above the reference's: an offset was added twice"
    ) in done.stdout
    assert call("check", reference, "--against", reference).code == 0


def test_sites_that_the_reference_has_must_be_there(call, folder):
    def drop(weights):
        for layer in range(6):
            del weights[f"model.layers.{layer}.post_attention_layernorm.weight"]

    done = call("check", folder("cut", change=drop), "--against", folder("reference"), "--format", "json")
    assert done.code == 3 and ("error", "missing", "pre_mlp") in findings(done)


BAD = {"NaN": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


@pytest.mark.parametrize("layers", [(2,), tuple(range(6))], ids=["one layer", "all layers"])
@pytest.mark.parametrize("count", [3, 64], ids=["some values", "all values"])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("side", ["alone", "model", "reference", "both"])
def test_nan_and_infinity_on_either_side_are_errors_by_tensor(call, folder, side, value, count, layers):
    def change(weights):
        for layer in layers:
            weights[KEY.format(layer)][:count] = BAD[value]

    bad = folder("bad", change=change)
    whole = folder("whole")
    model = whole if side == "reference" else bad
    against = [] if side == "alone" else ["--against", whole if side == "model" else bad]
    done = call("check", model, *against, "--format", "json")
    texts = [one["text"] for one in json.loads(done.stdout)["findings"] if one["what"] == "non-finite"]
    owners = {"alone": [""], "model": [""], "reference": ["the reference's "], "both": ["", "the reference's "]}[side]
    what = f"{count} {'NaN' if value == 'NaN' else 'infinite'} among 64 values"
    assert texts == [f"{owner}{KEY.format(layer)} (layer {layer}): {what}" for owner in owners for layer in layers]
    assert done.code == 3 and done.stderr == ""
    others = {(level, what) for level, what, _ in findings(done)} - {("error", "non-finite")}
    assert others <= ({("note", "same")} if against else set())


def test_layers_that_are_not_named_one_by_one_are_told_together():
    weights = torch.ones(12, 4)
    weights[1:, 0] = torch.nan
    weights[11, 1] = torch.inf
    keys = tuple(map(KEY.format, range(12)))
    stored = StoredWeights(site="input", layers=tuple(range(12)), keys=keys, offset=0.0, weights=weights)
    texts = [one.text for one in non_finite(stored)]
    assert [text.partition(" (")[0] for text in texts[:8]] == list(keys[1:9])
    assert texts[8:] == ["layers 9, 10, 11: 3 NaN, 1 infinite among 12 values"]


def test_an_offset_is_seen_although_some_values_are_not_finite(call, folder):
    def twice(weights):
        for layer in range(6):
            weights[KEY.format(layer)] += 1
        weights[KEY.format(4)][:9] = torch.nan

    done = call("check", folder("converted", change=twice), "--against", folder("reference"), "--format", "json")
    assert done.code == 3
    errors = {found for found in findings(done) if found[0] == "error"}
    assert errors == {("error", "non-finite", "input"), ("error", "shifted", "input")}


POST = "model.layers.{}.post_attention_layernorm.weight"


def exchange(one, other):
    def change(weights):
        weights[one], weights[other] = weights[other], weights[one]

    return change


def take_from_another(weights):
    random = torch.Generator().manual_seed(5)
    for layer in (3, 4):
        weights[KEY.format(layer)] = torch.exp(0.3 * torch.randn(64, generator=random))


FAULTY = {
    "layers swapped": ("other-layer", exchange(KEY.format(1), KEY.format(4)), [1, 4]),
    "sites swapped": ("other-site", exchange(KEY.format(2), POST.format(2)), [2]),
    "foreign layers": ("foreign", take_from_another, [3, 4]),
    "scaled": ("scaled", spoil(3, lambda w: w * 1.5), [3]),
    "rolled": ("permuted", spoil(3, lambda w: w.roll(1)), [3]),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_layer_that_is_not_what_it_should_be_is_an_error_with_its_index(call, folder, fault):
    what, change, layers = FAULTY[fault]
    done = call("check", folder("bad", change=change), "--against", folder("reference"), "--format", "json")
    document = json.loads(done.stdout)
    errors = [one for one in document["findings"] if one["level"] == "error"]
    assert done.code == 3 and document["errors"] == len(errors)
    assert {(one["what"], *one["layers"]) for one in errors} == {(what, *layers)}
    assert len(document["verdicts"]) == sum(site["layers"] for site in document["sites"])
    kept = {one["verdict"] for one in document["verdicts"] if one["layer"] not in layers}
    assert kept == {"same"}
    ignored = ("--ignore", f"same,{what}", "--ignore", "outlier channels")
    done = call("check", folder.top / "bad", "--against", folder.top / "reference", *ignored)
    assert done.code == 0 and done.stdout.endswith("\n0 errors, 0 warnings, 0 notes\n")


def test_exact_makes_training_an_error(call, folder):
    tuned = folder("tuned", change=spoil(2, lambda w: w * (1 + 0.001 * torch.arange(64) / 64)))
    assert call("check", tuned, "--against", folder("reference")).code == 0
    done = call("check", tuned, "--against", folder.top / "reference", "--exact", "--format", "json")
    assert done.code == 3 and ("error", "tuned", "input") in findings(done)


def test_a_cast_is_no_error_even_where_it_must_be_exact(call, folder):
    def cast(weights):
        weights.update({key: weight.bfloat16() for key, weight in weights.items()})

    done = call("check", folder("cast", change=cast), "--against", folder("reference"), "--exact", "--format", "json")
    assert done.code == 0
    assert {what for _, what, _ in findings(done)} <= {"rounded", "same", "outlier channels"}


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_a_gguf_file_is_held_against_what_it_was_made_from(call, folder, family):
    reference = folder("reference", family=family)
    weights = load_file(next(reference.glob("*.safetensors")))
    added = float(family == "gemma2")  # llama.cpp's converter stores 1 + w
    names = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm" if family == "qwen3" else "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
    }
    converted = {"output_norm.weight": weights["model.norm.weight"].numpy() + np.float32(added)}
    for layer in range(6):
        for name, short in names.items():
            if (weight := weights.get(f"model.layers.{layer}.{name}.weight")) is not None:
                converted[f"blk.{layer}.{short}.weight"] = weight.numpy() + np.float32(added)
    arch = {"qwen3": "qwen3", "gemma2": "gemma2"}[family]
    path = write_gguf(folder.top / "model.gguf", converted, arch, layers=6, hidden=64)
    done = call("check", path, "--against", reference, "--format", "json")
    document = json.loads(done.stdout)
    assert done.code == 0, document["findings"]
    assert {one["verdict"] for one in document["verdicts"]} <= {"same", "rounded"}
    assert len(document["verdicts"]) == 6 * len([name for name in names if has(weights, name)]) + 1


def has(weights, name):
    return f"model.layers.0.{name}.weight" in weights


def test_several_models_are_one_table_worst_first(call, folder):
    reference, bad = folder("reference"), folder("bad", change=FAULTY["scaled"][1])
    done = call("check", reference, bad, "--against", reference)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(str(folder.top))]
    assert done.code == 3
    assert [row[:3] for row in rows[:2]] == [[str(bad), "1", "0"], [str(reference), "0", "0"]]
    document = json.loads(call("check", reference, bad, "--against", reference, "--format", "json").stdout)
    assert [one["model"] for one in document["models"]] == [str(bad), str(reference)] and document["errors"] == 1


def test_junit_has_a_suite_for_each_model_and_a_case_for_each_site(call, folder):
    reference, bad = folder("reference"), folder("bad", change=FAULTY["scaled"][1])
    done = call("check", reference, bad, "--against", reference, "--format", "junit")
    suites = {one.get("name"): one for one in ElementTree.fromstring(done.stdout.encode())}
    assert done.code == 3 and set(suites) == {str(reference), str(bad)}
    failed = [case.get("name") for case in suites[str(bad)] if case.find("failure") is not None]
    assert failed == ["input"] and suites[str(bad)].get("failures") == "1"
    assert suites[str(reference)].get("failures") == "0" and len(suites[str(reference)]) == len(suites[str(bad)]) > 2


def test_copied_and_untouched_layers_are_warnings_without_a_reference(call, folder):
    def change(weights):
        weights[KEY.format(2)] = weights[KEY.format(1)].clone()
        weights[KEY.format(4)] = torch.ones(64)

    done = call("check", folder(change=change), "--format", "json")
    assert done.code == 0
    told = {one["what"]: one["layers"] for one in json.loads(done.stdout)["findings"] if one["level"] == "warning"}
    assert told == {"identical layers": [1, 2], "untouched": [4]}


@pytest.mark.parametrize("where", ["config", "card"])
def test_the_checkpoint_it_was_made_from_is_suggested_as_reference(call, folder, where):
    model = folder()
    if where == "config":
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": "org/base"}))
    else:
        (model / "README.md").write_text("---\nlicense: mit\nbase_model:\n- org/base\n---\n# A model\n")
    assert "note: all: base: made from org/base: --against org/base" in call("check", model).stdout


@pytest.mark.parametrize(
    "arguments", [("--ignore", "nonsense"), ("--exact",), ("OTHER", "--revision", "main")], ids=lambda one: one[0]
)
def test_wrong_usage_ends_with_2(call, folder, arguments):
    done = call("check", folder(), *arguments)
    assert done.code == 2
    assert arguments[0] != "--ignore" or "non-finite, ranks, dead, missing" in done.stderr


def test_biases_are_held_against_the_reference_beside_the_gains(call, folder):
    def change(weights):
        for layer in (2, 3):
            weights[f"h.{layer}.ln_1.bias"] = weights[f"h.{layer}.ln_1.bias"].roll(5)
        weights["h.4.ln_2.bias"].zero_()

    def draw(weights):
        random = torch.Generator().manual_seed(0)
        weights.update({key: torch.randn(64, generator=random) for key in weights if ".ln_" in key and "bias" in key})

    def both(weights):
        draw(weights)
        change(weights)

    reference, bad = folder("reference", "gpt2", draw), folder("bad", "gpt2", both)
    done = call("check", bad, "--against", reference, "--format", "json")
    errors = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "error"]
    told = {(one["what"], one["site"], *one["layers"]) for one in errors}
    assert done.code == 3 and told == {("permuted", "input bias", 2, 3), ("dead", "pre_mlp bias", 4)}
    assert call("check", reference, "--against", reference).code == 0


def test_the_steps_of_a_run_tell_since_when(tmp_path: Path, call) -> None:
    for step in (900, 1000, 1100):
        gains = drawn()
        if step >= 1000:
            next_up(gains[2], 3, 17)
        megatron(tmp_path / "run" / f"iter_{step:07d}", gains)
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("1100")
    done = call("check", tmp_path / "run", "--json")
    assert done.code == 3
    by_model = {Path(one["model"]).name: one["findings"] for one in json.loads(done.stdout)["models"]}
    assert list(by_model) == ["iter_0001000", "iter_0001100", "iter_0000900"]
    for step in ("iter_0001000", "iter_0001100"):
        (told,) = (one["text"] for one in by_model[step] if one["what"] == "ranks")
        assert told.endswith(
            f"since {tmp_path / 'run' / 'iter_0001000'}, where {tmp_path / 'run' / 'iter_0000900'} has equal copies"
        )
    assert [one["level"] for one in by_model["iter_0000900"] if one["what"] == "ranks"] == ["note"]


def test_steps_that_a_shell_has_put_in_its_own_order_tell_since_when(tmp_path: Path, call) -> None:
    folders = [tmp_path / f"step{step}" for step in (1000, 200, 30)]
    for folder, is_apart in zip(folders, (True, True, False), strict=True):
        gains = drawn()
        if is_apart:
            next_up(gains[2], 3, 17)
        deepspeed(folder, gains)
    told = call("check", *folders).stdout
    assert told.count(f"since {folders[1]}, where {folders[2]} has equal copies") == 2


def test_nothing_is_said_of_copies_that_were_not_compared(tmp_path: Path, call) -> None:
    """A step of one rank, and another model, are no proof that copies were equal."""
    apart = drawn()
    next_up(apart[2], 3, 17)
    for name, gains in (("step1", {0: drawn()[0]}), ("step2", apart), ("other", drawn())):
        deepspeed(tmp_path / name, gains)
    told = call("check", tmp_path / "other", tmp_path / "step1", tmp_path / "step2").stdout
    assert f"since {tmp_path / 'step2'}\n" in told
    assert "has equal copies" not in told


def test_a_folder_of_unlike_models_is_no_run(tmp_path: Path, call) -> None:
    for name in ("0_Transformer", "1_Dense"):
        deepspeed(tmp_path / name, {0: drawn()[0]})
    done = call("check", tmp_path)
    assert done.code == 1
    assert "pass one of them" in done.stderr


@pytest.mark.parametrize(
    ("layers", "changed", "expected"), [(8, False, "same"), (4, False, "same"), (4, True, "shifted")]
)
def test_the_final_norm_is_held_against_the_references_whatever_the_depth(
    call, folder, tmp_path, layers, changed, expected
):
    """It stands after the last block, whose number it bears."""
    reference = folder()
    (tmp_path / "other").mkdir()
    write_checkpoint(tmp_path / "other", "qwen3", layers=layers, hidden=64, shards=1, dtype="F32")
    (path,), (source,) = (tuple(one.glob("*.safetensors")) for one in (tmp_path / "other", reference))
    weights = load_file(path)
    weights["model.norm.weight"] = load_file(source)["model.norm.weight"] + changed
    save_file(weights, path, {"format": "pt"})
    document = json.loads(call("check", tmp_path / "other", "--against", reference, "--json").stdout)
    assert [(one["layer"], one["verdict"]) for one in document["verdicts"] if one["site"] == "final"] == [
        (layers - 1, expected)
    ]
