"""What all figures have in common: colours, axes, hover, and how names get into them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from gammatorch.reports.text import printable

Spec = dict[str, Any]
"""A Plotly figure, or a part of one, as a dictionary."""

Matrix = Sequence[Sequence[float | None]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8579b", "#8a6d00", "#5c5c5c")
"""After Okabe and Ito: they differ for colour-blind readers too, and stand out on white. Pages lighten them on dark."""

DASHES = ("solid", "dash", "dot", "dashdot")

INK, MARK = "#3c3c3c", "#c4006a"
"""Of lines that mark something, and of what is out of the ordinary."""

BAND = "rgba(128,128,128,0.18)"

DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]]
"""Blue below 0, red above, 0 in the middle."""

_SMALLEST = 1e-12
"""Below it all that a matrix holds is 0 to rounding."""


def spec(data: list[Spec], x: str | Spec, y: str | Spec, **layout: Any) -> Spec:
    """A figure from its traces and the titles of its axes.

    Args:
        data: The traces.
        x: Title of the axis, in words with its unit, or the whole axis.
        y: The same.
        layout: What else the layout holds.
    """
    axes = {"xaxis": axis(x) if isinstance(x, str) else x, "yaxis": axis(y) if isinstance(y, str) else y}
    named = sum(trace.get("showlegend", True) and "name" in trace for trace in data) > 1
    look: Spec = {
        "height": 380,
        "margin": {"l": 60, "r": 20, "t": 34, "b": 95 if named else 50},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "yref": "container",
            "yanchor": "bottom",
            "y": 0,
            "x": 0,
        },
        "showlegend": named,
    }
    return {"data": data, "layout": {**look, **axes, **layout}}


def axis(title: str, **more: Any) -> Spec:
    """An axis with its title in words."""
    common = {"title": {"text": title}, "gridcolor": "#e5e5e5", "zerolinecolor": "#b8b8b8", "automargin": True}
    return {**common, **more}


def counted(title: str) -> Spec:
    """An axis of layers or whatever else is counted: its ticks are whole numbers."""
    return axis(title, tickformat="d", zeroline=False)


def curve(place: int, name: str, x: Sequence[Any], y: Sequence[float | None], hover: str, **more: Any) -> Spec:
    """One of several curves, with its colour and dashes.

    Args:
        place: Which of them it is.
        name: In words, for the legend.
        x: Layers or steps.
        y: The figures; None is a gap.
        hover: What is told of a point.
        more: What else the trace holds.
    """
    line = {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place // len(COLOURS) % len(DASHES)], "width": 2}
    mode = "lines+markers" if len(x) <= 160 else "lines"
    told = {"name": label(name), "x": list(x), "y": list(y), "hovertemplate": f"{hover}<extra>{label(name)}</extra>"}
    return {"type": "scatter", "mode": mode, "line": line, "marker": {"size": 5}, **told, **more}


def band(place: int, x: Sequence[Any], low: Sequence[float | None], high: Sequence[float | None]) -> list[Spec]:
    """The 95 % bounds of a curve as a band behind it, without hover and legend.

    Args:
        place: Which curve it is.
        x: As of the curve.
        low: Lower bounds.
        high: Upper bounds.
    """
    red, green, blue = bytes.fromhex(COLOURS[place % len(COLOURS)][1:])
    look = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.2)"}
    return [{**look, "x": list(x), "y": list(low)}, {**look, "x": list(x), "y": list(high), **fill}]


def heat_map(z: Matrix, x: Sequence[Any], y: Sequence[Any], name: str, bounds: tuple[float, float], hover: str) -> Spec:
    """A matrix as colours.

    Args:
        z: Its rows; None is a gap.
        x: Names of the columns.
        y: Names of the rows.
        name: What the values are.
        bounds: Ends of the colours; where the lower one is negative, colours diverge from 0.
        hover: What is told of a cell.
    """
    low, high = bounds
    bar = {"title": {"text": name, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    ends = {"zmin": low, "zmax": high, "colorscale": DIVERGING if low < 0 else "Viridis", "colorbar": bar}
    told = {"hovertemplate": f"{hover}<extra></extra>", "hoverongaps": False}
    return {"type": "heatmap", "z": [list(row) for row in z], "x": list(x), "y": list(y), **ends, **told}


def ends(values: Iterable[float]) -> tuple[float, float]:
    """Ends of the colours for some values; where these go below 0, so that 0 is in the middle.

    Example:
        >>> ends([0.25, 0.5]), ends([-0.25, 0.5]), ends([0.5, 0.5]), ends([])
        ((0.25, 0.5), (-0.5, 0.5), (0.0, 0.5), (0.0, 1.0))
    """
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if low < 0:
        return -max(-low, high), max(-low, high)
    if high - low < 1e-9 * max(high, 1e-9):  # all alike: one colour, at the end, since cosines of 1 have nothing above
        return 0.0, high if high >= _SMALLEST else 1.0
    return low, high


def label(text: str, longest: int = 40) -> str:
    """A name as it may stand in a figure: short, safe, and without the markup that Plotly reads in texts.

    Args:
        text: Any text.
        longest: Characters to keep.

    Example:
        >>> label("<b>attn\\u202e %{x}"), label("$x$")
        ('&lt;b&gt;attn\\\\u202e %\\u200b{x}', '$\\u200bx$')
    """
    safe = html.escape(printable(text, longest), quote=False)
    return safe.replace("%{", "%\u200b{").replace("$", "$\u200b", 1)  # no template, no mathematics
