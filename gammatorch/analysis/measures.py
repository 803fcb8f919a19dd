"""The table of statistics: what is computed for every analysis, by its JSON name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.depth import depth_profile
from gammatorch.analysis.effective import (
    effective_dimension,
    effective_rank,
    first_eigenvalue,
    mean_correlation,
    shared_directions,
    shared_energy,
)
from gammatorch.analysis.figures import (
    change_points,
    depth_contrast,
    depth_order,
    mean_rank_correlation,
    misfit,
    steady_length,
    turns,
)
from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.lenses import Lenses
from gammatorch.analysis.schedules import schedules


def measure(lenses: Lenses, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Every statistic of the table, or some.

    Args:
        lenses: Correlations of one checkpoint.
        names: Which statistics; all if None.

    Returns:
        Name → tensor (with layer axes), float or None (undefined), mapping or list.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.gram import moments
        >>> found = measure(Lenses(Correlations(moments(torch.eye(2, 64)), (0, 1)), None))
        >>> found["shared_energy"]["value"]
        0.5
    """
    return {name: STATISTICS[name](lenses) for name in names or STATISTICS}


def _stored(statistic: Callable[[Correlations], Any]) -> Callable[[Lenses], Any]:
    """A statistic of the gains as they are."""
    return lambda lenses: _only(statistic(lenses.stored))


def _robust(statistic: Callable[[Correlations], Any]) -> Callable[[Lenses], Any]:
    """A statistic of their normal scores, where they have ranks."""
    return lambda lenses: _only(statistic(lenses.robust))


def _only(value: Any) -> Any:
    """The only checkpoint's part of a batched value; figures as floats, None where undefined."""
    if isinstance(value, Interval):
        value = {"value": value.value, "low": value.low, "high": value.high}
    if isinstance(value, Mapping):
        return {name: _only(item) for name, item in value.items()}
    if isinstance(value, Tensor) and value.ndim == 1:
        figure = float(value[0])
        return figure if math.isfinite(figure) else None
    return value[0]


STATISTICS: Mapping[str, Callable[[Lenses], Any]] = {
    "pearson": _stored(lambda correlations: correlations.pearson),
    "rank_correlation": lambda lenses: None if lenses.ranked is None else lenses.ranked.pearson[0],
    "cos_ones": _stored(lambda correlations: correlations.cos_ones),
    "shared_energy": _stored(shared_energy),
    "shared_projection": _stored(lambda correlations: correlations.shared[2]),
    "mean_pearson": _stored(mean_correlation),
    "mean_rank_correlation": mean_rank_correlation,
    "first_eigenvalue": _robust(first_eigenvalue),
    "shared_directions": _robust(shared_directions),
    "effective_dimension": _stored(effective_dimension),
    "effective_rank": _stored(effective_rank),
    "misfit": misfit,
    "depth_profile": _stored(depth_profile),
    "depth_contrast": depth_contrast,
    "depth_order": depth_order,
    "correlation_length": steady_length,
    "odd_layers": lambda lenses: list(lenses.evidence.outliers),
    "period": _robust(lambda correlations: correlations.period),
    "change_points": change_points,
    "transitions": turns,
    "schedules": _stored(schedules),
}
"""By JSON name: from the correlations of a checkpoint to a tensor, a figure, a mapping or a list. One function and one
line here add a statistic."""
