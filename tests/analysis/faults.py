"""Checkpoints with planted faults, and honest ones: gains as real ones are, held against their reference.

    python -m tests.analysis.faults [FIRST_SEED] [SEEDS]

counts how many faults are named with their layers, and how many honest checkpoints are accused.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.bench.worlds import draw
from gammatorch.gains.stack import StoredWeights

SITES = ("input", "pre_mlp", "final")
WORLDS = ("shared-direction", "layer-specific", "drift", "phases", "every second another")
TROUBLES = (None, "outlier channels", "heavy tails", "tails, ends, bfloat16", "tails, ends, bfloat16, massive channels")
TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ACCUSED = {"shifted", "scaled", "permuted", "other-layer", "other-site", "foreign", "dead", "non-finite", "missing"}

Sites = dict[str, Tensor]
Planted = set[tuple[str, int, str]]
"""Site, layer, and what it is."""


def sites(seed: int, layers: int, hidden: int) -> Sites:
    """Gains of three sites of one model."""
    world, trouble = WORLDS[seed % len(WORLDS)], TROUBLES[seed // len(WORLDS) % len(TROUBLES)]
    one, other = (torch.from_numpy(draw(world, 1000 * seed + n, layers, hidden, trouble)) for n in range(2))
    return {"input": one[:layers], "pre_mlp": other, "final": other.mean(dim=0, keepdim=True) * one[:1]}


def stored(gains: Sites, dtype: str = "F32", offset: float = 0.0) -> dict[str, StoredWeights]:
    """The same as a checkpoint holds them."""
    told = {}
    for site, gamma in gains.items():
        weights = (gamma - offset).to(TYPES[dtype]).double()
        layers = tuple(range(len(gamma))) if site != "final" else (len(gains["input"]) - 1,)
        keys = tuple(f"{site}.{layer}" for layer in layers)
        dtypes = (dtype,) * len(layers)
        told[site] = StoredWeights(site=site, layers=layers, keys=keys, offset=offset, weights=weights, dtypes=dtypes)
    return told


def trained(gains: Sites, drift: float, seed: int) -> Sites:
    """Moved at random by so much of the spread over usual channels."""
    random = torch.Generator().manual_seed(seed)

    def moved(gamma: Tensor) -> Tensor:
        usual = gamma.abs() <= 8 * gamma.abs().median(dim=-1, keepdim=True).values
        mean = (gamma * usual).sum(-1, keepdim=True) / usual.sum(-1, keepdim=True)
        spread = (((gamma - mean) * usual).square().sum(-1, keepdim=True) / usual.sum(-1, keepdim=True)).sqrt()
        return gamma + drift * spread * torch.randn(gamma.shape, generator=random, dtype=gamma.dtype)

    return {site: moved(gamma) for site, gamma in gains.items()}


def _of_rows(
    site: str, rows: list[int], verdict: str, change: Callable[[Tensor], Tensor]
) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        gains[site] = gains[site].clone()
        gains[site][rows] = change(gains[site][rows])
        return {(site, row, verdict) for row in rows}

    return plant


def _swapped(one: int, other: int) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        gains["input"] = gains["input"].clone()
        gains["input"][[one, other]] = gains["input"][[other, one]]
        return {("input", row, "other-layer") for row in (one, other)}

    return plant


def _all_one_off(gains: Sites) -> Planted:
    gains["input"] = gains["input"].roll(1, dims=0)
    return {("input", row, "other-layer") for row in range(len(gains["input"]))}


def _sites_swapped(gains: Sites) -> Planted:
    gains["input"], gains["pre_mlp"] = gains["pre_mlp"], gains["input"]
    return {(site, row, "other-site") for site in ("input", "pre_mlp") for row in range(len(gains["input"]))}


def _everywhere(verdict: str, change: Callable[[Tensor], Tensor]) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        for site in gains:
            gains[site] = change(gains[site])
        depth = len(gains["input"])
        return {
            (site, row if site != "final" else depth - 1, verdict) for site in gains for row in range(len(gains[site]))
        }

    return plant


def _foreign(rows: list[int], seed: int) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        depth, hidden = gains["input"].shape
        strange = torch.from_numpy(draw("shared-direction", seed, depth, hidden))
        return _of_rows(
            "input", [row % depth for row in rows], "foreign", lambda _: strange[[row % depth for row in rows]]
        )(gains)

    return plant


def _all_foreign(seed: int) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        depth, hidden = gains["input"].shape
        for number, site in enumerate(gains):
            gains[site] = torch.from_numpy(draw("drift", seed + number, depth, hidden))[: len(gains[site])]
        return {
            (site, row if site != "final" else depth - 1, "foreign")
            for site in gains
            for row in range(len(gains[site]))
        }

    return plant


def faults(seed: int) -> dict[str, Callable[[Sites], Planted]]:
    """By name: what plants a fault into gains, and tells which layers it made what."""
    order = torch.Generator().manual_seed(seed)
    return {
        "one added everywhere": _everywhere("shifted", lambda gamma: gamma + 1),
        "one lost in two layers": _of_rows("pre_mlp", [2, 3], "shifted", lambda gamma: gamma - 1),
        "two layers swapped": _swapped(1, 2),
        "distant layers swapped": _swapped(2, 8),
        "all layers one off": _all_one_off,
        "sites swapped": _sites_swapped,
        "layers of another model": _foreign([3, 4], 77_000 + seed),
        "last layers of another model": _foreign([-1], 78_000 + seed),
        "all of another model": _all_foreign(79_000 + seed),
        "doubled": _everywhere("scaled", lambda gamma: gamma * 2),
        "three layers a fifth larger": _of_rows("input", [4, 5, 6], "scaled", lambda gamma: gamma * 1.2),
        "rolled": _of_rows("pre_mlp", [5], "permuted", lambda gamma: gamma.roll(3, dims=-1)),
        "shuffled": _of_rows(
            "input", [6, 7], "permuted", lambda gamma: gamma[:, torch.randperm(gamma.shape[1], generator=order)]
        ),
        "zero": _of_rows("input", [9], "dead", torch.zeros_like),
        "one NaN": _of_rows(
            "pre_mlp", [9], "non-finite", lambda gamma: gamma.index_fill(1, torch.tensor([7]), torch.nan)
        ),
    }


def named(found: list[LayerVerdict]) -> Planted:
    """What is an error among verdicts."""
    return {(one.site, one.layer, one.verdict) for one in found if one.verdict in ACCUSED}


def count(seeds: range, layers: int, hidden: int) -> None:
    """Print what was missed and who was accused."""
    missed, done, accused, honest, unsure = Counter[str](), Counter[str](), Counter[str](), 0, 0
    for seed in seeds:
        base = sites(seed, layers, hidden)
        for (own, reference), drift, offset in zip(
            itertools.product(("F32", "BF16"), ("F32", "BF16")),
            (0.0, 0.03, 0.06, 0.03),
            (0.0, 1.0, 0.0, 1.0),
            strict=True,
        ):
            moved = trained(base, drift, seed) if drift else base
            for name, plant in faults(seed).items():
                gains = dict(moved)
                planted = plant(gains)
                found = named(hold_against(stored(gains, own, offset), stored(base, reference, offset)))
                done[name] += 1
                if found != planted:
                    missed[name] += 1
                    kinds = Counter((one[0], one[2]) for one in found ^ planted)
                    print(
                        f"seed {seed} {WORLDS[seed % 5]}/{TROUBLES[seed // 5 % 5]}, {own}, drift {drift}: {name}: {dict(kinds)}"
                    )
            for more in (0.0, 0.02, 0.1, 0.3, 0.5):
                gains = trained(base, more, seed + 1) if more else base
                for kind in ("F32", "BF16", "F16"):
                    verdicts = hold_against(stored(gains, kind, offset), stored(base, reference, 1 - offset))
                    honest += 1
                    unsure += any(one.verdict == "undetermined" for one in verdicts)
                    if named(verdicts):
                        accused[f"drift {more}"] += 1
                        print(
                            f"accused: seed {seed} {WORLDS[seed % 5]}/{TROUBLES[seed // 5 % 5]}, {kind}, drift {more}: {sorted(named(verdicts))[:3]}"
                        )
    print(f"{layers} × {hidden}: {done.total()} faults, missed or misnamed {missed.total()} {dict(missed)}")
    print(f"{honest} honest, accused {accused.total()} {dict(accused)}, undetermined somewhere {unsure}")


if __name__ == "__main__":
    first, seeds = (int(one) for one in (*sys.argv[1:], *("0", "25")[len(sys.argv) - 1 :]))
    count(range(first, first + seeds), 12, 640)
