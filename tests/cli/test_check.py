"""``gammatorch check`` as a user sees it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from gammatorch.analysis.audit import non_finite
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.gains.stack import StoredWeights

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
