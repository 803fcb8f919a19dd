"""How often the verdicts are right and the intervals cover, in worlds whose answer is known.

    python benchmarks/worlds.py [--seeds 20] [--coverage 400] [--out FILE]

Verdicts and boundaries at 64 × 5120, 12 × 768 and 126 × 16384, then at 64 × 5120 with what real checkpoints have
beside; coverage of every 95 % interval at 24 × 1024 and 64 × 5120; how often unrelated layers stay within the nulls.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import torch
from common import devices, parser, save

import gammatorch
from gammatorch.bench.worlds import TROUBLES, WORLDS, draw, planted, truth

SIZES = ((64, 5120), (12, 768), (126, 16384))
COVERED = ((24, 1024), (64, 5120))
UNRELATED = ((2, 768), (3, 768), (12, 768), (24, 1024), (64, 5120))
DEVICE = devices()[-1]


def verdicts(world: str, seeds: int, layers: int, hidden: int, trouble: str | None = None) -> dict[str, Any]:
    """Counts of verdicts, with and without outlier channels, of boundaries found exactly; the last sentence.

    A phase of one or two layers, as 12 layers have, is not looked for.
    """
    found: Counter[str] = Counter()
    without: Counter[str] = Counter()
    expected = [start for start in planted(layers) if start >= 3] if world == "phases" else []
    exact = claimed = 0
    for seed in range(seeds):
        gains = torch.from_numpy(draw(world, seed, layers, hidden, trouble)).to(DEVICE)
        analysis = gammatorch.analyze(gains, method="gram")
        found[analysis.answer.verdict] += 1
        without[analysis.statistics["outliers"]["verdict"] or analysis.answer.verdict] += 1
        exact += analysis.statistics["change_points"] == expected
        claimed += bool(analysis.statistics["change_points"])
    return {
        "verdicts": dict(found),
        "verdicts_without_outliers": dict(without),
        "boundaries_exact": exact,
        "phases_claimed": claimed,
        "seeds": seeds,
        "sentence": analysis.answer.sentence,
    }


def coverage(world: str, draws: int, layers: int, hidden: int) -> dict[str, float]:
    """Share of draws in which each interval holds the truth."""
    expected = truth(world, layers)
    inside: Counter[str] = Counter()
    edges = [0, *planted(layers), layers]
    phases = ",".join(f"P{n + 1}={a}-{b - 1}" for n, (a, b) in enumerate(itertools.pairwise(edges)))
    for seed in range(draws):
        gains = torch.from_numpy(draw(world, seed, layers, hidden)).to(DEVICE)
        found = gammatorch.analyze(gains, method="gram", phases=phases).statistics
        bounds = {**found, **{f"phase {one['name']}": one for one in found["phase_contrasts"]}}
        for name, value in expected.items():
            inside[name] += bounds[name]["low"] <= value <= bounds[name]["high"]
    return {name: inside[name] / draws for name in expected}


def unrelated(draws: int, layers: int, hidden: int) -> dict[str, float]:
    """Share of draws of unrelated layers that stay within what the nulls say of 95 %."""
    within = Counter(mean_pearson=0, first_eigenvalue=0)
    for seed in range(draws):
        gains = torch.from_numpy(draw("layer-specific", seed, layers, hidden)).to(DEVICE)
        found = gammatorch.analyze(gains, method="gram").statistics
        for name in within:
            within[name] += abs(found[name]["value"]) <= found[name]["null_95"]
    return {name: count / draws for name, count in within.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="draws of each world for its verdict")
    options.add_argument("--coverage", type=int, default=400, help="draws of each world for intervals and nulls")
    chosen = options.parse_args()
    results: dict[str, Any] = {"verdicts": {}, "troubles": {}, "coverage": {}, "unrelated": {}}
    for size, world in itertools.product(SIZES, WORLDS):
        name = f"{world}, {size[0]} × {size[1]}"
        results["verdicts"][name] = show(name, verdicts(world, chosen.seeds, *size))
    for trouble, world in itertools.product(TROUBLES, WORLDS):
        name = f"{world}, {trouble}"
        results["troubles"][name] = show(name, verdicts(world, chosen.seeds, *SIZES[0], trouble))
    for size, world in itertools.product(COVERED, WORLDS):
        name = f"{world}, {size[0]} × {size[1]}"
        results["coverage"][name] = show(name, coverage(world, chosen.coverage, *size))
    for size in UNRELATED:
        name = f"{size[0]} × {size[1]}"
        results["unrelated"][name] = show(name, unrelated(chosen.coverage, *size))
    save(chosen.out, results)


def show(name: str, found: dict[str, Any]) -> dict[str, Any]:
    print(f"{name:<46} {found}", flush=True)
    return found


if __name__ == "__main__":
    main()
