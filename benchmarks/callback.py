"""What GainsCallback costs a training run: a reading, with and without a store, and a step without one.

    OMP_NUM_THREADS=1 python benchmarks/callback.py [--steps 20] [--out FILE]

Tiny Llamas are trained on the CPU, and every second step is read. The last figures that were logged are
held against an analysis of the model before a time is told. Needs accelerate, as transformers' Trainer does.
"""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import tempfile
import time
from typing import Any

import torch
from common import parser, save
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import gammatorch
from gammatorch.integrations import GainsCallback

SHAPES = ((2, 64), (30, 576))
EVERY = 2


class Words(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Random tokens."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        tokens = torch.randint(0, 32, (8,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": tokens, "labels": tokens}


class Timed(GainsCallback):
    """The callback with a clock."""

    def __init__(self, store: str | None) -> None:
        super().__init__(EVERY, store=store)
        self.read: list[float] = []
        self.idle: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """As it is, timed."""
        started = time.perf_counter()
        super().on_step_end(args, state, control, model, **others)
        (self.idle if state.global_step % EVERY else self.read).append(time.perf_counter() - started)


def train(layers: int, hidden: int, steps: int, store: str | None) -> Timed:
    """Train a model of that shape, and check what was logged last."""
    config = LlamaConfig(
        vocab_size=32, hidden_size=hidden, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=2
    )
    model, callback = LlamaForCausalLM(config), Timed(store)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.2 * torch.randn_like(weight))
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=2, learning_rate=0.01, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1000,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Words(), callbacks=[callback])
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    logged = [one["gamma/shared_energy"] for one in trainer.state.log_history if "gamma/shared_energy" in one][-1]
    wanted = gammatorch.analyze(trainer.model).statistics.shared_energy.value
    if not math.isclose(logged, wanted, rel_tol=1e-9):
        raise SystemExit(f"logged {logged}, but the model has {wanted}")
    return callback


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=20, help="steps that each model is trained for")
    chosen = options.parse_args()
    results: dict[str, dict[str, float]] = {}
    print("layers × hidden  store  reading ms  step without one µs")
    for layers, hidden in SHAPES:
        for store in (None, tempfile.mkdtemp()):
            timed = train(layers, hidden, chosen.steps, store)
            read, idle = 1e3 * statistics.median(timed.read), 1e6 * statistics.median(timed.idle)
            print(f"{f'{layers} × {hidden}':15}  {'yes' if store else 'no':5}  {read:10.1f}  {idle:19.1f}")
            results[f"{layers}x{hidden}{', stored' if store else ''}"] = {"reading_ms": read, "idle_step_us": idle}
    save(chosen.out, results)


if __name__ == "__main__":
    main()
