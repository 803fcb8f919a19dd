"""How many planted faults a sweep reports, and how many honest training runs it accuses.

    python benchmarks/anomalies.py [--out FILE] [--items 200] [--layers 12] [--hidden 768] [--honest 20] [--planted 3]

Runs are drawn from the kinds of tests/sweep/runs.py: warm-ups, decays, restarts, plateaus, cool-downs, resumed ones;
gains that drift, wander, shiver, return or follow the learning rate; in 32 and 16 bits. Into other draws one fault each
is planted. It counts as found if what is told names the items it was planted in; as told right if it accuses no others.
Of exchanges not found, the odds that a judge who knew how the run was drawn, its learning rates included, would
give for the true order are kept where they can be computed; and in how many entries the two differ beyond what lies
beside them: against noise of unknown size, n such entries cannot speak with odds better than 2^n to 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import parser, save

sys.path.insert(0, str(Path(__file__).parents[1]))
from gammatorch.sweep.anomalies import find_anomalies
from gammatorch.sweep.finding import Finding
from tests.sweep.runs import HONEST, Kind, draw, measure, order_log_odds

NEEDED_LOG_ODDS = 12.0
"""Of the true order, below which no test that accuses fewer than one in 160,000 can tell it: log(160,000)."""

Stored = list[torch.Tensor]
Where = tuple[int, int]


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


def apart(n: int, rng: np.random.Generator) -> Where:
    one, other = rng.choice(np.arange(2, n - 2), 2, replace=False)
    return int(one), int(other)


def beside(n: int, rng: np.random.Generator) -> Where:
    one = int(rng.integers(2, n - 3))
    return one, one + 1


PLANTS: Mapping[str, tuple[Callable[[Stored, Where], set[int]], Callable[[int, np.random.Generator], Where]]] = {
    "copy of any other": (copy, apart),
    "mixed with any other": (mix, apart),
    "mixed with the next": (mix, beside),
    "any two exchanged": (swap, apart),
    "neighbours exchanged": (swap, beside),
    "first two after the start exchanged": (swap, lambda n, rng: (1, 2)),
    "last two exchanged": (swap, lambda n, rng: (n - 2, n - 1)),
}


def anomalies(steps: list[int], stored: Stored) -> list[Finding]:
    return [one for one in find_anomalies(measure(steps, stored)) if one.severity == "anomaly"]


def plant(kind: Kind, name: str, seed: int, shape: tuple[int, int, int]) -> dict[str, Any] | None:
    """What became of one fault; None where it changes nothing."""
    steps, stored = draw(kind, seed, *shape)
    act, choose = PLANTS[name]
    where = choose(len(stored), np.random.default_rng(seed))
    before = list(stored)
    places = act(stored, where)
    if all(torch.equal(one, other) for one, other in zip(before, stored, strict=True)):
        return None
    findings = anomalies(steps, stored)
    told = {name for one in findings for name in re.findall(r"step\d+", one.text)}
    planted = {f"step{steps[place]}" for place in places}
    result = {"found": planted <= told, "right": planted == {item for one in findings for item in one.items}}
    if act is swap and not result["found"]:
        result["entries"] = entries(before, *sorted(where))
        if not (kind.settle or kind.returning or kind.directions):
            result["log_odds"] = order_log_odds(kind, seed, before, *where)
    return result


def entries(stored: Stored, one: int, other: int) -> int:
    """In how many entries both the two and what lies beside them differ."""
    before, after = stored[max(one - 1, 0)], stored[min(other + 1, len(stored) - 1)]
    return int(((stored[one] != stored[other]) & (before != after)).sum())


def measure_kind(kind: Kind, honest: int, planted: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    accused = [[one.text for one in anomalies(*draw(kind, 10_000 + seed, *shape))] for seed in range(honest)]
    found: dict[str, Any] = {"honest": honest, "accused": [texts for texts in accused if texts]}
    for name in PLANTS:
        results = [result for seed in range(planted) if (result := plant(kind, name, seed, shape)) is not None]
        missed = [result for result in results if not result["found"]]
        beyond = [one for one in missed if one.get("log_odds", np.inf) < NEEDED_LOG_ODDS or one.get("entries", 99) < 25]
        found[name] = {
            "planted": len(results),
            "found": len(results) - len(missed),
            "right": sum(result["right"] for result in results),
            "missed beyond any test": len(beyond),
            "missed": missed,
        }
    return found


def main() -> None:
    options = parser(__doc__)
    for name, default in (("items", 200), ("layers", 12), ("hidden", 768), ("honest", 20), ("planted", 3)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--kinds", nargs="+", default=list(HONEST))
    chosen = options.parse_args()
    torch.set_num_threads(1)
    shape = chosen.items, chosen.layers, chosen.hidden
    results = {}
    for name in chosen.kinds:
        results[name] = found = measure_kind(HONEST[name], chosen.honest, chosen.planted, shape)
        counts = (f"{one}: {found[one]['found']}/{found[one]['planted']}" for one in PLANTS)
        print(f"{name}: {len(found['accused'])} of {chosen.honest} honest accused; {', '.join(counts)}", flush=True)
    total = {
        one: {key: sum(found[one][key] for found in results.values()) for key in ("planted", "found", "right")}
        | {"missed beyond any test": sum(found[one]["missed beyond any test"] for found in results.values())}
        for one in PLANTS
    }
    honest = sum(found["honest"] for found in results.values())
    accused = sum(len(found["accused"]) for found in results.values())
    print(f"\n{accused} of {honest} honest runs of {chosen.items} items accused")
    for one, counts in total.items():
        print(f"{one:<36} {counts['found']:>4} of {counts['planted']:<4} found, {counts['right']} told right")
    summary = {"shape": shape, "honest": honest, "accused": accused, "planted": total}
    save(chosen.out, {"summary": summary, "kinds": results})


if __name__ == "__main__":
    main()
