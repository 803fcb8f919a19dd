"""How much the layers share: one direction, mean correlation, and the number of directions they fill."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gammatorch.analysis.bounds import about_value
from gammatorch.analysis.correlations import Correlations, pair_mean
from gammatorch.analysis.intervals import Interval, jackknife
from gammatorch.analysis.nulls import first_eigenvalue_null, mean_pearson_null


def shared_energy(correlations: Correlations) -> Interval:
    """λ₁(C) / L: the share of the uncentred unit gains in the one direction closest to all.

    Between 1/L (orthogonal layers) and 1; L counts the layers that have a direction. Without a run of channels, λ₁ is
    taken as aᵀ C a with the eigenvector a of all channels (the infinitesimal jackknife: Jaeckel 1972), which errs
    where λ₁ is tied.

    Args:
        correlations: Of one checkpoint or several.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> float(shared_energy(Correlations(moments(torch.ones(2, 64)), (0, 1))).value)
        1.0
    """
    energy, vector, _ = correlations.shared
    taken = correlations.moments
    lengths = (correlations.norms.square()[:, None] - _squares(correlations)).clamp(min=0).sqrt()
    weights = torch.where(lengths > 0, vector[:, None] / lengths, 0)
    at_pivot = (weights * taken.pivot[:, None]).sum(-1)
    total = (weights @ correlations.gram * weights).sum(-1)
    own = (torch.einsum("nbi,nbij,nbj->nb", weights, taken.products, weights)) + at_pivot * (
        2 * (weights * taken.totals).sum(-1) + _widths(correlations) * at_pivot
    )
    layers = correlations.directed.sum(dim=-1).to(energy)
    return jackknife(energy, (total - own) / layers[:, None], 1 / layers, 1.0)


def _squares(correlations: Correlations) -> Tensor:
    """Σ γ_i² over each run of channels, shape (checkpoint, block, layer)."""
    taken, pivot = correlations.moments, correlations.moments.pivot[:, None]
    squares = taken.products.diagonal(dim1=-2, dim2=-1)
    return squares + 2 * pivot * taken.totals + _widths(correlations)[..., None] * pivot.square()


def _widths(correlations: Correlations) -> Tensor:
    """Channels that each run stands for, shape (checkpoint, block)."""
    channels = correlations.moments.channels
    return channels * (correlations.moments.hidden / channels.sum(-1))[:, None]


def _worth(correlations: Correlations) -> list[int]:
    """Channels that the correlations of each checkpoint are worth."""
    return [max(3, round(channels)) for channels in correlations.effective_channels.tolist()]


def mean_correlation(correlations: Correlations) -> Mapping[str, Tensor]:
    """Mean correlation over pairs of layers, with its interval and with what chance gives.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        ``value``, ``low``, ``high``, ``null_95`` (see :func:`~gammatorch.analysis.nulls.mean_pearson_null`), each of
        shape (checkpoint); NaN where fewer than two gains vary.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(float(mean_correlation(Correlations(moments(gains), (0, 1, 2)))["value"]), 6)
        1.0
    """
    pairs = correlations.pairs.sum(dim=(-2, -1)) // 2
    value = pair_mean(correlations.filled, correlations.pairs)
    found = about_value(value, pair_mean(correlations.without, correlations.pairs), "fisher")
    null = [
        mean_pearson_null(count, hidden) if count and hidden > 1 else math.nan
        for count, hidden in zip(pairs.tolist(), _worth(correlations), strict=True)
    ]
    return {"value": value, "low": found.low, "high": found.high, "null_95": value.new_tensor(null)}


def first_eigenvalue(correlations: Correlations) -> Mapping[str, Tensor]:
    """Largest eigenvalue of the correlation matrix, beside what unrelated layers would give.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        ``value`` and ``null_95`` (see :func:`~gammatorch.analysis.nulls.first_eigenvalue_null`), shape (checkpoint),
        over the gains that vary; NaN where fewer than two do.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(float(first_eigenvalue(Correlations(moments(gains), (0, 1, 2)))["value"]), 6)
        3.0
    """
    counts = correlations.varied.sum(dim=-1)
    value = torch.where(counts > 1, correlations.eigenvalues[:, -1], torch.nan)
    null = [
        first_eigenvalue_null(count, hidden) if count > 1 and hidden > 2 else math.nan
        for count, hidden in zip(counts.tolist(), _worth(correlations), strict=True)
    ]
    return {"value": value, "null_95": value.new_tensor(null)}


def shared_directions(correlations: Correlations) -> list[int | None]:
    """How many directions the layers share: eigenvalues of the correlation matrix that chance does not reach.

    Parallel analysis (Horn 1965) against the 95th percentile of the first eigenvalue of unrelated layers, see
    :func:`~gammatorch.analysis.nulls.first_eigenvalue_null`. A direction that turns with depth counts as several.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        For each checkpoint; None where fewer than two gains vary.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> two = torch.randn(2, 512, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
        >>> shared_directions(Correlations(moments(two), tuple(range(8))))
        [2]
    """
    chance = first_eigenvalue(correlations)["null_95"]
    counts = (correlations.eigenvalues > chance[:, None]).sum(dim=-1).tolist()
    return [None if math.isnan(least) else count for count, least in zip(counts, chance.tolist(), strict=True)]


def effective_dimension(correlations: Correlations) -> Interval:
    """Participation ratio of the correlation matrix, (Σλ)² / Σλ²: how many directions the layers fill evenly.

    Between 1 (one direction) and L. As Σλ² = Σ r², no eigenvalue is needed; r² of unrelated layers is 1/(H−1) by
    chance, so the adjusted 1 − (1 − r²)(H − 1)/(H − 2) stands for it (Wherry 1931). (Roy and Vetterli 2007 take the
    entropy of λ instead.) Where correlations are small the figure is quadratic in them, and the jackknife's variance
    of a quadratic form is twice the true one (Efron and Stein 1981): 2/m² Σ_{b≠c} (d_b · d_c)² is taken off, with
    d_b what run b moves the m correlations by.

    Args:
        correlations: Of one checkpoint or several.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(float(effective_dimension(Correlations(moments(gains), (0, 1, 2))).value), 6)
        1.0
    """
    count = correlations.varied.sum(-1).to(correlations.norms.dtype)
    channels = correlations.moments.channels
    pairs = correlations.pairs.sum(dim=(-2, -1))[:, None, None]
    without = correlations.without.flatten(2)
    products = (without @ without.mT - count[:, None, None]) / pairs  # less those of the diagonal, which is 1
    value = _participation(pair_mean(correlations.filled.square(), correlations.pairs), count, channels.sum(-1))
    squares = products.diagonal(dim1=-2, dim2=-1)
    products = products - products.mean(dim=-1, keepdim=True)
    products = products - products.mean(dim=-2, keepdim=True)  # now of what each run moves
    twice = 2 * (products.square().sum(dim=(-2, -1)) - products.diagonal(dim1=-2, dim2=-1).square().sum(dim=-1))
    slope = value.square() * (count - 1) / count
    found = jackknife(
        value,
        _participation(squares, count[:, None], channels.sum(-1, keepdim=True) - channels),
        1.0,
        count,
        twice * slope.square(),
    )
    return Interval(torch.minimum(value.clamp(min=1), count), found.low, found.high)


def effective_rank(correlations: Correlations) -> Tensor:
    """Exponential of the entropy of the correlation matrix's eigenvalues (Roy and Vetterli 2007).

    ``exp(−Σ p ln p)`` with p = λ / Σλ: like the participation ratio, but counting faint directions too; not adjusted
    for what chance gives.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        Between 1 and the number of gains that vary, shape (checkpoint); NaN where fewer than two do.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> gains = torch.arange(64.0).repeat(3, 1)
        >>> round(float(effective_rank(Correlations(moments(gains), (0, 1, 2)))), 6)
        1.0
    """
    count = correlations.varied.sum(dim=-1)
    share = correlations.eigenvalues.clamp(min=0) / count.clamp(min=1)[:, None]
    return torch.where(count > 1, torch.exp(torch.special.entr(share).sum(dim=-1)), torch.nan)


def _participation(mean_square: Tensor, count: Tensor, channels: Tensor) -> Tensor:
    adjusted = 1 - (1 - mean_square) * (channels - 1) / (channels - 2).clamp(min=1)
    return count / (1 + (count - 1) * adjusted).clamp(min=0.1)
