"""The analysis of a checkpoint from what was computed of its gains, with notes on what is undefined or doubtful."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.evidence import Lenses
from gammatorch.analysis.figures import PhaseContrast, Statistics
from gammatorch.analysis.host import Array
from gammatorch.analysis.pca import unseen
from gammatorch.analysis.phases import Phase, assign_phases, phase_contrasts, phase_statistics, shortened
from gammatorch.analysis.reduce import Reduced, Settings
from gammatorch.analysis.result import Analysis
from gammatorch.analysis.statistics import measure
from gammatorch.analysis.verdict import answer, support
from gammatorch.gains.stack import Origin
from gammatorch.gains.stored import STORED_DTYPES

_NAMED = 8
"""Layers that a note names."""

CLEAR_GAP = 0.01
"""Below this relative gap between the first two singular values the first axis is not identified."""


def undefined(explained: object | None, statistics: Statistics, layers: Sequence[int]) -> list[str]:
    """What could not be computed, and why.

    Args:
        explained: Shares of the principal axes, None if undefined.
        statistics: The statistics, undefined figures None.
        layers: Layer index of each row.

    Example:
        >>> one = {"pearson": torch.ones(1, 1), "cos_ones": torch.ones(1), "mean_pearson": {"value": None, "low": None}}
        >>> undefined(None, one, [0])
        ['one layer only: principal axes, phases and neighbours are undefined']
    """
    zero = _listed(statistics["cos_ones"].isnan(), layers)
    constant = _listed(statistics["pearson"].diagonal().isnan() & statistics["cos_ones"].isfinite(), layers)
    notes = []
    if zero:
        notes.append(f"zero gain in {zero}: no direction, and left out of all figures but the lengths")
    if constant:
        notes.append(f"constant gain in {constant}: no correlation, and left out of what is made of correlations")
    if len(layers) == 1:
        notes.append("one layer only: principal axes, phases and neighbours are undefined")
    elif int(statistics["cos_ones"].isfinite().sum()) < 2:
        notes.append("fewer than two layers have a direction: principal axes and correlations are undefined")
    elif explained is None:
        notes.append(
            "all layers point the same way to rounding (an untrained checkpoint?): explained_var and proj_top1 "
            "would be rounding noise and are left undefined"
        )
    mean = statistics["mean_pearson"]
    if mean["value"] is not None and mean["low"] is None:
        notes.append("fewer than 8 channels: intervals and change_points are undefined")
    if 1 < len(layers) < 6:
        notes.append(f"{len(layers)} layers: change_points and schedules are undefined below 6")
    elif mean["low"] is not None and statistics["change_points"] is None:
        notes.append("fewer than 6 layers have correlations: change_points are undefined")
    return notes


def unranked(ranked: bool) -> list[str]:
    """That the gains have no ranks, where they have none.

    Args:
        ranked: Whether they were put in order of size.

    Example:
        >>> unranked(True)
        []
    """
    if ranked:
        return []
    return [
        "wider than 65,536 channels, read in column blocks or sketched, the gains have no ranks: all figures are of "
        "Pearson's correlation, which a few massive channels may carry"
    ]


def _listed(chosen: Tensor, layers: Sequence[int]) -> str:
    """The layers that are chosen, in words: all of them, or the first few and how many."""
    found = [layer for layer, is_chosen in zip(layers, chosen.tolist(), strict=True) if is_chosen]
    if len(found) > 1 and len(found) == len(layers):
        return "every layer"
    names = ", ".join(map(str, found[:_NAMED]))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{'layer' if len(found) == 1 else 'layers'} {names}{more}" if found else ""


def doubtful(gap: float | None, cosine: Tensor, gains: Origin | None) -> list[str]:
    """What was computed and may be less than it seems: an axis that is tied, differences as small as rounding.

    Args:
        gap: Relative gap of the first two singular values.
        cosine: Cosines between layers, shape (layer, layer), NaN for those without direction.
        gains: Where they came from.

    Example:
        >>> doubtful(0.001, torch.eye(2), None)
        ['the first two singular values differ by 0.10%: the first axis, and so proj_top1, is not identified']
    """
    notes = []
    if gap is not None and gap < CLEAR_GAP:
        notes.append(
            f"the first two singular values differ by {gap:.2%}: the first axis, and so proj_top1, is not identified"
        )
    if gap is not None and gains is not None and gains.offset == 0 and "+" not in gains.stored_dtype:
        # rounding to a type of relative step ε moves a direction by ε/√12 rms, and 1 - cos of two by ε²/12
        floor = torch.finfo(STORED_DTYPES[gains.stored_dtype]).eps ** 2 / 12
        distance = float((1 - cosine.diagonal(1)).nanmedian())
        if distance < floor:
            notes.append(
                f"neighbours differ by 1 - cos = {distance:.1e}, no more than storing them as {gains.stored_dtype} "
                f"does ({floor:.1e}): axes and phases may be rounding"
            )
    return notes


_EQUAL = 64
"""Rounding errors within which lengths count as equal."""


def assemble(
    reduced: Reduced, origin: Origin | None, phases: str, settings: Settings, device: torch.device, seconds: float
) -> Analysis:
    """Statistics, phases, notes and answer of a checkpoint.

    Args:
        reduced: The gains without their channels.
        origin: Where they came from; None for a plain tensor.
        phases: As for :func:`~gammatorch.analyze`.
        settings: How they were reduced.
        device: Where they are.
        seconds: Time that reducing them took.
    """
    started = time.perf_counter()
    lenses, axes, layers = reduced.lenses, reduced.axes, reduced.lenses.stored.layers
    lengths, cosine = lenses.stored.norms, lenses.stored.cosine
    measured = measure(lenses)
    described, contrasts = _by_phase(lenses, measured, origin, phases)
    beside = {"phase_contrasts": contrasts, "singular_gap": axes.singular_gap, "outliers": reduced.massive}
    statistics = Statistics.of({**measured, **beside})
    notes = list(origin.notes) if origin else []
    notes += undefined(axes.explained_var, statistics, layers)
    notes += unseen(axes)
    notes += doubtful(axes.singular_gap, torch.from_numpy(cosine), origin)
    notes += unranked(lenses.ranked is not None)
    notes += shortened(phases, layers)
    found = support(lenses.evidence) if lenses.evidence.count > 1 else None
    copies = axes.explained_var is None and _equal(lengths)
    return Analysis(
        num_layers=len(layers),
        hidden=round(lenses.stored.moments.hidden),
        layers=layers,
        norms=torch.from_numpy(lengths),
        cosine=torch.from_numpy(cosine),
        cos_adjacent=torch.from_numpy(cosine).diagonal(1),
        singular_values=_tensor(axes.singular_values),
        explained_var=None if axes.explained_var is None else _tensor(axes.explained_var),
        proj_top1=None if axes.proj_top1 is None else _tensor(axes.proj_top1),
        residual_top1=None if axes.residual_top1 is None else _tensor(axes.residual_top1),
        phases=described,
        statistics=statistics,
        answer=answer(statistics, layers, copies, found),
        method=axes.method,
        error_estimate=axes.error_estimate,
        device=str(device),
        dtype=str(settings.dtype).removeprefix("torch."),
        seconds=seconds + time.perf_counter() - started,
        gains=origin,
        fingerprint=reduced.fingerprint,
        notes=tuple(notes),
    )


def _by_phase(
    lenses: Lenses, measured: Statistics, origin: Origin | None, phases: str
) -> tuple[tuple[Phase, ...], list[PhaseContrast]]:
    """Figures and contrasts of the phases."""
    turns = [(turn.first, turn.last) for turn in measured.transitions]
    rows = assign_phases(
        phases,
        lenses.stored.layers,
        model_type=origin.model_type if origin else None,
        starts=measured.change_points or (),
        turns=turns,
    )
    if not rows:
        return (), []
    figures = phase_statistics(rows, lenses.stored.layers, lenses.stored.norms, lenses.stored.cosine)
    contrasts = phase_contrasts(rows, lenses.robust.pearson, lenses.robust.without)
    return tuple(figures), [PhaseContrast(vars(contrast)) for contrast in contrasts]


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _equal(lengths: Array) -> bool:
    lengths = lengths[lengths > 0]
    return not len(lengths) or bool(np.ptp(lengths) <= _EQUAL * np.finfo(np.float64).eps * lengths.max())
