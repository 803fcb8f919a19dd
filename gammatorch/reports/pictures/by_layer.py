"""Curves over the layers: lengths, projections, and the schedules that fit the size of γ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gammatorch.reports.courses import COURSES
from gammatorch.reports.pictures.canvas import COLOURS, MARKED, canvas, label, legend_below, numbers
from gammatorch.reports.pictures.phases import shade_phases


def norms(document: Mapping[str, Any]) -> Figure:
    """Length of the gain of each layer."""
    figure, axes = _over_layers(document)
    _curve(axes, document, document["norms"], "‖γ‖")
    axes.set_ylabel("‖γ‖")
    return figure


def projections(document: Mapping[str, Any]) -> Figure:
    """Projection of each direction on the first principal axis, what is left of it, and the shared direction's."""
    figure, axes = _over_layers(document)
    axes.axhline(0, color="0.6", linewidth=0.8)
    _curve(axes, document, document["proj_top1"], "proj_top1, on PC0")
    _curve(axes, document, document["residual_top1"], "residual_top1")
    shared = document["statistics"]["shared_projection"]
    if shared is not None:
        axes.plot(document["layers"], numbers(shared), "--", label="on the shared axis")
    axes.set_ylabel("projection of the direction")
    axes.set_ylim(-1.08, 1.08)
    legend_below(figure)
    return figure


def rms(document: Mapping[str, Any]) -> Figure:
    """RMS γ of each layer, and the schedules that were fitted to it, best first."""
    figure, axes = _over_layers(document)
    layers, root = document["layers"], math.sqrt(document["hidden"])
    size = [None if norm is None else norm / root for norm in document["norms"]]
    dots = {"markersize": 2.8 if len(layers) <= MARKED else 1.0}
    axes.plot(layers, numbers(size), "o", color="0.45", label="RMS γ", **dots)
    axes.margins(y=0.2)
    axes.set_ylim(axes.get_ylim())  # a schedule that fits badly may leave the picture
    steps = [layer - layers[0] + 1 for layer in layers]
    fits = document["statistics"]["schedules"]
    best = min(fit["aicc"] for fit in fits.values())
    for place, (name, fit) in enumerate(fits.items()):
        if name in COURSES:
            said = f"{name}, best AICc" if fit["aicc"] == best else f"{name}, +{fit['aicc'] - best:.1f}"
            look: dict[str, Any] = {"linewidth": 1.8} if place == 0 else {"linewidth": 1.0, "linestyle": "--"}
            course = [COURSES[name](fit["parameters"], step) for step in steps]
            axes.plot(layers, course, color=COLOURS[place % len(COLOURS)], label=label(said, 40), **look)
    axes.set_ylabel("RMS γ = ‖γ‖/√H")
    legend_below(figure)
    return figure


def _over_layers(document: Mapping[str, Any]) -> tuple[Figure, Axes]:
    figure, axes = canvas()
    shade_phases(axes, document["phases"], document["layers"])
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("layer")
    return figure, axes


def _curve(axes: Axes, document: Mapping[str, Any], values: list[float | None] | None, name: str) -> None:
    if values is None:
        return
    marker = "o" if len(values) <= MARKED else ""
    axes.plot(document["layers"], numbers(values), marker=marker, label=name)
