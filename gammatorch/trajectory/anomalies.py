"""What no honest training run does, and what may surprise the reader of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import Tensor

from gammatorch.trajectory.conventions import find_conventions
from gammatorch.trajectory.duplicates import find_copies, find_mixtures, returns_by_chance
from gammatorch.trajectory.finding import Finding, listed, named_layers
from gammatorch.trajectory.jumps import find_jumps
from gammatorch.trajectory.measure import Trajectory
from gammatorch.trajectory.order import find_exchanged
from gammatorch.trajectory.path import FEWEST, evened


@dataclass(frozen=True)
class Print:
    """What tells one checkpoint of a sweep from all others.

    Attributes:
        label: What it is called.
        run: The training run it belongs to; its own name where it belongs to none.
        digest: Hash of its gains as stored.
        files: What tells its weight files from any others; None where that is not known.
        constant: Whether every gain is the same in all channels, as training begins with.
    """

    label: str
    run: str
    digest: str
    files: str | None
    constant: bool = False


def find_anomalies(run: Trajectory) -> list[Finding]:
    """All that is odd about the checkpoints of one training run.

    What their bits tell comes first, and is not looked at again: a copy also jumps away from its neighbours.

    Args:
        run: The training run.
    """
    by_chance = returns_by_chance(run)
    copies, copied = find_copies(run, by_chance)
    conventions, points = find_conventions(run)
    exchanged = _exchanged(run, points, copied)
    moved = set[int]().union(*exchanged)
    mixtures, mixed = find_mixtures(run, by_chance, copied | moved)
    jumps = find_jumps(run, points, copied | moved | mixed)
    told = (_tell_exchanged(run, sorted(places)) for places in exchanged)
    return [*copies, *mixtures, *conventions, *told, *jumps, *_dead(run)]


def _exchanged(run: Trajectory, points: Tensor, known: Collection[int]) -> list[set[int]]:
    """Positions that stand in each other's place."""
    positions = [position for position in range(len(run)) if position not in known]
    if len(positions) < FEWEST:
        return []
    groups = list[set[int]]()
    for pair in find_exchanged(evened(points[positions])):
        places = {positions[at] for at in pair}
        touched = [group for group in groups if group & places]
        groups = [group for group in groups if group not in touched] + [places.union(*touched)]
    return groups


def _tell_exchanged(run: Trajectory, places: list[int]) -> Finding:
    """The finding about two checkpoints or more in each other's places."""
    names = tuple(run.labels[place] for place in places)
    text = f"{names[0]} and {names[1]} are exchanged: each lies where the other should"
    if len(names) > 2:
        text = f"{listed(names)} are in each other's places: each lies where another of them should"
    return Finding("swapped", "anomaly", names, text)


def _dead(run: Trajectory) -> list[Finding]:
    """Layers whose gain has become zero; those that begin with zero (residual branches may) have not died."""
    zero = run.norms == 0
    died = zero[1:] & (~zero).cumsum(dim=0)[:-1].bool()
    where: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for position, rows in enumerate(died, start=1):
        layers = tuple(run.layers[int(row)] for row in rows.nonzero()[:, 0])
        if layers:
            where[layers].append(run.labels[position])
    return [
        Finding(
            "dead", "anomaly", tuple(names), f"{listed(names)}: all gains are zero in {named_layers(layers)}", layers
        )
        for layers, names in where.items()
    ]


def find_same(prints: Iterable[Print]) -> list[Finding]:
    """Checkpoints of different runs, or of none, with the same gains: a fine-tune that left them frozen, a second
    upload. A fact, and no anomaly. Gains that are constant tell nothing of where they come from.

    Args:
        prints: Of all items of a sweep.

    Example:
        >>> base, tuned = Print("base", "base", "9f", None), Print("tuned", "tuned", "9f", None)
        >>> [finding.text for finding in find_same([base, tuned])]
        ['base, tuned have the same gains, bit for bit']
    """
    groups: dict[str, list[Print]] = defaultdict(list)
    for one in prints:
        if not one.constant:
            groups[one.digest].append(one)
    findings = []
    for group in groups.values():
        if len({one.run for one in group}) > 1:
            names = tuple(one.label for one in group)
            same_files = group[0].files is not None and len({one.files for one in group}) == 1
            have = "serve the same file" if same_files else "have the same gains, bit for bit"
            findings.append(Finding("same gains", "note", names, f"{listed(names)} {have}"))
    return findings
