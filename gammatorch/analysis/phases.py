"""Runs of layers: how alike the directions are within and between them, also at equal distance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gammatorch.analysis.host import Array, product
from gammatorch.analysis.intervals import defined, interval
from gammatorch.errors import InvalidArgument

PRESETS: Mapping[str, str] = {"qwen3-32b": "A=0-6,B=7-9,C=10-31,D=32-46,E=47-58,tail=59-"}
"""Named bounds; those of Qwen3-32B were set by hand when its gains were first studied."""

_PHASE = re.compile(r"(?P<name>[^=,]+)=(?P<first>\d+)(?P<dash>-(?P<last>\d+)?)?")


@dataclass(frozen=True)
class Phase:
    """A run of layers, with its figures; those that are undefined are None.

    Attributes:
        name: Its name.
        first: Index of its first layer.
        last: Index of its last layer.
        n: Number of layers.
        norm_mean: Mean length of its gains.
        norm_std: Standard deviation of their lengths (population: divided by n).
        intra_cos: Mean cosine over the pairs of its layers; None for a single layer.
        vs_other_cos: Mean cosine between its layers and all others; None if there are none.
    """

    name: str
    first: int
    last: int
    n: int
    norm_mean: float
    norm_std: float
    intra_cos: float | None
    vs_other_cos: float | None


def assign_phases(
    text: str,
    layers: Sequence[int],
    *,
    model_type: str | None = None,
    starts: Sequence[int] = (),
    turns: Sequence[tuple[int, int]] = (),
) -> dict[str, list[int]]:
    """Rows of each phase.

    Args:
        text: ``"auto"``, a preset's name, or bounds as layer indices, ends included: ``"early=0-9,late=10-"``.
            ``auto`` is the preset for a Qwen3 of 64 layers, else the phases that the data show, else none.
        layers: Layer index of each row.
        model_type: ``model_type`` of config.json.
        starts: First layers of the phases found, after the first phase (``change_points``).
        turns: Last layer before and first layer after each turn that takes several layers, which belong to no phase.

    Returns:
        Row numbers by phase, in the order given; layers outside all bounds belong to none.

    Raises:
        InvalidArgument: The text is no such list, or its phases overlap or hold no layer.

    Example:
        >>> assign_phases("early=0-1,late=2-", range(4))
        {'early': [0, 1], 'late': [2, 3]}
    """
    if text == "auto":
        if model_type == "qwen3" and list(layers) == list(range(64)):
            text = "qwen3-32b"
        else:
            return _between(starts, turns, layers) if starts or turns else {}
    rows: dict[str, list[int]] = {}
    taken: dict[int, str] = {}
    for part in PRESETS.get(text, text).split(","):
        match = _PHASE.fullmatch(part.strip())
        if match is None:
            raise InvalidArgument(
                f"cannot read the phase {part.strip()!r} in {text!r}: "
                f"pass auto, {', '.join(PRESETS)}, or bounds like 'early=0-9,late=10-'"
            )
        name, first = match["name"].strip(), int(match["first"])
        last = int(match["last"]) if match["last"] else (first if not match["dash"] else max(layers, default=0))
        if name in rows:
            raise InvalidArgument(f"phase {name!r} is given twice in {text!r}")
        rows[name] = [row for row, layer in enumerate(layers) if first <= layer <= last]
        if not rows[name]:
            raise InvalidArgument(f"phase {part.strip()!r} holds none of the layers {layers[0]}-{layers[-1]}")
        for row in rows[name]:
            if row in taken:
                raise InvalidArgument(f"phases {taken[row]!r} and {name!r} both hold layer {layers[row]}")
            taken[row] = name
    return rows


def shortened(text: str, layers: Sequence[int]) -> list[str]:
    """That phases which were asked for reach beyond the last layer, one note each.

    Args:
        text: As for :func:`assign_phases`.
        layers: Layer index of each row.

    Example:
        >>> shortened("early=0-1,late=2-99", range(4))
        ["phase 'late=2-99' ends at layer 3, the last one"]
    """
    parts = (_PHASE.fullmatch(part.strip()) for part in text.split(","))
    return [
        f"phase {part[0]!r} ends at layer {layers[-1]}, the last one"
        for part in parts
        if part is not None and part["last"] is not None and int(part["last"]) > layers[-1]
    ]


def phase_statistics(
    rows: Mapping[str, Sequence[int]], layers: Sequence[int], lengths: Array, cosine: Array
) -> list[Phase]:
    """Figures of each phase.

    Args:
        rows: Row numbers by phase.
        layers: Layer index of each row.
        lengths: Lengths of the gains, shape (layer).
        cosine: Cosines between layers, shape (layer, layer), NaN for those without direction, which are passed over.

    Returns:
        One :class:`Phase` a phase, in the same order.

    Example:
        >>> cosine = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, 0.3], [0.1, 0.3, 1.0]])
        >>> phases = phase_statistics({"a": [0, 1], "b": [2]}, [0, 1, 2], np.ones(3), cosine)
        >>> [(phase.intra_cos, phase.vs_other_cos) for phase in phases]
        [(0.8, 0.2), (None, 0.2)]
    """
    member = np.zeros((len(rows), len(layers)))
    for phase, of_phase in enumerate(rows.values()):
        member[phase, list(of_phase)] = 1
    pairs = np.isfinite(cosine).astype(np.float64)
    np.fill_diagonal(pairs, 0)
    sums, counts = member @ np.where(pairs > 0, cosine, 0.0), member @ pairs  # of each phase with each layer
    with np.errstate(invalid="ignore"):
        intra, vs_other = ((sums * of).sum(axis=-1) / (counts * of).sum(axis=-1) for of in (member, 1 - member))
    return [
        Phase(
            name=name,
            first=layers[of_phase[0]],
            last=layers[of_phase[-1]],
            n=len(of_phase),
            norm_mean=float(lengths[list(of_phase)].mean()),
            norm_std=float(lengths[list(of_phase)].std()),
            intra_cos=defined(float(intra[phase])),
            vs_other_cos=defined(float(vs_other[phase])),
        )
        for phase, (name, of_phase) in enumerate(rows.items())
    ]


def _between(starts: Sequence[int], turns: Sequence[tuple[int, int]], layers: Sequence[int]) -> dict[str, list[int]]:
    """The phases that begin at the first layer, at each start and after each turn: P1, P2, …"""
    rows: dict[str, list[int]] = {}
    begins = [*starts, *(after for _, after in turns)]
    for row, layer in enumerate(layers):
        if not any(before < layer < after for before, after in turns):
            rows.setdefault(f"P{1 + sum(start <= layer for start in begins)}", []).append(row)
    return rows


@dataclass(frozen=True)
class Contrast:
    """A phase against what surrounds it at equal distance; undefined figures are None.

    Attributes:
        name: Name of the phase.
        value: Mean correlation within it minus that of pairs across its bounds at the same lags.
        low: Lower 95 % bound, over channels.
        high: Upper one.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None


def phase_contrasts(rows: Mapping[str, Sequence[int]], pearson: Array, without: Array) -> list[Contrast]:
    """Correlation within each phase beyond what the nearness of its layers gives.

    ``mean over pairs (i, j) of the phase of pearson[i, j] − profile[|i − j|]``, with the profile taken over the pairs
    of which one layer lies within the phase. Neighbours are alike, so without it a shorter phase always looks
    tighter (+0.08 under pure drift). The interval covers the choice of channels; whether bounds that were chosen
    after looking mean anything is not in it.

    Args:
        rows: Row numbers by phase.
        pearson: Correlations, shape (layer, layer), NaN where undefined.
        without: The same with each run of channels left out, 0 where undefined, shape (block, layer, layer).

    Returns:
        One :class:`Contrast` a phase, over the layers that have correlations; undefined for a phase of one of them, or
        of all.

    Example:
        >>> pearson = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
        >>> round(phase_contrasts({"a": [0, 1], "b": [2]}, pearson, pearson[None])[0].value, 3)
        0.8
    """
    counted = tuple(np.isfinite(pearson.diagonal()).tolist())
    weights = np.stack([_weights(tuple(of_phase), counted) for of_phase in rows.values()])
    values = product(weights, np.where(np.isnan(pearson), 0.0, pearson).ravel())
    found = interval(values, product(weights, without.reshape(len(without), -1).T), least=-2.0, most=2.0)
    figures = np.stack([found.value, found.low, found.high], axis=-1).tolist()
    return [Contrast(name, *map(defined, of_phase)) for name, of_phase in zip(rows, figures, strict=True)]


@lru_cache
def _weights(of_phase: tuple[int, ...], counted: tuple[bool, ...]) -> Array:
    """Weights of all pairs whose weighted sum is the contrast; NaN if no lag has pairs on both sides."""
    layers, known = len(counted), np.array(counted)
    row = np.arange(layers)
    lag = (row[:, None] - row).clip(min=0)  # each pair once
    member = np.isin(row, of_phase)
    both = np.logical_and.outer(known, known)
    inside, across = both & np.logical_and.outer(member, member), both & np.logical_xor.outer(member, member)
    within, beside = (np.bincount(lag[chosen], minlength=layers) for chosen in (inside, across))
    common = (within > 0) & (beside > 0)
    common[0] = False
    pairs = within[common].sum()
    if not pairs:
        return np.full(layers * layers, np.nan)
    of_lag_within = common / pairs
    of_lag_beside = -of_lag_within * within / beside.clip(min=1)
    return np.where(inside, of_lag_within[lag], np.where(across, of_lag_beside[lag], 0)).ravel()
