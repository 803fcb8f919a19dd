"""Gains that stand where they cannot have been trained to: those of another step.

Two facts tell a copy from a norm that stands still, as frozen and bfloat16 ones do:

* It **returns**. Gains that moved on by many entries do not come back to the same bits in all of them: with 32
  entries that each might, by a chance of a half, the odds are 2⁻³². All come near together where gains go to and fro in
  one or two directions, and 16 bits may round the rest away: that is a note.
* It **stands still among movement**. Where the intervals before and after change many entries, one of their length
  does not leave all as they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from gammatorch.sweep.finding import Finding, listed
from gammatorch.sweep.returns import RETURNED, Run, changes, comes_near, passes_by
from gammatorch.sweep.trajectory import Trajectory

EXPECTED_SHARE = 0.05
"""Share of the entries that would have changed if a standstill had moved as the intervals beside it did."""

_CLEARLY = 0.8
"""A place is home if the gains are less of a detour there than at any other place, by this ratio."""

_SHORT = 0.1
"""Share of the way over a place that is added to the detour: where a run goes straight on there is none, nor is there
between one and a stray far behind it."""


@dataclass(frozen=True)
class Copies:
    """Copies found in a training run.

    Attributes:
        findings: What to tell.
        strays: Positions that hold gains of another step, in some layers at least.
    """

    findings: tuple[Finding, ...]
    strays: frozenset[int]


def find_copies(run: Trajectory) -> Copies:
    """Checkpoints with all gains equal to another's, and which of them do not belong where they are.

    Args:
        run: The training run.
    """
    findings, strays = [], set[int]()
    groups: dict[str, list[int]] = defaultdict(list)
    for position, digest in enumerate(run.digests):
        groups[digest].append(position)
    everything = list(range(len(run.layers)))
    shared = [positions for positions in groups.values() if len(positions) > 1]
    away = {position for positions in shared if len(runs_of(positions)) > 1 for position in positions}
    chance = bool(away) and coarse(run) and comes_near(run, {at for positions in shared for at in positions})
    for positions in shared:
        runs = runs_of(positions, away - set(positions))
        honest = chance and passes_by(run, runs)
        back = not honest and len(runs) > 1 and comes_back(run, runs, everything)
        home = home_of(run, runs, everything, away) if back else None
        if back:
            strays |= set(positions) - set(range(home[0], home[1] + 1) if home else ())
        findings.append(_tell_whole(run, runs, positions, home, back, away if not honest else None))
    return Copies(tuple(findings), frozenset(strays))


def _tell_whole(
    run: Trajectory, runs: list[Run], positions: list[int], home: Run | None, back: bool, away: set[int] | None
) -> Finding:
    names = tuple(run.labels[position] for position in positions)
    first = run.files[positions[0]]
    same_files = first is not None and all(run.files[position] == first for position in positions)
    differ = len({run.steps[position] for position in positions}) > 1
    hold = "serve the same file" if same_files else "hold the same gains, bit for bit"
    if home is not None:
        owner = run.labels[home[1]]
        others = tuple(
            run.labels[p] for p in positions if (p != home[1] if same_files else not home[0] <= p <= home[1])
        )
        verb = "serves" if same_files else "holds"
        what = f"{verb if len(others) == 1 else verb[:-1]} the {'file' if same_files else 'gains'} of {owner}"
        return Finding("copy", "anomaly", others, f"{listed(others)} {what}")
    if back or (same_files and differ):
        return Finding("copy", "anomaly", names, f"{listed(names)} {hold}")
    if differ and away is not None and _expected_to_move(run, runs[0], away):
        text = f"{listed(names)} {hold}, while the steps beside them move"
        return Finding("copy", "anomaly", names, text)
    return Finding("same gains", "note", names, f"{listed(names)} {hold}")


def coarse(run: Trajectory) -> bool:
    """Whether gains are stored in 16 bits or so, which round small steps away."""
    return bool((run.grain > 1e-4 * run.norms).any())


def _expected_to_move(run: Trajectory, still: Run, away: set[int]) -> bool:
    """Whether a standstill of all layers would have moved, had it gone on as the intervals beside it did."""
    first, last = still
    if bool(run.constant[first].all()) or (first == 0 and (run.steps[last] <= 1 or coarse(run))):
        return False  # as training begins: without a learning rate yet, or with steps that the type rounds away
    if last == len(run) - 1 and coarse(run):
        return False  # as it ends
    expected = expected_changes(run, still, away)
    least = max(RETURNED, EXPECTED_SHARE * run.hidden * len(run.layers))
    return expected is not None and float(expected.sum()) >= min(least, run.hidden * len(run.layers))


def expected_changes(run: Trajectory, still: Run, away: set[int]) -> torch.Tensor | None:
    """Entries that would change in each row at the lesser pace of the intervals before and after; None without any."""
    first, last = still
    length = run.steps[last] - run.steps[first]
    paces = []
    for start, stop in ((first - 1, first), (last, last + 1)):
        if start >= 0 and stop < len(run) and not {start, stop} - {first, last} & away:
            share = min(1.0, length / max(run.steps[stop] - run.steps[start], 1))
            paces.append(run.changed[start].to(torch.float64) * share)
    return torch.stack(paces).amin(dim=0) if paces else None


def comes_back(run: Trajectory, runs: Sequence[Run], rows: list[int], away: Collection[int] = ()) -> bool:
    """Whether more entries left and came back than chance would bring back; what strays differ by tells nothing."""
    enough = min(RETURNED, run.hidden * len(rows))
    for (_, last), (first, _) in pairwise(runs):
        between = [position for position in range(last + 1, first) if position not in away]
        changed = [int(run.changed[pair, rows].sum()) for pair in (last, first - 1) if {pair, pair + 1} & {*between}]
        if max(changed, default=0) >= enough:
            return True
        if between and float(changes(run, last, between, rows).sum(dim=-1).max()) >= enough:
            return True
    return False


def home_of(run: Trajectory, runs: Sequence[Run], rows: list[int], away: Collection[int]) -> Run | None:
    """The place where the gains are least of a detour from what stands before to what stands after them; None where
    they are about as much of one at another.

    Where noise decays they lie nearer to later neighbours than to their own, which lie as far from each other.
    """
    detours = []
    for first, last in runs:
        beside = [run.points[position, rows] for position in _beside(run, first, last, away)]
        way = torch.linalg.vector_norm(torch.stack(beside) - run.points[first, rows], dim=-1).sum(dim=0)
        detour = way - torch.linalg.vector_norm(beside[0] - beside[-1], dim=-1) + _SHORT * way
        detours.append(float((detour / run.norms[first, rows]).sum()))
    least, second = sorted(detours)[:2]
    return runs[detours.index(least)] if least <= _CLEARLY * second else None


def _beside(run: Trajectory, first: int, last: int, away: Collection[int]) -> list[int]:
    """The nearest before and after, those that stray only where there are no others."""
    sides = range(first - 1, -1, -1), range(last + 1, len(run))
    return [next((at for at in side if at not in away), side[0]) for side in sides if side]


def runs_of(positions: Sequence[int], between: Collection[int] = ()) -> list[Run]:
    """Positions as runs; those that may stand between break none."""
    runs: list[Run] = []
    for position in positions:
        if runs and all(other in between for other in range(runs[-1][1] + 1, position)):
            runs[-1] = runs[-1][0], position
        else:
            runs.append((position, position))
    return runs
