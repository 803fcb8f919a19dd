"""The figures of one analysis."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.reports.figures import layers
from gammatorch.reports.figures.figure import Figure
from gammatorch.results.run import RunDocument

FIGURES: Mapping[str, Figure[RunDocument]] = {
    "rank_correlation": Figure(
        "Rank correlation between layers",
        "Correlation between the normal scores of the ranks of every pair of layers' gains, over channels, which no "
        "few massive channels can carry; the answer rests on it. 0 is what independent gains have. Boxes are "
        "phases, crosses outlier layers: bright boxes on a darker ground are layers that share a direction of their "
        "own.",
        layers.rank_correlation,
        lambda run: run.statistics.rank_correlation,
        matrix=True,
    ),
    "pearson": Figure(
        "Pearson correlation between layers",
        "Pearson r between the gains of every pair of layers, over channels. Where it differs from the rank "
        "correlation, a few channels of large gain carry it.",
        layers.pearson,
        lambda run: run.statistics.pearson,
        matrix=True,
    ),
    "cosine": Figure(
        "Cosine between layers",
        "Cosine between the gains of every pair of layers, phases boxed. Gains of one sign have cosines near 1 even "
        "where they are independent, so read the pattern here and the strength from the correlations.",
        layers.cosine,
        lambda run: run.cosine,
        matrix=True,
    ),
    "norms": Figure(
        "Length of γ over depth",
        "Euclidean length ‖γ‖ of each layer's gain; bands and the names above are phases. A higher point is a layer "
        "whose norm amplifies its input more.",
        layers.norms,
        lambda run: run.norms,
    ),
    "rms": Figure(
        "RMS γ and the schedules fitted to it",
        "RMS γ of each layer (dots) and the annealing schedules fitted to it with errors that persist from layer to "
        "layer. The widest line has the lowest AICc; the pointer on another tells by how much its AICc is higher. "
        "A law is chosen only where it is clear of none and of the next. From eight layers on the first and the last "
        "are left out.",
        layers.rms,
        lambda run: [fit.aicc for fit in (run.statistics.schedules or {}).values()],
    ),
    "explained_var": Figure(
        "Explained variance",
        "Share of each principal axis of the centred unit directions (bars) and of all up to it (line). One tall bar: "
        "layers differ along one axis; a slow rise: each layer differs in its own way. At most 64 axes are drawn.",
        layers.scree,
        lambda run: run.explained_var,
    ),
    "projections": Figure(
        "Projection on the leading axes",
        "Where each layer's unit direction lies on the first principal axis, and the part of it that is off that axis. "
        "The shared axis is the one direction nearest to all layers: at 1, a layer has that direction and no other.",
        layers.projections,
        lambda run: [run.proj_top1, run.residual_top1],
    ),
    "depth_profile": Figure(
        "Correlation by distance",
        "Mean Pearson r of the layers that stand so many layers apart. Level: they share as much at any distance; "
        "falling: the direction drifts with depth. The last points are means of few pairs.",
        layers.depth_profile,
        lambda run: run.statistics.depth_profile,
    ),
}
"""By name: the figures of a run, in the order of the page. One function and one line here add a figure."""
