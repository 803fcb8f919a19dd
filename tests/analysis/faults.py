"""Checkpoints with planted faults, and honest ones: gains as real ones are, held against their reference.

    python -m tests.analysis.faults [FIRST_SEED] [SEEDS] [LAYERS] [HIDDEN]

counts how many faults are named with their layers, and how many honest checkpoints are accused.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.bench.smollm2 import trained_gains
from gammatorch.bench.worlds import draw
from gammatorch.gains.stack import StoredWeights

WORLDS = ("shared-direction", "layer-specific", "drift", "phases", "every second another")
TROUBLES = (None, "outlier channels", "heavy tails", "tails, ends, bfloat16", "tails, ends, bfloat16, massive channels")
TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ACCUSED = {"shifted", "scaled", "permuted", "other-layer", "other-site", "foreign", "dead", "non-finite", "missing"}

_EVERY = 6
"""One in so many checkpoints has real gains."""

_WIDE = ("input", "pre_mlp", "final")

Sites = dict[str, Tensor]
Planted = set[tuple[str, int, str]]
"""Site, layer, and what it is."""


def sites(seed: int, layers: int, hidden: int) -> Sites:
    """Gains of four sites of one model; queries have a profile over rotary frequency that every model has."""
    if seed % _EVERY == _EVERY - 1:
        return {**real(), "query": queries(seed, 30)}
    world, trouble = WORLDS[seed % len(WORLDS)], TROUBLES[seed // len(WORLDS) % len(TROUBLES)]
    one, other = (torch.from_numpy(draw(world, 1000 * seed + n, layers, hidden, trouble)) for n in range(2))
    final = other.mean(dim=0, keepdim=True) * one[:1]
    return {"input": one, "pre_mlp": other, "final": final, "query": queries(seed, layers)}


def real() -> Sites:
    """The trained gains of SmolLM2-135M-Instruct."""
    kept = {key: torch.frombuffer(bytearray(raw), dtype=torch.bfloat16) for key, raw in trained_gains().items()}
    names = {"input": "input_layernorm", "pre_mlp": "post_attention_layernorm"}
    by_layer = {
        site: torch.stack([kept[f"model.layers.{layer}.{name}.weight"] for layer in range(30)]).double()
        for site, name in names.items()
    }
    return {**by_layer, "final": kept["model.norm.weight"].double()[None]}


def queries(seed: int, layers: int) -> Tensor:
    """Gains of heads of width 128: a profile, the same in all models, times what is the model's and the layer's."""
    random = torch.Generator().manual_seed(seed + 900)
    profile = (torch.cos(torch.arange(64) / 64 * torch.pi) * 0.5).repeat(2).double()
    own = 0.1 * torch.randn(128, generator=random).double() + 0.15 * torch.randn(layers, 128, generator=random).double()
    return torch.exp(profile + own)


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
        placed = [row % depth for row in rows]
        strange = torch.from_numpy(draw("shared-direction", seed, depth, hidden))[placed]
        return _of_rows("input", placed, "foreign", lambda _: strange)(gains)

    return plant


def _queries_of_another(seed: int) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        gains["query"] = queries(seed, len(gains["query"]))
        return {("query", row, "foreign") for row in range(len(gains["query"]))}

    return plant


def _all_foreign(seed: int) -> Callable[[Sites], Planted]:
    def plant(gains: Sites) -> Planted:
        depth, hidden = gains["input"].shape
        for number, site in enumerate(_WIDE):
            gains[site] = torch.from_numpy(draw("drift", seed + number, depth, hidden))[: len(gains[site])]
        return {
            (site, row if site != "final" else depth - 1, "foreign")
            for site in _WIDE
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
        "queries of another model": _queries_of_another(80_000 + seed),
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


CASTS = (("F32", "F32", 0.0, 0.0), ("F32", "BF16", 0.03, 1.0), ("BF16", "F32", 0.06, 0.0), ("BF16", "BF16", 0.03, 1.0))
"""Types of model and reference, how far the model was trained on, and what both add to w."""

DRIFTS = (0.0, 0.02, 0.1, 0.3, 0.5)


def faulty(seed: int, layers: int, hidden: int) -> Iterator[tuple[str, Planted, list[LayerVerdict]]]:
    """Each fault in each cast: its name, what was planted, and what was found."""
    base = sites(seed, layers, hidden)
    for own, reference, drift, offset in CASTS:
        moved = trained(base, drift, seed) if drift else base
        held = stored(base, reference, offset)
        for name, plant in faults(seed).items():
            gains = dict(moved)
            planted = plant(gains)
            yield f"{name}, {own}, drift {drift}", planted, hold_against(stored(gains, own, offset), held)


def honest(seed: int, layers: int, hidden: int) -> Iterator[tuple[str, list[LayerVerdict]]]:
    """Casts and continued training, gains that grow by it among them, in either convention: a name, and the verdicts."""
    base = sites(seed, layers, hidden)
    for growth in (1.1, 1.3):
        grown = trained({site: growth * gamma for site, gamma in base.items()}, 0.3, seed + 2)
        yield f"grown by {growth}", hold_against(stored(grown, "BF16"), stored(base, "BF16"))
    for drift, kind, reference in itertools.product(DRIFTS, TYPES, ("F32", "BF16")):
        gains = trained(base, drift, seed + 1) if drift else base
        offset = float(reference == "F32")
        found = hold_against(stored(gains, kind, offset), stored(base, reference, 1 - offset))
        yield f"{kind} against {reference}, drift {drift}", found


def count(seeds: range, layers: int, hidden: int) -> None:
    """Print what was missed and who was accused."""
    done, silent, misnamed, sound, accused, unsure = 0, 0, 0, 0, 0, 0
    for seed in seeds:
        for name, planted, found in faulty(seed, layers, hidden):
            done, silent = done + 1, silent + (not named(found))
            if named(found) != planted:
                misnamed += 1
                print(f"seed {seed}: {name}: {dict(Counter((one[0], one[2]) for one in named(found) ^ planted))}")
        for name, found in honest(seed, layers, hidden):
            sound, unsure = sound + 1, unsure + any(one.verdict == "undetermined" for one in found)
            if any(one.verdict == "undetermined" for one in found):
                print(
                    f"seed {seed}: {name}: unsure of {Counter(one.site for one in found if one.verdict == 'undetermined')}"
                )
            if named(found):
                accused += 1
                print(f"seed {seed}: {name}: accused of {sorted(named(found))[:4]}")
    print(f"{layers} × {hidden}: {done} faults, {silent} not seen, {misnamed} with other layers or another name")
    print(f"{sound} honest checkpoints, {accused} accused, {unsure} undetermined somewhere")


if __name__ == "__main__":
    first, seeds, layers, hidden = (int(one) for one in (*sys.argv[1:], *("0", "12", "12", "640")[len(sys.argv) - 1 :]))
    count(range(first, first + seeds), layers, hidden)
