"""A sweep as curves, and its pictures: the timeline's numbers, run by run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.errors import ResultError
from gammatorch.reports.figures.sweep import FIGURES as PICTURES
from gammatorch.results.files import to_plain
from gammatorch.sweep.api import read_sweep
from gammatorch.sweep.curves import FIGURES, sweep_document
from gammatorch.sweep.item import Settings
from gammatorch.sweep.store import Store, read_items
from gammatorch.sweep.timeline import make_timeline
from tests.results.documents import as_sweep
from tests.sweep.conftest import sweep


@pytest.fixture
def swept(tmp_path):
    """Runs ``one`` and ``two``, another site of ``one``, and two items that are steps of nothing."""
    for name, steps in (("one", (0, 10, 5)), ("two", (1, 2))):
        for step in steps:
            (tmp_path / name / f"step{step}").mkdir(parents=True)
            write_checkpoint(tmp_path / name / f"step{step}", layers=4, hidden=32, shards=1, seed=step)
    for name in ("base", "chat"):
        (tmp_path / name).mkdir()
        write_checkpoint(tmp_path / name, layers=6, hidden=16, shards=1, seed=len(name))
    sweep(*(tmp_path / name for name in ("one", "two", "base", "chat")), out=tmp_path / "out")
    sweep(tmp_path / "one", out=tmp_path / "out", settings=Settings(site="pre_mlp"))
    return tmp_path / "out"


def test_curves_are_the_timelines_figures_run_by_run(swept):
    document = to_plain(sweep_document(swept))
    told = {entry["key"]: entry for entry in make_timeline(swept).to_dict()["timeline"]}
    shapes = [
        (curve["run"].rpartition("/")[0].rpartition("/")[2], curve["settings"], curve["steps"])
        for curve in document["curves"]
    ]
    assert sorted(shapes) == [("one", "", [0, 5, 10]), ("one", "site=pre_mlp", [0, 5, 10]), ("two", "", [1, 2])]
    by_item = {entry["item"]: entry for entry in told.values()}
    for curve in (*document["curves"], document["unordered"]):
        for row, item in enumerate(curve["item"]):
            assert {name: curve[name][row] for name in FIGURES} == {name: by_item[item][name] for name in FIGURES}
    assert [item.rpartition("/")[2] for item in document["unordered"]["item"]] == ["base", "chat"]
    json.dumps(document, allow_nan=False)


def test_sizes_by_layer_are_those_of_the_gains(swept):
    stored = {(one.item.name, one.settings.site): one for one in read_items(swept)}
    checked = 0
    for curve in to_plain(sweep_document(swept))["curves"]:
        for item, sizes in zip(curve["item"], curve["rms_by_layer"], strict=True):
            one = stored[item.partition(" (")[0], "pre_mlp" if curve["settings"] else "auto"]
            torch.testing.assert_close(
                torch.tensor(sizes, dtype=torch.float64), one.gamma().square().mean(dim=1).sqrt()
            )
            checked += 1
    assert checked == 8


def test_failures_are_told_and_a_folder_without_items_is_refused(swept, tmp_path):
    folder = tmp_path / "runs"
    for step in (1, 2):
        (folder / f"step{step}").mkdir(parents=True)
        write_checkpoint(folder / f"step{step}", layers=2, hidden=8, shards=1)
    (folder / "step2" / "model.safetensors").write_bytes(b"broken")
    sweep(folder, out=swept)
    (failure,) = sweep_document(swept).failures
    assert failure.name.endswith("step2")
    Store(tmp_path / "empty")
    with pytest.raises(ResultError, match="keeps no items that are done"):
        sweep_document(tmp_path / "empty")


def drawn(picture, document):
    return {trace["name"]: (trace["x"], trace["y"]) for trace in picture.draw(as_sweep(document))["data"]}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_one_curve_a_run(swept, name):
    document = to_plain(sweep_document(swept))
    lines = drawn(PICTURES[name], document)
    assert len(lines) == 3
    for line, curve in zip(lines.values(), document["curves"], strict=True):
        wanted = [value or None for value in curve[name]] if name == "drift" else curve[name]
        assert line == (curve["steps"], wanted)


def test_an_anomaly_is_ringed_where_its_item_is(swept):
    document = to_plain(sweep_document(swept))
    curve = document["curves"][0]
    document["anomalies"] = [
        {"kind": "copy", "severity": "anomaly", "items": [curve["item"][1]], "text": "it is odd", "layers": []}
    ]
    ring = drawn(PICTURES["rms_gamma"], document)["anomaly"]
    assert ring == ([curve["steps"][1]], [curve["rms_gamma"][1]])


@pytest.mark.parametrize(
    ("steps", "scale"),
    [
        (range(0, 143_001, 1000), "linear"),
        ([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 143_001, 1000)], "log"),
        ([10, 100, 1000, 10_000], "log"),
        ([5], "linear"),
        ([0, 7], "linear"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_axis_is_logarithmic_where_steps_lie_closer_at_the_beginning(swept, steps, scale):
    document = to_plain(sweep_document(swept))
    curve = dict(document["curves"][0])
    curve |= {"steps": list(steps), "item": list(map(str, steps)), **{name: [1.0] * len(steps) for name in FIGURES}}
    document["curves"] = [curve]
    drawn = PICTURES["rms_gamma"].draw(as_sweep(document))
    assert drawn["layout"]["xaxis"].get("type", "linear") == scale


def test_the_map_of_layers_holds_every_size(swept):
    document = to_plain(sweep_document(swept))
    drawn = PICTURES["layers_by_step"].draw(as_sweep(document))["data"]
    maps = [trace for trace in drawn if trace["type"] == "heatmap"]
    assert len(maps) == 3
    for image, curve in zip(maps, document["curves"], strict=True):
        np.testing.assert_allclose(image["z"], np.transpose(curve["rms_by_layer"]))


def test_items_without_a_step_stand_in_order_and_runs_may_be_none(swept):
    document = to_plain(sweep_document(swept))
    panels = PICTURES["by_item"].draw(as_sweep(document))["data"]
    assert len(panels) == 3 and panels[0]["x"] == document["unordered"]["rms_gamma"] and panels[0]["y"] == [1, 2]
    document["curves"] = []
    assert [name for name, picture in PICTURES.items() if picture.why_left_out(as_sweep(document)) is None] == [
        "by_item"
    ]


def test_a_sweep_plots_its_figures(swept):
    figure = read_sweep(swept).plot("rms_gamma")
    assert [list(trace.y) for trace in figure.data] == [curve.rms_gamma for curve in sweep_document(swept).curves]
