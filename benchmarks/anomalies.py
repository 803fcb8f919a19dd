"""How many planted faults a sweep reports, and how many honest training runs it accuses.

    python benchmarks/anomalies.py [--out FILE] [--items 200] [--layers 12] [--hidden 768] [--honest 20] [--planted 3]

Runs are drawn from the kinds of tests/sweep/runs.py: warm-ups, decays, restarts, plateaus, cool-downs, resumed ones;
gains that drift, wander, shiver, return or follow the learning rate; in 32 and 16 bits; honest ones with loss spikes,
pauses and missing checkpoints too. Into other draws one fault each is planted. It counts as found if what is told names
the items it was planted in; as told right if it accuses no others.

Stretches of checkpoints are exchanged, put in reverse order and moved round by one, too; they are counted as copies.
Into further draws nine faults each are planted together, three of each sort, which must not hide each other.
Exchanges of two that are missed go to two judges (oracle.py) who know how the run was drawn: one knows all, one all but
the learning rates. A judge sees an exchange if the log odds for it exceed log(pairs · honest runs), which those of no
pair in any of the honest runs should; the largest of them is kept too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from common import parser, save
from oracle import judge

from gammatorch.sweep.anomalies import find_anomalies
from gammatorch.sweep.finding import Finding
from tests.sweep.runs import HONEST, NASTY, Kind, draw, measure

Stored = list[torch.Tensor]
Where = tuple[int, ...]
Shape = tuple[int, int, int]
Act = Callable[[Stored, Where], set[int]]
Choose = Callable[[int, np.random.Generator], Where]


def swap(stored: Stored, where: Where) -> set[int]:
    one, other = where
    stored[one], stored[other] = stored[other], stored[one]
    return {one, other}


def copy(stored: Stored, where: Where) -> set[int]:
    place, origin = where
    stored[place] = stored[origin].clone()
    return {place}


def mix(stored: Stored, where: Where) -> set[int]:
    place, origin = where
    first = len(stored[place]) // 3
    stored[place] = torch.cat([stored[place][:first], stored[origin][first:]])
    return {place}


def blocks(stored: Stored, where: Where) -> set[int]:
    one, other, length = where
    begin, end = slice(one, one + length), slice(other, other + length)
    stored[begin], stored[end] = stored[end], stored[begin]
    return {*range(one, one + length), *range(other, other + length)}


def reverse(stored: Stored, where: Where) -> set[int]:
    start, stop = where
    stored[start:stop] = stored[start:stop][::-1]
    return {at for at in range(start, stop) if at != start + stop - 1 - at}


def move_round(stored: Stored, where: Where) -> set[int]:
    start, stop, by = where
    stretch = stored[start:stop]
    stored[start:stop] = stretch[by:] + stretch[:by]
    return {*range(start, stop)}


def apart(n: int, rng: np.random.Generator) -> Where:
    one, other = rng.choice(np.arange(2, n - 2), 2, replace=False)
    return int(one), int(other)


def beside(n: int, rng: np.random.Generator) -> Where:
    one = int(rng.integers(2, n - 3))
    return one, one + 1


def two_of(length: int) -> Choose:
    def choose(n: int, rng: np.random.Generator) -> Where:
        one = int(rng.integers(2, n - 2 * length - 2))
        return one, int(rng.integers(one + length, n - length - 2)), length

    return choose


def one_of(length: int) -> Choose:
    def choose(n: int, rng: np.random.Generator) -> Where:
        start = int(rng.integers(2, n - length - 2))
        return start, start + length

    return choose


def by_one(length: int) -> Choose:
    def choose(n: int, rng: np.random.Generator) -> Where:
        return *one_of(length)(n, rng), int(rng.choice([1, -1]))

    return choose


PLANTS: Mapping[str, tuple[Act, Choose]] = {
    "copy of any other": (copy, apart),
    "mixed with any other": (mix, apart),
    "mixed with the next": (mix, beside),
    "any two exchanged": (swap, apart),
    "neighbours exchanged": (swap, beside),
    "first two after the start exchanged": (swap, lambda n, rng: (1, 2)),
    "last two exchanged": (swap, lambda n, rng: (n - 2, n - 1)),
    **{f"two stretches of {length} exchanged": (blocks, two_of(length)) for length in (2, 4, 12)},
    **{f"stretch of {length} in reverse order": (reverse, one_of(length)) for length in (3, 6, 20)},
    **{f"stretch of {length} moved round by one": (move_round, by_one(length)) for length in (3, 5, 20)},
}


TOGETHER: Mapping[str, Act] = {"copies": copy, "exchanges": swap, "mixtures": mix}
TIMES = 3
"""Faults that are planted together, and how many of each."""


def anomalies(steps: list[int], stored: Stored) -> list[Finding]:
    return [one for one in find_anomalies(measure(steps, stored)) if one.severity == "anomaly"]


def plant(name: str, seed: int, steps: list[int], stored: Stored) -> tuple[Where, dict[str, bool]] | None:
    """Plant a fault, and what becomes of it; None where it changes nothing."""
    act, choose = PLANTS[name]
    where = choose(len(stored), np.random.default_rng(seed))
    before = list(stored)
    places = {place for place in act(stored, where) if not torch.equal(before[place], stored[place])}
    if not places:
        return None
    findings = anomalies(steps, stored)
    told = {name for one in findings for name in (*one.items, *re.findall(r"step\d+", one.text))}
    planted = {f"step{steps[place]}" for place in places}
    return where, {"found": planted <= told, "right": planted == {item for one in findings for item in one.items}}


def plant_together(seed: int, steps: list[int], stored: Stored) -> Counter[str]:
    """Copies, exchanges and mixtures anywhere in one run: how many of each are found, and others that are accused."""
    places = iter(np.random.default_rng(seed).permutation(np.arange(2, len(stored) - 2)).tolist())
    before, planted = list(stored), []
    for name, act in TOGETHER.items():
        for _ in range(TIMES):
            where = next(places), next(places)
            wrong = {place for place in act(stored, where) if not torch.equal(before[place], stored[place])}
            if wrong:
                planted.append((name, {f"step{steps[place]}" for place in wrong}))
    told = [{*one.items, *re.findall(r"step\d+", one.text)} for one in anomalies(steps, stored)]
    found = (
        Counter({f"{name} planted": 1, f"{name} found": int(any(items <= names for names in told))})
        for name, items in planted
    )
    known = set[str]().union(*(items for _, items in planted))
    return total([Counter({"runs": 1, "others accused": sum(not known & names for names in told)}), *found])


def total(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Their sum, zeros included."""
    summed = Counter[str]()
    for one in counts:
        summed.update(one)
    return summed


def plant_in(kind: Kind, name: str, seed: int, shape: Shape, needed: float) -> dict[str, Any] | None:
    """The same in a run that is drawn; and what judges say of an exchange of two."""
    steps, stored = draw(kind, seed, *shape)
    planted = plant(name, seed, steps, stored)
    if planted is None:
        return None
    where, result = planted
    return result | (ask(kind, seed, stored, where, needed, result["found"]) if PLANTS[name][0] is swap else {})


def ask(kind: Kind, seed: int, stored: Stored, where: Where, needed: float, found: bool) -> dict[str, float]:
    """What judges give for an exchange; the one without the rates is asked of those missed that the other sees."""
    asked = judge(kind, seed, stored)
    odds = {"places": where, "log odds": float(asked.log_odds()[where])}
    if not found and odds["log odds"] > needed:
        odds["log odds without rates"] = asked.log_odds_without_rates(where)
    return odds


def count(results: list[dict[str, Any]], needed: float) -> dict[str, Any]:
    """Of one sort of fault in runs of one kind."""
    missed = [result for result in results if not result["found"]]
    counts = {
        "planted": len(results),
        "found": len(results) - len(missed),
        "right": sum(one["right"] for one in results),
    }
    if "log odds" not in results[0]:
        return counts | {"missed": missed}
    hidden = [one for one in missed if one["log odds"] <= needed]
    rates = [one for one in missed if one not in hidden and one["log odds without rates"] <= needed]
    unforeseen = sum(one["found"] and one["log odds"] <= needed for one in results)
    return counts | {
        "missed, not seen by who knows all": len(hidden),
        "missed, not seen by who knows all but the rates": len(rates),
        "missed, seen by both": len(missed) - len(hidden) - len(rates),
        "found, not seen by who knows all": unforeseen,
        "missed": missed,
    }


def accuse(kind: Kind, honest: int, shape: Shape) -> dict[str, Any]:
    """What honest runs are accused of, and the largest log odds that a judge who knows all gives for any exchange."""
    accused, most = [], 0.0
    for seed in range(10_000, 10_000 + honest):
        steps, stored = draw(kind, seed, *shape)
        accused += [[one.text for one in anomalies(steps, stored)]]
        if not kind.spikes:
            most = max(most, float(judge(kind, seed, stored).log_odds().max()))
    return {"honest": honest, "accused": [texts for texts in accused if texts], "largest log odds": most}


def main() -> None:
    options = parser(__doc__)
    for name, default in (("items", 200), ("layers", 12), ("hidden", 768), ("honest", 20), ("planted", 3)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--kinds", nargs="+", default=list(HONEST | NASTY))
    chosen = options.parse_args()
    torch.set_num_threads(1)
    shape = chosen.items, chosen.layers, chosen.hidden
    honest = chosen.honest * len(HONEST | NASTY)
    needed = float(np.log(chosen.items * (chosen.items - 1) / 2 * honest))
    results: dict[str, Any] = {}
    for name, kind in (HONEST | NASTY).items():
        if name not in chosen.kinds:
            continue
        results[name] = found = accuse(kind, chosen.honest, shape)
        for fault in PLANTS if name in HONEST else ():
            planted = [plant_in(kind, fault, seed, shape, needed) for seed in range(chosen.planted)]
            if any(planted):
                found[fault] = count([one for one in planted if one is not None], needed)
        if name in HONEST:
            found["together"] = total(plant_together(seed, *draw(kind, seed, *shape)) for seed in range(chosen.planted))
        counts = (f"{one}: {found[one]['found']}/{found[one]['planted']}" for one in PLANTS if one in found)
        print(f"{name}: {len(found['accused'])} of {chosen.honest} honest accused; {', '.join(counts)}", flush=True)
    summary = summarise(results) | {"shape": shape, "needed log odds": needed}
    for line, counts in summary["planted"].items():
        print(f"{line:<36}", ", ".join(f"{value} {key}" for key, value in counts.items()))
    print("together:", ", ".join(f"{value} {key}" for key, value in summary["together"].items()))
    print(f"{summary['accused']} of {summary['honest']} honest runs of {chosen.items} items accused")
    save(chosen.out, {"summary": summary, "kinds": results})


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Sums over all kinds."""
    planted = {}
    for fault in PLANTS:
        counts = [found[fault] for found in results.values() if fault in found]
        planted[fault] = {
            key: sum(one[key] for one in counts) for key in (counts[0] if counts else ()) if key != "missed"
        }
    return {
        "honest": sum(found["honest"] for found in results.values()),
        "accused": sum(len(found["accused"]) for found in results.values()),
        "largest log odds in an honest run": max(found["largest log odds"] for found in results.values()),
        "planted": planted,
        "together": total(found["together"] for found in results.values() if "together" in found),
    }


if __name__ == "__main__":
    main()
