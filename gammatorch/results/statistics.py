"""The figures of an analysis beside its lengths and axes: the keys of ``statistics``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from msgspec import UNSET, UnsetType

from gammatorch.results.base import ChanceInterval, Document, Figure, Interval, Matrix, Number, Whole, check_length

MATRICES = ("pearson", "rank_correlation")
"""Statistics that are layer × layer."""


class FirstEigenvalue(Document, frozen=True):
    """The largest eigenvalue of the rank correlations, and the 95th percentile for unrelated layers."""

    value: Figure
    null_95: Figure


class DepthContrast(Interval, frozen=True, kw_only=True):
    """Correlation that is lost with depth: ``near`` minus ``far``, and the same without each layer's own noise."""

    near: Figure
    far: Figure
    disattenuated: Figure


class PhaseContrast(Interval, frozen=True, kw_only=True):
    """Correlation within a phase minus that across its bounds at the same distances."""

    name: str


class Transition(Document, frozen=True):
    """A turn over several layers: the last layer before it, the first after it, and the correlation lost."""

    first: Whole
    last: Whole
    loss: Number


class Period(Interval, frozen=True, kw_only=True):
    """Kinds of layers that alternate: their distance, and the correlation ``within`` a kind and ``across`` kinds."""

    period: Whole | None
    within: Figure
    across: Figure


class Outliers(Document, frozen=True):
    """Massive channels: index, number of layers it stands out in, size in units of the median gain; null: unknown."""

    channels: list[Whole] | None
    layers: list[Whole] | None
    sizes: list[Figure] | None

    def __post_init__(self) -> None:
        for name, found in (("layers", self.layers), ("sizes", self.sizes)):
            check_length(name, found if found is not None else (), len(self.channels or ()))


class Schedule(Document, frozen=True):
    """A law fitted to the logarithm of RMS γ over depth, with errors of autocorrelation ``rho``."""

    parameters: dict[str, Number]
    aicc: Number
    r_squared: Number
    rho: Number
    chosen: bool


class Statistics(Document, frozen=True, kw_only=True):
    """The figures of an analysis, without its layer × layer matrices.

    Attributes:
        cos_ones: Cosine of each gain with the vector of ones, length layers.
        shared_energy: Share of the energy in the one direction nearest to all layers, uncentred.
        shared_projection: Projection of each unit gain on that direction, length layers.
        mean_pearson: Mean correlation over pairs of layers.
        mean_rank_correlation: The same of normal scores, outlier layers left out.
        first_eigenvalue: Of the rank correlations.
        shared_directions: Number of eigenvalues above chance.
        effective_dimension: Participation ratio of the correlations' eigenvalues.
        effective_rank: Exponential of their entropy.
        misfit: Root mean square of the rank correlations that one direction does not explain.
        depth_profile: Mean correlation by lag, lag 1 first, length layers − 1.
        depth_contrast: Correlation lost with depth.
        depth_order: Standard score of the order of the layers (Mantel's test).
        correlation_length: Layers over which correlation falls by a factor e.
        odd_layers: Outlier layers.
        period: Kinds of layers that alternate.
        change_points: First layers of the phases after the first.
        transitions: Turns over several layers.
        schedules: Fitted laws by name, lowest AICc first.
        phase_contrasts: One of each phase.
        singular_gap: Relative gap between the first two singular values.
        outliers: Massive channels.
        more: What ``STATISTICS`` in ``analysis/statistics.py`` has beyond these, by name; absent where it has no more.
    """

    cos_ones: list[Figure]
    shared_energy: Interval
    shared_projection: list[Figure] | None
    mean_pearson: ChanceInterval
    mean_rank_correlation: ChanceInterval
    first_eigenvalue: FirstEigenvalue
    shared_directions: Whole | None
    effective_dimension: Interval
    effective_rank: Figure
    misfit: Interval
    depth_profile: list[Figure]
    depth_contrast: DepthContrast
    depth_order: Figure
    correlation_length: Figure
    odd_layers: list[Whole] | None
    period: Period
    change_points: list[Whole] | None
    transitions: list[Transition]
    schedules: dict[str, Schedule] | None
    phase_contrasts: list[PhaseContrast]
    singular_gap: Figure
    outliers: Outliers
    more: dict[str, Figure | list[Figure] | Interval] | UnsetType = UNSET


class AllStatistics(Statistics, frozen=True, kw_only=True):
    """The figures with the two matrices, layer × layer; ``rank_correlation`` is null where the gains have no ranks."""

    pearson: Matrix
    rank_correlation: Matrix | None


def with_more(figures: Mapping[str, object]) -> Mapping[str, object]:
    """The figures of an analysis, those that have no field of their own put together as ``more``.

    Example:
        >>> with_more({"misfit": 0.1, "new": 0.2})
        {'misfit': 0.1, 'more': {'new': 0.2}}
    """
    known = {name: value for name, value in figures.items() if name in AllStatistics.__struct_fields__}
    more = {name: value for name, value in figures.items() if name not in known}
    return {**known, "more": more} if more else known


def check_schedules(fits: Mapping[str, Schedule] | None, depth: int) -> None:
    """Check that there are two laws to hold against each other, and that each has its parameters.

    Args:
        fits: The laws by name, None where none could be fitted.
        depth: Number of the last layer, 1 at the first.

    Raises:
        ValueError: There is one law alone, or the curve of one has no height at the last layer.
    """
    if fits is not None and len(fits) < 2:
        raise ValueError("`statistics.schedules` has too few entries")
    for name, fit in (fits or {}).items():
        if not _has_curve(name, fit.parameters, depth):
            raise ValueError(f"`statistics.schedules.{name}.parameters` are not those of the {name} schedule")


def _has_curve(name: str, parameters: Mapping[str, float], last: int) -> bool:
    """Whether the curve of a schedule that can be drawn has a finite height at the last layer."""
    try:
        return name not in CURVES or math.isfinite(CURVES[name](parameters, last))
    except (KeyError, ArithmeticError):
        return False


CURVES: Mapping[str, Callable[[Mapping[str, float], int], float]] = {
    "none": lambda fit, k: fit["t0"],
    "geometric": lambda fit, k: fit["t0"] * fit["a"] ** (k - 1),
    "linear": lambda fit, k: fit["t0"] + fit["b"] * (k - 1),
    "logarithmic": lambda fit, k: fit["c"] / math.log1p(k),
    "power": lambda fit, k: fit["t0"] * k ** -fit["p"],
}
"""By the name of a schedule of ``SCHEDULES`` in ``analysis/schedules.py``: its course, k = 1 at the first layer."""
