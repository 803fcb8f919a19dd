"""How much tighter a phase is than pairs of layers equally far apart elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gammatorch.analysis.intervals import jackknife


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


def phase_contrasts(rows: Mapping[str, Sequence[int]], pearson: Tensor, without: Tensor) -> list[list[Contrast]]:
    """Correlation within each phase beyond what the nearness of its layers gives.

    ``mean over pairs (i, j) of the phase of pearson[i, j] − profile[|i − j|]``, with the profile taken over the pairs
    of which one layer lies within the phase. Neighbours are alike, so without it a shorter phase always looks
    tighter (+0.08 under pure drift). The interval covers the choice of channels; whether bounds that were chosen
    after looking mean anything is not in it.

    Args:
        rows: Row numbers by phase.
        pearson: Correlations, shape (checkpoint, layer, layer), NaN where undefined.
        without: The same with each run of channels left out, shape (checkpoint, block, layer, layer).

    Returns:
        For each checkpoint one :class:`Contrast` a phase, over the layers that have correlations; undefined for a
        phase of one of them, or of all.

    Example:
        >>> pearson = torch.tensor([[[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]]])
        >>> round(phase_contrasts({"a": [0, 1], "b": [2]}, pearson, pearson[:, None])[0][0].value, 3)
        0.8
    """
    defined = [tuple(of_one) for of_one in pearson.diagonal(dim1=-2, dim2=-1).isfinite().tolist()]
    of_pattern = {
        pattern: torch.stack([_weights(tuple(of_phase), pattern) for of_phase in rows.values()]).flatten(1)
        for pattern in set(defined)
    }
    weights = torch.stack([of_pattern[pattern] for pattern in defined]).to(pearson)  # (checkpoint, phase, pair)
    values = weights @ pearson.nan_to_num(nan=0.0).flatten(1)[..., None]
    interval = jackknife(values.flatten(), (weights @ without.flatten(2).mT).flatten(0, 1), -2.0, 2.0)
    figures = torch.stack([interval.value, interval.low, interval.high], dim=-1).reshape(*values.shape[:2], 3)
    return [
        [
            Contrast(name, *(None if math.isnan(figure) else figure for figure in of_phase))
            for name, of_phase in zip(rows, of_one, strict=True)
        ]
        for of_one in figures.tolist()
    ]


@lru_cache
def _weights(of_phase: tuple[int, ...], rows: tuple[bool, ...]) -> Tensor:
    """Weights of all pairs whose weighted sum is the contrast; NaN if no lag has pairs on both sides."""
    layers, defined = len(rows), torch.tensor(rows)
    row = torch.arange(layers)
    lag = (row[:, None] - row).clamp(min=0)  # each pair once
    member = torch.zeros(layers, dtype=torch.bool)
    member[list(of_phase)] = True
    inside = defined[:, None] & defined & (member[:, None] & member)
    within = torch.bincount(lag[inside], minlength=layers).double()
    across = defined[:, None] & defined & (member[:, None] ^ member)
    beside = torch.bincount(lag[across], minlength=layers).double()
    common = (within > 0) & (beside > 0)
    common[0] = False
    pairs = float(within[common].sum())
    if not pairs:
        return torch.full_like(lag, torch.nan, dtype=torch.float64)
    of_lag_within = common.double() / pairs
    of_lag_beside = -common.double() * within / (pairs * beside.clamp(min=1))
    return torch.where(inside, of_lag_within[lag], torch.where(across, of_lag_beside[lag], 0))
