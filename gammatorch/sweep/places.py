"""Checkpoints that stand in the wrong place of a training run, by the distances between them.

Training drifts, wanders, or shivers about a place with a noise that changes with the learning rate. Under all three a
checkpoint is no nearer to the neighbours of another one than to its own, while that other one is nearer to the first
one's: two that are exchanged are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.sweep.finding import Finding, ranges
from gammatorch.sweep.trajectory import Trajectory

_NEARER, _SURE = 0.1, 4.0
"""An exchanged checkpoint is nearer to the other's neighbours by this share at least, and by so many standard errors
of the ratio of two distances."""

_AWAY, _UNUSUAL = 3.0, 4.0
"""A jump goes so many times as far as its neighbours lie apart, and as far as steps go around there."""

_AROUND = 4
"""Intervals on each side that tell how far steps go around there."""

_FEWEST = 5
"""Checkpoints from which on places can be told."""

_CHANGED_SHARE = 0.02
"""Share of the entries that must change from a checkpoint to the next for distances between them to mean something."""

_WINDOW, _OVERLAP = 1024, 128
"""Checkpoints compared with each other at once."""


@dataclass(frozen=True)
class _Path:
    """The part of a training run whose places are looked at.

    Attributes:
        positions: Positions in the training run.
        apart: Distances between any two, in relative units, shape (n, n).
        nearer: Ratio of distances below which one is surely the shorter.
        told: Whether the interval to the next changes enough entries, shape (n - 1).
        first_is_initial: Whether the first one has the gains that training begins with.
    """

    positions: tuple[int, ...]
    apart: Tensor
    nearer: float
    told: Tensor
    first_is_initial: bool


def find_misplaced(run: Trajectory, points: Tensor, known: frozenset[int]) -> list[Finding]:
    """Checkpoints that were exchanged, and those that jump away from both neighbours.

    Args:
        run: The training run.
        points: Its points, corrected for changes of convention, shape (n, layer, dim).
        known: Positions that another anomaly explains.
    """
    positions = [position for position in range(len(run)) if position not in known]
    findings, moved = [], set[int]()
    for start in range(0, max(len(positions) - _OVERLAP, 1), _WINDOW - _OVERLAP):
        part = positions[start : start + _WINDOW]
        if len(part) >= _FEWEST:
            for one, other in _exchanged(_path(run, points, part)):
                if not {one, other} & moved:
                    names = (run.labels[one], run.labels[other])
                    text = f"{names[0]} and {names[1]} are exchanged: each lies where the other should"
                    findings.append(Finding("swapped", "anomaly", names, text))
                    moved |= {one, other}
    left = [position for position in positions if position not in moved]
    return findings + _jumps(run, points, left)


def _path(run: Trajectory, points: Tensor, positions: list[int]) -> _Path:
    scale = run.norms[positions].median(dim=0).values
    scaled = points[positions] / torch.where(scale > 0, scale, 1)[:, None]
    flat = scaled.flatten(1).to(torch.float64)
    enough = max(32, _CHANGED_SHARE * run.hidden * len(run.layers))
    changed = run.changed.sum(dim=-1)
    told = [int(changed[one:other].max()) >= min(enough, run.hidden) for one, other in _pairs(positions)]
    return _Path(
        tuple(positions),
        torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist"),
        1 - max(_NEARER, _SURE * _ratio_error(flat)),
        torch.tensor(told),
        positions[0] == 0 and bool(run.constant[0].all()),
    )


def _ratio_error(flat: Tensor) -> float:
    """Standard error of the ratio of two distances that are equal but for chance.

    Σ e² over independent e varies by (2/3) Σ e⁴ / (Σ e²)² of its square if they are normal; a distance by half of
    that, and a ratio of two by √2 times as much.
    """
    squares = (flat[1:] - flat[:-1]).square()
    moving = squares.sum(dim=-1) > 0
    if not bool(moving.any()):
        return 1.0
    share = (squares.square().sum(dim=-1) / squares.sum(dim=-1).square())[moving].median()
    return float((share / 3).sqrt())


def _pairs(positions: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(positions))


def _exchanged(path: _Path) -> list[tuple[int, int]]:
    """Pairs of positions to exchange, the one that shortens the path most first, until none does."""
    order = torch.arange(len(path.positions))
    pairs: list[tuple[int, int]] = []
    while len(pairs) < len(order) // 4:
        best = _best_exchange(path, path.apart[order][:, order])
        if best is None:
            return pairs
        one, other = best
        order[[one, other]] = order[[other, one]]
        pairs.append((path.positions[one], path.positions[other]))
    return []  # no order can be made out at all


def _best_exchange(path: _Path, apart: Tensor) -> tuple[int, int] | None:
    """The exchange that shortens the path most, of those after which both ends of it lie nearer to their neighbours."""
    n = len(apart)
    own = torch.zeros(n, dtype=apart.dtype)
    own[:-1] += apart.diagonal(1)
    own[1:] += apart.diagonal(1)
    there = torch.zeros_like(apart)  # there[i, j]: how far i lies from the neighbours of j
    there[:, :-1] += apart[:, 1:]
    there[:, 1:] += apart[:, :-1]
    closer = there < path.nearer * own[:, None]
    nearer = closer & closer.T
    gain = own[:, None] + own[None, :] - there - there.T
    first = torch.arange(n - 1)  # neighbours stay neighbours of each other
    own_out, there_out = _outer(apart)
    nearer[first, first + 1] = (there_out < path.nearer * own_out).all(dim=-1)
    gain[first, first + 1] = (own_out - there_out).sum(dim=-1)
    for one, other in _tails(apart, path.nearer, path.first_is_initial):
        nearer[one, other] = True
        gain[one, other] = apart.max()
    told = _told(path.told)
    allowed = torch.triu(nearer & told[:, None] & told[None, :], diagonal=1)
    if path.first_is_initial:
        allowed[0] = False
    if not bool(allowed.any()):
        return None
    best = int(torch.where(allowed, gain, -torch.inf).argmax())
    return best // n, best % n


def _outer(apart: Tensor) -> tuple[Tensor, Tensor]:
    """For neighbours i and i + 1: their distances to i - 1 and i + 2, as they are and exchanged; never at the ends."""
    n = len(apart)
    own, there = torch.zeros(n - 1, 2, dtype=apart.dtype), torch.zeros(n - 1, 2, dtype=apart.dtype)
    middle = torch.arange(1, n - 2)
    own[1:-1] = torch.stack([apart[middle - 1, middle], apart[middle + 1, middle + 2]], dim=1)
    there[1:-1] = torch.stack([apart[middle - 1, middle + 1], apart[middle, middle + 2]], dim=1)
    return own, there


def _told(told: Tensor) -> Tensor:
    """Of each checkpoint: whether all its intervals change enough."""
    whole = torch.ones(len(told) + 1, dtype=torch.bool)
    whole[:-1] &= told
    whole[1:] &= told
    return whole


def _tails(apart: Tensor, surely: float, initial: bool) -> list[tuple[int, int]]:
    """Exchanges of the last two or the outer of the last three, and of the first.

    At an end, a checkpoint that lies between the others may also be the one where the noise has died down; so the
    order must show in the distances from two checkpoints before, and the one between must lie in between: the angle
    there is a right one at least.
    """
    n, rise = len(apart), 1 - (1 - surely) / 3
    found = []
    for order in ([*range(n)], [] if initial else [*range(n - 1, -1, -1)]):
        for length in (2, 3):
            if len(order) < length + 2:
                continue
            before, at, *tail = order[-length - 2 :]
            right = tail[::-1]
            if _rises(apart[at, right], rise) and _rises(apart[before, [at, *right]], rise):
                near, far = right[0], right[1]
                side = apart[near, at].square() + apart[near, far].square() - apart[at, far].square()
                if side <= 0.2 * apart[near, at] * apart[near, far]:
                    found.append((min(tail[0], tail[-1]), max(tail[0], tail[-1])))
    return found


def _rises(distances: Tensor, rise: float) -> bool:
    return bool((distances[:-1] < rise * distances[1:]).all())


def _jumps(run: Trajectory, points: Tensor, positions: list[int]) -> list[Finding]:
    """Checkpoints that lie far from both neighbours, which lie near each other; in some layers at least."""
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
        if len(rows) >= min(2, len(run.layers)):
            times = float((nearest / skip[place - 1])[rows].median())
            findings.append(_tell_jump(run, kept, positions, place, rows, times))
    return findings


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
