"""The figures of a sweep."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.figures.figure import Figure
from gammatorch.reports.figures.steps import by_item, by_step, layers_by_step
from gammatorch.results.sweep import CurvesDocument

FIGURES: Mapping[str, Figure[CurvesDocument]] = {
    "rms_gamma": Figure(
        "Size of γ by step",
        "RMS γ = ‖γ‖/√H, mean over layers: how much the norms amplify, one curve a training run. It grows or shrinks "
        "with training; a step off the curve may be another checkpoint's.",
        by_step("rms_gamma", "RMS γ"),
        lambda told: [curve.rms_gamma for curve in told.curves],
    ),
    "shared_energy": Figure(
        "Shared direction by step",
        "Share of the gains' energy in the one direction that all layers share (uncentred). At 1 all layers have one "
        "direction, as at the start of training; falling: they part.",
        by_step("shared_energy", "shared energy"),
        lambda told: [curve.shared_energy for curve in told.curves],
    ),
    "effective_dimension": Figure(
        "Participation ratio by step",
        "Number of directions that the layers fill evenly, from their correlations: 1 is one pattern of channels for "
        "all layers, the number of layers is one for each.",
        by_step("effective_dimension", "participation ratio"),
        lambda told: [curve.effective_dimension for curve in told.curves],
    ),
    "pearson_previous": Figure(
        "Correlation with the step before",
        "Pearson r of each layer's gains with the item before, mean over layers. Near 1 the pattern stands still; a "
        "dip is a step over which it changed more, or a checkpoint that does not belong there.",
        by_step("pearson_previous", "r to the previous item"),
        lambda told: [curve.pearson_previous for curve in told.curves],
    ),
    "pearson_last": Figure(
        "Correlation with the last step",
        "Pearson r of each layer's gains with the last item of the run, mean over layers: how much of the final "
        "pattern is there by then. It mostly rises; 1 long before the end may be a copy of the final checkpoint.",
        by_step("pearson_last", "r to the last item"),
        lambda told: [curve.pearson_last for curve in told.curves],
    ),
    "drift": Figure(
        "Drift by step",
        "‖Δ‖/‖γ‖, how far the gains moved since the item before in parts of their length, mean over layers, on a "
        "logarithmic axis. Gaps are items that did not move at all, or have none before them.",
        by_step("drift", "drift ‖Δ‖/‖γ‖", log=True),
        lambda told: [curve.drift for curve in told.curves],
        log=True,
    ),
    "layers_by_step": Figure(
        "RMS γ of every layer by step",
        "RMS γ of each layer (up) over the items of a run (across, evenly spaced whatever their steps), for the first "
        "six runs; triangles are items that an anomaly names. A column unlike its neighbours is a checkpoint out of "
        "place, a row unlike the others a layer that trains in its own way. Colours run over the items that no anomaly "
        "names.",
        layers_by_step,
        lambda told: [curve.rms_by_layer for curve in told.curves],
    ),
    "by_item": Figure(
        "Items without a step",
        "RMS γ, shared energy and participation ratio of each item that is a step of no training run, in "
        "order from above; a curve would suggest a path where there is none.",
        by_item,
        lambda told: told.unordered.rms_gamma,
    ),
}
"""By name: the figures of a sweep, in the order of the page. One function and one line here add a figure."""
