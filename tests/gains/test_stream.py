"""From stored bytes to gains on the device."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors
from gammatorch.architectures.select import select
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.gains.stored import tally, weigh
from gammatorch.gains.wide import WideGains

PATTERN = "layers.{layer}.norm.weight"


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gpt2"])
def test_gains_equal_what_safetensors_reads(tmp_path, family, dtype, device):
    made = write_checkpoint(tmp_path, family, layers=11, hidden=24, dtype=dtype, shards=4)
    gains = gammatorch.read_gains(tmp_path, device=device)
    theirs = {}
    for shard in made.shards:
        with safe_open(tmp_path / shard, "pt") as file:
            theirs |= {key: file.get_tensor(key) for key in gains.keys if key in file.keys()}  # noqa: SIM118
    offset = 1 if family == "gemma2" else 0
    for row, key in zip(gains.gamma.cpu(), gains.keys, strict=True):
        assert row.equal(theirs[key].double() + offset)
        np.testing.assert_array_equal(made.stored[key], theirs[key].double())
    assert (gains.offset, gains.stored_dtype) == (offset, dtype)
    assert gains.gamma.dtype is torch.float64 and gains.gamma.shape == (11, 24)


def test_raw_gives_the_stored_weight(tmp_path):
    write_checkpoint(tmp_path, "gemma2", layers=2, hidden=8, shards=1)
    effective = gammatorch.read_gains(tmp_path, device="cpu")
    raw = gammatorch.read_gains(tmp_path, device="cpu", raw=True)
    assert effective.gamma.equal(raw.gamma + 1)
    assert (effective.offset, raw.offset) == (1, 0)


def save(folder, tensors):
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_layers_stored_in_different_types_keep_their_order(tmp_path, device):
    types = [torch.bfloat16, torch.float32, torch.float16, torch.float64, torch.float32, torch.bfloat16]
    rows = [torch.randn(7, generator=torch.Generator().manual_seed(n)).to(dtype) for n, dtype in enumerate(types)]
    save(tmp_path, {f"layers.{n}.norm.weight": row for n, row in enumerate(rows)})
    gains = gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device)
    assert gains.gamma.cpu().equal(torch.stack([row.double() for row in rows]))
    assert gains.stored_dtype == "BF16+F16+F32+F64"


def test_tensors_of_any_shape_are_flattened(tmp_path, device):
    heads = torch.randn(3, 4, 5)
    save(tmp_path, {f"layers.{n}.norm.weight": heads[n].clone() for n in range(3)})
    gains = gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device)
    assert gains.gamma.cpu().equal(heads.double().reshape(3, 20))


def test_float32_is_to_be_had(tmp_path, device):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    gains = gammatorch.read_gains(tmp_path, device=device, dtype="float32")
    assert gains.gamma.dtype is torch.float32
    assert gains.gamma.double().equal(gammatorch.read_gains(tmp_path, device=device).gamma)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_gain_that_is_no_number_is_named(tmp_path, value, device):
    rows = torch.ones(3, 4)
    rows[1, 2] = value
    save(tmp_path, {f"layers.{n}.norm.weight": rows[n].clone() for n in range(3)})
    with pytest.raises(
        errors.NonFiniteGain, match=rf"model.safetensors: layers.1.norm.weight: holds {value} at channel 2"
    ):
        gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e8m0fnu, torch.bool])
def test_types_that_hold_no_gains_are_refused(tmp_path, dtype):
    save(tmp_path, {"layers.0.norm.weight": torch.ones(4).to(dtype)})
    with pytest.raises(errors.UnsupportedFormat, match="layers.0.norm.weight: is stored as"):
        gammatorch.read_gains(tmp_path, pattern=PATTERN, device="cpu")


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_norms_of_a_model_cast_to_eight_bits_are_the_numbers_that_they_are(tmp_path, dtype, device):
    rows = torch.rand(3, 64).add(0.5).to(dtype)
    save(tmp_path, {f"layers.{n}.norm.weight": rows[n].clone() for n in range(3)})
    gains = gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device)
    assert gains.gamma.cpu().equal(rows.double()) and gains.stored_dtype.startswith("F8_")
    with pytest.raises(errors.NonFiniteGain, match="layers.1.norm.weight: holds nan at channel 3"):
        rows = rows.float()
        rows[1, 3] = float("nan")
        save(tmp_path, {f"layers.{n}.norm.weight": rows[n].clone().to(dtype) for n in range(3)})
        gammatorch.read_gains(tmp_path, pattern=PATTERN, device=device)


def test_what_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from gammatorch.gains import stream

    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    monkeypatch.setattr(stream, "_SMALL", 0)
    monkeypatch.setattr(stream, "free_bytes", lambda device: 100)
    with pytest.raises(errors.DeviceError, match="2 rows of 8 values need"):
        gammatorch.read_gains(tmp_path, device="cpu")


def test_progress_counts_every_byte_of_the_gains(tmp_path):
    write_checkpoint(tmp_path, layers=9, hidden=8, shards=4)
    counts: list[int] = []
    gammatorch.read_gains(tmp_path, device="cpu", advance=counts.append)
    assert sum(counts) == 9 * 8 * 2


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "meta", "xla"])
def test_a_device_that_does_not_exist_is_refused(tmp_path, name):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    with pytest.raises(errors.GammatorchError, match=f"device '{name}'"):
        gammatorch.read_gains(tmp_path, device=name)


def test_a_cuda_device_that_is_not_there_is_refused(tmp_path):
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    with pytest.raises(errors.DeviceError, match=r"'cuda:99' is not there"):
        gammatorch.read_gains(tmp_path, device="cuda:99")


def test_trained_gains_are_read_bit_for_bit(trained):
    gains = gammatorch.read_gains(trained, device="cpu")
    assert (gains.site, gains.stack, gains.layers) == ("post_attention", "encoder.layer", tuple(range(6)))
    with safe_open(trained / "model.safetensors", "pt") as file:
        for row, key in zip(gains.gamma, gains.keys, strict=True):
            assert row.equal(file.get_tensor(key).double())


@pytest.mark.cuda
def test_staging_is_pinned_and_the_result_is_on_the_gpu(tmp_path, device, monkeypatch):
    write_checkpoint(tmp_path, layers=4, hidden=64, shards=2)
    pinned = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: (pinned.append(k.get("pin_memory")), empty(*a, **k))[1])
    gains = gammatorch.read_gains(tmp_path, device=device)
    assert pinned[0] is True
    assert gains.gamma.is_cuda
    assert gains.gamma.cpu().equal(gammatorch.read_gains(tmp_path, device="cpu").gamma)


@pytest.mark.parametrize(
    ("model_type", "mean", "suspected"),
    [
        *[("llama", 0.0, True), ("mistral", 0.02, True), ("gemma", 1.0, True), ("qwen3_next", 1.0, True)],
        *[("llama", 1.0, False), ("gemma", 0.0, False), ("gemma", 2.0, False)],
    ],
)
def test_weights_that_look_like_those_of_the_other_convention_are_suspected(tmp_path, model_type, mean, suspected):
    """A config.json of another model beside the weights: the numbers stay those of its type, and a note says so."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.layers.{layer}.input_layernorm.weight": mean + 0.1 * torch.randn(64, generator=generator)
        for layer in range(4)
    }
    save(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "num_hidden_layers": 4}))
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        narrow = gammatorch.read_gains(checkpoint, device="cpu")
        notes = [note for note in narrow.notes if "suspect" in note]
        assert bool(notes) == suspected
        weights = narrow.gamma - narrow.offset
        numbers = f"(mean {weights.mean():.3g}, {(weights < 0).double().mean():.1%} below zero)"
        assert all(numbers in note for note in notes)
        wide = WideGains(checkpoint, select(checkpoint), device="cpu")
        for _ in wide.blocks():
            pass
        assert [note for note in wide.origin().notes if "suspect" in note] == notes


def test_stored_weights_are_counted_with_one_transfer(monkeypatch):
    transfers = []
    for name in ("tolist", "item"):
        copy = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, copy=copy: (transfers.append(1), copy(self))[1])
    assert tally(weigh(torch.tensor([[-1.0, 2.0], [0.0, 3.0]])), 4) == (4.0, 1.0, 4)
    assert len(transfers) == 1
