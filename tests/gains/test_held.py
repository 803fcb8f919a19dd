"""Models in memory: modules, state dicts and arrays are read and analysed where they are, as their files would be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gammatorch
from gammatorch import errors
from gammatorch.gains import wide
from tests.zoo import TABLE, build_tiny_model


def drawn(name: str) -> nn.Module:
    model = build_tiny_model(TABLE[name]).to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key.lower() or "ln_" in key:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo2", "bert", "gpt2"])
def test_a_module_gives_what_its_file_gives(name, tmp_path):
    model = drawn(name)
    model.save_pretrained(tmp_path)
    expected, found = gammatorch.read_gains(tmp_path, device="cpu"), gammatorch.read_gains(model)
    assert found.gamma.equal(expected.gamma)
    assert (found.site, found.offset, found.layers, found.stored_dtype) == (
        expected.site,
        expected.offset,
        expected.layers,
        expected.stored_dtype,
    )
    assert found.model == type(model).__name__ and found.notes == expected.notes
    places = [site.place for site in gammatorch.find_stacks(model)[0].sites]
    assert [len(gammatorch.read_gains(model, place).gamma) for place in places if place == "final"] in ([], [1])


def test_all_functions_take_a_module_a_state_dict_a_path_and_an_open_checkpoint(tmp_path):
    model = drawn("llama")
    model.save_pretrained(tmp_path)
    gamma = gammatorch.read_gains(model, device="cpu").gamma
    cosine, sketched = gammatorch.analyze(gamma).cosine, gammatorch.sketch(gamma, dims=64).values
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        for given in (model, model.state_dict(), tmp_path, str(tmp_path), checkpoint):
            assert gammatorch.find_stacks(given)[0].name == "model.layers"
            assert gammatorch.read_gains(given, device="cpu").gamma.equal(gamma)
            assert gammatorch.analyze(given).cosine.equal(cosine)
            assert gammatorch.scan_gains(given, device="cpu").shape == gamma.shape
            assert gammatorch.sketch(given, dims=64).values.equal(sketched)
        found = gammatorch.compare(model, model.state_dict(), tmp_path, checkpoint, gamma, gamma.numpy())
        assert {pair.kinship.verdict for pair in found.pairs} == {"identical"}
        assert len(gammatorch.compare([model, tmp_path]).pairs) == 1
        assert gammatorch.open_checkpoint(checkpoint) is checkpoint


def test_arrays_are_tensors():
    gamma = np.random.default_rng(0).normal(1, 0.1, (5, 64))
    assert gammatorch.analyze(gamma).norms.tolist() == pytest.approx(np.linalg.norm(gamma, axis=1).tolist(), rel=1e-15)
    batch = gammatorch.analyze(np.stack([gamma, gamma]).astype(np.float32))
    assert len(batch) == 2
    with pytest.raises(errors.InvalidArgument, match="not torch.int64"):
        gammatorch.analyze(np.ones((2, 3), np.int64))
    with pytest.raises(errors.InvalidArgument, match="an array of object is none"):
        gammatorch.analyze(np.array([[None]]))


@pytest.mark.parametrize("given", [5, None, object(), 1.5, [1, 2], b"bytes"])
@pytest.mark.parametrize(
    "name", ["find_stacks", "read_gains", "scan_gains", "open_checkpoint", "analyze", "sketch", "compare"]
)
def test_what_is_nothing_of_these_is_one_line(name, given):
    function = getattr(gammatorch, name)
    with pytest.raises(errors.InvalidArgument) as caught:
        function(given, given) if name == "compare" else function(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"a": 1}, nn.Identity()])
def test_a_model_without_tensors_says_so(given):
    with pytest.raises(errors.InvalidArgument, match="holds no tensors"):
        gammatorch.read_gains(given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_of_any_type_and_layout_are_read(dtype):
    rows = (torch.rand(16, 3) + 0.5).to(dtype)
    state = {f"layers.{n}.norm.weight": rows[:, n] for n in range(3)}  # not contiguous
    gains = gammatorch.read_gains(state, pattern="layers.{layer}.norm.weight")
    assert gains.gamma.equal(rows.T.double())
    blocks = gammatorch.scan_gains(state, pattern="layers.{layer}.norm.weight", device="cpu").blocks()
    assert torch.cat([block.double() for block in blocks], dim=1).equal(rows.T.double())


def test_wide_tensors_in_memory_are_read_in_column_blocks(monkeypatch):
    monkeypatch.setattr(wide, "BUFFER_BYTES", 1)
    rows = torch.rand(3, 5000, dtype=torch.float64)
    state = {f"h.{n}.weight": rows[n] for n in range(3)}
    analysis = gammatorch.analyze(gammatorch.scan_gains(state, pattern="h.{layer}.weight", device="cpu"))
    torch.testing.assert_close(analysis.cosine, gammatorch.analyze(rows).cosine, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda row: row.to("meta"), r"\(meta\).*it has a shape and no values"),
        (lambda row: row.to_sparse(), r"\(sparse\).*to_dense"),
        (lambda row: (row * 10).to(torch.int8), "is stored as I8"),
    ],
)
def test_tensors_without_values_of_their_own_are_refused_by_name(make, message):
    state = {f"layers.{n}.norm.weight": make(torch.ones(4)) for n in range(3)}
    with pytest.raises(
        errors.UnsupportedFormat, match=rf"state dict/state_dict\(\): layers.0.norm.weight: .*{message}"
    ):
        gammatorch.read_gains(state, pattern="layers.{layer}.norm.weight")


def test_not_a_number_in_memory_is_named():
    state = {f"layers.{n}.norm.weight": torch.ones(4) for n in range(3)}
    state["layers.1.norm.weight"][2] = float("nan")
    with pytest.raises(errors.NonFiniteGain, match="layers.1.norm.weight: holds nan at channel 2"):
        gammatorch.read_gains(state, pattern="layers.{layer}.norm.weight")


def test_a_norm_that_peft_has_trained_is_the_one_that_acts():
    model = drawn("llama").state_dict()
    prefix, own = "base_model.model.", ".input_layernorm.weight"
    state = {}
    for key, row in model.items():
        if key.endswith(own):
            stem = prefix + key.removesuffix("weight")
            state |= {f"{stem}original_module.weight": row, f"{stem}modules_to_save.default.weight": row + 1}
        else:
            state[prefix + key] = row
    gains = gammatorch.read_gains(state)
    assert gains.site == "input" and "modules_to_save" in gains.keys[0]
    expected = torch.stack([row for key, row in model.items() if key.endswith(own)]) + 1
    assert gains.gamma.equal(expected.double())
