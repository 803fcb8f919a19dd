"""What a stored item must hold, so that whatever reads it later finds what it was promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gammatorch.reports.result_schema import check_analysis
from gammatorch.reports.schema import (
    Misfit,
    Sizes,
    ascending,
    axis,
    flag,
    integer,
    many,
    maybe,
    named,
    number,
    record,
    text,
    whole,
)

if TYPE_CHECKING:
    from torch import Tensor

_ITEM = record(
    name=text,
    source=text,
    identity=text,
    revision=maybe(text),
    commit=maybe(text),
    step=maybe(whole),
    tags=record(),
    key=text,
)

_SETTINGS = record(
    site=text,
    stack=maybe(text),
    pattern=maybe(text),
    raw=flag,
    dtype=text,
    method=text,
    dims=integer,
    seed=integer,
    phases=text,
)

_DESCRIBED = record(
    item=_ITEM,
    settings=_SETTINGS,
    layers=ascending(axis("layer", whole)),
    site=text,
    offset=number,
    files=named(record(hash=maybe(text))),
    gains_sha256=text,
    sketch_of=maybe(named(integer)),
)

_BESIDE = record(
    norms=many(number, "layer"),
    cos_adjacent=maybe(many(maybe(number))),
    statistics=record(cos_ones=many(maybe(number), "layer")),
)
"""Figures of an analysis that an export or a timeline reads otherwise than the page of a run does, or alone."""


def check_header(described: Mapping[str, Any], analysis: Any, provenance: Any, key: str) -> None:
    """Check what an item says of itself, and the result it keeps.

    Args:
        described: What the item is: name, settings, layers, files.
        analysis: The result, without its matrices.
        provenance: Where it comes from.
        key: What its file is called.

    Raises:
        Misfit: Something is missing, or is not what the format demands.
    """
    sizes: Sizes = {}
    _DESCRIBED(described, "item", sizes)
    if described["item"]["key"] != key:
        raise Misfit("item.item.key is not the name of the file")
    check_analysis(analysis, "analysis", {})
    if analysis["layers"] != described["layers"]:
        raise Misfit("analysis.layers are not item.layers")
    _BESIDE(analysis, "analysis", sizes)
    record()(provenance, "provenance", sizes)


def check_failure(kept: Any) -> None:
    """Check the record of an item that could not be done.

    Args:
        kept: The record.

    Raises:
        Misfit: Something is missing, or is no text.
    """
    record(key=text, name=text, kind=text, message=text)(kept, "", {})


def check_tensors(found: Mapping[str, Tensor], layers: int, hidden: int) -> None:
    """Check the tensors of an item.

    Args:
        found: By name.
        layers: Rows that each has.
        hidden: Width of the gains.

    Raises:
        Misfit: One is missing, or has another type or shape.
    """
    gains = "weights" if "weights" in found else "sketch"
    columns = {"gram": layers, "pearson": layers, gains: hidden if gains == "weights" else None}
    if "rank_correlation" in found:
        columns["rank_correlation"] = layers
    for name, width in columns.items():
        if name not in found:
            raise Misfit(f"{name} is missing")
        kind, shape = found[name].dtype, tuple(found[name].shape)
        fits = len(shape) == 2 and shape[0] == layers and shape[1] == (width or shape[1])
        if not fits or not found[name].is_floating_point():
            raise Misfit(f"{name} is {kind} of shape {shape}, not real numbers of shape ({layers}, {width or 'any'})")
