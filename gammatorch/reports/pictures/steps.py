"""Curves over training steps, one a training run, and heat maps of layers over steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from gammatorch.reports.pictures.canvas import (
    MOST_LOOKS,
    WIDTH,
    canvas,
    curve_look,
    label,
    legend_below,
    log_upwards,
    numbers,
    whole_ticks,
)
from gammatorch.reports.pictures.matrices import colour_bar, ends, heat_map, named_rows
from gammatorch.results.comparison import letter
from gammatorch.results.sweep import Curve, CurvesDocument

_UNEVEN = 30.0
"""Times that the largest gap between steps is the smallest, from which the axis is logarithmic."""

_NAMED = 8
"""Curves up to which they are named; more than that have their letters alone, if they can be told apart at all."""

MOST_MAPS = 6
"""Training runs that have a heat map."""

_TALLEST_MAP, _TALLEST = 2.5, 9.5
"""Inches of one heat map, and of all: so much has room on a sheet of paper."""

RING: Mapping[str, Any] = {
    "marker": "o",
    "markersize": 8,
    "markerfacecolor": "none",
    "markeredgewidth": 1.3,
    "color": "#d00000",
    "linestyle": "none",
    "label": "anomaly",
}
"""How the items stand out that an anomaly names."""


def by_step(name: str, quantity: str, log: bool = False) -> Callable[[CurvesDocument], Figure]:
    """What draws one figure of the timeline over steps.

    Args:
        name: The figure's key in a curve.
        quantity: What it is, with its unit.
        log: Whether it goes over magnitudes.
    """
    return partial(_by_step, name=name, quantity=quantity, log=log)


def _by_step(document: CurvesDocument, *, name: str, quantity: str, log: bool) -> Figure:
    figure, axes = canvas()
    drawn = document.curves
    for place, curve in enumerate(drawn):
        named = _named(place, curve) if len(drawn) <= _NAMED else letter(place)
        axes.plot(curve.steps, numbers(getattr(curve, name)), label=named, **curve_look(place, len(curve.steps)))
    _ring(axes, document, name)
    _step_axis(axes, sorted({step for curve in drawn for step in curve.steps}))
    axes.set_ylabel(quantity)
    if log:
        log_upwards(axes)
    legend_below(figure, leave_out=0 if 1 < len(drawn) <= MOST_LOOKS else len(drawn))
    return figure


def _named(place: int, curve: Curve, longest: int = 22) -> str:
    """A training run by its letter, and the last part of its name that is the same for all its steps."""
    parts = [part for part in curve.run.partition("@")[0].split("/") if part and "*" not in part]
    return f"{letter(place)} {label(parts[-1] if parts else curve.run, longest)}"


def odd_items(document: CurvesDocument) -> set[str]:
    """Names of the items that an anomaly is about.

    Args:
        document: What is told of the sweep.
    """
    return {item for finding in document.anomalies for item in finding.items}


def _ring(axes: Axes, document: CurvesDocument, name: str) -> None:
    """A ring about the items that an anomaly names."""
    odd = odd_items(document)
    points = [
        (step, value)
        for curve in document.curves
        for item, step, value in zip(curve.item, curve.steps, getattr(curve, name), strict=True)
        if item in odd and value is not None
    ]
    if odd:
        axes.plot([step for step, _ in points], [value for _, value in points], **RING)


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
    """A logarithmic axis where steps lie closer at the beginning than later by far; 0 has a place on it."""
    gaps = [after - before for before, after in pairwise(steps)]
    if gaps and max(gaps) >= _UNEVEN * min(gaps):
        linear = next(step for step in steps if step > 0)
        axes.set_xscale("symlog", linthresh=linear, linscale=0.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(left=steps[0] - 0.15 * linear)  # the first dot is whole
    else:
        whole_ticks(axes.xaxis, 7)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training step")


def layers_by_step(document: CurvesDocument) -> Figure:
    """RMS γ of every layer over the items of each training run, one heat map a run."""
    mapped, odd = document.curves[:MOST_MAPS], odd_items(document)
    figure = Figure(figsize=(WIDTH, 0.5 + min(_TALLEST_MAP * len(mapped), _TALLEST)), layout="constrained")
    for place, curve in enumerate(mapped):
        axes = figure.add_subplot(len(mapped), 1, place + 1)
        across = [list(column) for column in zip(*curve.rms_by_layer, strict=True)]
        values = [value for row in across for value in row]
        usual = [sizes for item, sizes in zip(curve.item, curve.rms_by_layer, strict=True) if item not in odd]
        image = heat_map(axes, across, "RMS γ", ends([value for sizes in usual for value in sizes] or values))
        axes.set_aspect("auto")
        colour_bar(figure, image, axes, values)
        whole_ticks(axes.xaxis, 7)
        axes.xaxis.set_major_formatter(named_rows([EngFormatter(sep="")(step) for step in curve.steps]))
        whole_ticks(axes.yaxis, 6)
        axes.yaxis.set_major_formatter(named_rows([str(layer) for layer in curve.layers]))
        axes.set_ylabel("layer")
        if place == len(mapped) - 1:
            axes.set_xlabel("training step, item by item")
        if len(mapped) > 1:
            axes.set_title(_named(place, curve, 45), fontsize=9, loc="left")
    return figure
