"""Curves over the layers: lengths, projections, and the schedules that fit the size of γ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import COLOURS, MARKED, canvas, label, legend_below, numbers, whole_ticks
from gammatorch.reports.pictures.phases import shade_phases
from gammatorch.results.run import RunDocument
from gammatorch.results.statistics import CURVES, Schedule


def norms(document: RunDocument) -> Figure:
    """Length of the gain of each layer."""
    figure, axes = _over_layers(document)
    _curve(axes, document, document.norms, "‖γ‖")
    axes.set_ylabel("‖γ‖")
    return figure


def projections(document: RunDocument) -> Figure:
    """Projection of each direction on the first principal axis, what is left of it, and the shared direction's."""
    figure, axes = _over_layers(document)
    axes.axhline(0, color="0.6", linewidth=0.8)
    _curve(axes, document, document.proj_top1, "proj_top1, on PC0")
    _curve(axes, document, document.residual_top1, "residual_top1")
    shared = document.statistics.shared_projection
    if shared is not None:
        axes.plot(document.layers, numbers(shared), "--", label="on the shared axis")
    axes.set_ylabel("projection of the direction")
    axes.set_ylim(-1.08, 1.08)
    legend_below(figure)
    return figure


def rms(document: RunDocument) -> Figure:
    """RMS γ of each layer, and the schedules that were fitted to it, lowest AICc first."""
    figure, axes = _over_layers(document)
    layers, root = document.layers, math.sqrt(document.hidden)
    size = [None if norm is None else norm / root for norm in document.norms]
    dots = 2.8 if len(layers) <= MARKED else 1.0
    axes.plot(layers, numbers(size), "o", color="0.45", label="RMS γ", markersize=dots)
    axes.margins(y=0.2)
    axes.set_ylim(axes.get_ylim())  # a schedule that fits badly may leave the picture
    _draw_schedules(axes, layers, document.statistics.schedules or {})
    axes.set_ylabel("RMS γ = ‖γ‖/√H")
    legend_below(figure)
    return figure


_DASHES = ("--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


def _draw_schedules(axes: Axes, layers: Sequence[int], fits: Mapping[str, Schedule]) -> None:
    best, *others = sorted(fits, key=lambda name: float(fits[name].aicc))
    said = {best: f"{best}, {'chosen' if fits[best].chosen else 'lowest AICc'}"}
    said |= {name: f"{name}, +{fits[name].aicc - fits[best].aicc:.1f}" for name in others}
    dashes = cycle(_DASHES)
    for place, name in enumerate(said):
        if name in CURVES:
            look: dict[str, Any] = {"linewidth": 1.8} if name == best else {"linewidth": 1.1, "linestyle": next(dashes)}
            course = [CURVES[name](fits[name].parameters, layer - layers[0] + 1) for layer in layers]
            axes.plot(layers, course, color=COLOURS[place % len(COLOURS)], label=label(said[name], 40), **look)


def _over_layers(document: RunDocument) -> tuple[Figure, Axes]:
    figure, axes = canvas()
    shade_phases(axes, document.phases, document.layers)
    whole_ticks(axes.xaxis, 9)
    axes.set_xlabel("layer")
    return figure, axes


def _curve(axes: Axes, document: RunDocument, values: list[float | None] | None, name: str) -> None:
    if values is None:
        return
    marker = "o" if len(values) <= MARKED else ""
    axes.plot(document.layers, numbers(values), marker=marker, label=name)
