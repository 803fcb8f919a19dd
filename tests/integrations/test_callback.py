"""The callback in real training runs of a tiny Llama on the CPU."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

import gammatorch
from gammatorch.cli import main
from gammatorch.integrations import GainsCallback

NAMES = {"rms", "mean_rank_correlation", "participation_ratio", "shared_energy", "loss_with_depth", "support"}


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, place):
        tokens = torch.randint(0, 32, (8,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": tokens, "labels": tokens}


class Told(TrainerCallback):
    """What W&B and TensorBoard would be told."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **_):
        self.logs.append((state.global_step, dict(logs)))


def tiny(layers=2):
    config = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.2 * torch.randn_like(weight))
    return model


def train(folder, callback, *, steps=5, model=None):
    told = Told()
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=2, learning_rate=0.05, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1000,
    )  # fmt: skip
    trainer = Trainer(model or tiny(), arguments, train_dataset=Words(), callbacks=[told, callback])
    trainer.train()
    return trainer, told.logs


@pytest.fixture
def trained(tmp_path):
    trainer, logs = train(tmp_path / "out", GainsCallback(every=2, store=tmp_path / "store"))
    return trainer, logs, tmp_path / "store"


def test_the_figures_reach_every_log_at_every_second_step_and_the_last(trained):
    trainer, logs, _ = trained
    gains = [(step, one) for step, one in logs if "gamma/rms" in one]
    assert [step for step, _ in gains] == [2, 4, 5]
    for _, one in gains:
        assert {name.removeprefix("gamma/") for name in one if name.startswith("gamma/")} <= NAMES
        assert {"gamma/rms", "gamma/mean_rank_correlation", "gamma/shared_energy", "gamma/support"} <= one.keys()
    assert [one["step"] for one in trainer.state.log_history if "gamma/rms" in one] == [2, 4, 5]
    assert any("train_loss" in one for _, one in logs)


def test_the_last_figures_are_those_of_the_model(trained):
    trainer, logs, _ = trained
    analysis = gammatorch.analyze(gammatorch.read_gains(trainer.model))
    (last,) = [one for step, one in logs if step == 5 and "gamma/rms" in one]
    statistics = analysis.statistics
    assert last["gamma/rms"] == pytest.approx(float(analysis.norms.mean()) / 8)
    assert last["gamma/mean_rank_correlation"] == pytest.approx(statistics.mean_rank_correlation.value)
    assert last["gamma/shared_energy"] == pytest.approx(statistics.shared_energy.value)
    assert last["gamma/participation_ratio"] == pytest.approx(statistics.effective_dimension.value)


def test_the_store_is_a_sweep(trained, capsys):
    trainer, _, store = trained
    swept = gammatorch.read_sweep(store)
    assert [item.step for item in swept] == [2, 4, 5] and len({item.run for item in swept}) == 1
    torch.testing.assert_close(swept[-1].gamma, gammatorch.read_gains(trainer.model).gamma)
    assert not torch.equal(swept[0].gamma, swept[1].gamma)
    assert [entry.step for entry in swept.timeline] == [2, 4, 5] and not swept.anomalies
    for command in (["export", str(store)], ["report", str(store)]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "-q"])
        assert not ended.value.code and "step-4" in capsys.readouterr().out


def test_what_cannot_be_read_is_told_once_and_training_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="gammatorch"):
        trainer, _ = train(tmp_path, GainsCallback(every=1, site="post_mlp"))
    assert trainer.state.global_step == 5
    told = [one.getMessage() for one in caplog.records if one.name.startswith("gammatorch")]
    assert len(told) == 1 and "no learned norm at site 'post_mlp'" in told[0]


def test_arguments_that_make_no_sense_are_refused_before_training(tmp_path):
    with pytest.raises(gammatorch.GammatorchError, match="not every 0"):
        GainsCallback(every=0)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(gammatorch.GammatorchError, match="holds weights itself"):
        GainsCallback(store=tmp_path)
