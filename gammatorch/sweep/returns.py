"""Whether gains that come back to the very bits they had could have done so by chance.

Gains that wander in one or two directions come near to where they were, all layers at once, and 16 bits round what is
left away in some of them. A layer of another checkpoint comes back among others that are as far away as ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gammatorch.sweep.course import step_lengths, to_and_fro
from gammatorch.sweep.strays import strays
from gammatorch.sweep.trajectory import Trajectory

RETURNED = 32
"""Changed entries that do not all come back by chance; of narrower rows: all entries."""

_NEAR, _LEFT, _STEPS = 0.5, 4.0, 3.0
"""Gains come back near to where they were if they lie less than so many spacings from there, in the mean, and have been
so many times as far; in steps at most so many times as long as most."""

_TO_AND_FRO = 0.1
"""Steps of a run whose bits return by chance go against each other by cosines of more than this, though rounding hides
half of it where they are short; those that wander in all directions by a hundredth."""

_COMPARED, _THINNED = 512, 128
"""Checkpoints compared with each other at most, and those that tell whether a run goes to and fro."""

Run = tuple[int, int]
"""First and last position of checkpoints in a row that hold the same."""


def by_chance(run: Trajectory, one: int, other: int, rows: Sequence[int], together: bool) -> bool:
    """Whether layers equal in two checkpoints may be so because all layers lie near each other there.

    The layers that differ tell how far their entries have moved, in spacings of the stored type. At its own pace a
    layer would have moved some share of that, and each entry that should have changed and did not is one more chance.

    Args:
        run: The training run.
        one: A position.
        other: Another, at which ``rows`` are the same.
        rows: The layers in question.
        together: Whether all layers move together, so that entries are no chances of their own: one layer must do.
    """
    differ = (run.rows[one] != run.rows[other]) & ~run.constant[other]
    differ[list(rows)] = False
    if not bool(differ.any()):
        return True
    away = torch.linalg.vector_norm(run.points[one] - run.points[other], dim=-1)
    moved, pace = _spacings(away, run.grain[other]), _paces(run)
    usual = (moved / pace)[differ].median()
    expected = run.hidden * (usual * pace[list(rows)]).clamp(max=1)
    if together:
        return bool(expected.max() < min(RETURNED, run.hidden))
    return bool(expected.sum() < min(RETURNED, run.hidden * len(rows)))


def goes_to_and_fro(run: Trajectory) -> bool:
    """Whether steps go against each other, as they do in few directions, in which all layers move together."""
    path = run.points[:: -(-len(run) // _THINNED)].to(torch.float64)
    return to_and_fro(_in_spacings(run, path)) >= _TO_AND_FRO


def _in_spacings(run: Trajectory, path: Tensor) -> Tensor:
    grain = run.grain.median(dim=0).values
    return path / torch.where(grain > 0, grain, torch.inf)[:, None]


def comes_near(run: Trajectory, known: Collection[int]) -> bool:
    """Whether gains that go to and fro come back nearly to the same bits, so that all bits may come back by chance.

    Gains that are the same at several places have come near others only if they have from each of these places.

    Args:
        run: The training run.
        known: Positions that are the same as others.
    """
    compared = sorted(sorted(range(len(run)), key=lambda at: abs(at - min(known)))[:_COMPARED])
    path = _in_spacings(run, run.points[compared].to(torch.float64))
    away = torch.cdist(path.flatten(1), path.flatten(1)) / len(run.layers) ** 0.5
    passed = away.clone()
    groups: dict[str, list[int]] = defaultdict(list)
    for row, position in enumerate(compared):
        if position in known:
            groups[run.digests[position]].append(row)
            passed[:, row] = 0  # one that strays tells nothing of how far the run went
    rest = [row for row, position in enumerate(compared) if position not in known]
    off = [rest[at] for at in strays(away[rest][:, rest])]
    if to_and_fro(path[[row for row in rest if row not in off]]) < _TO_AND_FRO:
        return False
    passed[:, off] = 0
    farthest = passed.triu().cummax(dim=1).values
    near = ((away < _NEAR) & (farthest > _LEFT * away)).triu(diagonal=2)
    near = near | near.T
    near[off] = False
    near[:, off] = False
    for rows in groups.values():
        near[rows] = near[rows].all(dim=0)
        near[:, rows] = near[:, rows].all(dim=1, keepdim=True)
    return bool(near.any())


def passes_by(run: Trajectory, runs: Sequence[Run]) -> bool:
    """Whether the steps to all places with the same gains and on from there are no longer than others.

    Args:
        run: The training run.
        runs: Where the gains are the same.
    """
    steps = step_lengths(run.points.flatten(1))
    beside = [pair for first, last in runs for pair in (first - 1, last) if 0 <= pair < len(steps)]
    return bool((steps[beside] <= _STEPS * steps.median()).all())


def changes(run: Trajectory, one: int, others: list[int], rows: list[int]) -> Tensor:
    """About how many entries of some layers differ in other checkpoints, by how far these lie away.

    Args:
        run: The training run.
        one: A position.
        others: Others.
        rows: The layers in question.

    Returns:
        Shape (other, row).
    """
    away = torch.linalg.vector_norm(run.points[others][:, rows] - run.points[one, rows], dim=-1)
    return run.hidden * _spacings(away, run.grain[one, rows]).clamp(max=1)


def _spacings(away: Tensor, grain: Tensor) -> Tensor:
    """How many spacings entries have moved; where it is less than one, as a share of the entries did, by one each."""
    rms = away.to(torch.float64) / torch.where(grain > 0, grain, torch.inf)
    return torch.where(rms < 1, rms.square(), rms)


def _paces(run: Trajectory) -> Tensor:
    """How far each layer goes in all, in spacings, shape (layer); a little for those that never move."""
    return _spacings(step_lengths(run.points), run.grain[1:]).sum(dim=0).clamp(min=1e-12)
