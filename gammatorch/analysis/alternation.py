"""Kinds of layers that alternate over depth."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gammatorch.analysis.intervals import jackknife, student_t

_LONGEST_PERIOD = 8

_LEAST_CONTRAST = 0.05
"""Correlation by which layers of one kind must exceed others at about the same distance."""

_TIE = 0.9
"""A period counts as good as the best from this share of its contrast on: multiples of a period are one too."""


def lag_sums(values: Tensor) -> Tensor:
    """Sums over the pairs of layers that stand 0, 1, … L − 1 apart.

    Args:
        values: Of each pair, shape (…, layer, layer), symmetric.

    Returns:
        ``sums[k] = Σ_i values[i, i + k]``, shape (…, layer): each pair counted once.

    Example:
        >>> lag_sums(torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 4.0], [3.0, 4.0, 1.0]]))
        tensor([3., 6., 3.])
    """
    layers = values.shape[-1]
    padded = pad(values, (0, layers))  # one row further is one column further: the diagonals stand upright
    strides = (*padded.stride()[:-2], 2 * layers + 1, 1)
    return padded.as_strided(values.shape, strides).sum(dim=-2)


def period(correlation: Tensor, pairs: Tensor, without: Tensor) -> Mapping[str, Any]:
    """Whether kinds of layers alternate, as local and global or linear and softmax attention do in hybrids.

    With profile the mean correlation by lag, a period p shows as a comb: ``contrast(p) = mean over m of
    profile[mp] − (profile[mp − 1] + profile[mp + 1]) / 2``, with lags up to L/2. A drift, whose profile is smooth, has
    none, whatever its slope. The period is the p from 2 to 8 of largest contrast, the smallest of those within 10 % of
    it, if the contrast exceeds 0.05 and, at 95 % for all p at once (Bonferroni), 0.

    Args:
        correlation: Between layers, 0 where undefined, shape (checkpoint, layer, layer).
        pairs: Which pairs of layers have one, same shape.
        without: ``correlation`` with each run of channels left out, shape (checkpoint, block, layer, layer).

    Returns:
        ``period``, a list with None where no kinds alternate; its contrast as ``value``, ``low``, ``high`` (95 %,
        jackknife over channels), of the best p where there is no period; ``within`` and ``across``, the mean
        correlations at lags that are multiples of that p and at all others. NaN below seven layers.

    Example:
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.gram import moments
        >>> kinds = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
        >>> found = Correlations(moments(kinds.repeat(8, 1)), tuple(range(16)))
        >>> period(found.filled, found.pairs, found.without)["period"]
        [2]
    """
    layers = correlation.shape[-1]
    weights = _combs(layers).to(correlation)
    if not len(weights):
        undefined = torch.full_like(correlation[:, 0, 0], torch.nan)
        names = ("value", "low", "high", "within", "across")
        return {"period": [None] * len(undefined), **dict.fromkeys(names, undefined)}
    counts, sums = lag_sums(pairs.to(weights)), lag_sums(correlation * pairs)
    lag, length = torch.arange(layers), torch.arange(2, 2 + len(weights))
    multiple = (lag[:, None] % length == 0).to(weights)
    within, across = (  # not by @, which rounds rows of a batch differently where they begin at odd addresses
        (sums[:, :, None] * lags).sum(dim=1) / (counts[:, :, None] * lags).sum(dim=1)
        for lags in (multiple, 1 - multiple)
    )
    of_lag = weights / counts.clamp(min=1)[:, None]  # of every pair at a lag, shape (checkpoint, period, lag)
    contrasts = (of_lag @ sums[..., None])[..., 0]
    near_best = contrasts >= _TIE * contrasts.amax(dim=-1, keepdim=True)
    best = near_best.to(torch.uint8).argmax(dim=-1, keepdim=True)
    value = contrasts.gather(-1, best)[:, 0]
    of_pair = of_lag.gather(1, best[..., None].expand(-1, -1, layers))[:, 0, (lag[:, None] - lag).abs()] / 2
    left = without.flatten(2) @ of_pair.flatten(1)[..., None]  # 0 where undefined, as lag 0 weighs
    found = jackknife(value, left[..., 0], -2.0, 2.0)
    blocks = left.shape[1]
    sure = student_t(1 - 0.025 / len(weights), blocks - 1) / student_t(0.975, blocks - 1) if blocks > 1 else 1.0
    real = (value > _LEAST_CONTRAST) & (value > sure * (found.high - found.low) / 2)
    periods = [2 + p if is_real else None for p, is_real in zip(best[:, 0].tolist(), real.tolist(), strict=True)]
    return {
        "period": periods,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "within": within.gather(-1, best)[:, 0],
        "across": across.gather(-1, best)[:, 0],
    }


def largest_kind(pearson: Tensor, every: int) -> list[int]:
    """Rows of the kind of layers that has the most, where kinds alternate.

    Layers a multiple of the period apart are of one kind. So are two such series if the correlation of neighbours
    between them is nearer to that within a series than to the lowest between any two.

    Args:
        pearson: Correlations, shape (layer, layer).
        every: The period.

    Example:
        >>> of_kind = torch.tensor([0, 0, 1]).repeat(4)
        >>> largest_kind((of_kind[:, None] == of_kind).double(), 3)
        [0, 1, 3, 4, 6, 7, 9, 10]
    """
    layers = len(pearson)
    within = float(pearson.diagonal(every).mean())
    alike = {
        (one, other): float(
            torch.cat([_between(pearson, one, other, every), _between(pearson, other, one, every)]).mean()
        )
        for one, other in itertools.combinations(range(every), 2)
    }
    kinds = list(range(every))
    for (one, other), value in alike.items():
        if value >= (within + min(alike.values())) / 2:
            kinds = [kinds[one] if kind == kinds[other] else kind for kind in kinds]
    largest, _ = Counter(kinds[row % every] for row in range(layers)).most_common(1)[0]
    return [row for row in range(layers) if kinds[row % every] == largest]


def _between(pearson: Tensor, one: int, other: int, every: int) -> Tensor:
    """Correlations of the rows of one series with the next row of another."""
    return pearson.diagonal((other - one) % every)[one::every]


@lru_cache
def _combs(layers: int) -> Tensor:
    """Weights over lags whose sum is each period's contrast, shape (period, lag), from 2 on."""
    combs = []
    for length in range(2, min(_LONGEST_PERIOD, (layers - 1) // 3) + 1):
        teeth = range(length, max(layers // 2, length + 1), length)
        comb = torch.zeros(layers, dtype=torch.float64)
        for lag in teeth:
            comb[lag] += 1 / len(teeth)
            comb[[lag - 1, lag + 1]] -= 0.5 / len(teeth)
        combs.append(comb)
    return torch.stack(combs) if combs else torch.zeros(0, layers)
