"""How far a figure would move with other channels: the delete-block jackknife."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

FEWEST_BLOCKS = 8
"""With fewer runs of channels no interval is given."""


@dataclass(frozen=True, eq=False)
class Interval:
    """A figure of each checkpoint with its 95 % bounds, all of shape (checkpoint); NaN where undefined."""

    value: Tensor
    low: Tensor
    high: Tensor


def jackknife(
    value: Tensor,
    without: Tensor,
    least: float | Tensor = -math.inf,
    most: float | Tensor = math.inf,
    excess: float | Tensor = 0.0,
) -> Interval:
    """95 % bounds of a figure from its values with one run of channels left out each.

    With θ_b the figure without run b of B: variance (B−1)/B Σ (θ_b − mean θ_b)² (Tukey 1958; runs instead of single
    channels: Künsch 1989, which neighbouring channels that are alike demand), Student's t with B − 1 degrees of
    freedom, about the figure itself, so that it never lies outside. What varies is the choice of channels, not of
    checkpoints; figures with kinks (a largest eigenvalue that is tied) are covered less.

    Args:
        value: The figure, shape (checkpoint).
        without: The same with each run left out, shape (checkpoint, block).
        least: Smallest value it can have, one for all or of shape (checkpoint).
        most: Largest.
        excess: Variance that the jackknife is known to count twice, shape (checkpoint); at most half of it is.

    Example:
        >>> without = (12.0 - torch.arange(8.0)) [None] / 7
        >>> interval = jackknife(torch.tensor([8.5]) / 7, without)
        >>> bool(interval.low < interval.value < interval.high)
        True
    """
    blocks = without.shape[-1]
    if blocks < FEWEST_BLOCKS:
        undefined = torch.full_like(value, math.nan)
        return Interval(value, undefined, undefined)
    variance = standard_error(without).square()
    half = student_t(0.975, blocks - 1) * torch.maximum(variance - excess, variance / 2).sqrt()
    least, most = torch.as_tensor(least).to(value), torch.as_tensor(most).to(value)
    value = value.clamp(least, most)
    return Interval(value, (value - half).clamp(least, most), (value + half).clamp(least, most))


def standard_error(without: Tensor) -> Tensor:
    """The jackknife's standard error, over the last axis.

    Args:
        without: The figure with each run left out, shape (…, block).

    Example:
        >>> round(float(standard_error(torch.tensor([1.0, 2.0, 3.0, 4.0]))), 4)
        1.9365
    """
    blocks = without.shape[-1]
    return without.std(dim=-1, correction=0) * math.sqrt(blocks - 1)


def student_t(probability: float, freedom: int) -> float:
    """Quantile of Student's t, by three terms of Cornish and Fisher's expansion: to 1e-3 for 7 degrees and more.

    Args:
        probability: Probability below the quantile.
        freedom: Degrees of freedom.

    Example:
        >>> round(student_t(0.975, 31), 3)
        2.04
    """
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
