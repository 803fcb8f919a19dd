"""The result of ``run``: the keys of its JSON, and how they are filled from an analysis."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gammatorch.results.base import (
    ChanceInterval,
    Document,
    Figure,
    Interval,
    Matrix,
    Number,
    Size,
    Whole,
    build,
    check_layers,
    check_length,
    check_matrix,
)
from gammatorch.results.courses import COURSES
from gammatorch.results.plain import plain
from gammatorch.version import __version__

if TYPE_CHECKING:
    from gammatorch.analysis.result import Analysis

Verdict = Literal[
    "shared-direction", "drift", "phases", "several-directions", "layer-specific", "undecided", "degenerate"
]

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


class AllStatistics(Statistics, frozen=True, kw_only=True):
    """The figures with the two matrices, layer × layer; ``rank_correlation`` is null where the gains have no ranks."""

    pearson: Matrix
    rank_correlation: Matrix | None


class PhaseFigures(Document, frozen=True):
    """A run of layers ``first`` … ``last`` with its ``n`` gains' lengths and cosines."""

    name: str
    first: Whole
    last: Whole
    n: Whole
    norm_mean: Figure
    norm_std: Figure
    intra_cos: Figure
    vs_other_cos: Figure


class AnswerText(Document, frozen=True):
    """The verdict with its support in [0, 1], the two it is undecided between, and the sentence."""

    verdict: Verdict
    support: Number
    between: list[Verdict] | None
    sentence: str


class Provenance(Document, frozen=True, kw_only=True):
    """Where a result comes from: versions, commit, device, bytes, requests and seconds."""

    gammatorch: str
    torch: str
    python: str
    commit: str | None
    model_type: str | None
    stored_dtype: str | None
    device: str
    dtype: str
    bytes_read: Whole | None
    bytes_cached: Whole | None
    checkpoint_bytes: Whole | None
    shards: Whole | None
    requests: Whole | None
    rounds: Whole | None
    seconds: Number


class Summary(Document, frozen=True, kw_only=True):
    """A result without its matrices and its provenance: what an item of a sweep keeps as JSON.

    Attributes:
        model: The name the checkpoint was asked for by; null for a plain tensor, as all that follows from it.
        num_layers: Number of layers, L.
        hidden: Width of the gains, H.
        layers: Layer index of each row, ascending.
        keys: Tensor each row came from.
        stack: Stack the rows belong to.
        site: Place of the norm in the block.
        site_reason: Why this site.
        offset: γ = offset + weight.
        norms: ‖γ‖ of each layer.
        proj_top1: Projection of each unit gain on the first principal axis.
        residual_top1: √(1 − proj_top1²).
        explained_var: Share of each principal axis in the variance.
        singular_values: Of the centred unit gains, one for each axis.
        cos_adjacent: Cosine of each gain with the next, length L − 1.
        phases: Figures of each phase.
        statistics: All further figures.
        answer: The verdict.
        method: How the principal axes were found.
        error_estimate: Largest absolute error of cosines and explained_var, estimated.
        notes: What a reader should know, undefined figures among it.
    """

    schema_version: Literal[2] = 2
    model: str | None
    num_layers: Whole
    hidden: Size
    layers: list[Whole]
    keys: list[str] | None
    stack: str | None
    site: str | None
    site_reason: str | None
    offset: Figure
    norms: list[Figure]
    proj_top1: list[Figure] | None
    residual_top1: list[Figure] | None
    explained_var: list[Figure] | None
    singular_values: list[Figure]
    cos_adjacent: list[Figure]
    phases: list[PhaseFigures]
    statistics: Statistics
    answer: AnswerText
    method: str
    error_estimate: Number
    notes: list[str]

    def __post_init__(self) -> None:
        check_layers(self.layers, self.num_layers)
        for name in ("norms", "proj_top1", "residual_top1", "keys"):
            check_length(name, getattr(self, name), self.num_layers)
        for name in ("cos_ones", "shared_projection"):
            check_length(f"statistics.{name}", getattr(self.statistics, name), self.num_layers)
        check_length("cos_adjacent", self.cos_adjacent, self.num_layers - 1)
        check_length("statistics.depth_profile", self.statistics.depth_profile, self.num_layers - 1)
        check_length("explained_var", self.explained_var, len(self.singular_values))
        _check_phases(self.phases, self.layers)
        _check_schedules(self.statistics.schedules, self.layers)


class RunDocument(Summary, frozen=True, kw_only=True):
    """What ``run --out`` writes and ``Analysis.to_dict`` gives.

    Attributes:
        statistics: All further figures, the two matrices among them.
        cosine: Cosines between layers, L × L.
        provenance: Where the result comes from.
    """

    statistics: AllStatistics
    cosine: Matrix
    provenance: Provenance

    def __post_init__(self) -> None:
        super().__post_init__()
        check_matrix("cosine", self.cosine, self.num_layers)
        for name in MATRICES:
            check_matrix(f"statistics.{name}", getattr(self.statistics, name), self.num_layers)


def _check_phases(phases: Sequence[PhaseFigures], layers: Sequence[int]) -> None:
    """Each phase begins and ends at a layer, in this order."""
    known = set(layers)
    for place, phase in enumerate(phases):
        if not {phase.first, phase.last} <= known or phase.first > phase.last:
            raise ValueError(f"`phases[{place}]` does not begin and end at layers of the file")


def _check_schedules(fits: Mapping[str, Schedule] | None, layers: Sequence[int]) -> None:
    """There are two laws to hold against each other, and each has its parameters."""
    if fits is not None and len(fits) < 2:
        raise ValueError("`statistics.schedules` has too few entries")
    for name, fit in (fits or {}).items():
        if not _has_course(name, fit.parameters, layers[-1] - layers[0] + 1):
            raise ValueError(f"`statistics.schedules.{name}.parameters` are not those of the {name} schedule")


def _has_course(name: str, parameters: Mapping[str, float], last: int) -> bool:
    """Whether the curve of a schedule that can be drawn has a finite height at the last layer."""
    try:
        return name not in COURSES or math.isfinite(COURSES[name](parameters, last))
    except (KeyError, ArithmeticError):
        return False


def run_document(analysis: Analysis) -> RunDocument:
    """The whole result of an analysis.

    Args:
        analysis: The analysis.

    Raises:
        OutputError: A number that is always defined is NaN or infinite.
    """
    fields = _fields(analysis) | {
        "statistics": plain(analysis.statistics),
        "cosine": plain(analysis.cosine),
        "provenance": provenance(analysis),
    }
    return build(fields, RunDocument)


def summary(analysis: Analysis) -> Summary:
    """The result of an analysis without matrices and provenance; no matrix is turned into lists for it.

    Args:
        analysis: The analysis.

    Raises:
        OutputError: A number that is always defined is NaN or infinite.
    """
    fields = _fields(analysis) | {"statistics": statistics(analysis)}
    return build(fields, Summary)


def statistics(analysis: Analysis) -> Statistics:
    """The figures of an analysis, without matrices.

    Args:
        analysis: The analysis.
    """
    figures = {name: value for name, value in analysis.statistics.items() if name not in MATRICES}
    return build(plain(figures), Statistics)


def provenance(analysis: Analysis) -> Provenance:
    """Where the result of an analysis comes from.

    Args:
        analysis: The analysis.

    Raises:
        OutputError: The time it took is NaN or infinite.
    """
    import torch  # is there already: the analysis holds tensors

    gains = analysis.gains
    of_gains = (
        *("model_type", "stored_dtype", "bytes_read", "bytes_cached", "checkpoint_bytes", "shards"),
        *("requests", "rounds"),
    )
    fields = {
        "gammatorch": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": gains.revision if gains else None,
        **{name: getattr(gains, name) if gains else None for name in of_gains},
        "device": analysis.device,
        "dtype": analysis.dtype,
        "seconds": analysis.seconds + (gains.seconds if gains else 0.0),
    }
    return build(fields, Provenance)


def _fields(analysis: Analysis) -> dict[str, Any]:
    """What the two forms of a result have in common."""
    gains = analysis.gains
    of_gains = ("model", "keys", "stack", "site", "site_reason", "offset")
    tensors = ("norms", "proj_top1", "residual_top1", "explained_var", "singular_values", "cos_adjacent")
    others = ("num_layers", "hidden", "layers", "phases", "answer", "method", "error_estimate", "notes")
    return {
        **{name: getattr(gains, name) if gains else None for name in of_gains},
        **{name: plain(getattr(analysis, name)) for name in tensors},
        **{name: getattr(analysis, name) for name in others},
    }
