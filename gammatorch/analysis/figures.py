"""Statistics with names and types: each figure is an attribute, and an entry of a mapping, as it is in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor


class Record(dict[str, Any]):
    """A mapping whose entries are attributes too.

    Example:
        >>> Interval(value=0.5, low=0.4, high=0.6).low
        0.4
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}: there are {', '.join(self)}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


class Interval(Record):
    """A figure with its 95 % bounds over channels."""

    value: float | None
    low: float | None
    high: float | None


class ChanceInterval(Interval):
    """The same, and what 95 of 100 unrelated layers stay within."""

    null_95: float | None


class FirstEigenvalue(Record):
    """The largest eigenvalue of the rank correlations, and the 95th percentile for unrelated layers."""

    value: float | None
    null_95: float | None


class DepthContrast(Interval):
    """Correlation lost with depth: ``near`` minus ``far``, and the same without each layer's own noise."""

    near: float | None
    far: float | None
    disattenuated: float | None


class Period(Interval):
    """Kinds of layers that alternate: their distance, the correlation within a kind and across kinds."""

    period: int | None
    within: float | None
    across: float | None


class PhaseContrast(Interval):
    """Correlation within a phase minus that across its bounds at the same distances."""

    name: str


class Transition(Record):
    """A turn over several layers: the last layer before it, the first after it, the correlation lost."""

    first: int
    last: int
    loss: float


class Outliers(Record):
    """Massive channels: index, number of layers each stands out in, size in units of the median gain."""

    channels: list[int] | None
    layers: list[int] | None
    sizes: list[float] | None


class Schedule(Record):
    """A law fitted to the logarithm of RMS γ over depth."""

    parameters: dict[str, float]
    aicc: float
    r_squared: float
    rho: float
    chosen: bool


class Statistics(Record):
    """The statistics of an analysis; tensors are tensors, what is undefined is None or NaN within a tensor.

    What each means is told by ``gammatorch explain NAME``.
    """

    pearson: Tensor
    rank_correlation: Tensor | None
    cos_ones: Tensor
    shared_energy: Interval
    shared_projection: Tensor | None
    mean_pearson: ChanceInterval
    mean_rank_correlation: ChanceInterval
    first_eigenvalue: FirstEigenvalue
    shared_directions: int | None
    effective_dimension: Interval
    effective_rank: float | None
    misfit: Interval
    depth_profile: Tensor
    depth_contrast: DepthContrast
    depth_order: float | None
    correlation_length: float | None
    odd_layers: list[int] | None
    period: Period
    change_points: list[int] | None
    transitions: list[Transition]
    schedules: dict[str, Schedule] | None
    phase_contrasts: list[PhaseContrast]
    singular_gap: float | None
    outliers: Outliers

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Statistics as they were computed, each mapping within as its record.

        Args:
            found: By JSON name.

        Example:
            >>> Statistics.of({"misfit": {"value": 0.1, "low": 0.0, "high": 0.2}}).misfit.value
            0.1
        """
        return cls({name: _typed(value, _KINDS.get(name, Record)) for name, value in found.items()})


def _typed(value: Any, kind: type[Record]) -> Any:
    """A mapping as its record, and those in a list or under names likewise."""
    if isinstance(value, list):
        return [_typed(one, kind) for one in value]
    if isinstance(value, Mapping):
        return {name: kind(one) for name, one in value.items()} if kind is Schedule else kind(value)
    return value


_KINDS: Mapping[str, type[Record]] = {
    "shared_energy": Interval,
    "mean_pearson": ChanceInterval,
    "mean_rank_correlation": ChanceInterval,
    "first_eigenvalue": FirstEigenvalue,
    "effective_dimension": Interval,
    "misfit": Interval,
    "depth_contrast": DepthContrast,
    "period": Period,
    "transitions": Transition,
    "schedules": Schedule,
    "phase_contrasts": PhaseContrast,
    "outliers": Outliers,
}
"""Statistics that are records, lists of them, or several under names."""
