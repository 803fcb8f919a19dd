"""What a sweep tells, as curves: one a training run, with the size of each layer beside the timeline's figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from gammatorch.errors import ResultError
from gammatorch.results.sweep import Curve, CurveFigures, CurvesDocument, Entry
from gammatorch.sweep.labels import settings_text
from gammatorch.sweep.store import StoredItem, kept_failures, read_items
from gammatorch.sweep.told import tell

FIGURES = ("rms_gamma", "shared_energy", "effective_dimension", "pearson_previous", "pearson_last", "drift")
"""The timeline's figures, each a list over the items of a curve."""


def sweep_document(folder: Path) -> CurvesDocument:
    """Everything that is told of a sweep, from its store alone.

    Args:
        folder: The sweep's folder.

    Raises:
        OutputError: It is no sweep's folder.
        ResultError: It keeps no item that is done.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    stored = {one.item.key: one for one in read_items(folder, tensors=False)}
    failures = list(kept_failures(folder))
    if not stored:
        raise ResultError("keeps no items that are done: run the sweep first", file=str(folder))
    told = tell(folder, stored, failures)
    runs: dict[tuple[Hashable, ...], list[Entry]] = defaultdict(list)
    for entry in told.timeline:
        one = stored[entry.key]
        runs[entry.run, one.site, one.layers, one.analysis.hidden, one.settings].append(entry)
    return CurvesDocument(
        out=str(folder),
        curves=[
            _curve(str(entries[0].run), entries, [stored[entry.key] for entry in entries])
            for entries in runs.values()
            if entries[0].run is not None
        ],
        unordered=CurveFigures(**_figures([entry for entry in told.timeline if entry.run is None])),
        anomalies=told.anomalies,
        notes=told.notes,
        failures=failures,
    )


def _curve(run: str, entries: Sequence[Entry], stored: Sequence[StoredItem]) -> Curve:
    first = stored[0]
    return Curve(
        run=run,
        settings=settings_text(first.settings),
        site=first.site,
        layers=list(first.layers),
        hidden=first.analysis.hidden,
        steps=[entry.step or 0 for entry in entries],
        rms_by_layer=[_sizes(one) for one in stored],
        **_figures(entries),
    )


def _figures(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    return {name: [getattr(entry, name) for entry in entries] for name in ("item", *FIGURES)}


def _sizes(stored: StoredItem) -> list[float]:
    """RMS γ of each layer."""
    root = math.sqrt(stored.analysis.hidden)
    return [(norm or 0.0) / root for norm in stored.analysis.norms]
