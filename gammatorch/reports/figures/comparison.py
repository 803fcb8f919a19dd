"""The figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from gammatorch.reports.figures.figure import Figure
from gammatorch.reports.figures.look import Spec, axis, band, counted, curve, ends, heat_map, label, spec
from gammatorch.results.comparison import ComparisonDocument, letter

_WRITTEN = 8
"""Checkpoints up to which numbers stand in the cells of a matrix."""

_CORRELATIONS = (-1.0, 1.0)
"""Ends of the colours of correlations, so that those of gains and of ranks look alike where they are."""


def mean_pearson(document: ComparisonDocument) -> Spec:
    """Mean correlation of every pair of checkpoints."""
    return _between_models(document, "mean_pearson", "mean Pearson r", ".2f", _CORRELATIONS)


def mean_rank_correlation(document: ComparisonDocument) -> Spec:
    """Mean rank correlation of every pair of checkpoints."""
    return _between_models(document, "mean_rank_correlation", "mean rank r", ".2f", _CORRELATIONS)


def total_drift(document: ComparisonDocument) -> Spec:
    """Drift between every pair of checkpoints, all layers together."""
    return _between_models(document, "total_drift", "drift ‖Δ‖/‖γ‖", ".2g")


def pearson(document: ComparisonDocument) -> Spec:
    """Correlation of each layer with its counterpart in the first checkpoint."""
    return _against_first(document, "pearson", "Pearson r with A")


def rank_correlation(document: ComparisonDocument) -> Spec:
    """Rank correlation of each layer with its counterpart in the first checkpoint."""
    return _against_first(document, "rank_correlation", "rank r with A")


def drift(document: ComparisonDocument) -> Spec:
    """Drift of each layer from its counterpart in the first checkpoint."""
    return _against_first(document, "drift", "drift ‖Δ‖/‖γ‖ from A", log=True)


def mapping(document: ComparisonDocument) -> Spec:
    """The layer of the first checkpoint that each layer of the others is held against."""
    hover = "layer %{x} of the model<br>layer %{y} of A"
    drawn = [
        curve(place, f"{letter(place + 1)} to A", pair.layers, list(pair.mapping), hover)
        for place, pair in enumerate(document.pairs[: len(document.models) - 1])
    ]
    return spec(drawn, counted("layer of the other checkpoint"), counted("layer of A"))


def _between_models(
    document: ComparisonDocument, name: str, quantity: str, form: str, bounds: tuple[float, float] | None = None
) -> Spec:
    count = len(document.models)
    values: list[list[float | None]] = [[None] * count for _ in range(count)]
    for (one, other), pair in zip(combinations(range(count), 2), document.pairs, strict=True):
        values[one][other] = values[other][one] = getattr(pair, name).value
    bounds = bounds or ends(value for row in values for value in row if value is not None)
    names = [letter(place) for place in range(count)]
    image = heat_map(values, names, names, quantity, bounds, f"%{{y}} and %{{x}}<br>{quantity} %{{z:{form}}}")
    if count <= _WRITTEN:
        image["texttemplate"] = f"%{{z:{form}}}"
    look = {"type": "category", "showgrid": False, "constrain": "domain"}
    down = axis("checkpoint", autorange="reversed", scaleanchor="x", **look)
    return spec([image], axis("checkpoint", **look), down, height=420)


def _against_first(document: ComparisonDocument, name: str, quantity: str, log: bool = False) -> Spec:
    drawn: list[Spec] = []
    for place, pair in enumerate(document.pairs[: len(document.models) - 1]):
        found = getattr(pair, name)
        value, low, high = (
            [one or None for one in part] if log else part for part in (found.value, found.low, found.high)
        )
        called = f"{letter(place + 1)} {document.models[place + 1].rpartition('/')[2]}"
        drawn += band(place, pair.layers, low, high)
        drawn.append(curve(place, called, pair.layers, value, f"layer %{{x}}<br>{label(quantity)} %{{y:.4g}}"))
    up = axis(quantity, **({"type": "log", "exponentformat": "power"} if log else {}))
    return spec(drawn, counted("layer"), up)


FIGURES: Mapping[str, Figure[ComparisonDocument]] = {
    "mean_rank_correlation": Figure(
        "Rank correlation between checkpoints",
        "Correlation of normal scores of each layer and its counterpart in each pair of checkpoints, mean over layers, "
        "on which the verdicts rest: near 1 for copies and fine-tunes, near 0 for unrelated ones. At queries and keys, "
        "beyond the profile that rotary positions give every model.",
        mean_rank_correlation,
        lambda found: [pair.mean_rank_correlation.value for pair in found.pairs],
    ),
    "mean_pearson": Figure(
        "Correlation between checkpoints",
        "Pearson r of the same layer in each pair of checkpoints, mean over layers: near 1 for copies and fine-tunes, "
        "near 0 for unrelated ones, unless a few channels of large gain decide it.",
        mean_pearson,
        lambda found: [pair.mean_pearson.value for pair in found.pairs],
    ),
    "total_drift": Figure(
        "Distance between checkpoints",
        "‖Δ‖/‖γ‖ over all layers for each pair of checkpoints: 0 for copies. Read it beside the correlation, since "
        "unrelated checkpoints whose gains are of similar size are not far apart either.",
        total_drift,
        lambda found: [pair.total_drift.value for pair in found.pairs],
    ),
    "rank_correlation": Figure(
        "Rank correlation with A, layer by layer",
        "Correlation of normal scores of each layer with its counterpart in A, with 95 % bounds over channels: which "
        "layers kept their pattern.",
        rank_correlation,
        lambda found: [pair.rank_correlation.value for pair in found.pairs],
    ),
    "pearson": Figure(
        "Correlation with A, layer by layer",
        "Pearson r of each layer with the same layer of A, with 95 % bounds over channels: which layers kept their "
        "pattern.",
        pearson,
        lambda found: [pair.pearson.value for pair in found.pairs],
    ),
    "drift": Figure(
        "Drift from A, layer by layer",
        "‖Δ‖/‖γ‖ of each layer from A's, with 95 % bounds over channels, on a logarithmic axis; layers that did not "
        "move are left out.",
        drift,
        lambda found: [pair.drift.value for pair in found.pairs],
        log=True,
    ),
    "mapping": Figure(
        "Layers that correspond",
        "The layer of A that each layer of another checkpoint is held against; off the diagonal, layers were moved, "
        "doubled or left out.",
        mapping,
        lambda found: [list(pair.mapping) for pair in found.pairs],
    ),
}
"""By name: the figures of a comparison, in the order of the page. One function and one line here add a figure."""
