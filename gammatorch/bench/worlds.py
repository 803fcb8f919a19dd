"""Worlds whose answer is known: gains drawn so that one verdict is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PLANTED = (10, 30, 48)
"""First layers of the phases after the first, as sixty-fourths of the depth."""


def draw(world: str, seed: int, layers: int = 64, hidden: int = 5120) -> Array:
    """Gains of one world.

    Args:
        world: One of :data:`WORLDS`.
        seed: Seed of the draw.
        layers: Number of layers.
        hidden: Number of channels.

    Returns:
        Positive gains, shape (layer, hidden).

    Example:
        >>> draw("isotropic", seed=0, layers=4, hidden=8).shape
        (4, 8)
    """
    exponent = WORLDS[world](np.random.default_rng(seed), layers, hidden)
    return np.linspace(0.5, 2.5, layers)[:, None] * np.exp(exponent)


def log_covariance(world: str, layers: int = 64) -> Array:
    """Covariance of ln γ between layers, the same for every channel: what the figures estimate follows from it.

    For γ = m eˣ with Gaussian x of covariance K: cos_ij = e^(K_ij − (K_ii + K_jj)/2), and
    pearson_ij = (e^K_ij − 1) / √((e^K_ii − 1)(e^K_jj − 1)).

    Args:
        world: One of :data:`WORLDS`.
        layers: Number of layers.

    Example:
        >>> log_covariance("layer-specific", 2).round(3)
        array([[0.09, 0.  ],
               [0.  , 0.09]])
    """
    own, one = np.eye(layers), np.ones((layers, layers))
    depth = np.arange(1, layers + 1)
    phase = _phase_of(layers)
    covariances = {
        "isotropic": 0.3**2 * one + 0.08**2 * own,
        "layer-specific": 0.3**2 * own,
        "drift": 0.3**2 * one + 0.05**2 * np.minimum(depth[:, None], depth) + 0.08**2 * own,
        "phases": 0.2**2 * one + 0.2**2 * (phase[:, None] == phase) + 0.15**2 * own,
    }
    return np.asarray(covariances[world], dtype=np.float64)


def truth(world: str, layers: int = 64) -> dict[str, float]:
    """The figures of a world with infinitely many channels.

    Args:
        world: One of :data:`WORLDS`.
        layers: Number of layers.

    Returns:
        ``shared_energy``, ``mean_pearson``, ``effective_dimension``.

    Example:
        >>> truth("layer-specific", 4)["effective_dimension"]
        4.0
    """
    covariance = log_covariance(world, layers)
    variance = np.diagonal(covariance)
    cosine = np.exp(covariance - (variance[:, None] + variance) / 2)
    spread = np.sqrt(np.expm1(variance))
    pearson = np.expm1(covariance) / (spread[:, None] * spread)
    return {
        "shared_energy": float(np.linalg.eigvalsh(cosine)[-1] / layers),
        "mean_pearson": float(pearson[np.triu_indices(layers, 1)].mean()),
        "effective_dimension": float(layers**2 / (pearson**2).sum()),
    }


def _phase_of(layers: int) -> npt.NDArray[np.int64]:
    return np.searchsorted([start * layers // 64 for start in PLANTED], np.arange(layers), side="right")


def _isotropic(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    return 0.3 * rng.standard_normal(hidden) + 0.08 * rng.standard_normal((layers, hidden))


def _layer_specific(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    return 0.3 * rng.standard_normal((layers, hidden))


def _drift(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    walk = np.cumsum(rng.standard_normal((layers, hidden)), axis=0)
    return _isotropic(rng, layers, hidden) + 0.05 * walk


def _phases(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    of_phase = rng.standard_normal((len(PLANTED) + 1, hidden))[_phase_of(layers)]
    own = 0.15 * rng.standard_normal((layers, hidden))
    return 0.2 * rng.standard_normal(hidden) + 0.2 * of_phase + own


WORLDS: Mapping[str, Callable[[np.random.Generator, int, int], Array]] = {
    "isotropic": _isotropic,
    "layer-specific": _layer_specific,
    "drift": _drift,
    "phases": _phases,
}
"""By the verdict that is right: ln γ up to the layer's magnitude, shape (layer, hidden)."""
