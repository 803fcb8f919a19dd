"""How often the verdicts are right and the intervals cover, in worlds whose answer is known.

    python benchmarks/worlds.py [--seeds 20] [--coverage 200] [--out FILE]

Verdicts and boundaries at 64 × 5120; coverage of the 95 % intervals at 24 × 1024.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from common import parser, save

import gammatorch
from gammatorch.bench.worlds import PLANTED, WORLDS, draw, truth


def verdicts(world: str, seeds: int) -> dict[str, Any]:
    found: Counter[str] = Counter()
    exact = 0
    for seed in range(seeds):
        analysis = gammatorch.analyze(torch.from_numpy(draw(world, seed)))
        found[analysis.answer.verdict] += 1
        exact += analysis.statistics["change_points"] == (list(PLANTED) if world == "phases" else [])
    return {"verdicts": dict(found), "boundaries_exact": exact, "seeds": seeds}


def coverage(world: str, draws: int) -> dict[str, float]:
    expected = truth(world, 24)
    gains = torch.from_numpy(np.stack([draw(world, seed, 24, 1024) for seed in range(draws)]))
    analyses = gammatorch.analyze(gains)
    return {
        name: float(np.mean([one.statistics[name]["low"] <= value <= one.statistics[name]["high"] for one in analyses]))
        for name, value in expected.items()
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="draws of each world for its verdict")
    options.add_argument("--coverage", type=int, default=200, help="draws of each world for the intervals")
    chosen = options.parse_args()
    results = {}
    for world in WORLDS:
        results[world] = {**verdicts(world, chosen.seeds), "coverage": coverage(world, chosen.coverage)}
        print(f"{world:<16} {results[world]}")
    save(chosen.out, results)


if __name__ == "__main__":
    main()
