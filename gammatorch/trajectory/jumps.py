"""Checkpoints that lie far from both neighbours, which lie near each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from gammatorch.trajectory.finding import Finding, named_layers
from gammatorch.trajectory.measure import Trajectory
from gammatorch.trajectory.path import FAR, FEWEST, UNUSUAL, step_lengths, usual_around

_OWN = 0.9
"""Share of the way to a checkpoint and back, in directions the run goes in elsewhere, by which it is the run's own."""


def find_jumps(run: Trajectory, points: Tensor, known: Collection[int]) -> list[Finding]:
    """Checkpoints that lie far from both neighbours, in two layers at least.

    Gains that follow the learning rate do so honestly where it begins anew, as training is resumed; but in directions
    in which the run goes elsewhere too, in its first warm-up or as it decays. That is a note.

    Args:
        run: The training run.
        points: Its points, corrected for changes of convention, shape (n, layer, dim).
        known: Positions that another anomaly explains.
    """
    positions = [position for position in range(len(run)) if position not in known]
    if len(positions) < FEWEST:
        return []
    kept = points[positions]
    times = _times_as_far(kept, run.grain[positions])
    jumps = {place + 1: [int(row) for row in found.nonzero()[:, 0]] for place, found in enumerate(times > 0)}
    jumps = {place: rows for place, rows in jumps.items() if len(rows) >= min(2, len(run.layers))}
    steady = [place for place in range(len(positions)) if place not in jumps]
    findings = []
    for place, rows in jumps.items():
        layers, far = tuple(run.layers[row] for row in rows), float(times[place - 1, rows].median())
        own = _is_own_way(kept[:, rows], place, steady)
        findings.append(_tell(run.labels[positions[place]], run, layers, far, own))
    return findings


def _tell(name: str, run: Trajectory, layers: tuple[int, ...], times: float, own: bool) -> Finding:
    """The finding about one jump."""
    some = f" in {named_layers(layers)}" if len(layers) < len(run.layers) else ""
    text = f"{name} jumps{some}: {times:.0f} times as far from both neighbours as they are from each other"
    if own:
        text += ", in a direction the run goes elsewhere too, as when the learning rate begins anew"
    severity: Literal["anomaly", "note"] = "note" if own else "anomaly"
    return Finding("jump", severity, (name,), text, layers if some else ())


def _times_as_far(kept: Tensor, grain: Tensor) -> Tensor:
    """How many times as far each row lies from both neighbours as they from each other; 0 where it does not jump."""
    step, skip = step_lengths(kept), torch.maximum(step_lengths(kept, 2), grain[1:-1])
    nearest = torch.minimum(step[:-1], step[1:])
    far = (nearest > FAR * skip) & (nearest > UNUSUAL * usual_around(step)[1:-1])
    return torch.where(far, nearest / skip, 0)


def _is_own_way(points: Tensor, place: int, steady: list[int]) -> bool:
    """Whether a checkpoint is away from its neighbours in directions in which those that do not jump lie apart."""
    away = (points[place] - (points[place - 1] + points[place + 1]) / 2).flatten().double()
    count = min(away.numel() // 2, len(steady) - 1)  # any way lies in as many directions as there are
    chosen = torch.tensor(steady)[torch.linspace(0, len(steady) - 1, count + 1).round().long()]
    path = points[chosen].flatten(1).double()
    directions = torch.linalg.qr((path[1:] - path[:1]).T).Q
    return bool((directions.T @ away).square().sum() > _OWN * away.square().sum())
