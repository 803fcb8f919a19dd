"""Checkpoints that stand in the wrong place of a training run: exchanged, or far from both neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.sweep.course import to_and_fro
from gammatorch.sweep.finding import Finding, ranges
from gammatorch.sweep.order import find_exchanged
from gammatorch.sweep.trajectory import Trajectory

_AWAY, _UNUSUAL = 3.0, 4.0
"""A jump goes so many times as far as its neighbours lie apart, and as far as steps go around there."""

_FEW = 0.3
"""Where steps go to and fro in ten directions or fewer, some are far from neighbours that met by chance."""

_AROUND = 4
"""Intervals on each side that tell how far steps go around there."""

_FEWEST = 5
"""Checkpoints from which on places can be told."""

_STILL = 8
"""Checkpoints over which a layer may stand still without being a copy."""

_WINDOW, _OVERLAP = 512, 128
"""Checkpoints compared with each other at once."""


def find_misplaced(run: Trajectory, points: Tensor, known: frozenset[int]) -> tuple[list[Finding], frozenset[int]]:
    """Checkpoints that were exchanged.

    Args:
        run: The training run.
        points: Its points, corrected for changes of convention, shape (n, layer, dim).
        known: Positions that another anomaly explains.

    Returns:
        What to tell, and the positions it is about.
    """
    positions = [position for position in range(len(run)) if position not in known]
    findings, moved = [], set[int]()
    for start in range(0, max(len(positions) - _OVERLAP, 1), _WINDOW - _OVERLAP):
        part = positions[start : start + _WINDOW]
        if len(part) >= _FEWEST:
            initial = part[0] == 0 and bool(run.constant[0].all())
            for one, other in find_exchanged(points, run.grain, part, initial):
                if not {one, other} & moved and _without_copies(run, points, part, (one, other), initial):
                    names = (run.labels[one], run.labels[other])
                    text = f"{names[0]} and {names[1]} are exchanged: each lies where the other should"
                    findings.append(Finding("swapped", "anomaly", names, text))
                    moved |= {one, other}
    return findings, frozenset(moved)


def _without_copies(run: Trajectory, points: Tensor, part: list[int], pair: tuple[int, int], initial: bool) -> bool:
    """Whether an exchange shows as well without the layers that are those of a third step, which may be a mixture."""
    copied = torch.zeros(len(run.layers), dtype=torch.bool)
    for place in pair:
        elsewhere = [at for at in part if abs(at - place) > _STILL]
        copied |= (run.rows[elsewhere] == run.rows[place]).any(dim=0)
    if not bool(copied.any()) or bool(copied.all()):
        return True
    return pair in find_exchanged(points[:, ~copied], run.grain[:, ~copied], part, initial)


def find_jumps(run: Trajectory, points: Tensor, known: frozenset[int]) -> list[Finding]:
    """Checkpoints that lie far from both neighbours, which lie near each other; in some layers at least.

    Args:
        run: The training run.
        points: Its points, corrected for changes of convention, shape (n, layer, dim).
        known: Positions that another anomaly explains.
    """
    positions = [position for position in range(len(run)) if position not in known]
    if len(positions) < _FEWEST:
        return []
    kept = points[positions]
    step = torch.linalg.vector_norm(kept[1:] - kept[:-1], dim=-1)
    skip = torch.maximum(torch.linalg.vector_norm(kept[2:] - kept[:-2], dim=-1), run.grain[positions][1:-1])
    findings = []
    for place in range(1, len(positions) - 1):
        nearest = torch.minimum(step[place - 1], step[place])
        around = [
            *range(max(0, place - 1 - _AROUND), place - 1),
            *range(place + 1, min(len(step), place + 1 + _AROUND)),
        ]
        usual = step[around].median(dim=0).values
        far = (nearest > _AWAY * skip[place - 1]) & (nearest > _UNUSUAL * usual)
        rows = [int(row) for row in far.nonzero()[:, 0]]
        if len(rows) >= min(2, len(run.layers)) and _goes_on(kept[:, rows], place):
            times = float((nearest / skip[place - 1])[rows].median())
            findings.append(_tell_jump(run, kept, positions, place, rows, times))
    return findings


def _goes_on(points: Tensor, place: int) -> bool:
    """Whether the steps around a checkpoint, itself left out, do not go to and fro in a few directions."""
    before, after = points[max(0, place - 8) : place], points[place + 1 : place + 9]
    return to_and_fro(torch.cat([before, after])) < _FEW


def _tell_jump(
    run: Trajectory, kept: Tensor, positions: list[int], place: int, rows: list[int], times: float
) -> Finding:
    name = run.labels[positions[place]]
    layers = tuple(run.layers[row] for row in rows)
    some = f" in layers {ranges(layers)}" if len(rows) < len(run.layers) else ""
    text = f"{name} jumps{some}: {times:.0f} times as far from both neighbours as they are from each other"
    between = _fits_between(kept[:, rows], place)
    if between is not None:
        text += f"; its gains fit between {' and '.join(run.labels[positions[one]] for one in between)}"
    return Finding("jump", "anomaly", (name,), text, layers if some else ())


def _fits_between(points: Tensor, place: int) -> tuple[int, int] | None:
    """The neighbours between which a checkpoint would lie best, if it lies much better there."""
    away = torch.linalg.vector_norm((points - points[place]).flatten(1), dim=-1)
    cost = away[:-1] + away[1:]
    own = float(cost[place - 1] + cost[place])
    cost[place - 1 : place + 1] = torch.inf
    best = int(cost.argmin())
    return (best, best + 1) if float(cost[best]) < 0.5 * own else None
