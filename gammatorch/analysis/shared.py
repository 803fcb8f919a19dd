"""How much the layers share: one direction, mean correlation, and the number of directions they fill."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gammatorch.analysis.correlations import Correlations, pair_mean
from gammatorch.analysis.host import Array, product
from gammatorch.analysis.intervals import Interval, defined, first_eigenvalue_null, interval, mean_pearson_null

_STEPS, _STEP = 12, 0.7
"""Steps from the largest correlation of each layer, and the share of the way that each goes: whole ones may swing."""

_TINY = 1e-9


def loadings(correlation: Array) -> Array:
    """How much of each layer lies in the one direction that explains most of the correlations between layers.

    The a that minimises ``Σ_{i≠j} (r_ij − a_i a_j)²``: one common factor, by alternating least squares (minres: Harman
    and Jones 1966). The diagonal, which holds each layer's own noise, has no part in it, so a layer of much noise is no
    other direction.

    Args:
        correlation: Between layers, shape (layer, layer).

    Returns:
        Shape (layer).

    Example:
        >>> of_one = np.array([0.9, 0.8, 0.5])
        >>> loadings(np.outer(of_one, of_one)).round(2)
        array([0.9, 0.8, 0.5])
    """
    others = correlation.copy()
    np.fill_diagonal(others, 0)
    found = np.sqrt(np.abs(others).max(axis=-1))
    for _ in range(_STEPS):
        squares = found * found
        best = (others @ found) / (squares.sum() - squares + _TINY)
        found += _STEP * (best.clip(-1, 1) - found)
    return np.asarray(found)


def unexplained(correlation: Array, of_one: Array) -> Array:
    """What one direction leaves of the correlations between different layers, 0 on the diagonal.

    Args:
        correlation: Shape (layer, layer).
        of_one: Loadings, shape (layer).

    Example:
        >>> bool(unexplained(np.ones((3, 3)), np.ones(3)).any())
        False
    """
    left = correlation - np.outer(of_one, of_one)
    np.fill_diagonal(left, 0)
    return np.asarray(left)


def shared_energy(correlations: Correlations) -> Interval:
    """λ₁(C) / L: the share of the uncentred unit gains in the one direction closest to all.

    Between 1/L (orthogonal layers) and 1; L counts the layers that have a direction. Without a run of channels, λ₁ is
    taken as aᵀ C a with the eigenvector a of all channels (the infinitesimal jackknife: Jaeckel 1972), which errs
    where λ₁ is tied.

    Args:
        correlations: Of one checkpoint.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> float(shared_energy(Correlations(moments(torch.ones(2, 64)).home()[0], (0, 1))).value)
        1.0
    """
    energy, vector, _ = correlations.shared
    taken, gram = correlations.moments, correlations.gram
    layers = max(int(np.count_nonzero(correlations.directed)), 1)
    widths = taken.channels * (taken.hidden / taken.channels.sum())  # channels that each run stands for
    squares = np.diagonal(taken.products, axis1=-2, axis2=-1)  # Σ γ_i² over each run
    squares = squares + 2 * taken.pivot * taken.totals + np.outer(widths, np.square(taken.pivot))
    lengths = np.sqrt((gram.diagonal() - squares).clip(min=0))
    weights = np.divide(vector, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    at_pivot = weights @ taken.pivot
    total = ((weights @ gram) * weights).sum(axis=-1)
    own = (np.matmul(weights[:, None], taken.products)[:, 0] * weights).sum(axis=-1)
    own += at_pivot * (2 * (weights * taken.totals).sum(axis=-1) + widths * at_pivot)
    return interval(energy, (total - own) / layers, least=1 / layers, most=1.0)


def worth(correlations: Correlations) -> int:
    """Channels that the correlations are worth, at least three.

    Args:
        correlations: Of one checkpoint.
    """
    return max(3, round(correlations.effective_channels))


def mean_correlation(correlations: Correlations) -> Mapping[str, float | None]:
    """Mean correlation over pairs of layers, with its interval and with what chance gives.

    Args:
        correlations: Of one checkpoint.

    Returns:
        ``value``, ``low``, ``high``, ``null_95`` (see :func:`~gammatorch.analysis.intervals.mean_pearson_null`); None
        where fewer than two gains vary.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(mean_correlation(Correlations(moments(gains).home()[0], (0, 1, 2)))["value"], 6)
        1.0
    """
    pairs = int(np.count_nonzero(correlations.pairs)) // 2
    value = pair_mean(correlations.filled, correlations.pairs)
    found = interval(value, pair_mean(correlations.without, correlations.pairs), "fisher")
    return {**found.figure(), "null_95": mean_pearson_null(pairs, worth(correlations)) if pairs else None}


def first_eigenvalue(correlations: Correlations) -> Mapping[str, float | None]:
    """Largest eigenvalue of the correlation matrix, beside what unrelated layers would give.

    Args:
        correlations: Of one checkpoint.

    Returns:
        ``value`` and ``null_95`` (see :func:`~gammatorch.analysis.intervals.first_eigenvalue_null`) over the gains that
        vary; None where fewer than two do.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(first_eigenvalue(Correlations(moments(gains).home()[0], (0, 1, 2)))["value"], 6)
        3.0
    """
    count = int(np.count_nonzero(correlations.varied))
    if count < 2:
        return {"value": None, "null_95": None}
    chance = first_eigenvalue_null(count, worth(correlations))
    return {"value": float(correlations.eigenvalues[-1]), "null_95": chance}


def shared_directions(correlations: Correlations) -> int | None:
    """How many directions the layers share: eigenvalues of the correlation matrix that chance does not reach.

    Parallel analysis (Horn 1965) against the 95th percentile of the first eigenvalue of unrelated layers, see
    :func:`~gammatorch.analysis.intervals.first_eigenvalue_null`. A direction that turns with depth counts as several.

    Args:
        correlations: Of one checkpoint.

    Returns:
        None where fewer than two gains vary.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> two = torch.randn(2, 512, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
        >>> shared_directions(Correlations(moments(two).home()[0], tuple(range(8))))
        2
    """
    chance = first_eigenvalue(correlations)["null_95"]
    return None if chance is None else int(np.count_nonzero(correlations.eigenvalues > chance))


def effective_dimension(correlations: Correlations) -> Interval:
    """Participation ratio of the correlation matrix, (Σλ)² / Σλ²: how many directions the layers fill evenly.

    Between 1 (one direction) and L. As Σλ² = Σ r², no eigenvalue is needed; r² of unrelated layers is 1/(H−1) by
    chance, so the adjusted 1 − (1 − r²)(H − 1)/(H − 2) stands for it (Wherry 1931). (Roy and Vetterli 2007 take the
    entropy of λ instead.) Where correlations are small the figure is quadratic in them, and the jackknife's variance
    of a quadratic form is twice the true one (Efron and Stein 1981): 2/m² Σ_{b≠c} (d_b · d_c)² is taken off, with
    d_b what run b moves the m correlations by.

    Args:
        correlations: Of one checkpoint.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(effective_dimension(Correlations(moments(gains).home()[0], (0, 1, 2))).figure()["value"], 6)
        1.0
    """
    count, pairs = int(np.count_nonzero(correlations.varied)), int(np.count_nonzero(correlations.pairs))
    channels = correlations.moments.channels
    without = correlations.without.reshape(len(channels), -1)
    if not pairs:
        undefined = np.full(len(channels), np.nan)
        return interval(np.nan, undefined)
    products = (product(without, without.T) - count) / pairs  # less those of the diagonal, which is 1
    mean_square = float(pair_mean(np.square(correlations.filled), correlations.pairs))
    value = float(_participation(np.array(mean_square), count, channels.sum()))
    parts = _participation(products.diagonal(), count, channels.sum() - channels)
    moved = products - products.mean(axis=-1, keepdims=True)
    moved -= moved.mean(axis=-2, keepdims=True)  # now of what each run moves
    twice = 2 * float(np.vdot(moved, moved) - np.square(moved.diagonal()).sum())
    slope = value**2 * (count - 1) / count
    return interval(value, parts, least=1.0, most=float(count), excess=twice * slope**2)


def effective_rank(correlations: Correlations) -> float | None:
    """Exponential of the entropy of the correlation matrix's eigenvalues (Roy and Vetterli 2007).

    ``exp(−Σ p ln p)`` with p = λ / Σλ: like the participation ratio, but counting faint directions too; not adjusted
    for what chance gives.

    Args:
        correlations: Of one checkpoint.

    Returns:
        Between 1 and the number of gains that vary; None where fewer than two do.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.moments import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(effective_rank(Correlations(moments(gains).home()[0], (0, 1, 2))), 6)
        1.0
    """
    count = int(np.count_nonzero(correlations.varied))
    if count < 2:
        return None
    share = correlations.eigenvalues / count
    share = share[share > 0]
    return defined(math.exp(-float(share @ np.log(share))))


def _participation(mean_square: Array, count: int, channels: Array | float) -> Array:
    adjusted = 1 - (1 - mean_square) * (channels - 1) / np.maximum(channels - 2, 1)
    return np.asarray(count / (1 + (count - 1) * adjusted).clip(min=0.1))
