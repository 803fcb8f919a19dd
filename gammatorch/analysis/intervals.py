"""How far a figure would move with other channels (the delete-block jackknife), and what chance alone gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from gammatorch.analysis.host import Array

FEWEST_BLOCKS = 8
"""With fewer runs of channels no interval is given."""


@dataclass(frozen=True, eq=False)
class Interval:
    """Figures with their 95 % bounds, all of the same shape; NaN where undefined."""

    value: Array
    low: Array
    high: Array

    def figure(self) -> dict[str, float | None]:
        """A single figure as JSON has it, None where undefined."""
        return {name: defined(float(part)) for name, part in vars(self).items()}


@dataclass(frozen=True)
class Scale:
    """A scale on which a figure is spread evenly.

    Attributes:
        least: Smallest value the figure can have.
        most: Largest.
        there: From the figure to the scale; infinite at the ends of the range, unless that is endless.
        back: The inverse.
    """

    least: float
    most: float
    there: Callable[[Array], Array]
    back: Callable[[Array], Array]


def interval(
    value: ArrayLike,
    without: Array,
    scale: str = "plain",
    *,
    least: float = -math.inf,
    most: float = math.inf,
    excess: float = 0.0,
) -> Interval:
    """95 % bounds of figures from their values with one run of channels left out each, about the figures.

    ``f⁻¹(f(θ) ± t √((B−1)/B Σ (f(θ_b) − mean f(θ_b))²))``: the delete-block jackknife (Tukey 1958; runs instead of
    single channels: Künsch 1989, which neighbouring channels that are alike demand) on a scale f that makes the spread
    the same for all values, Fisher's z for correlations (Fisher 1921), with Student's t of B − 1 degrees of freedom. No
    bias is taken out, so ``low ≤ value ≤ high`` always; where a figure or one of its parts lies at the end of its
    range, f is infinite, and the bounds are taken on the plain scale. What varies is the choice of channels, not of
    checkpoints; figures with kinks (a largest eigenvalue that is tied) are covered less.

    Args:
        value: The figures, shape (…).
        without: The same with each run left out, shape (…, block).
        scale: ``"fisher"`` for correlations and cosines, ``"log"`` for what is positive, ``"logit"`` for shares,
            ``"plain"``.
        least: Smallest value they can have, where the scale allows a smaller one.
        most: Largest.
        excess: Variance that the jackknife is known to count twice; at most half of it is.

    Returns:
        The figures with their bounds; these are NaN where one of the parts is, and with fewer than eight runs.

    Example:
        >>> bounds = interval(0.95, np.linspace(0.945, 0.955, 32), "fisher")
        >>> round(float(bounds.low), 3), round(float(bounds.high), 3)
        (0.902, 0.975)
    """
    on, blocks = SCALES[scale], without.shape[-1]
    least, most = max(least, on.least), min(most, on.most)
    value = np.clip(np.asarray(value, dtype=np.float64), least, most)
    if blocks < FEWEST_BLOCKS:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    parts = without.clip(on.least, on.most)
    with np.errstate(all="ignore"):
        there, parts_there = on.there(value), on.there(parts)
        low, high = map(on.back, _about(there, parts_there, excess))
        inside = np.isfinite(there) & np.isfinite(parts_there).all(axis=-1)
        if not inside.all():  # at an end of the range, or undefined
            plain = _about(value, parts, excess)
            low, high = (np.where(inside, on_scale, as_is) for on_scale, as_is in zip((low, high), plain, strict=True))
    return Interval(value, np.minimum(low.clip(least, most), value), np.maximum(high.clip(least, most), value))


def _about(value: Array, parts: Array, excess: float) -> tuple[Array, Array]:
    variance = np.square(standard_error(parts))
    half = student_t(0.975, parts.shape[-1] - 1) * np.sqrt(np.maximum(variance - excess, variance / 2))
    return value - half, value + half


def standard_error(without: Array) -> Array:
    """The jackknife's standard error, over the last axis.

    Args:
        without: The figure with each run left out, shape (…, block).

    Example:
        >>> round(float(standard_error(np.array([1.0, 2.0, 3.0, 4.0]))), 4)
        1.9365
    """
    apart = without - without.mean(axis=-1, keepdims=True)
    blocks = without.shape[-1]
    return np.asarray(np.sqrt(np.square(apart).sum(axis=-1) * ((blocks - 1) / blocks)))


@lru_cache(maxsize=64)
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


def defined(figure: float) -> float | None:
    """A figure as JSON has it: None where it is undefined.

    Args:
        figure: NaN or infinite where undefined.
    """
    return figure if math.isfinite(figure) else None


SCALES: Mapping[str, Scale] = {
    "fisher": Scale(-1.0, 1.0, np.arctanh, np.tanh),
    "log": Scale(0.0, math.inf, np.log, np.exp),
    "logit": Scale(0.0, 1.0, lambda p: np.log(p) - np.log1p(-p), lambda x: 1 / (1 + np.exp(-x))),
    "plain": Scale(-math.inf, math.inf, np.asarray, np.asarray),
}
"""By name: one line here adds a scale."""


_TRACY_WIDOM_95 = 0.9793
"""95th percentile of the Tracy-Widom law of order 1 (Johnstone 2001, table 1)."""

_STEADY_DIAGONAL = 1.5
"""Fitted: how much less the first eigenvalue of correlations varies than that of covariances."""


def mean_pearson_null(pairs: int, hidden: int) -> float:
    """Size of the mean correlation that channels permuted within each layer stay below 19 times of 20.

    Under independent permutations a correlation has mean 0 and variance 1 / (H − 1) exactly (Pitman 1937), and those
    of different pairs are uncorrelated, so the mean over m pairs has variance 1 / ((H − 1) m). The normal law for it
    is an approximation, poor for a few channels only.

    Args:
        pairs: Number of pairs of layers, m.
        hidden: Number of channels, H, two or more.

    Example:
        >>> round(mean_pearson_null(64 * 63 // 2, 5120), 6)
        0.00061
    """
    return NormalDist().inv_cdf(0.975) / math.sqrt((hidden - 1) * pairs)


def first_eigenvalue_null(layers: int, hidden: int) -> float:
    """95th percentile of the correlation matrix's first eigenvalue for unrelated layers.

    With n = H − 1 and p = L a covariance matrix has λ₁ ≈ (μ + σ·TW₁) / n, μ = (√(n−1) + √p)², σ = √μ (1/√(n−1) +
    1/√p)^⅓ (Johnstone 2001; for correlations Bao, Pan and Zhou 2012). The diagonal of a correlation matrix does not
    vary, which matters for few layers: λ₁ − 1 is taken L/(L + 1.5) times as large, as draws of Wishart matrices scaled
    to correlations have it to 1 % from L = 4 to 128 and 3 % at L = 3; at L = 2 it is the bound of |r|. A few outlier
    channels that carry most of the variance make it too low.

    Args:
        layers: Number of layers, L.
        hidden: Number of channels, H, three or more.

    Example:
        >>> round(first_eigenvalue_null(64, 5120), 3)
        1.238
    """
    if layers == 2:
        return 1 + mean_pearson_null(1, hidden)
    root_n, root_p = math.sqrt(hidden - 2), math.sqrt(layers)
    centre = root_n + root_p
    covariance = (centre**2 + centre * math.cbrt(1 / root_n + 1 / root_p) * _TRACY_WIDOM_95) / (hidden - 1)
    return 1 + (covariance - 1) * layers / (layers + _STEADY_DIAGONAL)
