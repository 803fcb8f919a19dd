"""Copies of norms on tensor-parallel ranks: equal bit by bit, or told."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import gammatorch

LAYERS, HIDDEN, RANKS = 4, 64, 4
Rows = Mapping[int, torch.Tensor]
"""Gains of all layers by rank, shape (layer, hidden)."""


def drawn() -> dict[int, torch.Tensor]:
    gains = torch.rand(LAYERS, HIDDEN, generator=torch.Generator().manual_seed(0)).mul(0.2).add(0.9).bfloat16()
    return {rank: gains.clone() for rank in range(RANKS)}


def megatron(folder: Path, gains: Rows, norm: str = "self_attention.linear_qkv.layer_norm_weight") -> None:
    settings = argparse.Namespace(num_layers=LAYERS, pipeline_model_parallel_size=2, hidden_size=HIDDEN)
    for rank, rows in gains.items():
        for stage, part in enumerate(rows.split(LAYERS // 2)):
            held = {f"decoder.layers.{layer}.{norm}": row.clone() for layer, row in enumerate(part)}
            place = folder / f"mp_rank_{rank:02d}_{stage:03d}"
            place.mkdir(parents=True)
            torch.save({"args": settings, "model": held}, place / "model_optim_rng.pt")


def nemo(folder: Path, gains: Rows) -> None:
    for rank, rows in gains.items():
        held = {f"model.encoder.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(rows)}
        place = folder / f"tp_rank_{rank:02d}_pp_rank_000"
        place.mkdir(parents=True)
        torch.save({"state_dict": held}, place / "model_weights.ckpt")


def deepspeed(folder: Path, gains: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, rows in gains.items():
        held = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(rows)}
        torch.save({"module": held, "mp_world_size": len(gains)}, folder / f"mp_rank_{rank:02d}_model_states.pt")


def neox(folder: Path, gains: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, rows in gains.items():
        for layer, row in enumerate(rows):
            held = {"input_layernorm.weight": row.clone(), "attention.dense.weight": torch.ones(2, HIDDEN)}
            torch.save(held, folder / f"layer_{layer + 2:02d}-model_{rank:02d}-model_states.pt")


def tensorrt(folder: Path, gains: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, rows in gains.items():
        held = {f"transformer.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(rows)}
        save_file(held, folder / f"rank{rank}.safetensors")


TRAINERS: Mapping[str, Callable[[Path, Rows], None]] = {
    "Megatron-LM": megatron,
    "NeMo": nemo,
    "DeepSpeed": deepspeed,
    "GPT-NeoX": neox,
    "TensorRT-LLM": tensorrt,
}


def next_up(gains: torch.Tensor, layer: int, channel: int) -> None:
    """One channel of one layer moves by one unit in the last place."""
    gains[layer, channel] = torch.nextafter(gains[layer, channel], torch.tensor(9.0, dtype=gains.dtype))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_equal_copies_are_noted(tmp_path: Path, trainer: str) -> None:
    TRAINERS[trainer](tmp_path / "run", drawn())
    found = gammatorch.check(tmp_path / "run")
    assert not found.errors
    assert [one.text for one in found.findings if one.what == "ranks"] == [
        "the copies of ranks 0, 1, 2 and 3 are equal bit by bit"
    ]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("rank", [0, 2])
def test_one_unit_in_the_last_place_of_one_channel_is_found(tmp_path: Path, trainer: str, rank: int) -> None:
    gains = drawn()
    next_up(gains[rank], 3, 17)
    TRAINERS[trainer](tmp_path / "run", gains)
    (error,) = gammatorch.check(tmp_path / "run").errors
    assert (error.what, error.site, error.layers) == ("ranks", "input", (3,))
    others = [str(one) for one in range(RANKS) if one != rank]
    assert error.text.startswith(
        f"layer 3: rank {rank} differs from ranks {', '.join(others[:-1])} and {others[-1]}, which agree, "
        "in 1 of 64 channels, by at most 0.0078 (1 unit in the last place)"
    )
    assert gammatorch.check(tmp_path / "run", ignore=["ranks"]).errors == ()


def test_of_two_ranks_neither_is_the_odd_one(tmp_path: Path) -> None:
    gains = {rank: rows for rank, rows in drawn().items() if rank < 2}
    next_up(gains[0], 1, 3)
    next_up(gains[1], 2, 3)
    deepspeed(tmp_path, gains)
    (error,) = gammatorch.check(tmp_path).errors
    assert error.layers == (1, 2)
    assert error.text.startswith("layers 1-2: rank 1 differs from rank 0, in 1 of 64 channels")


def test_norms_that_are_cut_over_ranks_are_told_from_copies(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    deepspeed(tmp_path, {rank: torch.rand(LAYERS, HIDDEN, generator=generator) + 0.5 for rank in range(2)})
    (error,) = gammatorch.check(tmp_path).errors
    assert "all 4 layers: rank 1 differs from rank 0, in 64 of 64 channels" in error.text
    assert "are parts of a norm that is cut over the ranks" in error.text


@pytest.mark.parametrize(("moved", "cut"), [(0.4, False), (0.6, True)])
def test_half_of_the_spread_parts_copies_from_parts(tmp_path: Path, moved: float, cut: bool) -> None:
    rows = torch.randn(LAYERS, HIDDEN, generator=torch.Generator().manual_seed(1)) + 5
    deepspeed(tmp_path, {0: rows, 1: rows + moved * rows.std(dim=-1, keepdim=True)})
    (error,) = gammatorch.check(tmp_path).errors
    assert ("cut over the ranks" in error.text) is cut


@pytest.mark.parametrize(("units", "counted"), [(700, True), (1400, False)])
def test_units_in_the_last_place_are_counted_up_to_a_thousand(tmp_path: Path, units: int, counted: bool) -> None:
    rows = torch.rand(LAYERS, HIDDEN, generator=torch.Generator().manual_seed(1)) + 1
    rows[2, 5] = 1.5
    other = rows.clone()
    other[2, 5] += units * torch.finfo(torch.float32).eps
    deepspeed(tmp_path, {0: rows, 1: other})
    (error,) = gammatorch.check(tmp_path).errors
    assert ("units in the last place" in error.text) is counted


def test_differences_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    gains = drawn()
    gains[1][2, 5] = float("nan")
    deepspeed(tmp_path, gains)
    (error,) = (one for one in gammatorch.check(tmp_path).errors if one.what == "ranks")
    assert "rank 1 differs" in error.text
    assert "by at most inf;" in error.text


def test_a_rank_that_lacks_a_norm_is_named(tmp_path: Path) -> None:
    deepspeed(tmp_path, drawn())
    short = {f"model.layers.{layer}.input_layernorm.weight": torch.ones(HIDDEN) for layer in range(LAYERS - 1)}
    torch.save({"module": short}, tmp_path / "mp_rank_03_model_states.pt")
    (error,) = gammatorch.check(tmp_path).errors
    assert error.text.startswith("rank 3 has no model.layers.3.input_layernorm.weight")


def test_biases_are_copies_too(tmp_path: Path) -> None:
    for rank, rows in drawn().items():
        held = {f"layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(rows)}
        held |= {f"layers.{layer}.input_layernorm.bias": row.clone() - 1 for layer, row in enumerate(rows)}
        if rank == 1:
            held["layers.2.input_layernorm.bias"][7] += 1
        torch.save({"module": held}, tmp_path / f"mp_rank_{rank:02d}_model_states.pt")
    (error,) = gammatorch.check(tmp_path).errors
    assert (error.site, error.layers) == ("input bias", (2,))
