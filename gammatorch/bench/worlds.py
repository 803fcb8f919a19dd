"""Worlds whose answer is known: gains drawn so that one verdict is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PLANTED = (10, 30, 48)
"""First layers of the phases after the first, as sixty-fourths of the depth."""


def draw(world: str, seed: int, layers: int = 64, hidden: int = 5120, trouble: str | None = None) -> Array:
    """Gains of one world.

    Args:
        world: One of :data:`WORLDS`.
        seed: Seed of the draw.
        layers: Number of layers.
        hidden: Number of channels.
        trouble: One of :data:`TROUBLES`, what real checkpoints have beside.

    Returns:
        Positive gains, shape (layer, hidden).

    Example:
        >>> draw("shared-direction", seed=0, layers=4, hidden=8).shape
        (4, 8)
    """
    exponent = WORLDS[world].draw(np.random.default_rng(seed), layers, hidden)
    gains = np.linspace(0.5, 2.5, layers)[:, None] * np.exp(exponent)
    if trouble is None:
        return gains
    return TROUBLES[trouble](gains, draw(world, seed + 10_000, layers, hidden), np.random.default_rng(seed + 20_000))


def log_covariance(world: str, layers: int = 64) -> Array:
    """Covariance of ln γ between layers, the same for every channel: what the figures estimate follows from it.

    For γ = m eˣ with Gaussian x of covariance K: cos_ij = e^(K_ij − (K_ii + K_jj)/2), and
    pearson_ij = (e^K_ij − 1) / √((e^K_ii − 1)(e^K_jj − 1)).

    Args:
        world: One of :data:`KNOWN`.
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
        "shared-direction": 0.3**2 * one + 0.08**2 * own,
        "layer-specific": 0.3**2 * own,
        "drift": 0.3**2 * one + 0.05**2 * np.minimum(depth[:, None], depth) + 0.08**2 * own,
        "phases": 0.2**2 * one + 0.2**2 * (phase[:, None] == phase) + 0.15**2 * own,
    }
    return np.asarray(covariances[world], dtype=np.float64)


def planted(layers: int = 64) -> list[int]:
    """First layers of the planted phases after the first.

    Args:
        layers: Number of layers.

    Example:
        >>> planted(24)
        [3, 11, 18]
    """
    return [start * layers // 64 for start in PLANTED]


def truth(world: str, layers: int = 64) -> dict[str, float]:
    """The figures of a world with infinitely many channels.

    Args:
        world: One of :data:`KNOWN`.
        layers: Number of layers.

    Returns:
        ``shared_energy``, ``mean_pearson``, ``effective_dimension``, ``depth_contrast``, and ``phase P1`` … for the
        contrasts of the planted phases.

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
        "depth_contrast": _depth_contrast(pearson),
        **{f"phase P{1 + phase}": _phase_contrast(pearson, phase) for phase in range(len(PLANTED) + 1)},
    }


def _phase_of(layers: int) -> npt.NDArray[np.int64]:
    return np.searchsorted(planted(layers), np.arange(layers), side="right")


def _depth_contrast(pearson: Array) -> float:
    layers = len(pearson)
    pairs = [(j - i, pearson[i, j]) for i in range(layers) for j in range(i + 1, layers)]
    near = [value for lag, value in pairs if lag <= 2]
    return float(np.mean(near) - np.mean([value for lag, value in pairs if 2 * lag >= layers]))


def _phase_contrast(pearson: Array, phase: int) -> float:
    """Lag by lag: the pairs within a phase less the mean of those with one end in it, over lags that have both."""
    layers, inside = len(pearson), _phase_of(len(pearson)) == phase
    difference, count = 0.0, 0
    for lag in range(1, layers):
        values, ends = np.diagonal(pearson, lag), inside[lag:].astype(int) + inside[:-lag]
        if (ends == 2).any() and (ends == 1).any():
            difference += (values[ends == 2] - values[ends == 1].mean()).sum()
            count += int((ends == 2).sum())
    return float(difference / count) if count else float("nan")


def _shared(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    return 0.3 * rng.standard_normal(hidden) + 0.08 * rng.standard_normal((layers, hidden))


def _layer_specific(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    return 0.3 * rng.standard_normal((layers, hidden))


def _drift(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    walk = np.cumsum(rng.standard_normal((layers, hidden)), axis=0)
    return _shared(rng, layers, hidden) + 0.05 * walk


def _phases(rng: np.random.Generator, layers: int, hidden: int) -> Array:
    of_phase = rng.standard_normal((len(PLANTED) + 1, hidden))[_phase_of(layers)]
    own = 0.15 * rng.standard_normal((layers, hidden))
    return 0.2 * rng.standard_normal(hidden) + 0.2 * of_phase + own


Drawn = Callable[[np.random.Generator, int, int], Array]


def _mixed(weights: Callable[[np.random.Generator, int], Array], own: float | Callable[[int], Array]) -> Drawn:
    """Layers that are mixtures of a few directions, each with noise of its own.

    Args:
        weights: Of each direction in each layer, shape (layer, direction).
        own: Size of the noise, of all layers or of each, beside directions of size 1.
    """

    def draw(rng: np.random.Generator, layers: int, hidden: int) -> Array:
        of_layer = weights(rng, layers)
        noise = own if isinstance(own, float) else own(layers)[:, None]
        directions = rng.standard_normal((of_layer.shape[1], hidden))
        return np.asarray(0.3 * (of_layer @ directions + noise * rng.standard_normal((layers, hidden))))

    return draw


def _one(_: np.random.Generator, layers: int) -> Array:
    return np.ones((layers, 1))


def _turned(angle: Callable[[Array], Array]) -> Callable[[np.random.Generator, int], Array]:
    """From one direction to another, by an angle that depth from 0 to 1 gives."""

    def weights(_: np.random.Generator, layers: int) -> Array:
        turned = angle(np.linspace(0, 1, layers))
        return np.stack([np.cos(turned), np.sin(turned)], axis=1)

    return weights


def _soft(width: int) -> Callable[[np.random.Generator, int], Array]:
    """Two phases that share half of their direction, and go over into each other within some layers."""

    def weights(rng: np.random.Generator, layers: int) -> Array:
        middle = rng.integers(layers // 3, layers - layers // 3 + 1)
        done = np.clip((np.arange(layers) - middle) / width + 0.5, 0, 1)
        return np.stack([np.ones(layers), 1 - done, done], axis=1) / np.sqrt(1 + (1 - done) ** 2 + done**2)[:, None]

    return weights


def _groups(count: int, shared: float) -> Callable[[np.random.Generator, int], Array]:
    """Every layer belongs to one of several groups, in no order."""

    def weights(rng: np.random.Generator, layers: int) -> Array:
        group = rng.permutation(np.arange(layers) % count)
        own = np.sqrt(1 - shared) * np.eye(count)[group]
        return np.concatenate([np.full((layers, 1), np.sqrt(shared)), own], axis=1)

    return weights


def _axes(count: int) -> Callable[[np.random.Generator, int], Array]:
    """Every layer is a mixture of several axes, in no order."""

    def weights(rng: np.random.Generator, layers: int) -> Array:
        drawn = rng.standard_normal((layers, count))
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))

    return weights


def _kinds(every: int) -> Callable[[np.random.Generator, int], Array]:
    """Every Nth layer is of another kind."""

    def weights(_: np.random.Generator, layers: int) -> Array:
        other = np.arange(layers) % every == every - 1
        return np.stack([np.full(layers, 0.4), ~other, other], axis=1)

    return weights


def _decaying(length: float) -> Drawn:
    """Correlation falls exponentially with distance: an Ornstein-Uhlenbeck process over depth."""

    def draw(rng: np.random.Generator, layers: int, hidden: int) -> Array:
        kept = np.exp(-1 / (length * layers))
        steps = rng.standard_normal((layers, hidden))
        for layer in range(1, layers):
            steps[layer] = kept * steps[layer - 1] + np.sqrt(1 - kept**2) * steps[layer]
        return np.asarray(0.3 * (steps + 0.3 * rng.standard_normal((layers, hidden))))

    return draw


@dataclass(frozen=True)
class World:
    """Gains of which one verdict is right.

    Attributes:
        verdict: The right one.
        draw: ln γ up to the layer's magnitude, shape (layer, hidden).
    """

    verdict: str
    draw: Drawn


KNOWN = ("shared-direction", "layer-specific", "drift", "phases")
"""Worlds whose figures are known exactly, see :func:`truth`."""

WORLDS: Mapping[str, World] = {
    "shared-direction": World("shared-direction", _shared),
    "much noise": World("shared-direction", _mixed(_one, 0.75)),
    "noise that grows": World("shared-direction", _mixed(_one, lambda layers: np.linspace(0.2, 1.1, layers))),
    "noise at both ends": World(
        "shared-direction", _mixed(_one, lambda layers: 0.2 + 0.8 * np.abs(np.linspace(-1, 1, layers)))
    ),
    "layer-specific": World("layer-specific", _layer_specific),
    "faintly shared": World("layer-specific", _mixed(_one, 4.0)),
    "drift": World("drift", _drift),
    "decay": World("drift", _decaying(0.2)),
    "turn of 60°": World("drift", _mixed(_turned(lambda depth: depth * np.pi / 3), 0.3)),
    "turn of 120°": World("drift", _mixed(_turned(lambda depth: depth * np.pi / 1.5), 0.3)),
    "turn that ends": World("drift", _mixed(_turned(lambda depth: np.pi / 2 * (1 - np.exp(-5 * depth))), 0.3)),
    "turn and back": World("drift", _mixed(_turned(lambda depth: np.pi / 2.2 * np.sin(np.pi * depth)), 0.3)),
    "swing": World("drift", _mixed(_turned(lambda depth: np.pi / 2.5 * np.sin(2 * np.pi * depth)), 0.3)),
    "phases": World("phases", _phases),
    "soft boundary of 3": World("phases", _mixed(_soft(3), 0.3)),
    "soft boundary of 5": World("phases", _mixed(_soft(5), 0.3)),
    "soft boundary of 8": World("phases", _mixed(_soft(8), 0.3)),
    "two groups": World("several-directions", _mixed(_groups(2, 0.3), 0.4)),
    "three groups": World("several-directions", _mixed(_groups(3, 0.2), 0.4)),
    "two axes": World("several-directions", _mixed(_axes(2), 0.3)),
    "three axes": World("several-directions", _mixed(_axes(3), 0.3)),
    "every second another": World("several-directions", _mixed(_kinds(2), 0.4)),
    "every fourth another": World("several-directions", _mixed(_kinds(4), 0.4)),
    "every sixth another": World("several-directions", _mixed(_kinds(6), 0.4)),
}
"""By name. A soft boundary of 8 layers needs 64, one of 5 needs 24: see :func:`fits`."""


def fits(world: str, layers: int) -> bool:
    """Whether a world has room in so many layers: a soft boundary needs a run on either side.

    Args:
        world: One of :data:`WORLDS`.
        layers: Number of layers.

    Example:
        >>> fits("soft boundary of 8", 24), fits("soft boundary of 5", 24), fits("drift", 12)
        (False, True, True)
    """
    width = int(world.split()[-1]) if world.startswith("soft") else 0
    return layers >= {0: 0, 3: 24, 5: 24, 8: 48}[width]


def _outliers(gains: Array, _: Array, rng: np.random.Generator) -> Array:
    """Six channels of 10 to 50 times the usual gain, the same in all layers up to a tenth."""
    channels = rng.choice(gains.shape[1], 6, replace=False)
    gains[:, channels] *= rng.uniform(10, 50, 6) * np.exp(0.1 * rng.standard_normal((len(gains), 6)))
    return gains


def _heavy_tails(gains: Array, _: Array, rng: np.random.Generator) -> Array:
    """Channels of differing spread: ln γ follows Laplace's law, not the normal one."""
    level = np.log(gains).mean(axis=1, keepdims=True)
    exponent = level + (np.log(gains) - level) * np.sqrt(rng.exponential(size=gains.shape[1]))
    return np.asarray(np.exp(exponent), dtype=np.float64)


def _bfloat16(gains: Array, _: Array, rng: np.random.Generator) -> Array:
    """Stored in bfloat16: rounded to the nearest, ties to even."""
    bits = gains.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def _scales(gains: Array, _: Array, rng: np.random.Generator) -> Array:
    """Lengths that grow by a factor of 400 over depth."""
    return gains * np.geomspace(0.05, 20, len(gains))[:, None]


def _odd_ends(gains: Array, _: Array, rng: np.random.Generator) -> Array:
    """A first and a last layer that have nothing to do with the others."""
    gains[[0, -1]] = np.exp(0.3 * rng.standard_normal((2, gains.shape[1])))
    return gains


def _alternating(every: int) -> Callable[[Array, Array, np.random.Generator], Array]:
    def alternate(gains: Array, others: Array, rng: np.random.Generator) -> Array:
        gains[every - 1 :: every] = others[every - 1 :: every]
        return gains

    return alternate


def _real(gains: Array, others: Array, rng: np.random.Generator) -> Array:
    """Heavy tails, ends that may have nothing to do with the others, stored in bfloat16."""
    heavy = _heavy_tails(gains, others, rng)
    ends = _odd_ends(heavy.copy(), others, rng)
    for end in (0, -1):
        if rng.random() < 0.5:
            heavy[end] = ends[end]
    return _bfloat16(heavy, others, rng)


def _real_and_massive(gains: Array, others: Array, rng: np.random.Generator) -> Array:
    """The same with four channels of 10 to 50 times the rest."""
    real = _real(gains, others, rng)
    real[:, rng.choice(gains.shape[1], 4, replace=False)] *= rng.uniform(10, 50, 4)
    return _bfloat16(real, others, rng)


TROUBLES: Mapping[str, Callable[[Array, Array, np.random.Generator], Array]] = {
    "outlier channels": _outliers,
    "heavy tails": _heavy_tails,
    "bfloat16": _bfloat16,
    "scales": _scales,
    "odd ends": _odd_ends,
    "every second of another kind": _alternating(2),
    "every fourth of another kind": _alternating(4),
    "every sixth of another kind": _alternating(6),
    "tails, ends, bfloat16": _real,
    "tails, ends, bfloat16, massive channels": _real_and_massive,
}
"""By name: from gains, independent others of the same world, and a generator, to what a checkpoint may hold."""
