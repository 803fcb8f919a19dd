"""Training runs drawn at random: how gains drift, wander and shiver when nothing is wrong, and what can be done to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from gammatorch.sweep.trajectory import Snapshot, Trajectory, trace


@dataclass(frozen=True)
class Kind:
    """How a run trains.

    Attributes:
        drift: Movement a step along a direction that turns slowly.
        wander: Independent movement, by the square root of the number of steps.
        shiver: Noise about the path, of each checkpoint's own.
        schedule: Learning rate over training: ``"decay"``, ``"restarts"``, ``"constant"``, ``"burst"``.
        spacing: Of steps: ``"even"``, or ``"log"`` up to 512 and even from there.
        dtype: As stored.
    """

    drift: float = 1.0
    wander: float = 0.0
    shiver: float = 0.0
    schedule: str = "decay"
    spacing: str = "even"
    dtype: torch.dtype = torch.float32
    initial: str = "ones"


def draw(
    kind: Kind, seed: int, count: int = 60, layers: int = 6, hidden: int = 128
) -> tuple[list[int], list[torch.Tensor]]:
    """Steps and stored gains of an honest run."""
    rng = np.random.default_rng(seed)
    steps = steps_of(kind.spacing, count)
    gamma = np.ones((layers, hidden)) if kind.initial == "ones" else np.exp(0.3 * rng.standard_normal((layers, hidden)))
    pace = np.exp(0.5 * rng.standard_normal((layers, 1)))
    direction = rng.standard_normal((layers, hidden))
    rates = rates_of(kind.schedule, steps, rng)
    stored, before = [], steps[0]
    for step, rate in zip(steps, rates, strict=True):
        length = (step - before) / steps[-1] * rate
        direction = 0.98 * direction + 0.2 * rng.standard_normal(direction.shape)
        gamma = gamma + pace * kind.drift * length * direction
        gamma = gamma + pace * kind.wander * np.sqrt(length / 60) * rng.standard_normal(gamma.shape)
        shiver = kind.shiver * np.sqrt(rate) * rng.standard_normal(gamma.shape) if step else 0.0
        stored.append(torch.from_numpy(gamma + pace * shiver).to(kind.dtype))
        before = step
    return steps, stored


def steps_of(spacing: str, count: int) -> list[int]:
    if spacing == "even":
        return [1000 * number for number in range(count)]
    early = [0, *(2**power for power in range(10))]
    return [*early, *(1000 * number for number in range(1, count - len(early) + 1))]


def rates_of(schedule: str, steps: list[int], rng: np.random.Generator) -> np.ndarray:
    share = np.asarray(steps, dtype=np.float64) / steps[-1]
    if schedule == "decay":
        return np.minimum(share * 50, 1) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-3
    if schedule == "restarts":
        return 0.5 + 0.5 * np.cos(np.pi * ((share * 4) % 1)) + 1e-3
    if schedule == "burst":
        return (
            0.3 + 5 * np.exp(-((np.arange(len(steps)) - 6) ** 2) / 2) + (share > 0.5) * rng.exponential(0.5, len(steps))
        )
    return np.ones(len(steps))


HONEST: Mapping[str, Kind] = {
    "drift": Kind(),
    "drift, bf16": Kind(dtype=torch.bfloat16),
    "slow drift, bf16, decaying": Kind(drift=0.1, dtype=torch.bfloat16),
    "hardly any drift, bf16": Kind(drift=0.01, dtype=torch.bfloat16),
    "drift, log-spaced": Kind(spacing="log"),
    "drift, log-spaced, bf16": Kind(spacing="log", dtype=torch.bfloat16),
    "slow drift, log-spaced, bf16, from a trained model": Kind(
        0.3, spacing="log", dtype=torch.bfloat16, initial="drawn"
    ),
    "wandering": Kind(drift=0.0, wander=1.0, schedule="constant"),
    "wandering, restarts": Kind(drift=0.0, wander=1.0, schedule="restarts"),
    "wandering, restarts, bf16": Kind(drift=0.0, wander=0.3, schedule="restarts", dtype=torch.bfloat16),
    "wandering, log-spaced": Kind(drift=0.2, wander=1.0, spacing="log"),
    "wandering, bursts": Kind(drift=0.2, wander=1.0, schedule="burst"),
    "shivering": Kind(drift=0.05, shiver=0.05, schedule="constant"),
    "shivering, restarts": Kind(drift=0.2, shiver=0.05, schedule="restarts"),
    "shivering, decaying": Kind(drift=0.2, wander=0.1, shiver=0.05),
    "shivering, bursts, bf16": Kind(drift=0.2, wander=0.2, shiver=0.05, schedule="burst", dtype=torch.bfloat16),
    "all together": Kind(drift=0.5, wander=0.5, shiver=0.02, spacing="log", dtype=torch.bfloat16),
    "float16, fine-tuning": Kind(drift=0.02, wander=0.02, dtype=torch.float16, initial="drawn"),
}


def measure(steps: list[int], stored: list[torch.Tensor], files: list[str | None] | None = None) -> Trajectory:
    """The trajectory of a run."""
    snapshots = [
        Snapshot(f"step{step}", step, gains, digest=str(hash(gains.view(torch.uint8).numpy().tobytes())))
        for step, gains in zip(steps, stored, strict=True)
    ]
    if files is not None:
        snapshots = [replace(snapshot, files=file) for snapshot, file in zip(snapshots, files, strict=True)]
    return trace(iter(snapshots), snapshots[-1], tuple(range(len(stored[0]))))


def seeds(count: int) -> Iterator[int]:
    yield from range(count)
