"""How many planted faults the search for anomalies finds, and how many honest training runs it accuses.

    python benchmarks/anomalies.py [--out FILE] [--items 100] [--layers 12] [--hidden 768] [--honest 17] [--planted 3]
        [--workers 1]

Runs are drawn from the kinds of gammatorch/bench/training_runs.py: warm-ups, decays, restarts, plateaus, cool-downs,
resumed ones; gains that drift, wander, follow the learning rate, have noise about their path; in 32 and 16 bits;
honest ones with loss spikes, pauses and missing checkpoints too. Into other draws one fault each is planted. It
counts as found if what is told names the items it was planted in; as told right if it accuses no others. Into further
draws nine faults each are planted together, three of each sort, which must not hide each other.

Some 10 minutes of one core; fewer ``--kinds``, ``--honest`` and ``--planted`` take less.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from common import parser, save

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw, measure
from gammatorch.trajectory.anomalies import find_anomalies
from gammatorch.trajectory.finding import Finding

Stored = list[torch.Tensor]
Pair = tuple[int, int]
Shape = tuple[int, int, int]
Act = Callable[[Stored, Pair], set[int]]
Choose = Callable[[int, np.random.Generator], Pair]


def swap(stored: Stored, pair: Pair) -> set[int]:
    one, other = pair
    stored[one], stored[other] = stored[other], stored[one]
    return {one, other}


def copy(stored: Stored, pair: Pair) -> set[int]:
    place, origin = pair
    stored[place] = stored[origin].clone()
    return {place}


def mix(stored: Stored, pair: Pair) -> set[int]:
    place, origin = pair
    first = len(stored[place]) // 3
    stored[place] = torch.cat([stored[place][:first], stored[origin][first:]])
    return {place}


def apart(n: int, rng: np.random.Generator) -> Pair:
    one, other = rng.choice(np.arange(2, n - 2), 2, replace=False)
    return int(one), int(other)


def beside(n: int, rng: np.random.Generator) -> Pair:
    one = int(rng.integers(2, n - 3))
    return one, one + 1


PLANTS: Mapping[str, tuple[Act, Choose]] = {
    "copy of any other": (copy, apart),
    "mixed with any other": (mix, apart),
    "mixed with the next": (mix, beside),
    "any two exchanged": (swap, apart),
    "neighbours exchanged": (swap, beside),
}

TOGETHER: Mapping[str, Act] = {"copies": copy, "mixtures": mix, "exchanges": swap}
TIMES = 3
"""Faults that are planted together, and how many of each."""


def anomalies(steps: list[int], stored: Stored) -> list[Finding]:
    return [one for one in find_anomalies(measure(steps, stored)) if one.severity == "anomaly"]


def plant(name: str, seed: int, steps: list[int], stored: Stored) -> Counter[str]:
    """Plant a fault, and count what becomes of it; nothing where it changes nothing."""
    act, choose = PLANTS[name]
    stored, true = list(stored), stored
    places = act(stored, choose(len(stored), np.random.default_rng(seed)))
    planted = {f"step{steps[place]}" for place in places if not torch.equal(true[place], stored[place])}
    if not planted:
        return Counter()
    findings = anomalies(steps, stored)
    told = {name for one in findings for name in (*one.items, *re.findall(r"step\d+", one.text))}
    right = planted == {item for one in findings for item in one.items}
    return Counter({"planted": 1, "found": int(planted <= told), "right": int(right)})


def plant_together(seed: int, steps: list[int], stored: Stored) -> Counter[str]:
    """Copies, mixtures and exchanges anywhere in one run: how many of each are found, and others that are accused."""
    places = iter(np.random.default_rng(seed).permutation(np.arange(2, len(stored) - 2)).tolist())
    stored, true, planted = list(stored), stored, []
    for name, act in TOGETHER.items():
        for _ in range(TIMES):
            wrong = act(stored, (next(places), next(places)))
            items = {f"step{steps[place]}" for place in wrong if not torch.equal(true[place], stored[place])}
            planted += [(name, items)] if items else []
    told = [{*one.items, *re.findall(r"step\d+", one.text)} for one in anomalies(steps, stored)]
    known = set[str]().union(*(items for _, items in planted))
    counts = Counter({"runs": 1, "others accused": sum(not known & names for names in told)})
    for name, items in planted:
        counts.update({f"{name} planted": 1, f"{name} found": int(any(items <= names for names in told))})
    return counts


def total(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Their sum, zeros included."""
    summed = Counter[str]()
    for one in counts:
        summed.update(one)
    return summed


def in_words(planted: Mapping[str, Counter[str]]) -> dict[str, str]:
    """What was found of each sort of fault, one line each."""
    return {
        name: f"{one['found']} of {one['planted']} found, {one['right']} with no other accused"
        for name, one in planted.items()
        if one["planted"]
    }


def accuse(kind: Kind, honest: int, shape: Shape) -> list[list[str]]:
    """What honest runs are accused of."""
    told = ([one.text for one in anomalies(*draw(kind, seed, *shape))] for seed in range(10_000, 10_000 + honest))
    return [texts for texts in told if texts]


def judge(name: str, honest: int, planted: int, shape: Shape) -> tuple[list[list[str]], dict[str, Counter[str]]]:
    """What honest runs of a kind are accused of, and what is found of each sort of fault, those together the last."""
    torch.set_num_threads(1)
    kind = (HONEST | NASTY)[name]
    found = {fault: Counter[str]() for fault in (*PLANTS, "together")}
    for seed in range(planted if name in HONEST else 0):
        steps, stored = draw(kind, seed, *shape)
        for fault in PLANTS:
            found[fault].update(plant(fault, seed, steps, stored))
        found["together"].update(plant_together(seed, steps, stored))
    return accuse(kind, honest, shape), found


def main() -> None:
    options = parser(__doc__)
    sizes = (("items", 100), ("layers", 12), ("hidden", 768), ("honest", 17), ("planted", 3), ("workers", 1))
    for name, default in sizes:
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--kinds", nargs="+", default=list(HONEST | NASTY))
    chosen = options.parse_args()
    shape = chosen.items, chosen.layers, chosen.hidden
    kinds, counts, accused = dict[str, Any](), list[dict[str, Counter[str]]](), 0
    with ProcessPoolExecutor(chosen.workers, get_context("spawn")) as pool:
        one = partial(judge, honest=chosen.honest, planted=chosen.planted, shape=shape)
        for name, (texts, found) in zip(chosen.kinds, pool.map(one, chosen.kinds), strict=True):
            kinds[name] = {"accused": texts, **in_words(found)}
            counts.append(found)
            accused += len(texts)
            print(f"{name}: {kinds[name]}", flush=True)
    planted = {fault: total(found[fault] for found in counts) for fault in (*PLANTS, "together")}
    honest = chosen.honest * len(kinds)
    summary = {
        "shape": shape,
        "honest": honest,
        "accused": accused,
        **in_words(planted),
        "together": planted["together"],
    }
    for line, value in summary.items():
        print(f"{line:<24} {value}")
    save(chosen.out, {"summary": summary, "kinds": kinds})


if __name__ == "__main__":
    main()
