"""Kinds of layers that alternate over depth."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import lru_cache

import numpy as np

from gammatorch.analysis.figures import Period
from gammatorch.analysis.host import Array, Flags, product
from gammatorch.analysis.intervals import interval, student_t

_LONGEST_PERIOD = 8

_LEAST_CONTRAST = 0.05
"""Correlation by which layers of one kind must exceed others at about the same distance."""

_TIE = 0.9
"""A period counts as good as the best from this share of its contrast on: multiples of a period are one too."""


def lag_sums(values: Array) -> Array:
    """Sums over the pairs of layers that stand 0, 1, … L − 1 apart.

    Args:
        values: Of each pair, shape (layer, layer), symmetric.

    Returns:
        ``sums[k] = Σ_i values[i, i + k]``, shape (layer): each pair counted once.

    Example:
        >>> lag_sums(np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 4.0], [3.0, 4.0, 1.0]]))
        array([3., 6., 3.])
    """
    layers = len(values)
    upright = np.zeros(layers * (2 * layers + 1))  # one row further is one column further: the diagonals stand upright
    upright[: 2 * layers * layers].reshape(layers, 2 * layers)[:, :layers] = values
    return np.asarray(upright.reshape(layers, 2 * layers + 1)[:, :layers].sum(axis=0))


def period(correlation: Array, pairs: Flags, without: Array) -> Period:
    """Whether kinds of layers alternate, as local and global or linear and softmax attention do in hybrids.

    With profile the mean correlation by lag, a period p shows as a comb: ``contrast(p) = mean over m of
    profile[mp] − (profile[mp − 1] + profile[mp + 1]) / 2``, with lags up to L/2. A drift, whose profile is smooth, has
    none, whatever its slope. The period is the p from 2 to 8 of largest contrast, the smallest of those within 10 % of
    it, if the contrast exceeds 0.05 and, at 95 % for all p at once (Bonferroni), 0. Periods of which a lag has no pair
    with a correlation do not count.

    Args:
        correlation: Between layers, 0 where undefined, shape (layer, layer).
        pairs: Which pairs of layers have one, same shape.
        without: ``correlation`` with each run of channels left out, shape (block, layer, layer).

    Returns:
        ``period``, None where no kinds alternate; its contrast as ``value``, ``low``, ``high`` (95 %, jackknife over
        channels), of the best p where there is no period; ``within`` and ``across``, the mean correlations at lags that
        are multiples of that p and at all others. None where undefined, as below seven layers.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.moments import moments
        >>> kinds = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
        >>> found = Correlations(moments(kinds.repeat(8, 1)).home()[0], tuple(range(16)))
        >>> period(found.filled, found.pairs, found.without)["period"]
        2
    """
    layers = len(correlation)
    counts, sums = lag_sums(pairs.astype(np.float64)), lag_sums(correlation * pairs)
    combs = _combs(layers)
    known = ((combs == 0) | (counts > 0)).all(axis=-1)
    if not known.any():
        return Period(dict.fromkeys(("period", "value", "low", "high", "within", "across")))
    of_lag = combs / counts.clip(min=1)  # of every pair at a lag, shape (period, lag)
    contrasts = np.where(known, of_lag @ sums, -np.inf)
    best = int(np.argmax(contrasts >= min(_TIE * contrasts.max(), contrasts.max())))
    left = product(without.reshape(len(without), -1), _of_pairs(of_lag[best]))
    found = interval(contrasts[best], left, least=-2.0, most=2.0)
    value, low, high = found.figure().values()
    multiple = np.arange(layers) % (2 + best) == 0
    blocks = len(left)
    sure = student_t(1 - 0.025 / len(combs), blocks - 1) / student_t(0.975, blocks - 1) if blocks > 1 else 1.0
    real = contrasts[best] > _LEAST_CONTRAST and contrasts[best] > sure * float(found.high - found.low) / 2
    return Period(
        period=2 + best if real else None,
        value=value,
        low=low,
        high=high,
        within=float(sums[multiple].sum() / counts[multiple].sum()),
        across=float(sums[~multiple].sum() / counts[~multiple].sum()),
    )


def _of_pairs(of_lag: Array) -> Array:
    """Weights of all pairs, each counted twice, from those of lags: shape (layer · layer)."""
    lag = np.arange(len(of_lag))
    return np.asarray(of_lag[np.abs(lag[:, None] - lag)].ravel() / 2)


def largest_kind(pearson: Array, every: int) -> list[int]:
    """Rows of the kind of layers that has the most, where kinds alternate.

    Layers a multiple of the period apart are of one kind. So are two such series if the correlation of neighbours
    between them is nearer to that within a series than to the lowest between any two.

    Args:
        pearson: Correlations, shape (layer, layer).
        every: The period.

    Example:
        >>> of_kind = np.tile([0, 0, 1], 4)
        >>> largest_kind((of_kind[:, None] == of_kind).astype(float), 3)
        [0, 1, 3, 4, 6, 7, 9, 10]
    """
    layers = len(pearson)
    within = float(pearson.diagonal(every).mean())
    alike = {
        (one, other): float(
            np.concatenate([_between(pearson, one, other, every), _between(pearson, other, one, every)]).mean()
        )
        for one, other in itertools.combinations(range(every), 2)
    }
    kinds = list(range(every))
    for (one, other), value in alike.items():
        if value >= (within + min(alike.values())) / 2:
            kinds = [kinds[one] if kind == kinds[other] else kind for kind in kinds]
    largest, _ = Counter(kinds[row % every] for row in range(layers)).most_common(1)[0]
    return [row for row in range(layers) if kinds[row % every] == largest]


def _between(pearson: Array, one: int, other: int, every: int) -> Array:
    """Correlations of the rows of one series with the next row of another."""
    return pearson.diagonal((other - one) % every)[one::every]


@lru_cache
def _combs(layers: int) -> Array:
    """Weights over lags whose sum is each period's contrast, shape (period, lag), from 2 on."""
    longest = min(_LONGEST_PERIOD, (layers - 1) // 3)
    combs = np.zeros((max(longest - 1, 0), layers))
    for comb, length in zip(combs, range(2, longest + 1), strict=True):
        teeth = range(length, max(layers // 2, length + 1), length)
        for lag in teeth:
            comb[lag] += 1 / len(teeth)
            comb[[lag - 1, lag + 1]] -= 0.5 / len(teeth)
    return combs
