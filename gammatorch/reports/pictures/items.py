"""Figures of items that are steps of no training run, item by item."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gammatorch.reports.pictures.canvas import COLOURS, WIDTH, label, numbers, whole_ticks
from gammatorch.reports.pictures.matrices import named_rows
from gammatorch.reports.pictures.steps import RING, odd_items
from gammatorch.results.sweep import CurvesDocument

_NAMED, _LONGEST = 40, 26
"""Items up to which each is named, and letters of a name."""

_PANELS = {"rms_gamma": "RMS γ", "shared_energy": "shared energy", "effective_dimension": "participation ratio"}


def by_item(document: CurvesDocument) -> Figure:
    """RMS γ, shared energy and participation ratio of every item without a step, in order from above."""
    curve, odd = document.unordered, odd_items(document)
    count = len(curve.item)
    rows = [row for row, item in enumerate(curve.item) if item in odd]
    named = count <= _NAMED
    figure = Figure(figsize=(WIDTH, 1.4 + 0.2 * min(count, _NAMED)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True, squeeze=False)[0]
    for place, (axes, (name, title)) in enumerate(zip(panels, _PANELS.items(), strict=True)):
        values = numbers(getattr(curve, name))
        axes.plot(values, range(count), "o", color=COLOURS[place], markersize=4, label=title)
        if rows:
            axes.plot([values[row] for row in rows], rows, **RING)
        axes.set_xlabel(title.replace(" ", "\n"))  # on two lines, since panels are narrow
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.margins(x=0.12)
    first = panels[0]
    first.set_ylim(count - 0.5, -0.5)
    names = [label(item.rpartition("/")[2] or item, _LONGEST) for item in curve.item] if named else []
    whole_ticks(first.yaxis, 8)
    if named:
        first.set_yticks(range(count))
        first.yaxis.set_major_formatter(named_rows(names))
    else:
        first.set_ylabel("item")
    return figure
