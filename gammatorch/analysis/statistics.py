"""The table of statistics: what is computed for every analysis, by its JSON name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gammatorch.analysis.depth import correlation_length, depth_profile
from gammatorch.analysis.evidence import ORDERED, Lenses
from gammatorch.analysis.figures import Statistics, Transition
from gammatorch.analysis.host import Array
from gammatorch.analysis.intervals import Interval, defined, interval, mean_pearson_null
from gammatorch.analysis.schedules import schedules
from gammatorch.analysis.shared import (
    effective_dimension,
    effective_rank,
    first_eigenvalue,
    mean_correlation,
    shared_directions,
    shared_energy,
    worth,
)
from gammatorch.analysis.verdict import DRIFT

Figures = Mapping[str, float | None]


def mean_rank_correlation(lenses: Lenses) -> Figures:
    """Mean correlation of normal scores over pairs of layers without outlier layers, and what chance gives.

    Args:
        lenses: Of one checkpoint.

    Returns:
        ``value``, ``low``, ``high``, ``null_95``, see :func:`~gammatorch.analysis.intervals.mean_pearson_null`; of
        Pearson's correlations where the gains have no ranks; None where fewer than two layers count.
    """
    found = lenses.evidence
    pairs = found.count * (found.count - 1) // 2
    null = mean_pearson_null(pairs, worth(lenses.robust)) if pairs else None
    return {**_bounded(found.overall, "fisher"), "null_95": null}


def depth_contrast(lenses: Lenses) -> Figures:
    """What near layers share, what the far ones still do, and what is lost between.

    ``near`` is the mean correlation of layers one and two apart, ``far`` of those at least half the depth apart, and
    ``value`` = near − far is what drifts. Outlier layers are left out: one at an end is in more far pairs than near
    ones, and would look like a drift. Where kinds of layers alternate, it is that of the largest kind.

    Args:
        lenses: Of one checkpoint.

    Returns:
        ``near``, ``far``, and ``value``, ``low``, ``high`` of their difference (95 %, over channels);
        ``disattenuated``, the difference without what each layer's own noise makes of it (from 24 layers on), see
        :func:`~gammatorch.analysis.depth.disattenuated`. None where undefined.
    """
    found = lenses.evidence
    return {
        "near": defined(float(found.near[0])),
        "far": defined(float(found.far[0])),
        **_bounded(found.loss / 2, "fisher", 2),
        "disattenuated": defined(found.true_loss),
    }


def misfit(lenses: Lenses) -> Figures:
    """Root mean square of what one direction leaves of the correlations, beyond chance, with its bounds.

    Args:
        lenses: Of one checkpoint.
    """
    return _bounded(lenses.evidence.misfit, "plain", least=0)


def depth_order(lenses: Lenses) -> float | None:
    """Standard score of how much the order of the layers matters, None below six layers.

    Args:
        lenses: Of one checkpoint.
    """
    return defined(float(lenses.evidence.order[0]))


def steady_length(lenses: Lenses) -> float | None:
    """Layers over which correlation falls by a factor e, where the direction turns with depth and has no boundary.

    Args:
        lenses: Of one checkpoint.
    """
    found = lenses.evidence
    turns = bool(found.order[0] >= ORDERED) and bool(found.loss[0] >= DRIFT)
    return correlation_length(found.profile) if turns and found.jump == (0.0, 0.0) else None


def change_points(lenses: Lenses) -> list[int] | None:
    """First layers of the phases after the first, None where they cannot be told.

    Args:
        lenses: Of one checkpoint.
    """
    found = lenses.evidence.boundaries
    return None if found is None else [one.layer for one in found]


def turns(lenses: Lenses) -> list[Transition]:
    """Turns that take several layers: ``first``, the last layer before, ``last``, the first after, and the ``loss``.

    Args:
        lenses: Of one checkpoint.
    """
    found = sorted(lenses.evidence.transitions, key=lambda turn: turn.first)
    return [Transition(first=turn.first, last=turn.last, loss=turn.loss) for turn in found]


def _bounded(figure: Array, scale: str, factor: float = 1, least: float = -math.inf) -> Figures:
    """A figure of all channels first, then without each block, with its bounds."""
    found = interval(figure[0], figure[1:], scale).figure()
    return {name: None if part is None else factor * max(part, least) for name, part in found.items()}


def measure(lenses: Lenses) -> Statistics:
    """Every statistic of the table.

    Args:
        lenses: Correlations of one checkpoint.

    Returns:
        Name → tensor (with layer axes), figure or None (undefined), mapping or list.

    Example:
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.moments import moments
        >>> found = measure(Lenses(Correlations(moments(torch.eye(2, 64)).home()[0], (0, 1)), None))
        >>> found["shared_energy"]["value"]
        0.5
    """
    return Statistics.of({name: _public(statistic(lenses)) for name, statistic in STATISTICS.items()})


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
