"""What every result can do: a summary, a table in a notebook, plain values, a DataFrame, a file."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch

import gammatorch
from gammatorch.analysis.figures import _KINDS, Statistics
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.results.files import read_result
from gammatorch.results.statistics import AllStatistics

TINY = {"layers": 6, "hidden": 64, "shards": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for step in (5, 10, 100):
        (folder / f"step{step}").mkdir()
        write_checkpoint(folder / f"step{step}", **TINY, seed=step)
    return folder


@pytest.fixture(scope="module")
def results(runs):
    one, other = (gammatorch.read_gains(runs / name) for name in ("step5", "step10"))
    return {
        "Gains": one,
        "Analysis": gammatorch.analyze(one),
        "Comparison": gammatorch.compare(one, other),
        "Audit": gammatorch.check({f"layers.{i}.norm1.weight": torch.zeros(8) for i in range(3)}),
        "Sweep": gammatorch.sweep(runs, runs / "swept", device="cpu"),
    }


KINDS = ["Gains", "Analysis", "Comparison", "Audit", "Sweep"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_repr_is_one_short_line(results, kind):
    text = repr(results[kind])
    assert text.startswith(kind) and "\n" not in text and len(text) < 250


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_the_summary_and_a_table(results, kind):
    shown = results[kind]._repr_html_()
    assert shown.startswith("<p>") and "<table>" in shown and "<script" not in shown


@pytest.mark.parametrize("kind", KINDS)
def test_plain_values_are_what_is_saved(results, kind, tmp_path):
    results[kind].save(tmp_path / "saved.json")
    saved = json.loads((tmp_path / "saved.json").read_text(), parse_constant=pytest.fail)
    assert saved == results[kind].to_dict()
    results[kind].save(str(tmp_path / "saved.html"))
    assert (tmp_path / "saved.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved.html", "saved.json"]


@pytest.mark.parametrize("kind", ["Gains", "Analysis", "Comparison", "Sweep"])
def test_a_dataframe_is_tidy_and_needs_no_casts(results, kind):
    table = results[kind].to_dataframe()
    assert list(table.columns[-3:]) == ["layer", "statistic", "value"] and len(table)
    assert table.dtypes["layer"] == "Int64" and table.dtypes["value"] == "float64"
    assert set(table["layer"].dropna()) == set(range(TINY["layers"]))
    if kind == "Sweep":
        assert table.dtypes["step"] == "Int64" and list(table["step"].unique()) == [5, 10, 100]


def test_a_dataframe_holds_the_figures(results):
    analysis = results["Analysis"]
    table = analysis.to_dataframe()
    norms = table[table["statistic"] == "norms"].set_index("layer")["value"]
    torch.testing.assert_close(torch.tensor(norms.to_numpy()), analysis.norms)
    (energy,) = table[table["statistic"] == "shared_energy.value"]["value"]
    assert energy == analysis.statistics.shared_energy.value
    gains = results["Gains"]
    sizes = gains.to_dataframe().pivot(index="layer", columns="statistic", values="value")
    np.testing.assert_allclose(sizes["std"], gains.gamma.numpy().std(axis=1))


def test_findings_as_a_dataframe(results):
    table = results["Audit"].to_dataframe()
    assert list(table.columns) == ["level", "what", "site", "text"]
    assert len(table) == len(results["Audit"].findings)


def test_without_pandas_one_line_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(gammatorch.GammatorchError, match="pip install pandas"):
        results["Analysis"].to_dataframe()


def test_names_from_a_checkpoint_are_escaped_wherever_they_are_shown():
    name = "<script>\x1b[2J"
    gains = gammatorch.read_gains({f"{name}layers.{i}.input_layernorm.weight": torch.rand(16) for i in range(3)})
    object.__setattr__(gains, "model", name)
    for result in (gains, gammatorch.analyze(gains), gammatorch.compare(gains, gains)):
        assert "\x1b" not in repr(result)
        assert "<script" not in result._repr_html_() and "\x1b" not in result._repr_html_()


def test_another_suffix_is_refused_and_nothing_is_written(results, tmp_path):
    with pytest.raises(gammatorch.GammatorchError, match=r"saved as \.json, \.html"):
        results["Analysis"].save(tmp_path / "saved.yaml")
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_attributes_and_entries(results):
    found = results["Analysis"].statistics
    for name, value in found.items():
        assert getattr(found, name) is value
    assert found["mean_pearson"]["null_95"] == found.mean_pearson.null_95
    assert isinstance(found.pearson, torch.Tensor)
    assert all(type(fit).__name__ == "Schedule" for fit in found.schedules.values())
    assert set(found.schedules[next(iter(found.schedules))]) == set(fields_of("Schedule"))
    with pytest.raises(AttributeError, match="Statistics has no 'meen_pearson': there are pearson,"):
        _ = found.meen_pearson


def fields_of(name):
    from gammatorch.results import statistics

    return getattr(statistics, name).__struct_fields__


def test_the_types_of_statistics_are_those_of_the_json():
    assert {*Statistics.__annotations__, "more"} == set(AllStatistics.__struct_fields__)
    for kind in _KINDS.values():
        own = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}
        assert own == set(fields_of(kind.__name__))


def test_a_sweep_from_python_is_the_commands(results, runs):
    swept = results["Sweep"]
    assert [item.step for item in swept] == [5, 10, 100]
    again = gammatorch.read_sweep(runs / "swept")
    assert [item.key for item in again] == [item.key for item in swept] and not again.failures
    first = again[0]
    gains = gammatorch.read_gains(runs / "step5")
    torch.testing.assert_close(first.gamma, gains.gamma)
    torch.testing.assert_close(first.gram, gains.gamma @ gains.gamma.T)
    assert first.document["answer"]["verdict"] == first.verdict
    assert re.fullmatch(r".*/step\*", first.run)
    assert [entry.step for entry in again.timeline] == [5, 10, 100]


def test_what_a_sweep_cannot_do_is_among_its_failures(runs, tmp_path):
    (tmp_path / "step1").mkdir()
    (tmp_path / "step1" / "model.safetensors").write_bytes(b"nothing")
    swept = gammatorch.sweep([tmp_path / "step1", runs / "step5"], tmp_path / "out", device="cpu")
    assert [item.step for item in swept] == [5] and [one.kind for one in swept.failures] == ["MalformedCheckpoint"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'sight'"):
        gammatorch.sweep(runs, tmp_path / "out", sight="input")


@pytest.mark.parametrize("form", ["folder", "open", "module", "state dict", "array", "tensor", "gains"])
def test_every_function_takes_every_form_of_a_checkpoint(form, runs, tmp_path):
    state = {f"layers.{i}.input_layernorm.weight": torch.rand(64) + 0.5 for i in range(6)}
    block = torch.nn.ModuleDict({"input_layernorm": torch.nn.LayerNorm(64)})
    given = {
        "folder": runs / "step5",
        "open": gammatorch.open_checkpoint(runs / "step5"),
        "module": torch.nn.ModuleDict({"layers": torch.nn.ModuleList([block, block])}),
        "state dict": state,
        "array": np.random.default_rng(0).random((6, 64)),
        "tensor": torch.rand(6, 64),
        "gains": gammatorch.read_gains(state),
    }[form]
    assert gammatorch.analyze(given).hidden == 64
    assert len(gammatorch.compare([given, given]).pairs) == 1
    gammatorch.report(given, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1000
    if form not in ("array", "tensor", "gains"):
        assert gammatorch.check(given).stack
        assert gammatorch.read_gains(given).gamma.shape[1] == gammatorch.scan_gains(given).hidden == 64
        assert gammatorch.find_stacks(given)


def test_a_report_of_a_file_and_of_a_sweep(results, runs, tmp_path):
    results["Comparison"].save(tmp_path / "compared.json")
    for source in (tmp_path / "compared.json", runs / "swept", results["Audit"]):
        gammatorch.report(source, tmp_path / "page.html")
        assert "<h1>" in (tmp_path / "page.html").read_text()
    assert read_result(tmp_path / "compared.json").pairs
