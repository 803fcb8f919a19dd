"""Checkpoints that stand in the wrong place of a training run: exchanged, or far from both neighbours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gammatorch.sweep.course import Pair, joined, step_lengths, to_and_fro
from gammatorch.sweep.ends import with_an_end
from gammatorch.sweep.finding import Finding, listed, named_layers
from gammatorch.sweep.junctions import Stretch
from gammatorch.sweep.order import find_exchanged
from gammatorch.sweep.strays import AWAY, UNUSUAL, usual_around
from gammatorch.sweep.trajectory import Trajectory

_BETTER, _BETWEEN, _LONG = 0.4, 2.0, 6.0
"""The way over a checkpoint that fits elsewhere is at most so many times as long as where it stands; and as from one of
those it lies between to the other, which is 1 on a steady way, √2 on a random one, 2 in noise; and that is at most so
many times as long as most steps."""

_OWN, _SPAN = 0.9, 256
"""Share of the way to a checkpoint and back that lies in directions the run goes in elsewhere, by which it is the run's
own: no noise of a jump is more than a twelfth of it; and how many other checkpoints tell these directions at most."""

_FEW = 0.3
"""Where steps go to and fro in ten directions or fewer, some are far from neighbours that met by chance."""

_FEWEST = 5
"""Checkpoints from which on places can be told."""

_WINDOW, _OVERLAP = 512, 128
"""Checkpoints compared with each other at once."""


@dataclass(frozen=True)
class _Jump:
    """The rows in which a checkpoint lies far from both neighbours, and how many times as far as they lie apart."""

    rows: list[int]
    times: float


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
            for places, finding in _misplaced(run, points, part):
                if not places & moved:
                    findings.append(finding)
                    moved |= places
    return findings, frozenset(moved)


def _misplaced(run: Trajectory, points: Tensor, part: list[int]) -> Iterator[tuple[set[int], Finding]]:
    """What is wrong with the order of some positions, and which it is about; stretches, then what is exchanged else."""
    first_is_initial = part[0] == 0 and bool(run.constant[0].all())
    stretches, pairs = find_exchanged(points, run.grain, part, first_is_initial)
    for stretch in stretches:
        places = {part[at] for at in stretch.places()}
        yield places, _tell_stretch(run, part, stretch)
    for group in joined(pairs):
        places = {at for pair in group for at in pair}
        yield places, _tell_exchanged(run, sorted(places))


def _tell_exchanged(run: Trajectory, places: list[int]) -> Finding:
    names = tuple(run.labels[place] for place in places)
    if len(names) == 2:
        text = f"{names[0]} and {names[1]} are exchanged: each lies where the other should"
    else:
        text = f"{listed(names)} are in each other's places: each lies where another of them should"
    return Finding("swapped", "anomaly", names, text)


def _tell_stretch(run: Trajectory, part: list[int], stretch: Stretch) -> Finding:
    names = tuple(run.labels[part[at]] for at in stretch.places())
    return Finding("swapped", "anomaly", names, stretch.told([run.labels[position] for position in part]))


def find_jumps(run: Trajectory, points: Tensor, known: frozenset[int]) -> list[Finding]:
    """Checkpoints that lie far from both neighbours, which lie near each other; in some layers at least.

    Two of which each lies where the other should are exchanged; the steps around them may go to and fro too much for
    order.py to tell.

    Gains that follow the learning rate do so honestly where it begins anew, as training is resumed; but in directions
    in which the run goes elsewhere too, in its first warm-up or as it decays. That is a note.

    Args:
        run: The training run.
        points: Its points, corrected for changes of convention, shape (n, layer, dim).
        known: Positions that another anomaly explains.
    """
    positions = [position for position in range(len(run)) if position not in known]
    if len(positions) < _FEWEST:
        return []
    kept = points[positions] if len(positions) < len(points) else points
    jumps = _jumps(kept, run.grain[positions])
    steady = [place for place in range(len(positions)) if place not in jumps]
    fits = {place: _fits_between(kept[:, jump.rows], place, steady) for place, jump in jumps.items()}
    exchanged = [*_exchanged(kept, fits), *with_an_end(kept)]
    groups = [{place for pair in group for place in pair} for group in joined(exchanged)]
    told = set[int]().union(*groups)
    return [
        *(_tell_exchanged(run, sorted(positions[place] for place in group)) for group in groups),
        *(
            _tell_jump(run, kept, positions, place, jump, steady, fits[place])
            for place, jump in jumps.items()
            if place not in told
        ),
    ]


def _exchanged(kept: Tensor, fits: Mapping[int, Pair | None]) -> list[Pair]:
    """Jumps of which one fits where the other is, and the other lies better where the one is."""
    return [
        (place, other)
        for place, between in fits.items()
        if between is not None
        for other in range(between[0] + 1, between[1])
        if _away(kept, other, place) < _BETTER * _away(kept, other, other)
    ]


def _away(kept: Tensor, place: int, at: int) -> float:
    """How far a checkpoint is from the neighbours of a place."""
    return float(torch.linalg.vector_norm((kept[[at - 1, at + 1]] - kept[place]).flatten(1), dim=-1).sum())


def _jumps(kept: Tensor, grain: Tensor) -> dict[int, _Jump]:
    """By place, all but the first and last."""
    step, skip = step_lengths(kept), torch.maximum(step_lengths(kept, 2), grain[1:-1])
    nearest = torch.minimum(step[:-1], step[1:])
    far = (nearest > AWAY * skip) & (nearest > UNUSUAL * usual_around(step)[1:-1])
    rows = {place: [int(row) for row in found.nonzero()[:, 0]] for place, found in enumerate(far, start=1)}
    rows = {place: found for place, found in rows.items() if len(found) >= min(2, kept.shape[1])}
    return {
        place: _Jump(found, float((nearest / skip)[place - 1, found].median()))
        for place, found in rows.items()
        if _goes_on(kept, found, place, rows)
    }


def _goes_on(kept: Tensor, rows: list[int], place: int, jumps: Collection[int]) -> bool:
    """Whether the steps around a jump, all jumps left out, do not go to and fro in a few directions."""
    around = [at for at in range(max(0, place - 8), min(len(kept), place + 9)) if at not in jumps]
    return to_and_fro(kept[around][:, rows]) < _FEW


def _tell_jump(
    run: Trajectory,
    kept: Tensor,
    positions: list[int],
    place: int,
    jump: _Jump,
    steady: list[int],
    between: Pair | None,
) -> Finding:
    name = run.labels[positions[place]]
    layers = tuple(run.layers[row] for row in jump.rows)
    some = f" in {named_layers(layers)}" if len(layers) < len(run.layers) else ""
    text = f"{name} jumps{some}: {jump.times:.0f} times as far from both neighbours as they are from each other"
    own = between is None and _is_own_way(kept[:, jump.rows], place, steady)
    if between is not None:
        text += f"; its gains fit between {' and '.join(run.labels[positions[one]] for one in between)}"
    elif own:
        text += ", in a direction the run goes elsewhere too, as when the learning rate begins anew"
    severe: Literal["anomaly", "note"] = "note" if own else "anomaly"
    return Finding("jump", severe, (name,), text, layers if some else ())


def _fits_between(points: Tensor, place: int, steady: list[int]) -> Pair | None:
    """Those next to each other, jumps apart, between which a checkpoint would lie far better, and on their way.

    A long way there is no place to fit in: along a first warm-up lies what begins anew with a second.
    """
    away = torch.linalg.vector_norm((points - points[place]).flatten(1), dim=-1)
    cost = torch.tensor([float(away[one] + away[other]) for one, other in pairwise(steady)])
    best = int(cost.argmin())
    one, other = steady[best : best + 2]
    lengths = step_lengths(points[steady].flatten(1))
    near = cost[best] < _BETTER * (away[place - 1] + away[place + 1]) and cost[best] < _BETWEEN * lengths[best]
    return (one, other) if bool(near) and bool(lengths[best] < _LONG * lengths.median()) else None


def _is_own_way(points: Tensor, place: int, steady: list[int]) -> bool:
    """Whether a checkpoint is away from its neighbours in directions in which those that do not jump lie apart."""
    away = (points[place] - (points[place - 1] + points[place + 1]) / 2).flatten().double()
    count = max(1, min(_SPAN, away.numel() // 4, len(steady) - 1))
    chosen = torch.tensor(steady)[torch.linspace(0, len(steady) - 1, count + 1).round().long()]
    path = points[chosen].flatten(1).double()
    directions = torch.linalg.qr((path[1:] - path[:1]).T).Q
    return bool((directions.T @ away).square().sum() > _OWN * away.square().sum())
