"""The analysis of a checkpoint from what was computed of its gains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gammatorch.analysis.answer import answer
from gammatorch.analysis.contrasts import phase_contrasts
from gammatorch.analysis.host import Array
from gammatorch.analysis.lenses import Lenses
from gammatorch.analysis.measures import measure
from gammatorch.analysis.notes import doubtful, undefined, unranked
from gammatorch.analysis.pca import unseen
from gammatorch.analysis.phases import Phase, assign_phases, phase_statistics
from gammatorch.analysis.reduce import Reduced, Settings
from gammatorch.analysis.result import Analysis
from gammatorch.analysis.support import support
from gammatorch.gains.stack import Origin

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
    statistics = measure(lenses)
    described, contrasts = _by_phase(lenses, statistics, origin, phases)
    statistics["phase_contrasts"] = contrasts
    statistics["singular_gap"] = axes.singular_gap
    statistics["outliers"] = dict(reduced.massive)
    notes = list(origin.notes) if origin else []
    notes += undefined(axes.explained_var, statistics, layers)
    notes += unseen(axes)
    notes += doubtful(axes.singular_gap, torch.from_numpy(cosine), origin)
    notes += unranked(lenses.ranked is not None)
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
    lenses: Lenses, statistics: Mapping[str, Any], origin: Origin | None, phases: str
) -> tuple[tuple[Phase, ...], list[dict[str, Any]]]:
    """Figures and contrasts of the phases."""
    turns = [(turn["first"], turn["last"]) for turn in statistics["transitions"]]
    rows = assign_phases(
        phases,
        lenses.stored.layers,
        model_type=origin.model_type if origin else None,
        starts=statistics["change_points"] or (),
        turns=turns,
    )
    if not rows:
        return (), []
    figures = phase_statistics(rows, lenses.stored.layers, lenses.stored.norms, lenses.stored.cosine)
    contrasts = phase_contrasts(rows, lenses.robust.pearson, lenses.robust.without)
    return tuple(figures), [dict(vars(contrast)) for contrast in contrasts]


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _equal(lengths: Array) -> bool:
    lengths = lengths[lengths > 0]
    return not len(lengths) or bool(np.ptp(lengths) <= _EQUAL * np.finfo(np.float64).eps * lengths.max())
