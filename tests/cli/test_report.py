"""``gammatorch report`` as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gammatorch.bench.worlds import draw
from gammatorch.reports.figures.comparison import FIGURES as COMPARISON_FIGURES
from gammatorch.reports.figures.run import FIGURES
from gammatorch.reports.figures.sweep import FIGURES as SWEEP_FIGURES


def checkpoint(folder, gamma):
    folder.mkdir(parents=True)
    weights = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(gamma)}
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def result(call, tmp_path):
    checkpoint(tmp_path / "model", torch.from_numpy(draw("phases", 0, 16, 256)).float())
    assert call("run", tmp_path / "model", "--out", tmp_path / "result.json", "-q").code == 0
    return tmp_path / "result.json"


@pytest.fixture
def swept(call, tmp_path):
    """A run of eight steps, of which the fourth holds the last one's gains, and two models that are no steps."""
    start, way = (torch.from_numpy(draw("drift", seed, 8, 64)).float() for seed in (0, 1))
    gammas = [start + 0.05 * step * way for step in range(8)]
    gammas[3] = gammas[7]
    for step, gamma in enumerate(gammas):
        checkpoint(tmp_path / "runs" / f"step{1000 * step}", gamma)
    for name in ("base", "chat"):
        checkpoint(tmp_path / name, way)
    models = [tmp_path / name for name in ("runs", "base", "chat")]
    assert call("sweep", *models, "--out", tmp_path / "sweep", "-q").code == 0
    return tmp_path / "sweep"


def test_a_result_becomes_a_page_without_its_model(call, result, tmp_path):
    (tmp_path / "model" / "model.safetensors").unlink()
    done = call("report", result, "--out", tmp_path / "page.html")
    assert (done.code, done.stdout, done.stderr) == (0, "", f"gammatorch: saved {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        page.count("<div data-figure=") == len(FIGURES) and json.loads(result.read_text())["answer"]["sentence"] in page
    )


def test_without_out_the_same_page_goes_to_stdout(call, result, tmp_path):
    call("report", result, "--out", tmp_path / "page.html")
    assert call("report", result).stdout == (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_same_result_gives_the_same_bytes_in_any_process_and_locale(result):
    program = [sys.executable, "-m", "gammatorch", "report", str(result)]
    surroundings = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C"},
        {
            "PYTHONHASHSEED": "2",
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "86400",
            "HOME": os.devnull,
            "MPLBACKEND": "module://not_there",
        },
    ]
    pages = [subprocess.run(program, capture_output=True, env={**os.environ, **one}) for one in surroundings]
    assert pages[0].stdout == pages[1].stdout and len(pages[0].stdout) > 100_000
    assert [one.stderr for one in pages] == [b"", b""]


def test_a_sweep_becomes_a_page_that_names_its_anomalies(call, swept, tmp_path):
    before = sorted(path for path in swept.rglob("*"))
    page = call("report", swept).stdout
    assert (
        page.count("<div data-figure=") == len(SWEEP_FIGURES) + 1
        and "1 training run, 2 items without a step; 1 anomaly." in page
    )
    assert f"step3000 holds the gains of {tmp_path}/runs/step7000" in page
    assert sorted(path for path in swept.rglob("*")) == before


def test_a_comparison_becomes_a_page(call, tmp_path):
    gamma = torch.from_numpy(draw("drift", 0, 6, 64)).float()
    models = [checkpoint(tmp_path / name, gamma * scale) for name, scale in (("a", 1.0), ("b", 1.0), ("c", 1.1))]
    assert call("compare", *models, "--out", tmp_path / "compared.json", "-q").code == 0
    page = call("report", tmp_path / "compared.json").stdout
    assert page.count("<div data-figure=") == len(COMPARISON_FIGURES) and "identical" in page


def test_no_page_is_written_to_a_terminal(call, result, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = call("report", result)
    assert (done.code, done.stdout) == (2, "") and "pass --out page.html, or redirect stdout" in done.stderr


def test_options_can_come_from_the_environment_and_quiet_is_quiet(call, result, tmp_path, monkeypatch):
    monkeypatch.setenv("GAMMATORCH_REPORT_OUT", str(tmp_path / "page.html"))
    done = call("report", result, "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "") and (tmp_path / "page.html").exists()


def test_help_tells_what_is_read_and_usage_ends_with_2(call, result):
    done = call("report", "--help")
    assert done.code == 0 and "gammatorch report step1000.json --out step1000.html" in done.stdout
    assert call("report").code == call("report", result, "--nope").code == 2
    before = result.read_bytes()
    done = call("report", result, "--out", result)
    assert done.code == 1 and "is read by this run" in done.stderr and result.read_bytes() == before


def changed(result, tmp_path):
    document = json.loads(result.read_text())
    document["norms"][2] = "many"
    (tmp_path / "changed.json").write_text(json.dumps(document))
    return tmp_path / "changed.json"


def written(text):
    def write(result, tmp_path):
        (tmp_path / "written").write_text(text)
        return tmp_path / "written"

    return write


def folder(*names):
    def make(result, tmp_path):
        for name in ("folder", *names):
            (tmp_path / "folder" / name if name != "folder" else tmp_path / name).mkdir()
        return tmp_path / "folder"

    return make


FAULTS = {
    "no such path": (lambda result, tmp_path: tmp_path / "nothing.json", "no such file or folder: pass what"),
    "text": (written("results"), "is not JSON: pass what"),
    "an empty folder": (folder(), "is not the folder of a sweep: pass what"),
    "several sites": (written('[{"schema_version": 2}]'), "holds the results of several sites: write one"),
    "a sweep without items": (folder("items"), "keeps no items that are done"),
    "not JSON": (written("{'model': 1}"), "is not valid JSON"),
    "another JSON": (written('{"stacks": []}'), "is JSON, but no result that can be drawn: pass what"),
    "of a newer version": (written('{"schema_version": 9, "norms": []}'), "has schema_version 9"),
    "changed": (changed, "is not as it was written: norms[2]: expected `float | null`, got `str`: make it again"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_drawn_is_one_line_and_an_existing_page_is_kept(call, result, tmp_path, fault):
    make, said = FAULTS[fault]
    path = make(result, tmp_path)
    (tmp_path / "page.html").write_text("kept")
    before = sorted(tmp_path.iterdir())
    done = call("report", path, "--out", tmp_path / "page.html")
    assert done.code == 1 and done.stdout == ""
    assert done.stderr.startswith(f"gammatorch: error: {path}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1 and "unexpected" not in done.stderr
    assert (tmp_path / "page.html").read_text() == "kept" and sorted(tmp_path.iterdir()) == before


def test_an_audit_becomes_a_page_of_its_findings(call, tmp_path):
    checkpoint(tmp_path / "model", torch.zeros(2, 8))
    assert call("check", tmp_path / "model", "--out", tmp_path / "check.json", "-q").code == 3
    assert call("report", tmp_path / "check.json", "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "is zero in all channels" in page and "1 error," in page and "<table" in page


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(call, tmp_path):
    done = call("report", tmp_path / "nothing.json", "--out", tmp_path / "no" / "page.html")
    assert done.code == 1 and "its folder does not exist: create it first" in done.stderr


@pytest.mark.parametrize("kind", ["result", "swept"])
def test_a_missing_plotly_says_what_to_install(call, tmp_path, monkeypatch, kind, request):
    path = request.getfixturevalue(kind)
    monkeypatch.setitem(sys.modules, "plotly", None)
    done = call("report", path, "--out", tmp_path / "page.html")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "pip install 'gammatorch[report]'" in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_figure_without_kaleido_says_what_to_install(call, result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    done = call("report", result, "--figure", "norms", "--out", tmp_path / "norms.svg")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "pip install kaleido" in done.stderr
    assert call("report", result, "--figure", "norms", "--out", tmp_path / "norms.gif").code == 2
    done = call("report", result, "--figure", "norm", "--out", tmp_path / "norms.svg")
    assert done.code == 1 and "did you mean 'norms'?" in done.stderr


def test_the_extra_that_is_named_holds_plotly():
    import configparser
    from pathlib import Path

    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    extras = setup["options.extras_require"]
    assert extras["report"].split() == ["plotly"] and "plotly" in extras["test"].split()


def test_an_item_of_a_sweep_that_was_changed_is_one_line(call, swept, tmp_path):
    path = min((swept / "items").iterdir())
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    analysis = json.loads(metadata["analysis"])
    analysis["norms"][2] = "many"
    save_file(tensors, path, {**metadata, "analysis": json.dumps(analysis)})
    said = "is not what a sweep wrote (analysis: norms[2]: expected `float | null`, got `str`): delete it, and run the sweep again"
    for command in (("report", swept, "--out", tmp_path / "page.html"), ("export", swept, "--out", tmp_path / "t.csv")):
        done = call(*command)
        assert (done.code, done.stdout, done.stderr) == (1, "", f"gammatorch: error: {path}: {said}\n")
        assert not command[-1].exists()
