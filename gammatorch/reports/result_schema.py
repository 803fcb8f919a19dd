"""The formats that can be drawn: what ``run --out`` and ``compare --out`` write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gammatorch.reports.courses import COURSES
from gammatorch.reports.schema import (
    Check,
    Misfit,
    Sizes,
    ascending,
    axis,
    counts,
    flag,
    many,
    maybe,
    named,
    number,
    record,
    size,
    text,
    whole,
    within,
)

SCHEMA_VERSIONS = {"norms": 2, "pairs": 1}
"""What is read, by the name that tells a format."""

_FIGURE = maybe(number)
_INTERVAL = {"value": _FIGURE, "low": _FIGURE, "high": _FIGURE}
_BY_LAYER = many(_FIGURE, "layer")
_LAYER_INTERVAL = record(value=_BY_LAYER, low=_BY_LAYER, high=_BY_LAYER)

_SCHEDULE = record(parameters=named(number), aicc=number, r_squared=number, rho=number, chosen=flag)

_STATISTICS = record(
    shared_projection=maybe(_BY_LAYER),
    shared_energy=record(**_INTERVAL),
    effective_dimension=record(**_INTERVAL),
    effective_rank=_FIGURE,
    mean_pearson=record(**_INTERVAL, null_95=_FIGURE),
    mean_rank_correlation=record(**_INTERVAL, null_95=_FIGURE),
    first_eigenvalue=record(value=_FIGURE, null_95=_FIGURE),
    shared_directions=maybe(whole),
    misfit=record(**_INTERVAL),
    depth_profile=many(_FIGURE, "lag"),
    depth_contrast=record(near=_FIGURE, far=_FIGURE, disattenuated=_FIGURE, **_INTERVAL),
    depth_order=_FIGURE,
    correlation_length=_FIGURE,
    phase_contrasts=many(record(name=text, **_INTERVAL)),
    change_points=maybe(many(whole)),
    transitions=many(record(first=whole, last=whole, loss=number)),
    odd_layers=maybe(many(whole)),
    period=record(period=maybe(whole), **_INTERVAL),
    outliers=record(channels=maybe(many(whole)), layers=maybe(many(whole)), sizes=maybe(many(_FIGURE))),
    schedules=maybe(named(_SCHEDULE)),
)

_PHASE = record(
    name=text,
    first=whole,
    last=whole,
    n=whole,
    norm_mean=_FIGURE,
    norm_std=_FIGURE,
    intra_cos=_FIGURE,
    vs_other_cos=_FIGURE,
)

_PROVENANCE = record(
    gammatorch=text,
    torch=text,
    python=text,
    commit=maybe(text),
    stored_dtype=maybe(text),
    device=text,
    dtype=text,
    bytes_read=maybe(whole),
    bytes_cached=maybe(whole),
    checkpoint_bytes=maybe(whole),
    shards=maybe(whole),
    seconds=number,
)


def check_analysis(document: Any, name: str, sizes: Sizes) -> None:
    """A result without its two matrices and without provenance: what an item of a sweep keeps as JSON.

    Args:
        document: The result.
        name: What it goes by.
        sizes: Lengths of the axes ``layer``, ``axis`` and ``lag``; they are found here.

    Raises:
        Misfit: Something is missing, or does not fit.
    """
    record(layers=ascending(axis("layer", whole)), singular_values=axis("axis", _FIGURE))(document, name, sizes)
    sizes["lag"] = sizes["layer"] - 1
    _ANALYSIS(document, name, sizes)
    layers = set(document["layers"])
    for place, phase in enumerate(document["phases"]):
        if not {phase["first"], phase["last"]} <= layers or phase["first"] > phase["last"]:
            raise Misfit(f"{within(name, f'phases[{place}]')} does not begin and end at layers of the file")
    fits, full = document["statistics"]["schedules"], within(name, "statistics.schedules")
    if fits is not None and len(fits) < 2:
        raise Misfit(f"{full} has too few entries")
    for schedule, fit in (fits or {}).items():
        if not _has_course(schedule, fit["parameters"], document["layers"]):
            raise Misfit(f"{full}.{schedule}.parameters are no {schedule} schedule's")


def _has_course(schedule: str, parameters: Mapping[str, float], layers: Sequence[int]) -> bool:
    """Whether the curve of a schedule that can be drawn has a height at the last layer."""
    try:
        if schedule in COURSES:
            number(COURSES[schedule](parameters, layers[-1] - layers[0] + 1), schedule, {})
    except (KeyError, ArithmeticError, Misfit):
        return False
    return True


def _run(document: Any, name: str, sizes: Sizes) -> None:
    check_analysis(document, name, sizes)
    _MATRICES_AND_PROVENANCE(document, name, sizes)


_MATRIX = many(_FIGURE, "layer", "layer")
_MATRICES_AND_PROVENANCE = record(
    cosine=_MATRIX,
    statistics=record(pearson=_MATRIX, rank_correlation=maybe(_MATRIX)),
    provenance=_PROVENANCE,
)


_ANALYSIS = record(
    model=maybe(text),
    num_layers=counts("layer"),
    hidden=size,
    keys=maybe(many(text, "layer")),
    stack=maybe(text),
    site=maybe(text),
    site_reason=maybe(text),
    offset=_FIGURE,
    norms=_BY_LAYER,
    proj_top1=maybe(_BY_LAYER),
    residual_top1=maybe(_BY_LAYER),
    explained_var=maybe(many(_FIGURE, "axis")),
    phases=many(_PHASE),
    statistics=_STATISTICS,
    answer=record(verdict=text, support=number, between=maybe(many(text)), sentence=text),
    method=text,
    error_estimate=number,
    notes=many(text),
)

_NULLED = record(**_INTERVAL, null_95=_FIGURE)
_PAIR = record(
    model=text,
    against=text,
    mapping=many(maybe(whole), "layer"),
    beyond=many(flag, "layer"),
    foreign=many(flag, "layer"),
    pearson=_LAYER_INTERVAL,
    rank_correlation=_LAYER_INTERVAL,
    drift=_LAYER_INTERVAL,
    drift_of_spread=_LAYER_INTERVAL,
    mean_pearson=_NULLED,
    mean_rank_correlation=_NULLED,
    total_drift=record(**_INTERVAL),
    total_drift_of_spread=record(**_INTERVAL),
    cka=record(**_INTERVAL),
    verdict=text,
    sentence=text,
)


def _pair(document: Any, name: str, sizes: Sizes) -> None:
    """A pair, whose layers are those of its own model."""
    own = dict(sizes)
    record(layers=ascending(axis("layer", whole)))(document, name, own)
    _PAIR(document, name, own)


def _comparison(document: Any, name: str, sizes: Sizes) -> None:
    record(models=axis("model", text), layers=ascending(axis("layer", whole)))(document, name, sizes)
    sizes["pair"] = sizes["model"] * (sizes["model"] - 1) // 2
    _COMPARISON(document, name, sizes)


_COMPARISON = record(
    revisions=many(maybe(text), "model"),
    stored_dtypes=many(text, "model"),
    offsets=many(_FIGURE, "model"),
    num_layers=counts("layer"),
    hidden=size,
    widths=many(size, "model"),
    layer_counts=many(size, "model"),
    site=text,
    site_reason=text,
    stack=maybe(text),
    pairs=many(_pair, "pair"),
    families=many(many(text)),
    bridges=many(record(model=text, links=many(text))),
    notes=many(text),
    provenance=record(gammatorch=text, device=text, bytes_read=whole, bytes_cached=whole, checkpoint_bytes=whole),
)

FORMATS: Mapping[str, Check] = {"norms": _run, "pairs": _comparison}
"""By the name that tells a format: what it must hold."""
