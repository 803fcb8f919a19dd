"""The analysing half of a sweep: from gains as stored to what is kept of them, the same bits whatever comes along.

Products of 16-bit gains do not round. Where those of others do, their last bits depend on how matrices lie beside each
other in a batch and on the number of threads, so the gains of each item are multiplied by themselves, on the CPU one
after the other by one thread; on a GPU a batch shares what is left, the transfers and the sorting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.analyze import analyze, analyze_together
from gammatorch.analysis.result import Analysis
from gammatorch.errors import DeviceLost, OutOfDeviceMemory
from gammatorch.gains.device import choose_dtype, device_errors, release
from gammatorch.gains.stack import Gains
from gammatorch.gains.wide import WideGains, narrower_when_full
from gammatorch.results.run import run_provenance, run_summary
from gammatorch.results.statistics import MATRICES
from gammatorch.sweep.item import Settings
from gammatorch.sweep.reading import Loaded
from gammatorch.sweep.store import StoredItem

_TOGETHER = 16
"""Items that a GPU analyses together, where each call has a cost whatever its size; the CPU gains nothing by it."""


def batch_size(loaded: Loaded, device: torch.device) -> int:
    """How many items go together.

    Args:
        loaded: One of them.
        device: Where they are analysed.
    """
    return 1 if device.type == "cpu" or not isinstance(loaded.gains, Gains) else _TOGETHER


def analyse(loaded: Sequence[Loaded], settings: Settings, device: torch.device) -> list[StoredItem | Exception]:
    """Analyse items, those of one shape together where the device takes batches.

    Args:
        loaded: What was read of them.
        settings: How.
        device: Where.

    Returns:
        For each item what is to be kept, or why it cannot be analysed.
    """
    found: dict[int, StoredItem | Exception] = {}
    for rows in _groups(loaded):
        together = [loaded[row] for row in rows]
        found |= zip(rows, _analyse_group(together, settings, device), strict=True)
    return [found[row] for row in range(len(loaded))]


def alike(loaded: Loaded) -> Hashable:
    """What items that can be analysed together have in common.

    Args:
        loaded: One of them.
    """
    return (loaded.gains.layers, loaded.gains.gamma.shape) if isinstance(loaded.gains, Gains) else loaded.item.key


def _groups(loaded: Sequence[Loaded]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for row, one in enumerate(loaded):
        groups.setdefault(alike(one), []).append(row)
    return list(groups.values())


def _analyse_group(
    group: Sequence[Loaded], settings: Settings, device: torch.device
) -> Sequence[StoredItem | Exception]:
    try:
        with device_errors():
            return _attempt(group, settings, device)
    except DeviceLost:  # nothing else would be done either
        raise
    except Exception as error:
        if len(group) == 1:
            return [error]
        full = isinstance(error, OutOfDeviceMemory)
    if full:
        release(device)
    size = len(group) // 2 if full else 1
    parts = [group[start : start + size] for start in range(0, len(group), size)]
    return [one for part in parts for one in _analyse_group(part, settings, device)]


def _attempt(group: Sequence[Loaded], settings: Settings, device: torch.device) -> list[StoredItem]:
    how: dict[str, Any] = {
        "phases": settings.phases,
        "method": settings.method,
        "dtype": choose_dtype(settings.dtype, device),
        "dims": settings.dims,
        "seed": settings.seed,
    }
    if isinstance(wide := group[0].gains, WideGains):
        analysis = narrower_when_full([wide], partial(analyze, wide, fingerprint=True, **how))
        return [stored_item(group[0], None, analysis, settings)]
    how["method"] = "gram" if settings.method == "auto" else settings.method
    gains, count = [_on_device(one, device, how["dtype"]) for one in group], batch_size(group[0], device)
    if how["method"] != "gram":
        analyses = [analyze(one, **how) for one in gains]
    else:
        parts = [gains[start : start + count] for start in range(0, len(gains), count)]
        analyses = [one for part in parts for one in analyze_together(part, **how)]
    weights = [one.gains.gamma if isinstance(one.gains, Gains) else None for one in group]
    return [stored_item(*one, settings) for one in zip(group, weights, analyses, strict=True)]


def _on_device(loaded: Loaded, device: torch.device, dtype: torch.dtype) -> Gains:
    assert isinstance(loaded.gains, Gains)
    return replace(loaded.gains, gamma=loaded.gains.gamma.to(device).to(dtype, copy=True).add_(loaded.gains.offset))


def stored_item(loaded: Loaded, weights: Tensor | None, analysis: Analysis, settings: Settings) -> StoredItem:
    """What is kept of an item.

    Args:
        loaded: What was read of it.
        weights: Its gains as stored, on the CPU; None where they are wide, and the analysis holds a sketch.
        analysis: Its analysis.
        settings: What was read, and how it was analysed.
    """
    sketch = analysis.fingerprint.values.to("cpu", torch.float32) if analysis.fingerprint is not None else None
    kept = weights if weights is not None else sketch
    assert kept is not None
    return StoredItem(
        item=loaded.item,
        settings=settings,
        layers=analysis.layers,
        site=loaded.gains.site,
        offset=loaded.gains.offset,
        analysis=run_summary(analysis),
        provenance=run_provenance(analysis),
        files=loaded.files,
        gains_sha256=_digest(kept),
        weights=weights,
        gram=_gram(analysis),
        **{name: _kept(analysis.statistics[name]) for name in MATRICES},
        sketch=sketch if weights is None else None,
        sketch_of=analysis.fingerprint.metadata if weights is None and analysis.fingerprint is not None else None,
    )


def _kept(matrix: Tensor | None) -> Tensor | None:
    return None if matrix is None else matrix.to("cpu", torch.float64).contiguous()


def _gram(analysis: Analysis) -> Tensor:
    lengths = analysis.norms.to("cpu", torch.float64)
    return analysis.cosine.to("cpu", torch.float64) * lengths[:, None] * lengths


def _digest(values: Tensor) -> str:
    """SHA-256 of type, shape and bytes: two items with the same digest hold the same values, bit for bit."""
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    digest.update(memoryview(values.contiguous().view(torch.uint8).numpy()).cast("B"))  # type: ignore[arg-type]
    return digest.hexdigest()
