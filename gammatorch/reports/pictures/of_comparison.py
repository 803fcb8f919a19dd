"""The pictures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from matplotlib.figure import Figure

from gammatorch.reports.pictures.canvas import canvas, curve_look, legend_below, log_upwards, numbers, whole_ticks
from gammatorch.reports.pictures.matrices import colour_bar, heat_map, limits, named_rows, pairs
from gammatorch.reports.pictures.picture import Picture
from gammatorch.results.comparison import ComparisonDocument, letter

_WRITTEN = 8
"""Checkpoints up to which numbers stand in the cells of a matrix."""


def mean_pearson(document: ComparisonDocument) -> Figure:
    """Mean correlation of every pair of checkpoints."""
    return _between_models(document, "mean_pearson", "mean Pearson r", "{:z.2f}")


def mean_rank_correlation(document: ComparisonDocument) -> Figure:
    """Mean rank correlation of every pair of checkpoints."""
    return _between_models(document, "mean_rank_correlation", "mean rank r", "{:z.2f}")


def total_drift(document: ComparisonDocument) -> Figure:
    """Drift between every pair of checkpoints, all layers together."""
    return _between_models(document, "total_drift", "‖Δ‖/‖γ‖", "{:.2g}")


def pearson(document: ComparisonDocument) -> Figure:
    """Correlation of each layer with the same layer of the first checkpoint."""
    figure = _against_first(document, "pearson")
    figure.axes[0].set_ylabel("Pearson r with A")
    return figure


def rank_correlation(document: ComparisonDocument) -> Figure:
    """Rank correlation of each layer with its counterpart in the first checkpoint."""
    figure = _against_first(document, "rank_correlation")
    figure.axes[0].set_ylabel("rank r with A")
    return figure


def drift(document: ComparisonDocument) -> Figure:
    """Drift of each layer from the same layer of the first checkpoint."""
    figure = _against_first(document, "drift")
    axes = figure.axes[0]
    log_upwards(axes)
    axes.set_ylabel("drift ‖Δ‖/‖γ‖ from A")
    return figure


def _between_models(document: ComparisonDocument, name: str, quantity: str, form: str) -> Figure:
    count = len(document.models)
    values: list[list[float | None]] = [[None] * count for _ in range(count)]
    for (one, other), pair in zip(combinations(range(count), 2), document.pairs, strict=True):
        values[one][other] = values[other][one] = getattr(pair, name).value
    figure, axes = canvas(height=3.4)
    image = heat_map(axes, values, quantity, limits(values))
    colour_bar(figure, image, axes, pairs(values))
    names = named_rows([letter(place) for place in range(count)])
    for axis in (axes.xaxis, axes.yaxis):
        whole_ticks(axis, min(count, 12))
        axis.set_major_formatter(names)
    for row, line in enumerate(values if count <= _WRITTEN else []):
        for column, value in enumerate(line):
            if value is not None:
                box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
                axes.text(column, row, form.format(value), ha="center", va="center", fontsize=7, bbox=box)
    return figure


def _against_first(document: ComparisonDocument, name: str) -> Figure:
    figure, axes = canvas()
    for place, pair in enumerate(document.pairs[: len(document.models) - 1]):
        layers, found = pair.layers, getattr(pair, name)
        look = curve_look(place, len(layers))
        axes.plot(layers, numbers(found.value), label=letter(place + 1), **look)
        bounds = numbers(found.low), numbers(found.high)
        axes.fill_between(layers, *bounds, color=look["color"], alpha=0.2, linewidth=0)
    whole_ticks(axes.xaxis, 9)
    axes.set_xlabel("layer")
    legend_below(figure)
    return figure


FIGURES: Mapping[str, Picture[ComparisonDocument]] = {
    "mean_rank_correlation": Picture(
        "Rank correlation between checkpoints",
        "Correlation of normal scores of each layer and its counterpart in each pair of checkpoints, mean over layers, "
        "on which the verdicts rest: near 1 for copies and fine-tunes, near 0 for unrelated ones. At queries and keys, "
        "beyond the profile that rotary positions give every model.",
        mean_rank_correlation,
        lambda found: [pair.mean_rank_correlation.value for pair in found.pairs],
    ),
    "mean_pearson": Picture(
        "Correlation between checkpoints",
        "Pearson r of the same layer in each pair of checkpoints, mean over layers: near 1 for copies and fine-tunes, "
        "near 0 for unrelated ones, unless a few channels of large gain decide it.",
        mean_pearson,
        lambda found: [pair.mean_pearson.value for pair in found.pairs],
    ),
    "total_drift": Picture(
        "Distance between checkpoints",
        "‖Δ‖/‖γ‖ over all layers for each pair of checkpoints: 0 for copies. Read it beside the correlation, since "
        "unrelated checkpoints whose gains are of similar size are not far apart either.",
        total_drift,
        lambda found: [pair.total_drift.value for pair in found.pairs],
    ),
    "rank_correlation": Picture(
        "Rank correlation with A, layer by layer",
        "Correlation of normal scores of each layer with its counterpart in A, with 95 % bounds over channels: which "
        "layers kept their pattern.",
        rank_correlation,
        lambda found: [pair.rank_correlation.value for pair in found.pairs],
    ),
    "pearson": Picture(
        "Correlation with A, layer by layer",
        "Pearson r of each layer with the same layer of A, with 95 % bounds over channels: which layers kept their "
        "pattern.",
        pearson,
        lambda found: [pair.pearson.value for pair in found.pairs],
    ),
    "drift": Picture(
        "Drift from A, layer by layer",
        "‖Δ‖/‖γ‖ of each layer from A's, with 95 % bounds over channels, on a logarithmic axis; layers that did not "
        "move are left out.",
        drift,
        lambda found: [pair.drift.value for pair in found.pairs],
        log=True,
    ),
}
"""By name: the pictures of a comparison, in the order of the page. One function and one line here add a picture."""
