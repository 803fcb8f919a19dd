"""The result of ``run``: the keys of its JSON, and how they are filled from an analysis."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gammatorch.results.base import (
    Document,
    Figure,
    Matrix,
    Number,
    Size,
    Whole,
    build,
    check_layers,
    check_length,
    check_matrix,
    plain,
)
from gammatorch.results.statistics import MATRICES, AllStatistics, Statistics, check_schedules, with_more
from gammatorch.version import __version__

if TYPE_CHECKING:
    from gammatorch.analysis.result import Analysis

Verdict = Literal[
    "shared-direction", "drift", "phases", "several-directions", "layer-specific", "undecided", "degenerate"
]


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
        check_schedules(self.statistics.schedules, self.layers[-1] - self.layers[0] + 1)


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


def run_document(analysis: Analysis) -> RunDocument:
    """The whole result of an analysis.

    Raises:
        OutputError: A number that is always defined is NaN or infinite.
    """
    fields = _fields(analysis) | {
        "statistics": with_more(plain(analysis.statistics)),
        "cosine": plain(analysis.cosine),
        "provenance": run_provenance(analysis),
    }
    return build(fields, RunDocument)


def run_summary(analysis: Analysis) -> Summary:
    """The result of an analysis without matrices and provenance; no matrix is turned into lists for it.

    Raises:
        OutputError: A number that is always defined is NaN or infinite.
    """
    fields = _fields(analysis) | {"statistics": run_statistics(analysis)}
    return build(fields, Summary)


def run_statistics(analysis: Analysis) -> Statistics:
    """The figures of an analysis, without matrices."""
    figures = {name: value for name, value in analysis.statistics.items() if name not in MATRICES}
    return build(with_more(plain(figures)), Statistics)


def run_provenance(analysis: Analysis) -> Provenance:
    """Where the result of an analysis comes from.

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


def _fields(analysis: Analysis) -> dict[str, object]:
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
