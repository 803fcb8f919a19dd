"""Figures over the items of a sweep: curves over training steps, heat maps of layers over steps, items without one."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

from gammatorch.reports.figures.look import MARK, Spec, axis, counted, curve, ends, heat_map, label, spec
from gammatorch.results.comparison import letter
from gammatorch.results.sweep import Curve, CurvesDocument

_UNEVEN = 30.0
"""Times that the largest gap between steps is the smallest, from which the axis is logarithmic."""

MOST_MAPS = 6
"""Training runs that have a heat map."""

_RING = {"symbol": "circle-open", "size": 13, "color": MARK, "line": {"width": 2}}


def by_step(name: str, quantity: str, log: bool = False) -> Callable[[CurvesDocument], Spec]:
    """What draws one figure of the timeline over steps.

    Args:
        name: The figure's key in a curve.
        quantity: What it is, with its unit.
        log: Whether it goes over magnitudes.
    """
    return partial(_by_step, name=name, quantity=quantity, log=log)


def _by_step(document: CurvesDocument, *, name: str, quantity: str, log: bool) -> Spec:
    hover = f"step %{{x}}<br>{quantity} %{{y:.4g}}"
    drawn = [
        curve(place, named(place, one), one.steps, [value or None for value in found] if log else found, hover)
        for place, one in enumerate(document.curves)
        for found in [getattr(one, name)]
    ]
    if ring := _rings(document, name):
        drawn.append(ring)
    up = axis(quantity, **({"type": "log", "exponentformat": "power", "dtick": "D2"} if log else {}))
    return spec(drawn, _step_axis(document), up)


def named(place: int, one: Curve, longest: int = 24) -> str:
    """A training run by its letter, and the last part of its name that is the same for all its steps.

    Args:
        place: Which run it is.
        one: The run.
        longest: Characters to keep.
    """
    parts = [part for part in one.run.partition("@")[0].split("/") if part and "*" not in part]
    return f"{letter(place)} {(parts[-1] if parts else one.run)[:longest]}"


def odd_items(document: CurvesDocument) -> dict[str, str]:
    """What is said of the items that an anomaly names, by item.

    Args:
        document: What is told of the sweep.
    """
    return {item: f"{finding.kind}: {finding.text}" for finding in document.anomalies for item in finding.items}


def _rings(document: CurvesDocument, name: str) -> Spec | None:
    """A ring about the items that an anomaly names, which tells it on hover."""
    odd = odd_items(document)
    points = [
        (step, value, label(odd[item], 80))
        for one in document.curves
        for item, step, value in zip(one.item, one.steps, getattr(one, name), strict=True)
        if item in odd and value is not None
    ]
    if not points:
        return None
    x, y, told = map(list, zip(*points, strict=True))
    hover = "step %{x}<br>%{text}<extra>anomaly</extra>"
    look = {"type": "scatter", "mode": "markers", "marker": _RING, "name": "anomaly", "hovertemplate": hover}
    return {**look, "x": x, "y": y, "text": told}


def _step_axis(document: CurvesDocument) -> Spec:
    """A logarithmic axis where steps lie closer at the beginning than later by far; step 0 is left out of it."""
    steps = sorted({step for one in document.curves for step in one.steps})
    gaps = [after - before for before, after in pairwise(steps)]
    if gaps and max(gaps) >= _UNEVEN * min(gaps):
        return axis("training step (logarithmic, without step 0)", type="log", exponentformat="power")
    return axis("training step", exponentformat="SI")


def layers_by_step(document: CurvesDocument) -> Spec:
    """RMS γ of every layer over the items of each training run, one heat map a run."""
    runs, odd = document.curves[:MOST_MAPS], odd_items(document)
    drawn: list[Spec] = []
    layout: Spec = {"height": 120 + 230 * len(runs), "showlegend": False, "annotations": []}
    for place, one in enumerate(runs):
        number = "" if place == 0 else str(place + 1)
        on = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        usual = [sizes for item, sizes in zip(one.item, one.rms_by_layer, strict=True) if item not in odd]
        bounds = ends(value for sizes in usual or one.rms_by_layer for value in sizes)
        steps, across = _unique(one.steps), [list(row) for row in zip(*one.rms_by_layer, strict=True)]
        image = heat_map(across, steps, one.layers, "RMS γ", bounds, "step %{x}, layer %{y}<br>RMS γ %{z:.4g}")
        bottom, top = 1 - (place + 0.82) / len(runs), 1 - place / len(runs) - 0.02
        image["colorbar"] |= {"len": top - bottom, "y": (top + bottom) / 2}
        marked = [step for item, step in zip(one.item, steps, strict=True) if item in odd]
        drawn.append({**image, **on})
        if marked:
            marker = {"symbol": "triangle-down", "size": 9, "color": MARK}
            told = [label(odd[item], 80) for item in one.item if item in odd]
            rows = [one.layers[-1] + 0.9] * len(marked)
            hover = {"text": told, "hovertemplate": "step %{x}<br>%{text}<extra></extra>"}
            drawn.append(
                {"type": "scatter", "mode": "markers", "x": marked, "y": rows, "marker": marker, **hover, **on}
            )
        category = {"type": "category", "nticks": 8, "showgrid": False, "anchor": f"y{number}"}
        title = "training step, item by item" if place == len(runs) - 1 else ""
        layout[f"xaxis{number}"] = axis(title, **category)
        layout[f"yaxis{number}"] = axis("layer", domain=[bottom, top], anchor=f"x{number}", zeroline=False)
        if len(runs) > 1:
            where = {"x": 0, "y": top, "xref": "paper", "yref": "paper", "yanchor": "bottom", "showarrow": False}
            layout["annotations"].append({"text": label(named(place, one, 45)), **where})
    return spec(drawn, layout.pop("xaxis"), layout.pop("yaxis"), **layout)


def matrices_by_step(one: Curve, matrices: Mapping[str, bytes]) -> Spec | None:
    """Correlations between the layers of a run at its last step, with those of the other steps for a slider.

    Args:
        one: The run.
        matrices: By item, 32-bit floats row by row.

    Returns:
        The figure, whose ``meta`` holds the matrices one after the other; None where there are none.
    """
    side = len(one.layers)
    rows = [row for row, item in enumerate(one.item) if len(matrices.get(item, b"")) == 4 * side * side]
    every = 1 + len(rows) * 4 * side * side // _MOST_BYTES
    kept = rows[:1] if len(rows) == 1 else sorted({*rows[::every], *rows[-1:]})
    if not kept or side < 2:
        return None
    names, steps = [str(layer) for layer in one.layers], _unique(one.steps)
    blank = [[None] * side for _ in one.layers]
    packed = b"".join(matrices[one.item[row]] for row in kept)
    low = min((value for value in array("f", packed) if value == value), default=0.0)  # NaN is undefined
    bounds = (-1.0, 1.0) if low < 0 else (low, 1.0)
    image = heat_map(blank, names, names, "rank r", bounds, "layer %{y} and layer %{x}<br>rank r %{z:.3f}")
    look = {"type": "category", "constrain": "domain", "showgrid": False, "nticks": 12}
    stack = b64encode(packed).decode("ascii")
    meta = {"stack": stack, "steps": [steps[row] for row in kept], "side": side}
    down = axis("layer", autorange="reversed", scaleanchor="x", **look)
    return spec([image], axis("layer", **look), down, height=460, meta=meta)


_MOST_BYTES = 8_000_000
"""Of the matrices of one run; more would make the page heavy."""


def _unique(steps: list[int]) -> list[str]:
    """Steps as names of columns, of which no two are the same."""
    seen: dict[int, int] = {}
    names = []
    for step in steps:
        seen[step] = seen.get(step, 0) + 1
        names.append(str(step) if seen[step] == 1 else f"{step} ({seen[step]})")
    return names


def by_item(document: CurvesDocument) -> Spec:
    """RMS γ, shared energy and participation ratio of every item without a step, in order from above."""
    found, odd = document.unordered, odd_items(document)
    rows = list(range(1, len(found.item) + 1))
    panels = {"rms_gamma": "RMS γ", "shared_energy": "shared energy", "effective_dimension": "participation ratio"}
    drawn: list[Spec] = []
    layout: Spec = {"height": 160 + 22 * min(len(rows), 40), "showlegend": False}
    for place, (name, title) in enumerate(panels.items()):
        number = "" if place == 0 else str(place + 1)
        hover = f"%{{text}}<br>{title} %{{x:.4g}}"
        line = {"size": 8, "symbol": ["diamond-open" if item in odd else "circle" for item in found.item]}
        names = [label(item) for item in found.item]
        more = {"text": names, "mode": "markers", "marker": line, "xaxis": f"x{number}"}
        drawn.append(curve(place, title, getattr(found, name), rows, hover, **more))
        span = [place / 3 + 0.03, (place + 1) / 3 - 0.03]
        layout[f"xaxis{number}"] = axis(
            title.replace(" ", "<br>"), domain=span, nticks=4
        )  # on two lines, since panels are narrow
    down = counted("item") | {"autorange": "reversed"}
    if len(rows) <= 40:
        short = [label(item.rpartition("/")[2] or item, 20) for item in found.item]
        down |= {"tickvals": rows, "ticktext": short, "title": {"text": ""}}
    return spec(drawn, layout.pop("xaxis"), down, **layout)
