"""Every figure shows the numbers of its document."""

from __future__ import annotations

import json
import math
from itertools import accumulate

import pytest
import torch

import gammatorch
from gammatorch.errors import InvalidArgument
from gammatorch.reports.figures.comparison import FIGURES as OF_COMPARISON
from gammatorch.reports.figures.look import label
from gammatorch.reports.figures.run import FIGURES
from gammatorch.reports.figures.sweep import FIGURES as OF_SWEEP
from gammatorch.reports.figures.table import plot
from gammatorch.results.documents import held_gains
from gammatorch.results.statistics import CURVES
from tests.results.documents import as_comparison, as_run, as_sweep


def curves(drawn):
    return {trace["name"]: trace for trace in drawn["data"] if "name" in trace}


def test_curves_over_layers_are_the_documents(document):
    run = as_run(document)
    assert curves(FIGURES["norms"].draw(run))["length"]["y"] == document["norms"]
    projected = curves(FIGURES["projections"].draw(run))
    assert projected["on the first principal axis"]["y"] == document["proj_top1"]
    assert projected["on the shared direction"]["y"] == document["statistics"]["shared_projection"]
    sizes = [norm / math.sqrt(document["hidden"]) for norm in document["norms"]]
    assert curves(FIGURES["rms"].draw(run))["RMS γ"]["y"] == pytest.approx(sizes)


@pytest.mark.parametrize("name", ["cosine", "pearson", "rank_correlation"])
def test_matrices_are_the_documents_with_phases_and_outlier_layers_marked(document, name):
    wanted = document["cosine"] if name == "cosine" else document["statistics"][name]
    drawn = FIGURES[name].draw(as_run(document))
    assert drawn["data"][0]["z"] == wanted and drawn["data"][1]["x"] == ["0"] == drawn["data"][1]["y"]
    boxes = {(box["x0"] + 0.5, box["x1"] - 0.5) for box in drawn["layout"]["shapes"]}
    assert boxes == {(phase["first"], phase["last"]) for phase in document["phases"]}


def test_colours_run_over_pairs_of_usual_layers_and_diverge_from_0(document):
    off = [row[:place] + row[place + 1 :] for place, row in enumerate(document["cosine"])][1:]
    values = [value for row in off for value in row[1:]]
    image = FIGURES["cosine"].draw(as_run(document))["data"][0]
    assert (image["zmin"], image["zmax"]) == (min(values), max(values)) and image["colorscale"] == "Viridis"
    document["statistics"]["pearson"][3][5] = -0.25
    image = FIGURES["pearson"].draw(as_run(document))["data"][0]
    assert image["zmin"] == -image["zmax"] and image["colorscale"][2] == [0.5, "#f7f7f7"]


def test_spectrum_and_profile_are_the_documents(document):
    bars, whole = FIGURES["explained_var"].draw(as_run(document))["data"]
    assert bars["y"] == document["explained_var"] and whole["y"] == pytest.approx(list(accumulate(bars["y"])))
    drawn, found = FIGURES["depth_profile"].draw(as_run(document)), document["statistics"]
    lines = curves(drawn)
    assert lines["mean at this distance"]["y"] == found["depth_profile"]
    assert lines["near"]["y"] == [found["depth_contrast"]["near"]] * 2
    assert drawn["layout"]["shapes"][0]["y1"] == found["mean_pearson"]["null_95"]


def test_schedules_are_those_that_were_fitted_the_best_widest(document):
    fits, lines = document["statistics"]["schedules"], FIGURES["rms"].draw(as_run(document))["data"][1:]
    best = next(iter(fits))
    assert [line["line"]["width"] for line in lines] == [2.5] + [1.3] * (len(fits) - 1)
    assert lines[0]["y"] == [CURVES[best](fits[best]["parameters"], k) for k in range(1, 25)]
    for line, fit in zip(lines, fits.values(), strict=True):
        assert f"AICc {fit['aicc'] - fits[best]['aicc']:+.1f} above the lowest" in line["hovertemplate"]


def test_undefined_figures_are_gaps_and_figures_without_any_are_left_out(document):
    document["norms"][3] = None
    assert curves(FIGURES["norms"].draw(as_run(document)))["length"]["y"][3] is None
    document["cosine"] = [[1.0 if row == column else None for column in range(24)] for row in range(24)]
    document["explained_var"] = document["statistics"]["schedules"] = document["proj_top1"] = None
    left = {name for name, figure in FIGURES.items() if figure.why_left_out(as_run(document))}
    assert left == {"cosine", "explained_var", "rms"}  # a matrix's diagonal is no figure; residual_top1 is there yet


@pytest.mark.parametrize("shape", [(1, 8), (2, 8), (3, 2), (300, 8)])
def test_plot_draws_any_shape_as_plotlys_own_figure(shape):
    gains = torch.exp(0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    analysis = gammatorch.analyze(gains)
    figure = analysis.plot("gamma", gains)
    assert figure.data[0].type == "heatmap" and figure.layout.title.text == "γ of every layer and channel"
    torch.testing.assert_close(torch.tensor(figure.data[0].z), gains)
    run = as_run(analysis.to_dict())
    for name, one in FIGURES.items():
        if one.why_left_out(run) is None:
            assert len(plot(run, name).data) >= 1


def test_massive_channels_are_in_units_of_the_median():
    gains = torch.exp(0.1 * torch.randn(6, 256, generator=torch.Generator().manual_seed(0)))
    gains[:, 17] = 20.0
    figure = gammatorch.analyze(gains).plot("massive", gains)
    middle = sorted(gains[2].tolist())[127:129]
    assert figure.data[0].y == ("17",) and figure.data[0].z[0][2] == pytest.approx(20.0 / (sum(middle) / 2))


def test_a_wrong_name_lists_the_right_ones_and_gamma_asks_for_the_gains():
    gains = torch.rand(4, 16)
    analysis = gammatorch.analyze(gains)
    with pytest.raises(InvalidArgument, match=r"no figure 'norm': did you mean 'norms'\? there are rank_correlation"):
        analysis.plot("norm")
    with pytest.raises(InvalidArgument, match="shows γ itself: pass the gains"):
        analysis.plot("gamma")
    assert held_gains(gains).gamma == gains.tolist()


def test_figures_of_a_comparison_are_the_documents(comparison):
    found = as_comparison(comparison)
    image = OF_COMPARISON["mean_pearson"].draw(found)["data"][0]
    assert [
        OF_COMPARISON[name].draw(found)["data"][0][end]
        for name in ("mean_pearson", "mean_rank_correlation")
        for end in ("zmin", "zmax")
    ] == [-1, 1, -1, 1]
    assert image["z"][2][0] == comparison["pairs"][1]["mean_pearson"]["value"] and image["z"][1][1] is None
    lines = [one for one in OF_COMPARISON["pearson"].draw(found)["data"] if "name" in one]
    assert lines[1]["y"] == comparison["pairs"][1]["pearson"]["value"]
    lines = OF_COMPARISON["mapping"].draw(found)["data"]
    assert lines[0]["y"] == comparison["pairs"][0]["mapping"]


def test_the_drift_of_copies_is_left_out(copies):
    assert OF_COMPARISON["drift"].why_left_out(as_comparison(copies)) == "none of its figures is above 0"


def test_colours_of_sizes_run_over_the_items_that_no_anomaly_names(told):
    told["curves"] = told["curves"][:1]
    told["curves"][0]["rms_by_layer"] = [[1.0, 1.25], [0.0, 9.0], [1.0, 1.5]]
    image, marks = OF_SWEEP["layers_by_step"].draw(as_sweep(told))["data"]
    assert (image["zmin"], image["zmax"]) == (1.0, 1.5) and marks["x"] == ["1"]
    told["anomalies"] = [{**told["anomalies"][0], "items": told["curves"][0]["item"]}]
    image = OF_SWEEP["layers_by_step"].draw(as_sweep(told))["data"][0]
    assert (image["zmin"], image["zmax"]) == (0.0, 9.0)  # where there are no others


def test_names_in_figures_are_text(document):
    assert label("<script>\u202e") == "&lt;script&gt;\\u202e" and len(label("W" * 10_000)) < 60
    document["phases"] = [{**document["phases"][0], "name": "<b>%{x}", "first": 0, "last": 23, "n": 24}]
    assert "<b>" not in json.dumps(FIGURES["norms"].draw(as_run(document))["layout"])
