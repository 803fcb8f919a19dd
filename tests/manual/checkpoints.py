"""The local checkpoints that README and the manual speak of, in small and full of real gains where that is easy.

    python -m tests.manual.checkpoints FOLDER

`base` and `my-model` hold the trained gains of SmolLM2-135M-Instruct, `instruct` the same with 1 % of noise, `other`
gains drawn without regard to it, `converted` those of `base` with 1 added, as by an offset that was added twice, `merged`
those of `instruct` with two layers exchanged, two taken from `other` and one made larger.
`megatron-run` has three steps of a small model on four tensor-parallel ranks; from the second on one gain of rank 2 is
a unit in the last place larger.
`runs/small` has twelve steps on a way from ones towards the trained gains, of which `checkpoint-300` holds the last
one's.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path

import torch

from gammatorch.bench import smollm2
from gammatorch.bench.synthetic import write_sparse

STEPS = 12


def trained() -> dict[str, torch.Tensor]:
    """The trained gains, float32."""
    found = smollm2.trained_gains()
    return {key: torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).float() for key, raw in found.items()}


def write(folder: Path, gains: dict[str, torch.Tensor]) -> None:
    """A checkpoint in full size of which only the norms are there; its matrices are holes."""
    folder.mkdir(parents=True)
    raw = {key: gain.to(torch.bfloat16).view(torch.uint8).numpy().tobytes() for key, gain in gains.items()}
    write_sparse(folder, smollm2.CONFIG, {key: ("BF16", shape) for key, shape in smollm2.tensor_shapes()}, raw)


def merged(gains: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gains as a merge leaves them that went wrong in three ways."""
    first, second = "model.layers.{}.input_layernorm.weight", "model.layers.{}.post_attention_layernorm.weight"
    taken = {second.format(layer): other[second.format(layer)] for layer in (12, 13)}
    exchanged = {first.format(3): gains[first.format(9)], first.format(9): gains[first.format(3)]}
    return gains | taken | exchanged | {first.format(20): 1.25 * gains[first.format(20)]}


def write_ranks(folder: Path) -> None:
    """Steps of a run as Megatron-LM writes them, each rank with its own copy of the norms."""
    start = torch.rand(4, 64, generator=torch.Generator().manual_seed(0)).mul(0.2).add(0.9)
    settings = argparse.Namespace(
        num_layers=4, hidden_size=64, pipeline_model_parallel_size=1, apply_layernorm_1p=False
    )
    for step in (1000, 2000, 3000):
        for rank in range(4):
            gains = (start + step / 100_000).bfloat16()
            if step > 1000 and rank == 2:
                gains[3, 17] = torch.nextafter(gains[3, 17], gains.new_tensor(2.0))
            name = "decoder.layers.{}.self_attention.linear_qkv.layer_norm_weight"
            held = {name.format(layer): row.clone() for layer, row in enumerate(gains)}
            place = folder / f"iter_{step:07d}" / f"mp_rank_{rank:02d}"
            place.mkdir(parents=True)
            torch.save({"args": settings, "iteration": step, "model": held}, place / "model_optim_rng.pt")


def write_checkpoints(folder: Path) -> None:
    """All of them.

    Args:
        folder: Where to.
    """
    drawn = torch.Generator().manual_seed(0)

    def noise(gain: torch.Tensor) -> torch.Tensor:
        return torch.randn(gain.shape, generator=drawn)

    gains = trained()
    write(folder / "base", gains)
    write(folder / "my-model", gains)
    instruct = {key: gain * (1 + 0.01 * noise(gain)) for key, gain in gains.items()}
    other = {key: gain.mean() * (0.2 * noise(gain)).exp() for key, gain in gains.items()}
    write(folder / "instruct", instruct)
    write(folder / "other", other)
    write(folder / "merged", merged(instruct, other))
    write(folder / "converted", {key: gain + 1 for key, gain in gains.items()})
    write_ranks(folder / "megatron-run")
    moved = dict.fromkeys(gains, torch.zeros(()))
    for number in range(1, STEPS + 1):
        moved = {key: moved[key] + 0.005 * noise(gain) for key, gain in gains.items()}
        done = 1 - math.exp(-3 * number / STEPS)
        step = {key: 1 + (gain - 1) * done + moved[key] for key, gain in gains.items()}
        write(folder / "runs" / "small" / f"checkpoint-{100 * number}", step)
    shutil.copy(folder / "runs/small/checkpoint-1200/model.safetensors", folder / "runs/small/checkpoint-300")


if __name__ == "__main__":
    write_checkpoints(Path(sys.argv[1]))
