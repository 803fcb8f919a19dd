"""How often the answer is right, how well its support tells so, and how often bounds cover, in worlds of known answer.

    python benchmarks/worlds.py [--seeds 10] [--coverage 200] [--first-seed 1000] [--out FILE]

Answers at 12 × 768, 24 × 1024 and 64 × 5120: plain; with heavy tails, odd ends and bfloat16; with four massive channels
as well. Boundaries that are claimed where there are none, and those found within a few layers. Coverage of bounds at
64 × 5120 for independent and for alike neighbouring channels, heavy tails and massive channels; how often unrelated
layers stay within the nulls. Constants were chosen on seeds below 1000; figures are reported on others.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from common import devices, parser, save

import gammatorch
from gammatorch.bench.worlds import KNOWN, WORLDS, draw, fits, planted, truth

SIZES = ((12, 768), (24, 1024), (64, 5120))
DRESSES = {
    "plain": None,
    "tails, ends, bfloat16": "tails, ends, bfloat16",
    "and massive channels": "tails, ends, bfloat16, massive channels",
}
DEVICE = devices()[-1]


def analysed(gains: np.ndarray[Any, Any], **settings: Any) -> gammatorch.Analysis:
    analysis = gammatorch.analyze(torch.from_numpy(gains).to(DEVICE), method="gram", **settings)
    assert isinstance(analysis, gammatorch.Analysis)
    return analysis


def answers(seeds: Iterable[int], layers: int, hidden: int) -> dict[str, Any]:
    """Share of right answers by dress, of those that are sure, and what was said wrongly of which world."""
    right: dict[str, list[bool]] = defaultdict(list)
    sure: list[bool] = []
    several: list[bool] = []
    by_support: dict[str, list[bool]] = defaultdict(list)
    wrong: Counter[str] = Counter()
    for (dress, trouble), (name, world), seed in itertools.product(DRESSES.items(), WORLDS.items(), seeds):
        if not fits(name, layers):
            continue
        found = analysed(draw(name, seed, layers, hidden, trouble)).answer
        right[dress].append(found.verdict == world.verdict)
        first = found.between[0] if found.between else found.verdict
        by_support[f"{min(int(found.support * 10), 9) / 10:.1f}"].append(first == world.verdict)
        if found.verdict != "undecided":
            sure.append(right[dress][-1])
        if world.verdict == "several-directions":
            several.append(found.verdict in ("several-directions", "undecided"))
        if found.verdict != world.verdict:
            wrong[f"{name}: {found.verdict}"] += 1
    return {
        "right": {dress: round(float(np.mean(of)), 3) for dress, of in right.items()},
        "right_of_those_that_are_decided": round(float(np.mean(sure)), 3),
        "several_directions_or_undecided": round(float(np.mean(several)), 3),
        "first_is_right_by_support": {
            support: [round(float(np.mean(of)), 3), len(of)] for support, of in sorted(by_support.items())
        },
        "draws": sum(map(len, right.values())),
        "wrong": dict(wrong.most_common(8)),
    }


def _turned(angle: Callable[[np.random.Generator], np.ndarray[Any, Any]]) -> Callable[..., np.ndarray[Any, Any]]:
    def make(rng: np.random.Generator, layers: int, hidden: int) -> np.ndarray[Any, Any]:
        one, other = rng.standard_normal((2, 1, hidden))
        turned = angle(rng)[:, None]
        return np.cos(turned) * one + np.sin(turned) * other + 0.3 * rng.standard_normal((layers, hidden))

    return make


def _walk(rng: np.random.Generator, layers: int, hidden: int) -> np.ndarray[Any, Any]:
    steps = rng.standard_normal((layers, hidden)) * np.sqrt(rng.uniform(0.2, 3) / layers)
    return rng.standard_normal(hidden) + steps.cumsum(axis=0) + 0.3 * rng.standard_normal((layers, hidden))


def _decay(rng: np.random.Generator, layers: int, hidden: int) -> np.ndarray[Any, Any]:
    kept, x = np.exp(-1 / (layers * rng.uniform(0.05, 0.5))), rng.standard_normal((layers, hidden))
    for layer in range(1, layers):
        x[layer] = kept * x[layer - 1] + np.sqrt(1 - kept**2) * x[layer]
    return x + 0.3 * rng.standard_normal((layers, hidden))


def _own_noise(rng: np.random.Generator, layers: int, hidden: int) -> np.ndarray[Any, Any]:
    size = np.interp(np.linspace(0, 1, layers), np.linspace(0, 1, 5), rng.uniform(0.2, 1.2, 5))
    return rng.standard_normal(hidden) + size[:, None] * rng.standard_normal((layers, hidden))


SMOOTH: dict[str, Callable[..., np.ndarray[Any, Any]]] = {
    "walk": _walk,
    "Ornstein-Uhlenbeck": _decay,
    "sinusoid": _turned(
        lambda rng: (
            rng.uniform(0.5, 1.4) * np.sin(2 * np.pi * rng.uniform(0.3, 2) * np.arange(64) / 64 + rng.uniform(0, 6))
        )
    ),
    "turn that ends": _turned(lambda rng: np.pi / 2 * (1 - np.exp(-rng.uniform(2, 9) * np.arange(64) / 64))),
    "own noise": _own_noise,
}


def boundaries(seeds: Iterable[int], hidden: int = 2048) -> dict[str, Any]:
    """Share of 64 smooth layers in which a boundary is claimed; share of soft ones of each width that are found."""
    claimed: dict[str, list[bool]] = defaultdict(list)
    for (name, make), seed in itertools.product(SMOOTH.items(), seeds):
        x = make(np.random.default_rng(seed), 64, hidden)
        found = analysed(np.exp(0.2 * x)).statistics
        claimed[name].append(bool(found["change_points"] or found["transitions"]))
    hit: dict[str, list[bool]] = defaultdict(list)
    for width, share, seed in itertools.product((3, 5, 8), (0.2, 0.35, 0.5), seeds):
        rng = np.random.default_rng(seed)
        middle = int(rng.integers(16, 49))
        done = np.clip((np.arange(64) - middle) / width + 0.5, 0, 1)
        x = _turned(lambda _, done=done, share=share: done * np.arccos(1 - share))(rng, 64, hidden)  # type: ignore[misc]
        found = analysed(np.exp(0.2 * x)).statistics
        turns = [*((one, one) for one in found["change_points"])]
        turns += [(turn["first"], turn["last"]) for turn in found["transitions"]]
        hit[f"{width} layers, share {share}"].append(any(a - 4 <= middle <= b + 4 for a, b in turns))
    return {
        "claimed": {name: [sum(of), len(of)] for name, of in claimed.items()},
        "found": {name: round(float(np.mean(of)), 3) for name, of in hit.items()},
    }


def alike(rng: np.random.Generator, shape: tuple[int, ...], kept: float) -> np.ndarray[Any, Any]:
    """Standard normal numbers whose neighbours along the last axis correlate by ``kept``."""
    x = rng.standard_normal(shape)
    for channel in range(1, shape[-1]):
        x[..., channel] = kept * x[..., channel - 1] + np.sqrt(1 - kept**2) * x[..., channel]
    return x


CHANNELS: dict[str, Callable[..., np.ndarray[Any, Any]]] = {
    "independent": lambda rng, shape: rng.standard_normal(shape),
    "AR .9": lambda rng, shape: alike(rng, shape, 0.9),
    "t of 4 degrees": lambda rng, shape: rng.standard_t(4, shape),
    "massive": lambda rng, shape: rng.standard_normal(shape) * np.where(rng.random(shape[-1]) < 0.001, 30, 1),
}


def coverage(draws: int, first: int, layers: int = 12, hidden: int = 5120) -> dict[str, Any]:
    """Share of draws in which bounds hold the median of all draws; layers share half of their variance."""
    found: dict[str, Any] = {}
    for name, make in CHANNELS.items():
        figures: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for seed in range(first, first + draws):
            statistics = analysed(_half_shared(make, seed, layers, hidden)).statistics
            for figure in ("mean_pearson", "mean_rank_correlation", "shared_energy"):
                figures[figure].append(tuple(statistics[figure][part] for part in ("value", "low", "high")))  # type: ignore[arg-type]
        found[name] = {}
        for figure, values in figures.items():
            true = float(np.median([value for value, *_ in values]))
            found[name][figure] = float(np.mean([low <= true <= high for _, low, high in values]))
    return found


def _half_shared(
    make: Callable[..., np.ndarray[Any, Any]], seed: int, layers: int, hidden: int
) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.asarray(1 + 0.05 * (make(rng, (1, hidden)) + make(rng, (layers, hidden))))


def known(draws: int, first: int, layers: int, hidden: int) -> dict[str, Any]:
    """Share of draws in which bounds hold the exact truth of the worlds that have one."""
    found: dict[str, Any] = {}
    edges = [0, *planted(layers), layers]
    phases = ",".join(f"P{n + 1}={a}-{b - 1}" for n, (a, b) in enumerate(itertools.pairwise(edges)))
    for world in KNOWN:
        expected, inside = truth(world, layers), Counter[str]()
        for seed in range(first, first + draws):
            statistics = analysed(draw(world, seed, layers, hidden), phases=phases).statistics
            for name in ("shared_energy", "mean_pearson", "effective_dimension"):
                inside[name] += statistics[name]["low"] <= expected[name] <= statistics[name]["high"]
        found[world] = {name: count / draws for name, count in inside.items()}
    return found


def unrelated(draws: int, first: int) -> dict[str, Any]:
    """Share of draws of unrelated layers whose mean correlation is beyond what chance is said to give."""
    found: dict[str, Any] = {}
    for name, (layers, hidden) in itertools.product(CHANNELS, ((12, 768), (24, 5120))):
        beyond = Counter[str]()
        for seed in range(first, first + draws):
            x = CHANNELS[name](np.random.default_rng(seed), (layers, hidden))
            statistics = analysed(np.asarray(1 + 0.05 * x)).statistics
            for figure in ("mean_pearson", "mean_rank_correlation"):
                beyond[figure] += abs(statistics[figure]["value"]) > statistics[figure]["null_95"]
        found[f"{name}, {layers} × {hidden}"] = {figure: count / draws for figure, count in beyond.items()}
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10, help="draws of each world in each dress")
    options.add_argument("--coverage", type=int, default=200, help="draws for bounds and nulls")
    options.add_argument("--first-seed", type=int, default=1000, help="seed of the first draw")
    chosen = options.parse_args()
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    results: dict[str, Any] = {}
    for layers, hidden in SIZES:
        name = f"answers, {layers} × {hidden}"
        results[name] = show(name, answers(seeds, layers, hidden))
    results["boundaries"] = show(
        "boundaries", boundaries(range(chosen.first_seed, chosen.first_seed + 4 * chosen.seeds))
    )
    results["coverage"] = show("coverage", coverage(chosen.coverage, chosen.first_seed))
    results["known"] = show("known", known(chosen.coverage, chosen.first_seed, 24, 1024))
    results["unrelated"] = show("unrelated", unrelated(chosen.coverage, chosen.first_seed))
    save(chosen.out, results)


def show(name: str, found: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}:", flush=True)
    for key, value in found.items():
        print(f"    {key:<34} {value}", flush=True)
    return found


if __name__ == "__main__":
    main()
