"""The figures of a result as rows: layer, statistic, value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gammatorch.results.statistics import MATRICES

if TYPE_CHECKING:
    from gammatorch.results.comparison import ComparisonDocument
    from gammatorch.results.run import Summary

Figure = tuple[int | None, str, float | None]
"""Layer, None for figures of all layers; name, parts joined by dots; value, None where it is undefined."""

COLUMNS = ("layer", "statistic", "value")

_BY_AXIS = frozenset({"singular_values", "explained_var"})
"""Lists that are as long as there are layers, and count axes."""

_FIGURES = ("norms", "proj_top1", "residual_top1", "explained_var", "singular_values", "cos_adjacent", "phases")

_OF_PAIRS = (
    *("cosine", "pearson", "rank_correlation", "drift", "drift_of_spread", "mean_pearson", "mean_rank_correlation"),
    *("total_drift", "total_drift_of_spread", "cka", "largest_change", "share_beyond", "p_value", "p_adjusted"),
)


def figure_rows(document: Summary) -> Iterator[Figure]:
    """The figures of an analysis without its matrices; ``cos_adjacent`` stands at the first of its two layers."""
    found = msgspec.to_builtins(document, order="sorted")
    statistics = {name: value for name, value in found["statistics"].items() if name not in MATRICES}
    statistics |= statistics.pop("more", {})
    return _flatten("", {name: found[name] for name in _FIGURES} | statistics, document.layers)


def pair_rows(document: ComparisonDocument) -> Iterator[tuple[str, str, int | None, str, float | None]]:
    """The figures of every pair of a comparison: model, against, layer of the model, statistic, value."""
    for pair in document.pairs:
        found = msgspec.to_builtins(pair)
        for name in _OF_PAIRS:
            value, layers = found[name], pair.layers
            for layer, statistic, figure in _flatten(name, value, layers):
                yield pair.model, pair.against, layer, statistic, figure


def _flatten(name: str, value: Any, layers: Sequence[int]) -> Iterator[Figure]:
    """The figures within a value, by layer where it is a list as long as there are layers."""
    if isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _flatten(f"{name}.{part}" if name else part, inner, layers)
    elif isinstance(value, list):
        by_layer = (len(value) == len(layers) and name not in _BY_AXIS) or name == "cos_adjacent"
        for place, inner in enumerate(value):
            if by_layer and not isinstance(inner, Mapping | list):
                yield layers[place], name, inner
            else:
                part = inner["name"] if isinstance(inner, Mapping) and "name" in inner else place
                yield from _flatten(f"{name}.{part}", inner, layers)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield None, name, value
