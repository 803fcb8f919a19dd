"""The table of statistics: what is computed for every analysis, by its JSON name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.depth import depth_contrast, depth_profile
from gammatorch.analysis.effective import (
    effective_dimension,
    entropy_rank,
    first_eigenvalue,
    mean_pearson,
    shared_energy,
)
from gammatorch.analysis.intervals import Interval
from gammatorch.analysis.odd import odd_layers
from gammatorch.analysis.schedules import schedules
from gammatorch.analysis.segments import change_points


def measure(correlations: Correlations, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Every statistic of the table, or some, of each checkpoint.

    Args:
        correlations: Of one checkpoint or several.
        names: Which statistics; all if None.

    Returns:
        For each checkpoint name → tensor (with layer axes), float or None (undefined), mapping or list.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.gram import moments
        >>> found = measure(Correlations(moments(torch.eye(2, 64)), (0, 1)))
        >>> found[0]["shared_energy"]["value"]
        0.5
    """
    columns = {name: _by_checkpoint(STATISTICS[name](correlations)) for name in names or STATISTICS}
    return [{name: column[row] for name, column in columns.items()} for row in range(len(correlations.norms))]


def _by_checkpoint(value: Any) -> list[Any]:
    """A batched value as a list over checkpoints; figures as floats, one transfer for all of them."""
    if isinstance(value, Interval):
        value = {"value": value.value, "low": value.low, "high": value.high}
    if isinstance(value, Mapping):
        columns = {name: _by_checkpoint(item) for name, item in value.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(value, Tensor):
        if value.ndim == 1:
            return [figure if math.isfinite(figure) else None for figure in value.tolist()]
        return list(value.unbind())
    return list(value)


STATISTICS: Mapping[str, Callable[[Correlations], Any]] = {
    "pearson": lambda correlations: correlations.pearson,
    "cos_ones": lambda correlations: correlations.cos_ones,
    "shared_energy": shared_energy,
    "shared_projection": lambda correlations: correlations.shared[2],
    "mean_pearson": mean_pearson,
    "first_eigenvalue": first_eigenvalue,
    "effective_dimension": effective_dimension,
    "entropy_rank": entropy_rank,
    "depth_profile": depth_profile,
    "depth_contrast": depth_contrast,
    "odd_layers": odd_layers,
    "period": lambda correlations: correlations.period,
    "change_points": change_points,
    "schedules": schedules,
}
"""By JSON name: from the correlations of all checkpoints to a tensor or interval with the checkpoint axis first, a
mapping of such, or a list over checkpoints. One function and one line here add a statistic."""
