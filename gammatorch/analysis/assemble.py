"""The analysis of each checkpoint from what was computed for all of them together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.answer import READS, answer
from gammatorch.analysis.contrasts import phase_contrasts
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.measures import measure
from gammatorch.analysis.notes import doubtful, undefined
from gammatorch.analysis.outliers import Outliers
from gammatorch.analysis.pca import unseen
from gammatorch.analysis.phases import Phase, assign_phases, phase_statistics
from gammatorch.analysis.reduce import Reduced, Settings
from gammatorch.analysis.result import Analysis
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
    correlations, layers, apart = reduced.correlations, reduced.correlations.layers, settings.batch is not None
    measured = measure(correlations)[: len(reduced.axes)]
    hidden = round(float(correlations.moments.hidden[0]))
    outliers = _without_outliers(reduced.outliers, len(measured), apart)
    described, contrasts = _by_phase(correlations, measured, origins, phases, apart)
    analyses = []
    for row, (axis, statistics) in enumerate(zip(reduced.axes, measured, strict=True)):
        lengths, cosine = correlations.norms[row], correlations.cosine[row]
        origin = origins[row] if origins else None
        statistics["phase_contrasts"] = contrasts[row]
        statistics["singular_gap"] = axis.singular_gap
        statistics["outliers"] = outliers[row]
        notes = list(origin.notes) if origin else []
        notes += undefined(axis.explained_var, statistics, layers)
        notes += unseen(axis)
        notes += doubtful(axis.singular_gap, cosine, origin)
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
                answer=answer(statistics, layers, copies),
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
    correlations: Correlations,
    measured: Sequence[Mapping[str, Any]],
    gains: Sequence[Origin] | None,
    phases: str,
    whole: bool,
) -> tuple[list[tuple[Phase, ...]], list[list[dict[str, Any]]]]:
    """Figures and contrasts of the phases of each checkpoint, together for those whose phases are alike; of the whole
    batch each time where no result may depend on what else is in it."""
    layers, count = correlations.layers, len(measured)
    alike: dict[str, tuple[dict[str, list[int]], list[int]]] = {}
    for row, statistics in enumerate(measured):
        model_type = gains[row].model_type if gains else None
        rows = assign_phases(phases, layers, model_type=model_type, starts=statistics["change_points"] or ())
        alike.setdefault(str(rows), (rows, []))[1].append(row)
    described: list[tuple[Phase, ...]] = [()] * count
    contrasts: list[list[dict[str, Any]]] = [[]] * count
    for rows, chosen in alike.values():
        everything = whole or len(alike) == 1
        of = slice(None) if everything else chosen
        figures = phase_statistics(rows, layers, correlations.norms[of], correlations.cosine[of])
        beyond = phase_contrasts(rows, correlations.pearson[of], correlations.without[of])
        for at, row in zip(chosen if everything else range(len(chosen)), chosen, strict=True):
            described[row] = tuple(figures[at])
            contrasts[row] = [dict(vars(contrast)) for contrast in beyond[at]]
    return described, contrasts


def _without_outliers(found: Outliers | None, count: int, apart: bool) -> list[dict[str, Any]]:
    """The channels that stand out, and what is said of the layers without them; null where they were not looked for."""
    if found is None:
        return [dict.fromkeys(("channels", "mean_pearson", "verdict"))] * count
    said: list[dict[str, Any]] = [
        {"channels": channels, "mean_pearson": None, "verdict": None} for channels in found.channels
    ]
    if found.rest is None:
        return said
    parts = [found.rest.only(row) for row in torch.arange(len(found.rest.norms))[:, None]] if apart else [found.rest]
    measured = [one for part in parts for one in measure(part, READS)]
    for one, statistics in zip((one for one in said if one["channels"]), measured, strict=True):
        one["mean_pearson"] = statistics["mean_pearson"]["value"]
        one["verdict"] = answer({**statistics, "outliers": None}, found.rest.layers, copies=False).verdict
    return said


def _equal(lengths: Tensor) -> bool:
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return True
    spread = lengths.max() - lengths.min()
    return bool(spread <= _EQUAL * torch.finfo(lengths.dtype).eps * lengths.max())
