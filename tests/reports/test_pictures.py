"""Every picture shows the numbers of its document: they are read back from the figure."""

from __future__ import annotations

import math
import re
import warnings
from itertools import accumulate, combinations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba

import gammatorch
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.moments import moments
from gammatorch.analysis.schedules import SCHEDULES, schedules
from gammatorch.reports.pictures.canvas import COLOURS, MARKERS, MOST_LOOKS, canvas, legend_below, styled
from gammatorch.reports.pictures.of_comparison import FIGURES as COMPARISON_FIGURES
from gammatorch.reports.pictures.of_run import FIGURES
from gammatorch.reports.pictures.of_sweep import FIGURES as SWEEP_FIGURES
from gammatorch.results.comparison import LETTERS
from gammatorch.results.statistics import CURVES
from tests.results.documents import as_comparison, as_run, as_sweep

BY_LAYER = {
    "norms": {"‖γ‖": lambda document: document["norms"]},
    "projections": {
        "proj_top1, on PC0": lambda document: document["proj_top1"],
        "residual_top1": lambda document: document["residual_top1"],
        "on the shared axis": lambda document: document["statistics"]["shared_projection"],
    },
    "rms": {"RMS γ": lambda document: [norm / math.sqrt(document["hidden"]) for norm in document["norms"]]},
}


def lines(axes):
    return {str(line.get_label()): line.get_xydata() for line in axes.get_lines()}


@pytest.mark.parametrize("name", BY_LAYER)
def test_curves_over_layers_are_the_documents(document, name):
    drawn = lines(FIGURES[name].figure(as_run(document)).axes[0])
    for curve, of in BY_LAYER[name].items():
        np.testing.assert_allclose(drawn[curve], np.column_stack([document["layers"], of(document)]), rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "pearson"])
def test_matrices_are_the_documents_with_the_phases_boxed(document, name):
    wanted = document["cosine"] if name == "cosine" else document["statistics"]["pearson"]
    axes = FIGURES[name].figure(as_run(document)).axes[0]
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), wanted)
    boxes = {(box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()) for box in axes.patches}
    assert boxes == {(phase["first"],) * 2 + (phase["n"],) * 2 for phase in document["phases"]}
    assert {text.get_text() for text in axes.texts} == {phase["name"] for phase in document["phases"]}


def test_colours_run_over_pairs_of_usual_layers(document):
    assert document["statistics"]["odd_layers"] == [0]
    off = ~np.eye(24, dtype=bool)
    off[0] = off[:, 0] = False
    cosine = np.array(document["cosine"])
    figure = FIGURES["cosine"].figure(as_run(document))
    assert figure.axes[0].get_images()[0].get_clim() == (cosine[off].min(), cosine[off].max())
    assert cosine.min() < cosine[off].min()  # so the colour bar is pointed
    document["statistics"]["pearson"][3][5] = -0.25
    image = FIGURES["pearson"].figure(as_run(document)).axes[0].get_images()[0]
    low, high = image.get_clim()
    assert low == -high and image.cmap.name == "RdBu_r"  # 0 is white where there is a 0 to cross


def test_explained_variance_and_its_sum_are_the_documents(document):
    axes = FIGURES["explained_var"].figure(as_run(document)).axes[0]
    shares = document["explained_var"]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], shares)
    np.testing.assert_allclose(lines(axes)["cumulative"][:, 1], list(accumulate(shares)))


def test_the_depth_profile_is_the_documents_beside_mean_and_chance(document):
    found = document["statistics"]
    axes = FIGURES["depth_profile"].figure(as_run(document)).axes[0]
    drawn = lines(axes)["mean at this lag"]
    np.testing.assert_allclose(drawn, np.column_stack([range(1, 24), found["depth_profile"]]))
    spans = [box.get_bbox().intervaly for box in axes.patches]
    chance = found["mean_pearson"]["null_95"]
    np.testing.assert_allclose(
        spans, [[-chance, chance], [found["mean_pearson"]["low"], found["mean_pearson"]["high"]]]
    )


def test_schedules_are_those_that_were_fitted_and_the_best_is_solid(document):
    axes = FIGURES["rms"].figure(as_run(document)).axes[0]
    fits = document["statistics"]["schedules"]
    drawn = {name.partition(",")[0]: line for name, line in zip(lines(axes), axes.get_lines(), strict=True)}
    assert list(drawn) == ["RMS γ", *fits]
    assert [name for name, line in drawn.items() if line.get_linestyle() == "-"] == [next(iter(fits))]
    for name, fit in fits.items():
        course = [CURVES[name](fit["parameters"], k) for k in range(1, 25)]
        np.testing.assert_allclose(drawn[name].get_ydata(), course)


def test_every_schedule_has_a_course_that_is_the_one_that_was_fitted():
    assert CURVES.keys() == SCHEDULES.keys()
    parameters = {"t0": 1.5, "a": 0.95, "b": 0.2, "c": 2.0, "p": 0.4}
    for name, course in CURVES.items():
        size = torch.tensor([course(parameters, k) for k in range(1, 31)], dtype=torch.float64)
        if name == "none":
            size *= 1 + 0.001 * (-1) ** torch.arange(30)
        (taken,) = moments(size[:, None] * torch.ones(30, 4)).home()
        fits = schedules(Correlations(taken, tuple(range(30))))
        assert next(iter(fits)) == name and fits[name]["chosen"] == (name != "none")
        for label_, value in fits[name]["parameters"].items():
            assert math.isclose(value, parameters[label_], rel_tol=1e-5), name


def test_undefined_figures_are_gaps_and_pictures_without_any_are_left_out(document):
    document["norms"][3] = None
    drawn = lines(FIGURES["norms"].figure(as_run(document)).axes[0])["‖γ‖"]
    assert np.flatnonzero(np.isnan(drawn[:, 1])).tolist() == [3]
    document["cosine"] = [[1.0 if row == column else None for column in range(24)] for row in range(24)]
    document["explained_var"] = document["statistics"]["schedules"] = document["proj_top1"] = None
    left = {name for name, picture in FIGURES.items() if not picture.has_figures(as_run(document))}
    assert left == {"cosine", "explained_var", "rms"}  # a matrix's diagonal is no figure; residual_top1 is there yet


def test_layers_without_a_row_leave_a_gap(document):
    for place, layer in enumerate(document["layers"]):
        document["layers"][place] = 2 * layer + 1
    for phase in document["phases"]:
        phase["first"], phase["last"] = 2 * phase["first"] + 1, 2 * phase["last"] + 1
    axes = FIGURES["cosine"].figure(as_run(document)).axes[0]
    assert {(box.get_x() + 0.5, box.get_width()) for box in axes.patches} == {
        ((phase["first"] - 1) / 2, phase["n"]) for phase in document["phases"]
    }
    formatter = axes.xaxis.get_major_formatter()
    assert [formatter(place, None) for place in (0, 5, 23, 24, 0.5)] == ["1", "11", "47", "", ""]
    assert lines(FIGURES["norms"].figure(as_run(document)).axes[0])["‖γ‖"][:3, 0].tolist() == [1, 3, 5]


@pytest.mark.parametrize(("layers", "hidden"), [(1, 8), (2, 8), (3, 2), (700, 8)])
def test_any_shape_can_be_drawn_without_a_warning(layers, hidden):
    gains = torch.exp(0.3 * torch.randn(layers, hidden, generator=torch.Generator().manual_seed(0)))
    document = gammatorch.analyze(gains).to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = {
            name: picture.svg(as_run(document), name)
            for name, picture in FIGURES.items()
            if picture.has_figures(as_run(document))
        }
    assert "norms" in drawn and ("pearson" in drawn) == (layers > 1)
    assert max(map(len, drawn.values())) < 1_500_000


def test_the_settings_of_the_caller_are_neither_read_nor_changed(document):
    plain = FIGURES["norms"].svg(as_run(document), "norms")
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "none"}):
        inside = dict(matplotlib.rcParams)
        assert FIGURES["norms"].svg(as_run(document), "norms") == plain
        assert dict(matplotlib.rcParams) == inside
        assert FIGURES["norms"].figure(as_run(document)).axes[0].get_facecolor() == to_rgba("white")
    assert dict(matplotlib.rcParams) == before


NAMES = {
    "$\\frac{": "$\\frac{",
    "$x^2$": "$x^2$",
    "<script>": "<script>",
    "\u202eabc": "\\u202eabc",
    "a\x00\x1b[2J": "a\\x00\\x1b[2J",
    "層": "\\u5c64",
    "\U0001f680": "\\U0001f680",
    "\ud800": "\\ud800",
    "": "",
    "\n": "\\n",
    "W" * 10_000: "W…W",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
def test_any_name_comes_out_literally_or_escaped_and_cut(document, name):
    document["phases"] = [{**document["phases"][0], "name": name, "first": 0, "last": 23, "n": 24}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = FIGURES["norms"].svg(as_run(document), "norms")
    (text,) = FIGURES["norms"].figure(as_run(document)).axes[0].texts
    shown = text.get_text()
    assert re.sub(r"W+", "W", shown) == NAMES[name] and len(shown) < 60
    assert not text.get_parse_math() and "script" not in svg


def test_a_text_alternative_tells_the_range_of_what_is_drawn(document):
    low, high = min(document["norms"]), max(document["norms"])
    assert f'aria-label="Length of γ over depth. ‖γ‖ by layer: from {low:.4g} to {high:.4g}"' in FIGURES["norms"].svg(
        as_run(document), "norms"
    )


def test_a_text_alternative_of_items_tells_the_range_of_their_figures(told):
    told["anomalies"] = []
    for name, values in {"rms_gamma": [2.0, 1.0, 3.0], "shared_energy": [None, 0.25, 0.5]}.items():
        told["unordered"][name] = values
    wanted = "RMS γ by item: from 1 to 3; shared energy by item: from 0.25 to 0.5; participation ratio by item: from"
    assert f'aria-label="Items without a step. {wanted}' in SWEEP_FIGURES["by_item"].svg(as_sweep(told), "by_item")


def ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [text for at, text in zip(axis.get_majorticklocs(), shown(axis), strict=True) if low <= at <= high]


def shown(axis):
    return axis.get_major_formatter().format_ticks(axis.get_majorticklocs())


def test_one_layer_has_one_tick_which_is_whole():
    document = gammatorch.analyze(torch.exp(torch.randn(1, 8))).to_dict()
    assert ticks(FIGURES["norms"].figure(as_run(document)).axes[0].xaxis) == ["0"]


def test_values_that_differ_by_rounding_have_an_axis_that_can_be_read(copies):
    copies["pairs"][0]["pearson"]["value"] = [1.0, 1.0 - 1e-12, 1.0, 1.0 - 2e-12]
    axis = COMPARISON_FIGURES["pearson"].figure(as_comparison(copies)).axes[0].yaxis
    assert max(map(len, ticks(axis))) <= 5 and len(ticks(axis)) > 2


@pytest.mark.parametrize("smallest", [5e-324, 1e-300, 1e-60])
@pytest.mark.filterwarnings("error")
def test_a_logarithmic_axis_goes_down_to_the_smallest_number_there_is(copies, smallest):
    copies["pairs"][0]["drift"]["value"] = [smallest, 0.0, 0.5, 1.0]
    assert "from 0 to 1" in COMPARISON_FIGURES["drift"].svg(as_comparison(copies), "drift")


def test_matrices_all_alike_have_colours_for_what_there_can_be(copies):
    for name in ("mean_pearson", "total_drift"):
        (image,) = COMPARISON_FIGURES[name].figure(as_comparison(copies)).axes[0].get_images()
        assert image.get_clim() == (0.0, 1.0) and image.cmap.name == "viridis"


def test_a_correlation_that_is_0_to_two_digits_has_no_sign(comparison):
    comparison["pairs"][1]["mean_pearson"]["value"] = -0.001
    texts = [
        text.get_text() for text in COMPARISON_FIGURES["mean_pearson"].figure(as_comparison(comparison)).axes[0].texts
    ]
    assert texts.count("0.00") == 2 and "-0.00" not in texts


def test_colours_of_sizes_run_over_the_items_that_no_anomaly_names(told):
    told["curves"] = told["curves"][:1]
    told["curves"][0]["rms_by_layer"] = [[1.0, 1.25], [0.0, 9.0], [1.0, 1.5]]
    figure = SWEEP_FIGURES["layers_by_step"].figure(as_sweep(told))
    assert figure.axes[0].get_images()[0].get_clim() == (1.0, 1.5)
    told["anomalies"] = [{**told["anomalies"][0], "items": told["curves"][0]["item"]}]
    figure = SWEEP_FIGURES["layers_by_step"].figure(as_sweep(told))
    assert figure.axes[0].get_images()[0].get_clim() == (0.0, 9.0)  # where there are no others


@pytest.mark.parametrize("count", [1, 2, 6, 9])
def test_heat_maps_of_any_number_of_runs_have_room_on_a_sheet(told, count):
    told["curves"] = told["curves"][:1] * count
    figure = SWEEP_FIGURES["layers_by_step"].figure(as_sweep(told))
    assert figure.get_figwidth() / figure.get_figheight() > 13 / 31
    maps = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_xlabel() for axes in maps] == [""] * (len(maps) - 1) + ["training step, item by item"]


@pytest.mark.parametrize("count", [2, 9, MOST_LOOKS, MOST_LOOKS + 1])
def test_runs_are_named_as_long_as_they_can_be_told_apart(told, count):
    told["curves"] = [told["curves"][0]] * count
    figure = SWEEP_FIGURES["rms_gamma"].figure(as_sweep(told))
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    letters = {
        2: ["A run", "B run"],
        9: list("ABCDEFGHI"),
        MOST_LOOKS: [*LETTERS, *(f"#{place}" for place in range(27, 33))],
    }
    assert named == [*letters.get(count, []), "anomaly"]
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].get_lines()[:-1]}
    assert len(looks) == min(count, MOST_LOOKS)


def test_the_first_dot_of_a_logarithmic_step_axis_is_whole(told):
    for curve in told["curves"]:
        curve["steps"] = [0, 1, 100]
    axes = SWEEP_FIGURES["rms_gamma"].figure(as_sweep(told)).axes[0]
    assert axes.get_xscale() == "symlog" and -1 < axes.get_xlim()[0] < 0


def test_every_schedule_but_the_best_is_dashed_in_its_own_way(document):
    drawn = FIGURES["rms"].figure(as_run(document)).axes[0].get_lines()[2:]
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == len(drawn) == 4


@pytest.mark.parametrize("words", [["B", "C"], ["x" * 40, "y"], [*"ABCDEFG", "anomaly"], ["logarithmic, +676.9"] * 6])
def test_a_legend_stays_within_its_picture(words):
    with styled():
        figure, axes = canvas()
        for word in words:
            axes.plot([0, 1], label=word)
        legend_below(figure)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


SIGHTS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""From linear RGB to what is seen of it (Machado, Oliveira and Fernandes 2009, severity 1)."""


def linear(colour):
    return np.array([part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)])


def lab(seen):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen.clip(0, 1)
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz / [0.9505, 1, 1.0888])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_curves_stand_out_from_white_and_from_each_other_whoever_looks():
    assert len(COLOURS) == len(MARKERS) == len(set(MARKERS))
    for colour in COLOURS:
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear(colour)) + 0.05) >= 3, colour  # WCAG 2.2, 1.4.11
    for sight, matrix in SIGHTS.items():
        seen = {colour: lab(np.array(matrix) @ linear(colour)) for colour in COLOURS}
        for one, other in combinations(COLOURS, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 15, (sight, one, other)
