"""Checkpoints in which only some layers are those of another step: shards that were mixed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import torch

from gammatorch.sweep.copies import (
    EXPECTED_SHARE,
    Copies,
    coarse,
    comes_back,
    expected_changes,
    home_of,
    runs_of,
)
from gammatorch.sweep.finding import Finding, listed, named_layers
from gammatorch.sweep.returns import RETURNED, Run, by_chance, goes_to_and_fro
from gammatorch.sweep.trajectory import Trajectory

_COMMON = 0.1
"""Share of the intervals from which layers that stand still are a habit of the training (frozen in turn, say)."""


def find_mixed(run: Trajectory, away: frozenset[int]) -> Copies:
    """Checkpoints of a training run that hold some layers of others.

    Args:
        run: The training run.
        away: Positions that stand where they do not belong, as is known already.
    """
    returned, mixed = _returned_layers(run, set(away))
    still = _still_layers(run, away | frozenset(mixed))
    return Copies((*returned, *still), frozenset(mixed))


def _returned_layers(run: Trajectory, away: set[int]) -> tuple[list[Finding], set[int]]:
    """Single layers that come back to what they were at another step, by the places they come from and stand at."""
    places: dict[tuple[Run, ...], list[int]] = defaultdict(list)
    for row in range(len(run.layers)):
        for runs in _equal_runs(run, row, away):
            if not _all_equal(run, runs):
                places[tuple(runs)].append(row)
    places = {runs: rows for runs, rows in places.items() if comes_back(run, runs, rows, away)}
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    unclear: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for where, rows in places.items():
        runs = list(where)
        home = home_of(run, runs, rows, away)
        if home is None:
            unclear[tuple(first for first, _ in runs)] += rows
            continue
        for first, last in runs:
            for position in range(first, last + 1):
                if (first, last) != home and run.digests[position] != run.digests[home[0]]:
                    found[position, home[0]] += rows
    return _tell_returned(run, found, unclear)


def _tell_returned(
    run: Trajectory, found: Mapping[tuple[int, int], list[int]], unclear: Mapping[tuple[int, ...], list[int]]
) -> tuple[list[Finding], set[int]]:
    """What to tell of layers by their place and home, and by all places where no home is clear; and which stray."""
    if not found and not unclear:
        return [], set()
    together = goes_to_and_fro(run)
    chance: set[tuple[int, ...]] = {pair for pair, rows in found.items() if by_chance(run, *pair, rows, together)}
    chance |= {
        at for at, rows in unclear.items() if any(by_chance(run, *pair, rows, together) for pair in combinations(at, 2))
    }
    mixed = [(pair, sorted(rows)) for pair, rows in sorted(found.items()) if pair not in chance]
    shared = [(at, sorted(rows)) for at, rows in unclear.items() if at not in chance]
    findings = [_tell_mixed(run, position, home, rows) for (position, home), rows in mixed]
    findings += [_tell_shared(run, at, rows) for at, rows in shared]
    if chance:
        names = tuple(run.labels[at] for at in sorted({at for places in chance for at in places}))
        text = f"single layers come back to the same bits, as all lie near each other there: at {listed(names)}"
        findings.append(Finding("returned layers", "note", names, text))
    return findings, {position for (position, _), _ in mixed} | {at for places, _ in shared for at in places}


def _tell_shared(run: Trajectory, positions: tuple[int, ...], rows: list[int]) -> Finding:
    names, layers = tuple(run.labels[at] for at in positions), _layers(run, rows)
    text = f"{listed(names)} share {named_layers(layers)}, bit for bit, though they moved in between"
    return Finding("mixed", "anomaly", names, text, layers)


def _tell_mixed(run: Trajectory, position: int, home: int, rows: list[int]) -> Finding:
    name, owner, layers = run.labels[position], run.labels[home], _layers(run, rows)
    text = f"{name} holds {named_layers(layers)} of {owner}, and others of its own"
    return Finding("mixed", "anomaly", (name,), text, layers)


def _still_layers(run: Trajectory, strays: frozenset[int]) -> list[Finding]:
    """Layers equal to the next step's, though the others move there, and they themselves before and after."""
    found: dict[int, list[int]] = {}
    for pair in range(1, len(run) - (2 if coarse(run) else 1)):
        if {pair - 1, pair, pair + 1, pair + 2} & strays or run.digests[pair] == run.digests[pair + 1]:
            continue
        rows = _still(run, pair)
        if rows:
            found[pair] = rows
    if len(found) > max(2, _COMMON * (len(run) - 1)):
        names = tuple(run.labels[pair + 1] for pair in found)
        text = f"single layers stand still now and then: at {listed(names)}"
        return [Finding("still layers", "note", names, text)]
    findings = []
    for pair, rows in found.items():
        names, layers = (run.labels[pair], run.labels[pair + 1]), _layers(run, rows)
        text = f"{names[0]} and {names[1]} share {named_layers(layers)}, bit for bit, while all else moves"
        findings.append(Finding("mixed", "anomaly", names, text, layers))
    return findings


def _still(run: Trajectory, pair: int) -> list[int]:
    """Rows that do not change from a position to the next though they were expected to."""
    expected = expected_changes(run, (pair, pair + 1), set())
    if expected is None:
        return []
    changed = run.changed[pair].to(torch.float64)
    moved = (changed > 0) & (expected > 0)
    if not bool(moved.any()):
        return []
    pace = float((changed[moved] / expected[moved]).clamp(max=1).median())
    floor = max(RETURNED, EXPECTED_SHARE * run.hidden) if run.hidden > RETURNED else run.hidden
    still = (changed == 0) & ~run.constant[pair] & (expected * pace >= floor)
    return [int(row) for row in still.nonzero()[:, 0]]


def _equal_runs(run: Trajectory, row: int, away: set[int]) -> Iterator[list[Run]]:
    """For every content that a layer has more than once: where, strays apart."""
    where: dict[int, list[int]] = defaultdict(list)
    for position, value in enumerate(run.rows[:, row].tolist()):
        if position not in away:
            where[value].append(position)
    for positions in where.values():
        runs = runs_of(positions, away)
        if len(runs) > 1:
            yield runs


def _all_equal(run: Trajectory, runs: Sequence[Run]) -> bool:
    return len({run.digests[first] for first, _ in runs}) == 1


def _layers(run: Trajectory, rows: list[int]) -> tuple[int, ...]:
    return tuple(run.layers[row] for row in rows)
