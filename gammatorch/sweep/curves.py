"""What a sweep tells, as curves: one a training run, with the size of each layer beside the timeline's figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gammatorch.errors import ResultError
from gammatorch.sweep.export import settings_text
from gammatorch.sweep.store import StoredItem, kept_failures, read_items
from gammatorch.sweep.timeline import make_timeline

FIGURES = ("rms_gamma", "shared_energy", "effective_dimension", "pearson_previous", "pearson_last", "drift")
"""The timeline's figures, each a list over the items of a curve."""


def sweep_document(folder: Path) -> dict[str, Any]:
    """Everything that is told of a sweep, from its store alone.

    Args:
        folder: The sweep's folder.

    Returns:
        ``out``; ``curves``: one for each training run, settings and shape, with ``run``, ``settings``, ``site``,
        ``layers``, ``hidden``, ``steps`` in ascending order, ``item`` and the :data:`FIGURES` of
        each, and ``rms_by_layer``, item × layer; ``unordered``: the same of items that are steps of no run;
        ``anomalies`` and ``notes`` as in the timeline; ``failures``.

    Raises:
        OutputError: It is no sweep's folder.
        ResultError: It keeps no item that is done.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    stored = {one.item.key: one for one in read_items(folder, tensors=False)}
    failures = list(kept_failures(folder))
    if not stored:
        raise ResultError("keeps no items that are done: run the sweep first", file=str(folder))
    told = make_timeline(folder, stored, failures).to_dict()
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in told["timeline"]:
        one = stored[entry["key"]]
        runs[entry["run"], one.site, one.layers, one.analysis["hidden"], one.settings].append(entry)
    return {
        "out": str(folder),
        "curves": [
            _curve(entries, [stored[entry["key"]] for entry in entries])
            for entries in runs.values()
            if entries[0]["run"] is not None
        ],
        "unordered": _figures([entry for entry in told["timeline"] if entry["run"] is None]),
        "anomalies": told["anomalies"],
        "notes": told["notes"],
        "failures": [asdict(failure) for failure in failures],
    }


def _curve(entries: Sequence[Mapping[str, Any]], stored: Sequence[StoredItem]) -> dict[str, Any]:
    first = stored[0]
    return {
        "run": entries[0]["run"],
        "settings": settings_text(first.settings),
        "site": first.site,
        "layers": list(first.layers),
        "hidden": first.analysis["hidden"],
        "steps": [entry["step"] for entry in entries],
        **_figures(entries),
        "rms_by_layer": [_sizes(one) for one in stored],
    }


def _figures(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [entry[name] for entry in entries] for name in ("item", *FIGURES)}


def _sizes(stored: StoredItem) -> list[float]:
    """RMS γ of each layer."""
    root = math.sqrt(stored.analysis["hidden"])
    return [norm / root for norm in stored.analysis["norms"]]
