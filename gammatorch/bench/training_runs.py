"""Training runs drawn at random: how gains drift, wander and have noise when nothing is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gammatorch.trajectory.measure import Snapshot, Trajectory, trace


@dataclass(frozen=True)
class Kind:
    """How a run trains.

    Attributes:
        drift: Movement a step along a direction that turns slowly.
        wander: Independent movement, by the square root of the number of steps.
        shiver: Noise about the path, of each checkpoint's own.
        schedule: Learning rate over training, of :func:`rates_of`.
        spacing: Of steps: ``"even"``, or ``"log"`` up to 512 and even from there.
        dtype: As stored.
        initial: What training begins with: ``"ones"``, or ``"drawn"`` as a trained model's.
        settle: How far the gains stand off, in a direction of their own, in proportion to the learning rate.
        returning: Noise about the path that is forgotten by a half from each checkpoint to the next.
        directions: Directions in which the wandering goes; 0: in all.
        spikes: How far the gains jump now and then, halfway back with each checkpoint after.
    """

    drift: float = 1.0
    wander: float = 0.0
    shiver: float = 0.0
    schedule: str = "decay"
    spacing: str = "even"
    dtype: torch.dtype = torch.float32
    initial: str = "ones"
    settle: float = 0.0
    returning: float = 0.0
    directions: int = 0
    spikes: float = 0.0


@dataclass(frozen=True, eq=False)
class Begun:
    """A run that has been begun: all that is drawn once."""

    rng: np.random.Generator
    steps: list[int]
    rates: np.ndarray
    gamma: np.ndarray
    pace: np.ndarray
    direction: np.ndarray
    axes: np.ndarray


def begin(kind: Kind, seed: int, count: int, layers: int, hidden: int) -> Begun:
    """Draw what does not change in the course of a run."""
    rng = np.random.default_rng(seed)
    steps, shape = steps_of(kind.spacing, count), (layers, hidden)
    gamma = np.ones(shape) if kind.initial == "ones" else np.exp(0.3 * rng.standard_normal(shape))
    pace = np.exp(0.5 * rng.standard_normal((layers, 1)))
    direction = rng.standard_normal(shape)
    rates = rates_of(kind.schedule, steps, rng)
    axes = rng.standard_normal((kind.directions, *shape)) / np.sqrt(max(kind.directions, 1))
    return Begun(rng, steps, rates, gamma, pace, direction, axes)


def draw(
    kind: Kind, seed: int, count: int = 60, layers: int = 6, hidden: int = 128
) -> tuple[list[int], list[torch.Tensor]]:
    """Steps and stored gains of an honest run."""
    run = begin(kind, seed, count, layers, hidden)
    rng, gamma, direction, shape = run.rng, run.gamma, run.direction, run.gamma.shape
    off, noise, spike = rng.standard_normal(shape), np.zeros(shape), np.zeros(shape)
    stored, before = [], run.steps[0]
    for step, rate in zip(run.steps, run.rates, strict=True):
        length = (step - before) / run.steps[-1] * rate
        direction = 0.98 * direction + 0.2 * rng.standard_normal(shape)
        gamma = gamma + run.pace * kind.drift * length * direction
        if kind.directions:
            moved = np.tensordot(rng.standard_normal(kind.directions), run.axes, 1)
        else:
            moved = rng.standard_normal(shape)
        gamma = gamma + run.pace * kind.wander * np.sqrt(length / 60) * moved
        shown = gamma + (run.pace * kind.shiver * np.sqrt(rate) * rng.standard_normal(shape) if step else 0.0)
        if kind.settle:
            shown = shown + run.pace * kind.settle * rate * off
        if kind.returning and step:
            noise = 0.5 * noise + kind.returning * np.sqrt(rate) * rng.standard_normal(shape)
            shown = shown + run.pace * noise
        if kind.spikes:
            jumps = step and (rng.random() < 0.05 or (seed % 2 and step == run.steps[-2 - seed % 3 // 2]))
            spike = 0.5 * spike + (run.pace * kind.spikes * rng.standard_normal(shape) if jumps else 0.0)
            shown = shown + spike
        stored.append(torch.from_numpy(shown).to(kind.dtype))
        before = step
    return run.steps, stored


def steps_of(spacing: str, count: int) -> list[int]:
    """Steps of so many checkpoints: even, with gaps, or by powers of two at first."""
    if spacing == "even":
        return [1000 * number for number in range(count)]
    if spacing == "gaps":
        return [0, *(1000 * int(step) for step in np.cumsum(np.random.default_rng(count).geometric(0.3, count - 1)))]
    early = [0, *(2**power for power in range(10))]
    return [*early, *(1000 * number for number in range(1, count - len(early) + 1))]


def rates_of(schedule: str, steps: list[int], rng: np.random.Generator) -> Any:
    """Learning rate at each step, 1 at most or thereabouts."""
    share = np.asarray(steps, dtype=np.float64) / steps[-1]
    number = np.arange(len(steps))
    warm = np.minimum(share * 50, 1)
    if schedule == "decay":
        return warm * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-3
    if schedule == "restarts":
        return 0.5 + 0.5 * np.cos(np.pi * ((share * 4) % 1)) + 1e-3
    if schedule == "burst":
        return 0.3 + 5 * np.exp(-((number - 6) ** 2) / 2) + (share > 0.5) * rng.exponential(0.5, len(steps))
    if schedule == "plateau":  # then a quick decay to nothing
        return warm * np.minimum((1 - share) * 10, 1)
    if schedule == "annealed":  # the last checkpoint alone
        return np.where(share < 1, 1.0, 1e-3)
    if schedule == "resumed":
        return warm * np.clip(np.abs(share - 0.6) * 50, 1e-3, 1)
    if schedule == "resumed at once":
        return warm * np.where(number == int(0.6 * len(steps)), 0.05, 1)
    if schedule == "to and fro":
        return np.where(number % 2, 1.0, 0.1)
    if schedule == "in three":
        return np.array([1.0, 0.5, 0.1])[number % 3]
    if schedule == "jump":  # too quick at first
        return np.where(number < 4, 20.0, 1.0) * (1 - 0.9 * share)
    if schedule == "pauses":
        return np.where((number // 9) % 3 == 1, 1e-3, 1.0)
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
    "plateau, nothing but noise": Kind(drift=0.0, shiver=0.1, schedule="constant"),
    "plateau, nothing but noise, bf16": Kind(drift=0.0, shiver=0.02, schedule="constant", dtype=torch.bfloat16),
    "plateau and cool-down": Kind(drift=0.5, wander=0.2, shiver=0.02, schedule="plateau"),
    "plateau and cool-down, settling, bf16": Kind(0.5, 0.2, 0.02, "plateau", dtype=torch.bfloat16, settle=0.3),
    "annealed at the end, settling": Kind(drift=0.5, wander=0.2, shiver=0.02, schedule="annealed", settle=0.3),
    "annealed at the end": Kind(drift=0.0, wander=0.2, shiver=0.05, schedule="annealed"),
    "resumed with a warm-up, settling": Kind(drift=0.5, wander=0.1, schedule="resumed", settle=0.3),
    "rate to and fro, settling": Kind(drift=0.5, wander=0.1, schedule="to and fro", settle=0.1),
    "rate in three, settling": Kind(drift=0.5, wander=0.1, schedule="in three", settle=0.1),
    "returning noise": Kind(drift=0.05, returning=0.05, schedule="constant"),
    "returning noise, bf16": Kind(drift=0.2, returning=0.02, dtype=torch.bfloat16),
    "wandering in one direction": Kind(drift=0.0, wander=0.5, schedule="constant", directions=1),
    "wandering in three directions": Kind(drift=0.1, wander=0.5, shiver=0.005, schedule="constant", directions=3),
    "wandering in ten directions, bf16": Kind(drift=0.1, wander=0.5, directions=10, dtype=torch.bfloat16),
}
"""Runs as they may be."""

NASTY: Mapping[str, Kind] = {
    "drift, spikes": Kind(drift=0.5, spikes=0.05),
    "wandering, spikes, bf16": Kind(drift=0.0, wander=0.5, spikes=0.1, schedule="constant", dtype=torch.bfloat16),
    "shivering, spikes": Kind(drift=0.1, wander=0.1, shiver=0.02, spikes=0.1),
    "shivering, small spikes, restarts": Kind(drift=0.2, shiver=0.05, spikes=0.1, schedule="restarts"),
    "warm-up that jumps": Kind(drift=0.3, wander=0.3, shiver=0.01, schedule="jump"),
    "warm-up that jumps, settling, bf16": Kind(
        drift=0.3, wander=0.1, schedule="jump", settle=0.02, dtype=torch.bfloat16
    ),
    "pauses": Kind(drift=0.5, wander=0.2, shiver=0.01, schedule="pauses"),
    "pauses, wandering in two directions": Kind(drift=0.1, wander=0.5, schedule="pauses", directions=2),
    "resumed with a short warm-up, settling": Kind(drift=0.5, wander=0.1, schedule="resumed at once", settle=0.3),
    "resumed with a short warm-up, slow drift, settling": Kind(
        drift=0.1, wander=0.1, schedule="resumed at once", settle=0.3
    ),
    "wandering in two directions, bf16": Kind(
        drift=0.0, wander=0.5, schedule="constant", directions=2, dtype=torch.bfloat16
    ),
    "wandering little, in two directions, bf16": Kind(
        drift=0.0, wander=0.1, schedule="constant", directions=2, dtype=torch.bfloat16
    ),
    "gaps": Kind(drift=0.5, wander=0.3, shiver=0.01, spacing="gaps"),
    "gaps, bf16, returning": Kind(drift=0.3, returning=0.02, spacing="gaps", dtype=torch.bfloat16),
    "settling in restarts, shivering": Kind(drift=0.2, shiver=0.02, schedule="restarts", settle=0.2),
}
"""Honest runs that may be taken for others: with loss spikes, jumps, pauses, short warm-ups, missing checkpoints; and
those that come back to the same bits, since all layers go to and fro together."""


def measure(steps: list[int], stored: list[torch.Tensor], files: list[str | None] | None = None) -> Trajectory:
    """The trajectory of a run."""
    snapshots = [
        Snapshot(f"step{step}", step, gains, digest=str(hash(gains.view(torch.uint8).numpy().tobytes())))
        for step, gains in zip(steps, stored, strict=True)
    ]
    if files is not None:
        snapshots = [replace(snapshot, files=file) for snapshot, file in zip(snapshots, files, strict=True)]
    return trace(iter(snapshots), snapshots[-1], tuple(range(len(stored[0]))))
