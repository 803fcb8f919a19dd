"""What chance alone gives: layers whose channels have nothing to do with each other."""

from __future__ import annotations

import math
from statistics import NormalDist

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
