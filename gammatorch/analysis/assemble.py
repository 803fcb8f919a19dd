"""The analysis of each checkpoint from what was computed for all of them together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.answer import answer
from gammatorch.analysis.contrasts import phase_contrasts
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
    reduced: Reduced,
    origins: Sequence[Origin] | None,
    phases: str,
    settings: Settings,
    device: torch.device,
    started: float,
) -> list[Analysis]:
    """Statistics, phases, notes and answer of each checkpoint.

    Args:
        reduced: The gains without their channels.
        origins: Where they came from; None for plain tensors.
        phases: As for :func:`~gammatorch.analyze`.
        settings: How they were reduced.
        device: Where they are.
        started: ``time.perf_counter()`` at the beginning.
    """
    lenses, correlations, layers = reduced.lenses, reduced.lenses.stored, reduced.lenses.stored.layers
    measured = measure(lenses)
    hidden = round(float(correlations.moments.hidden[0]))
    described, contrasts = _by_phase(lenses, measured, origins, phases, settings.batch is not None)
    analyses = []
    for row, (axis, statistics) in enumerate(zip(reduced.axes, measured, strict=True)):
        lengths, cosine = correlations.norms[row], correlations.cosine[row]
        origin = origins[row] if origins else None
        statistics["phase_contrasts"] = contrasts[row]
        statistics["singular_gap"] = axis.singular_gap
        statistics["outliers"] = dict(reduced.massive[row])
        notes = list(origin.notes) if origin else []
        notes += undefined(axis.explained_var, statistics, layers)
        notes += unseen(axis)
        notes += doubtful(axis.singular_gap, cosine, origin)
        notes += unranked(lenses.ranked is not None)
        evidence = lenses.evidence[row]
        found = support(evidence) if evidence.count > 1 else None
        copies = axis.explained_var is None and _equal(lengths)
        analyses.append(
            Analysis(
                num_layers=len(layers),
                hidden=hidden,
                layers=layers,
                norms=lengths,
                cosine=cosine,
                cos_adjacent=cosine.diagonal(1),
                singular_values=axis.singular_values,
                explained_var=axis.explained_var,
                proj_top1=axis.proj_top1,
                residual_top1=axis.residual_top1,
                phases=described[row],
                statistics=statistics,
                answer=answer(statistics, layers, copies, found),
                method=axis.method,
                error_estimate=axis.error_estimate,
                device=str(device),
                dtype=str(settings.dtype).removeprefix("torch."),
                seconds=(time.perf_counter() - started) / len(measured),
                gains=origin,
                fingerprint=reduced.fingerprints[row] if reduced.fingerprints else None,
                notes=tuple(notes),
            )
        )
    return analyses


def _by_phase(
    lenses: Lenses,
    measured: Sequence[Mapping[str, Any]],
    gains: Sequence[Origin] | None,
    phases: str,
    whole: bool,
) -> tuple[list[tuple[Phase, ...]], list[list[dict[str, Any]]]]:
    """Figures and contrasts of the phases of each checkpoint, together for those whose phases are alike; of the whole
    batch each time where no result may depend on what else is in it."""
    correlations, robust = lenses.stored, lenses.robust
    layers, count = correlations.layers, len(measured)
    alike: dict[str, tuple[dict[str, list[int]], list[int]]] = {}
    for row, statistics in enumerate(measured):
        model_type = gains[row].model_type if gains else None
        turns = [(turn["first"], turn["last"]) for turn in statistics["transitions"]]
        starts = statistics["change_points"] or ()
        rows = assign_phases(phases, layers, model_type=model_type, starts=starts, turns=turns)
        alike.setdefault(str(rows), (rows, []))[1].append(row)
    described: list[tuple[Phase, ...]] = [()] * count
    contrasts: list[list[dict[str, Any]]] = [[]] * count
    for rows, chosen in alike.values():
        if not rows:
            continue
        everything = whole or len(alike) == 1
        of = slice(None) if everything else chosen
        figures = phase_statistics(rows, layers, correlations.norms[of], correlations.cosine[of])
        beyond = phase_contrasts(rows, robust.pearson[of], robust.without[of])
        for at, row in zip(chosen if everything else range(len(chosen)), chosen, strict=True):
            described[row] = tuple(figures[at])
            contrasts[row] = [dict(vars(contrast)) for contrast in beyond[at]]
    return described, contrasts


def _equal(lengths: Tensor) -> bool:
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return True
    spread = lengths.max() - lengths.min()
    return bool(spread <= _EQUAL * torch.finfo(lengths.dtype).eps * lengths.max())
