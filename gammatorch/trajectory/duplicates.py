"""Checkpoints that hold the gains of another step, in all layers (a copy) or in some of them (a mixture).

Two facts tell them from norms that stand still, as frozen ones and those in bfloat16 do:

* The gains **return**. Gains that moved on by many entries do not come back to the same bits in all of them: with 32
  entries that each might, by a chance of a half, the odds are 2⁻³². Only 16-bit gains that go back and forth in a few
  directions come back together; then the steps there are no longer than others, and nothing is told.
* They **stand still among movement**. Where the steps before and after change many entries, one of their length does
  not leave all as they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gammatorch.trajectory.finding import Finding, listed, named_layers
from gammatorch.trajectory.measure import Trajectory
from gammatorch.trajectory.path import back_and_forth, distances, gram_matrix, outliers, step_lengths

_RETURNED = 32
"""Changed entries that do not all come back by chance; of narrower rows all entries."""

_HABIT = 0.1
"""Share of the steps at which single layers stand still from which on it is a habit of the training."""

_FEW = 0.15
"""Cosine by which steps go back and forth that says they do so in few directions; rounding hides half of it."""

_LONG = 3.0
"""Times as long as most a step to a place is that gains do not pass by chance."""

_HOME = 0.8
"""Ratio by which the detour over one place must be shorter than over any other for the gains to be at home there."""

Block = tuple[int, int]
"""First and last position of checkpoints in a row that hold the same."""


def returns_by_chance(run: Trajectory) -> bool:
    """Whether rounding may bring gains back to the same bits, since they go back and forth in a few directions."""
    if not run.coarse:
        return False
    grain = run.grain.median(dim=0).values
    path = run.points / torch.where(grain > 0, grain, torch.inf)[:, None]
    off = outliers(distances(gram_matrix(path)))
    again = {at for at in _repeated(run.digests) if at not in off}
    if 2 * len(again) < len(run):  # a few copies would themselves look like a way back
        off |= again
    return back_and_forth(path[[at for at in range(len(run)) if at not in off]]) > _FEW


def _repeated(digests: Iterable[object]) -> set[int]:
    """Positions whose gains stand at another place too, with others between."""
    groups = [positions for positions in _grouped(enumerate(digests)) if len(_blocks(positions)) > 1]
    return {at for positions in groups for at in positions}


def find_copies(run: Trajectory, by_chance: bool) -> tuple[list[Finding], set[int]]:
    """Checkpoints with all gains equal to another's.

    Args:
        run: The training run.
        by_chance: What :func:`returns_by_chance` says of it.

    Returns:
        What to tell, and the positions that hold the gains of another step.
    """
    shared = [positions for positions in _grouped(enumerate(run.digests)) if len(positions) > 1]
    several = _repeated(run.digests)
    rows, findings, away = list(range(len(run.layers))), list[Finding](), set[int]()
    for positions in shared:
        blocks = _blocks(positions)
        back = _come_back(run, blocks, rows, by_chance, set())
        home = _home(run, blocks, rows, several) if back else None
        if back:
            away |= set(positions) - set(range(home[0], home[1] + 1) if home else ())
        still = len(blocks) == 1 and _stand_still(run, blocks[0])
        findings.append(_tell_copy(run, positions, home, back or still))
    return findings, away


def _tell_copy(run: Trajectory, positions: list[int], home: Block | None, wrong: bool) -> Finding:
    """The finding about checkpoints with equal gains: a note, where they may have stood still."""
    same_file = run.files[positions[0]] is not None and len({run.files[at] for at in positions}) == 1
    names = tuple(run.labels[at] for at in positions)
    if home is not None:
        owner = home[1]
        others = tuple(run.labels[at] for at in positions if (at != owner if same_file else not home[0] <= at <= owner))
        verb = ("serve" if same_file else "hold") + ("s" if len(others) == 1 else "")
        text = f"{listed(others)} {verb} the {'file' if same_file else 'gains'} of {run.labels[owner]}"
        return Finding("copy", "anomaly", others, text)
    text = f"{listed(names)} {'serve the same file' if same_file else 'hold the same gains, bit for bit'}"
    if wrong or (same_file and len({run.steps[at] for at in positions}) > 1):
        return Finding("copy", "anomaly", names, text)
    return Finding("same gains", "note", names, text)


def find_mixtures(run: Trajectory, by_chance: bool, away: set[int]) -> tuple[list[Finding], set[int]]:
    """Checkpoints with some layers equal to another's, which moved in between or should have.

    Args:
        run: The training run.
        by_chance: What :func:`returns_by_chance` says of it.
        away: Positions that are known to stand in a wrong place.

    Returns:
        What to tell, and the positions that hold layers of another step.
    """
    places: dict[tuple[Block, ...], list[int]] = defaultdict(list)
    for row in range(len(run.layers)):
        for positions in _grouped((at, run.rows[at, row].item()) for at in range(len(run)) if at not in away):
            blocks = _blocks(positions, away)
            if len(blocks) > 1 and len({run.digests[first] for first, _ in blocks}) > 1:
                places[tuple(blocks)].append(row)
    found: dict[tuple[tuple[int, ...], int | None], list[int]] = defaultdict(list)
    for where, rows in places.items():
        if _come_back(run, where, rows, by_chance, away):
            home = _home(run, where, rows, away)
            if home is None:
                found[tuple(first for first, _ in where), None] += rows
                continue
            for first, last in where:
                for at in range(first, last + 1) if (first, last) != home else ():
                    found[(at,), home[0]] += rows
    findings = [
        _tell_mixture(run, *where, sorted(rows)) for where, rows in sorted(found.items(), key=lambda one: one[0][0])
    ]
    mixed = {at for positions, _ in found for at in positions}
    return findings + _still_layers(run, away | mixed), mixed


def _tell_mixture(run: Trajectory, positions: tuple[int, ...], home: int | None, rows: list[int]) -> Finding:
    """The finding about layers of another step, or of no telling which."""
    names, layers = tuple(run.labels[at] for at in positions), tuple(run.layers[row] for row in rows)
    if home is None:
        text = f"{listed(names)} share {named_layers(layers)}, bit for bit, though they moved in between"
    else:
        text = f"{names[0]} holds {named_layers(layers)} of {run.labels[home]}, and others of its own"
    return Finding("mixed", "anomaly", names, text, layers)


def _still_layers(run: Trajectory, away: set[int]) -> list[Finding]:
    """Layers equal to the next step's though the others move there, and they themselves before and after."""
    found: dict[int, tuple[int, ...]] = {}
    for at in range(1, len(run) - 2):
        expected = _expected(run, (at, at + 1))
        moved = _changes(run, at, at + 1)
        both = (moved > 0) & (expected > 0)
        if {at - 1, at, at + 1, at + 2} & away or not bool(both.any()):
            continue
        pace = (moved / expected)[both].clamp(max=1).median()
        still = (moved == 0) & (expected * pace >= min(_RETURNED, run.hidden))
        if bool(still.any()):
            found[at] = tuple(run.layers[int(row)] for row in still.nonzero()[:, 0])
    if len(found) > max(2, _HABIT * len(run)):
        return []
    findings = []
    for at, layers in found.items():
        names = run.labels[at], run.labels[at + 1]
        text = f"{names[0]} and {names[1]} share {named_layers(layers)}, bit for bit, while all else moves"
        findings.append(Finding("mixed", "anomaly", names, text, layers))
    return findings


def _come_back(
    run: Trajectory, blocks: Sequence[Block], rows: list[int], by_chance: bool, away: Collection[int]
) -> bool:
    """Whether more entries left and came back than chance would bring back; those away tell nothing of it."""
    enough = min(_RETURNED, run.hidden * len(rows))
    for (_, last), (first, _) in pairwise(blocks):
        between = (_changes(run, last, at)[rows].sum() for at in range(last + 1, first) if at not in away)
        if any(float(changed) >= enough for changed in between):
            return not (by_chance and _passed_by(run, blocks, rows))
    return False


def _passed_by(run: Trajectory, blocks: Sequence[Block], rows: list[int]) -> bool:
    """Whether the steps to all places with the same gains and on from there are no longer than others."""
    steps = step_lengths(run.points[:, rows].flatten(1))
    beside = [at for first, last in blocks for at in (first - 1, last) if 0 <= at < len(steps)]
    return bool((steps[beside] <= _LONG * steps.median()).all())


def _stand_still(run: Trajectory, block: Block) -> bool:
    """Whether a standstill of all layers would have moved, had it gone on as the steps beside it did."""
    return float(_expected(run, block).sum()) >= min(_RETURNED, run.hidden * len(run.layers))


def _expected(run: Trajectory, block: Block) -> Tensor:
    """Entries of each layer that would change at the lesser pace of the steps before and after; 0 at an end."""
    first, last = block
    if first == 0 or last == len(run) - 1:
        return torch.zeros(len(run.layers))
    length = run.steps[last] - run.steps[first]
    beside = [
        _changes(run, at, at + 1) * min(1.0, length / max(run.steps[at + 1] - run.steps[at], 1))
        for at in (first - 1, last)
    ]
    return torch.minimum(*beside)


def _changes(run: Trajectory, one: int, other: int) -> Tensor:
    """About how many entries of each layer differ between two checkpoints, by how far they lie apart."""
    away = torch.linalg.vector_norm(run.points[one] - run.points[other], dim=-1).double()
    spacings = away / torch.where(run.grain[one] > 0, run.grain[one], torch.inf)
    return run.hidden * torch.where(spacings < 1, spacings.square(), 1)


def _home(run: Trajectory, blocks: Sequence[Block], rows: list[int], away: Collection[int]) -> Block | None:
    """The block where the gains are least of a detour from what stands before to what stands after; None if unclear."""
    detours = []
    for first, last in blocks:
        sides = range(first - 1, -1, -1), range(last + 1, len(run))
        beside = [next((at for at in side if at not in away), side[0]) for side in sides if side]
        points = run.points[beside][:, rows]
        way = torch.linalg.vector_norm(points - run.points[first, rows], dim=-1).sum(dim=0)
        detour = way - torch.linalg.vector_norm(points[0] - points[-1], dim=-1)
        detours.append(float((detour / run.norms[first, rows]).sum()))
    least, second = sorted(detours)[:2]
    return blocks[detours.index(least)] if least <= _HOME * second else None


def _grouped(values: Iterable[tuple[int, object]]) -> list[list[int]]:
    """Positions by what they hold."""
    groups: dict[object, list[int]] = defaultdict(list)
    for position, value in values:
        groups[value].append(position)
    return list(groups.values())


def _blocks(positions: Sequence[int], between: Collection[int] = ()) -> list[Block]:
    """Positions in a row as blocks; those that may stand between break none."""
    blocks: list[Block] = []
    for at in positions:
        if blocks and all(other in between for other in range(blocks[-1][1] + 1, at)):
            blocks[-1] = blocks[-1][0], at
        else:
            blocks.append((at, at))
    return blocks
