"""The table of statistics: what is computed for every analysis, by its JSON name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

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
    correlation_lengths,
    depth_contrast,
    depth_order,
    mean_rank_correlation,
    misfit,
    turns,
)
from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.lenses import Lenses
from gammatorch.analysis.schedules import schedules


def measure(lenses: Lenses, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Every statistic of the table, or some, of each checkpoint.

    Args:
        lenses: Correlations of one checkpoint or several.
        names: Which statistics; all if None.

    Returns:
        For each checkpoint name → tensor (with layer axes), float or None (undefined), mapping or list.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.gram import moments
        >>> found = measure(Lenses(Correlations(moments(torch.eye(2, 64)), (0, 1)), None, 1))
        >>> found[0]["shared_energy"]["value"]
        0.5
    """
    columns = {name: _by_checkpoint(STATISTICS[name](lenses)) for name in names or STATISTICS}
    return [{name: column[row] for name, column in columns.items()} for row in range(lenses.count)]


def _by_checkpoint(value: Any) -> list[Any]:
    """A batched value as a list over checkpoints; figures as floats, one transfer for all of them."""
    if isinstance(value, Interval):
        value = {"value": value.value, "low": value.low, "high": value.high}
    if isinstance(value, Mapping):
        columns = {name: _by_checkpoint(item) for name, item in value.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(value, Tensor):
        if value.ndim == 1:
            return [_defined(figure) for figure in value.tolist()]
        return list(value.unbind())
    return list(value)


def _by_rank(lenses: Lenses) -> Any:
    """Correlations of the scores, None for gains without ranks."""
    return [None] * len(lenses.stored.norms) if lenses.ranked is None else lenses.ranked.pearson


def _defined(figure: float) -> float | None:
    return figure if math.isfinite(figure) else None


STATISTICS: Mapping[str, Callable[[Lenses], Any]] = {
    "pearson": lambda lenses: lenses.stored.pearson,
    "rank_correlation": _by_rank,
    "cos_ones": lambda lenses: lenses.stored.cos_ones,
    "shared_energy": lambda lenses: shared_energy(lenses.stored),
    "shared_projection": lambda lenses: lenses.stored.shared[2],
    "mean_pearson": lambda lenses: mean_correlation(lenses.stored),
    "mean_rank_correlation": mean_rank_correlation,
    "first_eigenvalue": lambda lenses: first_eigenvalue(lenses.robust),
    "shared_directions": lambda lenses: shared_directions(lenses.robust),
    "effective_dimension": lambda lenses: effective_dimension(lenses.stored),
    "effective_rank": lambda lenses: effective_rank(lenses.stored),
    "misfit": misfit,
    "depth_profile": lambda lenses: depth_profile(lenses.stored),
    "depth_contrast": depth_contrast,
    "depth_order": depth_order,
    "correlation_length": correlation_lengths,
    "odd_layers": lambda lenses: [list(one.outliers) for one in lenses.evidence],
    "period": lambda lenses: lenses.robust.period,
    "change_points": change_points,
    "transitions": turns,
    "schedules": lambda lenses: schedules(lenses.stored),
}
"""By JSON name: from the correlations of all checkpoints to a tensor or interval with the checkpoint axis first, a
mapping of such, or a list over checkpoints. One function and one line here add a statistic."""
