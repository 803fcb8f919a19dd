"""What the search for anomalies tells of real training: small Llamas, trained here on the source of Python's library.

    python benchmarks/trained.py [--out FILE] [--steps 2000] [--every 20] [--planted 4] [--runs 9] [--gains FOLDER]

Nine runs, by each of three optimizers and three schedules, keep their gains every so many steps (4 minutes each on one
core; ``--gains`` keeps them for the next time). Honest ones, whole and with every second or fourth checkpoint alone, in
32 and 16 bits, should be accused of nothing; the faults of anomalies.py are planted into each, and count as there.
"""

from __future__ import annotations

import math
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from anomalies import PLANTS, Stored, anomalies, in_words, plant, plant_together, total
from common import parser, save
from safetensors.torch import load_file, save_file
from torch import Tensor

LAYERS, HIDDEN, LENGTH, BATCH, WARM_UP = 6, 128, 64, 16, 100
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}
THINNED = 1, 2, 4

OPTIMIZERS: Mapping[str, Callable[[Iterator[Tensor]], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.95)),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.3, momentum=0.9),
}
SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.1 + 0.45 * (1 + math.cos(math.pi * done)),
    "decay at the end": lambda done: 1.0 if done < 0.8 else max(0.02, 5 * (1 - done)),
}
"""Share of the learning rate by the share of the steps that are done, after a linear warm-up."""


@cache
def text() -> Tensor:
    folder = Path(sysconfig.get_path("stdlib"))
    return torch.tensor(list(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))))


def train(optimizer: str, schedule: str, seed: int, steps: int, every: int) -> Stored:
    """The input gains every so many steps, the first and the last step among them, each of shape (layer, hidden)."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
    )
    model = transformers.LlamaForCausalLM(config)
    stepper = OPTIMIZERS[optimizer](model.parameters())
    rates = torch.optim.lr_scheduler.LambdaLR(
        stepper, lambda step: min(1.0, (step + 1) / WARM_UP) * SCHEDULES[schedule](step / steps)
    )
    kept = [gains(model)]
    for step in range(1, steps + 1):
        starts = torch.randint(len(text()) - LENGTH, (BATCH,))
        tokens = torch.stack([text()[start : start + LENGTH] for start in starts.tolist()])
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        stepper.step()
        rates.step()
        stepper.zero_grad()
        if step % every == 0:
            kept.append(gains(model))
    return kept


def trained(folder: Path | None, optimizer: str, schedule: str, seed: int, steps: int, every: int) -> Stored:
    """The gains of a run, read from a folder where they are there, and kept there once trained."""
    if folder is None:
        return train(optimizer, schedule, seed, steps, every)
    file = folder / f"{optimizer}-{schedule.replace(' ', '-')}-{steps}-{every}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"gains": torch.stack(train(optimizer, schedule, seed, steps, every))}, file)
    return [*load_file(file)["gains"]]


def gains(model: Any) -> Tensor:
    return torch.stack([block.input_layernorm.weight.detach().clone() for block in model.model.layers])


def score(
    steps: list[int], kept: Stored, planted: int
) -> tuple[list[list[str]], Mapping[str, Counter[str]], Counter[str]]:
    """What is told of one run in each stored type: honest as it is and thinned out, then with a fault at a time."""
    accused, found, together = list[list[str]](), {name: Counter[str]() for name in PLANTS}, Counter[str]()
    for dtype in DTYPES.values():
        stored = [gamma.to(dtype) for gamma in kept]
        for away in THINNED:
            accused.append([one.text for one in anomalies(steps[::away], stored[::away])])
        for seed in range(planted):
            for name in PLANTS:
                found[name].update(plant(name, seed, steps, stored))
            together.update(plant_together(seed, steps, stored))
    return [texts for texts in accused if texts], found, together


def main() -> None:
    options = parser(__doc__)
    for name, default in (("steps", 2000), ("every", 20), ("planted", 4), ("runs", 9)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--gains", type=Path, help="folder to keep trained gains in, and to read those that are there")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    steps = list(range(0, chosen.steps + 1, chosen.every))
    runs: dict[str, Any] = {}
    planted, together = {name: Counter[str]() for name in PLANTS}, Counter[str]()
    for seed, (optimizer, schedule) in enumerate(list(product(OPTIMIZERS, SCHEDULES))[: chosen.runs]):
        kept = trained(chosen.gains, optimizer, schedule, seed, chosen.steps, chosen.every)
        accused, found, several = score(steps, kept, chosen.planted)
        planted = {name: total([planted[name], found[name]]) for name in PLANTS}
        together.update(several)
        runs[f"{optimizer}, {schedule}"] = {"accused": accused, **in_words(found)}
        print(f"{optimizer}, {schedule}: {runs[f'{optimizer}, {schedule}']}", flush=True)
    honest, accused = len(runs) * len(DTYPES) * len(THINNED), sum(len(run["accused"]) for run in runs.values())
    summary = {
        "shape": (len(steps), LAYERS, HIDDEN),
        "honest": honest,
        "accused": accused,
        **in_words(planted),
        "together": together,
    }
    for line, value in summary.items():
        print(f"{line:<24} {value}")
    save(chosen.out, {"summary": summary, "runs": runs})


if __name__ == "__main__":
    main()
