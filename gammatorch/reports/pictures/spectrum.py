"""Curves over something else than layers: principal axes, and the distance between layers."""

from __future__ import annotations

from itertools import accumulate

from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import COLOURS, MARKED, canvas, legend_below, numbers, whole_ticks
from gammatorch.results.run import RunDocument

MOST_AXES = 64
"""Principal axes that are drawn; the rest explain next to nothing."""


def scree(document: RunDocument) -> Figure:
    """Share of each principal axis in the variance of the directions, and what the leading ones share together."""
    shares = numbers(document.explained_var or [])[:MOST_AXES]
    figure, axes = canvas()
    places = range(len(shares))
    axes.bar(places, shares, width=0.8, color=COLOURS[0], label="explained_var")
    axes.plot(places, list(accumulate(shares)), "o-", color=COLOURS[1], label="cumulative")
    whole_ticks(axes.xaxis, 9)
    axes.set_xlabel("principal axis (0: PC0)")
    axes.set_ylabel("share of the variance")
    axes.set_ylim(0, 1.04)
    legend_below(figure)
    return figure


def depth_profile(document: RunDocument) -> Figure:
    """Mean correlation of layers that stand so many layers apart, beside the mean over all pairs and chance."""
    found = document.statistics
    profile, mean = found.depth_profile, found.mean_pearson
    figure, axes = canvas()
    if mean.null_95 is not None:
        axes.axhspan(-mean.null_95, mean.null_95, color="0.8", linewidth=0, label="chance for the mean")
    if mean.value is not None:
        axes.axhline(mean.value, color=COLOURS[1], linewidth=1, label="mean over all pairs")
    if mean.low is not None and mean.high is not None:
        axes.axhspan(mean.low, mean.high, color=COLOURS[1], alpha=0.2, linewidth=0)
    marker = "o" if len(profile) <= MARKED else ""
    axes.plot(range(1, len(profile) + 1), numbers(profile), marker=marker, color=COLOURS[0], label="mean at this lag")
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0.5)
    whole_ticks(axes.xaxis, 9)
    axes.set_xlabel("lag: layers apart")
    axes.set_ylabel("mean Pearson r")
    legend_below(figure)
    return figure
