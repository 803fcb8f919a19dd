"""The analysing half of a sweep: from gains as stored to what is kept of them, the same bits whatever comes along.

On the CPU the last bits of a product depend on how matrices lie beside each other in a batch and on the number of
threads, so there every item is analysed by itself in one thread: that costs a few milliseconds for small items, and
nothing for large ones, which fill a thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from gammatorch.analysis.analyze import Analysis, analyze
from gammatorch.analysis.pca import SVD_MAX_WIDTH
from gammatorch.analysis.projection import Sketcher
from gammatorch.gains.device import choose_dtype
from gammatorch.sweep.item import Settings
from gammatorch.sweep.reading import Loaded
from gammatorch.sweep.store import StoredItem

_CHUNK = 1 << 20
"""Columns sketched together."""


def analyse(loaded: Loaded, settings: Settings, device: torch.device) -> StoredItem:
    """Analyse one item.

    Args:
        loaded: What was read of it.
        settings: How.
        device: Where.

    Raises:
        InvalidArgument: Phases, method or precision make no sense.
    """
    precision = choose_dtype(settings.dtype, device)
    weights = loaded.gains.gamma
    gamma = weights.to(device).to(precision) + loaded.gains.offset
    analysis = analyze(
        replace(loaded.gains, gamma=gamma),
        phases=settings.phases,
        method="gram" if settings.method == "auto" else settings.method,
        dtype=precision,
        dims=settings.dims,
        seed=settings.seed,
    )
    wide = analysis.hidden > SVD_MAX_WIDTH
    document = _without_matrices(analysis).to_dict()
    provenance = document.pop("provenance")
    document.pop("cosine")
    return StoredItem(
        item=loaded.item,
        settings=settings,
        layers=analysis.layers,
        site=loaded.gains.site,
        offset=loaded.gains.offset,
        analysis=document,
        provenance=provenance,
        files=loaded.files,
        gains_sha256=_digest(weights),
        weights=None if wide else weights,
        gram=_gram(analysis),
        pearson=analysis.statistics["pearson"].to("cpu", torch.float64).contiguous(),
        sketch=_sketch(gamma, settings) if wide else None,
    )


def _without_matrices(analysis: Analysis) -> Analysis:
    """They are kept as tensors: as lists they would cost more time than all the rest."""
    statistics = {name: value for name, value in analysis.statistics.items() if name != "pearson"}
    return replace(analysis, cosine=analysis.cosine[:0], statistics=statistics)


def _gram(analysis: Analysis) -> Tensor:
    lengths = analysis.norms.to("cpu", torch.float64)
    return analysis.cosine.to("cpu", torch.float64).nan_to_num(nan=0.0) * lengths[:, None] * lengths


def _sketch(gamma: Tensor, settings: Settings) -> Tensor:
    layers, hidden = gamma.shape
    sketcher = Sketcher(layers, hidden, settings.dims, settings.seed, gamma.device)
    for columns in torch.split(gamma, _CHUNK, dim=-1):
        sketcher.add(columns)
    return sketcher.finish().values.to("cpu", torch.float32)


def _digest(weights: Tensor) -> str:
    """SHA-256 of type, shape and bytes: two items with the same digest hold the same weights, bit for bit."""
    digest = hashlib.sha256(f"{weights.dtype} {tuple(weights.shape)}".encode())
    digest.update(memoryview(weights.contiguous().view(torch.uint8).numpy()).cast("B"))  # type: ignore[arg-type]
    return digest.hexdigest()
