"""Figures of the gains themselves, which result files do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from gammatorch.reports.figures.figure import Figure
from gammatorch.reports.figures.look import MARK, Spec, axis, counted, curve, ends, heat_map, spec
from gammatorch.results.documents import GainsDocument
from gammatorch.results.statistics import Outliers

_QUANTILES = {"largest": 1.0, "95 %": 0.95, "median": 0.5, "5 %": 0.05, "smallest": 0.0}

_FAR = 5.0
"""Times the median that the largest gain is, from which the axis of a distribution is logarithmic."""

_MOST_MASSIVE = 40
"""Massive channels that are drawn."""


@dataclass(frozen=True)
class GainsOf:
    """Gains, and the massive channels that an analysis found in them.

    Attributes:
        gains: The gains.
        massive: The channels; None without an analysis.
    """

    gains: GainsDocument
    massive: Outliers | None = None


def gamma(of: GainsOf) -> Spec:
    """γ itself, layer × channel; the channels in their order or by size, the massive ones marked."""
    rows, layers = of.gains.gamma, of.gains.layers
    channels = list(range(of.gains.hidden))
    size = [sum((row[channel] or 0.0) ** 2 for row in rows) for channel in channels]
    names = [str(channel) for channel in channels]
    ordered = [names[channel] for channel in sorted(channels, key=lambda channel: -size[channel])]
    values = sorted(value for row in rows for value in row if value is not None)
    cut = len(values) // 200
    bounds = ends(values[cut : len(values) - cut] or values)
    drawn = [heat_map(rows, names, layers, "γ", bounds, "layer %{y}, channel %{x}<br>γ %{z:.4g}")]
    if of.massive and of.massive.channels:
        drawn.append(_massive_marks(of.massive, layers[-1] + 1))
    across = axis("channel", type="category", categoryorder="array", categoryarray=names, nticks=9, showgrid=False)
    buttons = [
        {"label": told, "method": "relayout", "args": [{"xaxis.categoryarray": order}]}
        for told, order in (("channels in order", names), ("largest channels first", ordered))
    ]
    menu = {"type": "buttons", "direction": "right", "x": 0, "y": 1.18, "xanchor": "left", "showactive": False}
    menu |= {"buttons": buttons, "bgcolor": "#f2f2f2", "font": {"color": "#3c3c3c", "size": 12}}
    look = {"updatemenus": [menu], "height": 460, "showlegend": False, "margin": {"l": 60, "r": 20, "t": 70, "b": 50}}
    return spec(drawn, across, axis("layer", tickformat="d", zeroline=False, showgrid=False), **look)


def _massive_marks(massive: Outliers, above: int) -> Spec:
    channels = [str(channel) for channel in massive.channels or ()]
    counts = massive.layers or [0] * len(channels)
    told = [f"massive in {count} layer{'' if count == 1 else 's'}" for count in counts]
    look = {"type": "scatter", "mode": "markers", "marker": {"symbol": "triangle-down", "size": 9, "color": MARK}}
    hover = "channel %{x}, %{text}<extra></extra>"
    return {**look, "x": channels, "y": [above] * len(channels), "text": told, "hovertemplate": hover}


def distribution(of: GainsOf) -> Spec:
    """Quantiles of γ over the channels of each layer."""
    ordered = [sorted(value for value in row if value is not None) for row in of.gains.gamma]
    drawn = []
    for place, (name, share) in enumerate(_QUANTILES.items()):
        values = [row[round(share * (len(row) - 1))] if row else None for row in ordered]
        drawn.append(curve(place, name, of.gains.layers, values, "layer %{x}<br>γ %{y:.4g}"))
    flat = [value for row in ordered for value in row]
    title = "γ over the channels of a layer"
    wide = min(flat, default=0.0) > 0 and max(flat) > _FAR * median(flat)
    return spec(drawn, counted("layer"), axis(title, type="log") if wide else title)


def massive(of: GainsOf) -> Spec:
    """Massive channels × layers, in units of the median size of the layer's gains."""
    found = (of.massive.channels or []) if of.massive else []
    channels = found[:_MOST_MASSIVE]
    middle = [median(abs(value or 0.0) for value in row) or 1.0 for row in of.gains.gamma]
    values = [
        [abs(row[channel] or 0.0) / usual for row, usual in zip(of.gains.gamma, middle, strict=True)]
        for channel in channels
    ]
    names = [str(channel) for channel in channels]
    hover = "channel %{y}, layer %{x}<br>%{z:.3g} times the median"
    flat = [value for row in values for value in row]
    image = heat_map(values, of.gains.layers, names, "times the median", ends(flat), hover)
    down = axis("channel", type="category", autorange="reversed", showgrid=False)
    return spec([image], counted("layer"), down, height=max(240, 140 + 20 * len(names)))


FIGURES: Mapping[str, Figure[GainsOf]] = {
    "gamma": Figure(
        "γ of every layer and channel",
        "The gain itself, layers up and channels across; colours leave out half a percent of the values at either end. "
        "The buttons sort channels by their size over all layers. A vertical stripe is a channel that all layers treat "
        "alike; triangles are massive channels.",
        gamma,
        lambda of: of.gains.gamma,
    ),
    "distribution": Figure(
        "Distribution of γ by layer",
        "Quantiles of the gain over the channels of each layer. Where the outer curves part from the inner ones, few "
        "channels have gains unlike all others.",
        distribution,
        lambda of: of.gains.gamma,
    ),
    "massive": Figure(
        "Massive channels by layer",
        "Size of the gain of massive channels in each layer, in units of the layer's median; at most 40 channels.",
        massive,
        lambda of: list((of.massive.channels or []) if of.massive else []),
    ),
}
"""By name: the figures of gains. One function and one line here add a figure."""
