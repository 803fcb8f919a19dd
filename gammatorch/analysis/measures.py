"""The table of statistics: what is computed for every analysis, by its JSON name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

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


def measure(lenses: Lenses) -> dict[str, Any]:
    """Every statistic of the table.

    Args:
        lenses: Correlations of one checkpoint.

    Returns:
        Name → tensor (with layer axes), figure or None (undefined), mapping or list.

    Example:
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.gram import moments
        >>> found = measure(Lenses(Correlations(moments(torch.eye(2, 64)).home()[0], (0, 1)), None))
        >>> found["shared_energy"]["value"]
        0.5
    """
    return {name: _public(statistic(lenses)) for name, statistic in STATISTICS.items()}


def _public(value: Any) -> Any:
    """Arrays as tensors, figures with their bounds as mappings."""
    if isinstance(value, Interval):
        return value.figure()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


STATISTICS: Mapping[str, Callable[[Lenses], Any]] = {
    "pearson": lambda lenses: lenses.stored.pearson,
    "rank_correlation": lambda lenses: None if lenses.ranked is None else lenses.ranked.pearson,
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
    "correlation_length": steady_length,
    "odd_layers": lambda lenses: list(lenses.evidence.outliers),
    "period": lambda lenses: lenses.robust.period,
    "change_points": change_points,
    "transitions": turns,
    "schedules": lambda lenses: schedules(lenses.stored),
}
"""By JSON name: from the correlations of a checkpoint to a tensor, a figure, a mapping or a list. One function and one
line here add a statistic."""
