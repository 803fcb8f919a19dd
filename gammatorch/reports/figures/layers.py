"""Figures over the layers of one model: curves over depth, and matrices between layers."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

from gammatorch.reports.figures.look import (
    BAND,
    COLOURS,
    DASHES,
    INK,
    MARK,
    Matrix,
    Spec,
    axis,
    counted,
    curve,
    ends,
    heat_map,
    label,
    spec,
)
from gammatorch.results.run import RunDocument
from gammatorch.results.statistics import CURVES

MOST_AXES = 64
"""Principal axes that are drawn; the rest explain next to nothing."""


def cosine(document: RunDocument) -> Spec:
    """Cosines between the gains of every pair of layers."""
    return _between_layers(document, document.cosine, "cosine")


def rank_correlation(document: RunDocument) -> Spec:
    """Correlations between the normal scores of every pair of layers."""
    return _between_layers(document, document.statistics.rank_correlation or [], "rank r")


def pearson(document: RunDocument) -> Spec:
    """Correlations between the gains of every pair of layers."""
    return _between_layers(document, document.statistics.pearson, "Pearson r")


def _between_layers(document: RunDocument, values: Matrix, name: str) -> Spec:
    layers, odd = document.layers, set(document.statistics.odd_layers or ())
    rows = range(len(layers))
    usual = [row for row in rows if layers[row] not in odd]
    pairs = [values[i][j] for i in usual for j in usual if i != j] or [
        values[i][j] for i in rows for j in rows if i != j
    ]
    bounds = ends(value for value in pairs if value is not None)
    hover = f"layer %{{y}} and layer %{{x}}<br>{name} %{{z:.4f}}"
    names = [str(layer) for layer in layers]
    drawn = [heat_map(values, names, names, name, bounds, hover)]
    if odd:
        drawn += [_outlier_marks(document)]
    square = {"constrain": "domain", "type": "category", "showgrid": False, "zeroline": False, "nticks": 12}
    down = axis("layer", autorange="reversed", scaleanchor="x", **square)
    return spec(drawn, axis("layer", **square), down, height=460, shapes=_boxes(document), showlegend=False)


def _outlier_marks(document: RunDocument) -> Spec:
    """Outlier layers, marked on the diagonal."""
    odd = [str(layer) for layer in document.statistics.odd_layers or ()]
    marker = {"symbol": "x-thin", "size": 9, "line": {"color": MARK, "width": 2}}
    hover = "layer %{x} is an outlier layer<extra></extra>"
    return {"type": "scatter", "mode": "markers", "x": odd, "y": odd, "marker": marker, "hovertemplate": hover}


def _boxes(document: RunDocument) -> list[Spec]:
    """Phases as boxes along the diagonal; white under black shows on any colour."""
    found = []
    for phase in document.phases:
        first, last = (bisect_left(document.layers, end) for end in (phase.first, phase.last))
        corner, end = first - 0.5, last + 0.5
        for colour, width in (("#fefefe", 4), ("#010101", 1.5)):
            line = {"color": colour, "width": width}
            found.append({"type": "rect", "x0": corner, "x1": end, "y0": corner, "y1": end, "line": line})
    return found


def _over_layers(document: RunDocument, data: list[Spec], title: str | Spec) -> Spec:
    """Curves over depth, every other phase shaded and the wide ones named."""
    shapes, notes = [], []
    span = document.layers[-1] - document.layers[0] + 1
    for place, phase in enumerate(document.phases):
        bounds = {"x0": phase.first - 0.5, "x1": phase.last + 0.5}
        if place % 2 == 0:
            look = {"fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
            shapes.append({"type": "rect", "yref": "paper", "y0": 0, "y1": 1, **bounds, **look})
        if room := int(40 * (phase.last - phase.first + 1) / span):
            middle = {"x": (phase.first + phase.last) / 2, "y": 1.0, "yref": "paper", "yanchor": "top"}
            notes.append({"text": label(phase.name, max(room, 4)), "showarrow": False, "font": {"size": 11}, **middle})
    return spec(data, counted("layer"), title, shapes=shapes, annotations=notes)


def norms(document: RunDocument) -> Spec:
    """Length of the gain of each layer."""
    drawn = curve(0, "length", document.layers, document.norms, "layer %{x}<br>‖γ‖ %{y:.4g}")
    return _over_layers(document, [drawn], "length ‖γ‖")


def projections(document: RunDocument) -> Spec:
    """Projection of each direction on the original's axis, what is left of it, and on the shared direction."""
    named = {
        "on the first principal axis": document.proj_top1,
        "off the first principal axis": document.residual_top1,
        "on the shared direction": document.statistics.shared_projection,
        "on the vector of ones": document.statistics.cos_ones,
    }
    hover = "layer %{x}<br>projection %{y:.4f}"
    drawn = [curve(place, name, document.layers, y, hover) for place, (name, y) in enumerate(named.items()) if y]
    return _over_layers(document, drawn, axis("projection of the unit direction", range=[-1.08, 1.08]))


def rms(document: RunDocument) -> Spec:
    """RMS γ of each layer, and the schedules that were fitted to it, lowest AICc first."""
    layers, root = document.layers, math.sqrt(document.hidden)
    sizes = [None if norm is None else norm / root for norm in document.norms]
    drawn = [curve(0, "RMS γ", layers, sizes, "layer %{x}<br>RMS γ %{y:.4g}", mode="markers")]
    fits = document.statistics.schedules or {}
    best = min(fits, key=lambda name: float(fits[name].aicc), default="")
    for place, name in enumerate(sorted(fits, key=lambda name: float(fits[name].aicc))):
        if name in CURVES:
            more = fits[name].aicc - fits[best].aicc
            word = {"none": "constant"}.get(name, name)
            told = f"{word} ({'chosen' if fits[best].chosen else 'lowest AICc'})" if name == best else word
            course = [CURVES[name](fits[name].parameters, layer - layers[0] + 1) for layer in layers]
            line = {"color": COLOURS[1 + place % 5], "dash": DASHES[place % 4], "width": 2.5 if name == best else 1.3}
            hover = f"layer %{{x}}<br>{told} %{{y:.4g}}<br>AICc {more:+.1f} above the lowest"
            drawn.append(curve(0, told, layers, course, hover, mode="lines", line=line))
    usual = [size for size in sizes if size is not None] or [0.0]
    margin = 0.2 * ((max(usual) - min(usual)) or max(abs(usual[0]), 1.0))
    return _over_layers(document, drawn, axis("RMS γ = ‖γ‖/√H", range=[min(usual) - margin, max(usual) + margin]))


def scree(document: RunDocument) -> Spec:
    """Share of each principal axis in the variance of the directions, and what the leading ones share together."""
    shares = list(document.explained_var or [])[:MOST_AXES]
    places = list(range(1, len(shares) + 1))
    bars = {
        **{"type": "bar", "x": places, "y": shares, "name": "this axis", "marker": {"color": COLOURS[0]}},
        "hovertemplate": "axis %{x}<br>share %{y:.4f}<extra></extra>",
    }
    whole = list(accumulate(share or 0.0 for share in shares))
    drawn = [bars, curve(1, "this axis and those before", places, whole, "up to axis %{x}<br>share %{y:.4f}")]
    first = document.statistics.first_eigenvalue
    found = document.statistics.shared_directions
    told = ""
    if first.value is not None and first.null_95 is not None:
        more = "" if found is None else f"; {found} above chance"
        told = (
            f"first eigenvalue of<br>rank correlations {first.value:.3g},<br>by chance up to {first.null_95:.3g}{more}"
        )
    note = {
        "text": told,
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 1,
        "y": 0.5,
        "xanchor": "right",
        "font": {"size": 11},
    }
    title = axis("share of the variance", range=[0, 1.04])
    return spec(drawn, counted("principal axis"), title, annotations=[note] if told else [])


def depth_profile(document: RunDocument) -> Spec:
    """Mean correlation of layers that stand so many layers apart, beside the all pairs, chance, near and far."""
    found = document.statistics
    profile, mean = found.depth_profile, found.mean_pearson
    lags = list(range(1, len(profile) + 1))
    drawn = [curve(0, "mean at this distance", lags, profile, "%{x} layers apart<br>mean Pearson r %{y:.4f}")]
    lines = {"mean over all pairs": mean.value, "near": found.depth_contrast.near, "far": found.depth_contrast.far}
    for place, (name, value) in enumerate(lines.items(), 1):
        if value is not None and lags:
            ends_ = [0.5, len(lags) + 0.5]
            look = {"mode": "lines", "line": {"color": COLOURS[place], "dash": DASHES[place], "width": 1.5}}
            drawn.append(curve(place, name, ends_, [value, value], f"{name} %{{y:.4f}}", **look))
    shapes = []
    if mean.null_95 is not None:
        across = {"xref": "paper", "x0": 0, "x1": 1, "y0": -mean.null_95, "y1": mean.null_95}
        shapes.append({"type": "rect", **across, "fillcolor": BAND, "line": {"width": 0}, "layer": "below"})
        hint = {"text": "chance", "showarrow": False, "xref": "paper", "x": 1, "xanchor": "right", "y": mean.null_95}
        return spec(
            drawn,
            counted("distance in layers"),
            "mean Pearson r",
            shapes=shapes,
            annotations=[{**hint, "yanchor": "bottom", "font": {"size": 11, "color": INK}}],
        )
    return spec(drawn, counted("distance in layers"), "mean Pearson r")
