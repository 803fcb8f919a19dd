"""What is kept of an item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.errors import MalformedCheckpoint, OutputError
from gammatorch.sweep.item import Settings
from gammatorch.sweep.store import Store, read_item, read_items
from tests.sweep.conftest import assert_close, sweep


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_an_item_keeps_gains_as_stored_and_what_run_tells(family, tmp_path):
    made = (
        write_checkpoint(tmp_path / "model", family, layers=4, hidden=32, shards=2)
        if (tmp_path / "model").mkdir() is None
        else None
    )
    sweep(tmp_path / "model", out=tmp_path / "out")
    (stored,) = read_items(tmp_path / "out")
    wanted = np.stack([made.stored[f"model.layers.{layer}.input_layernorm.weight"] for layer in range(4)])
    assert stored.weights.dtype == torch.bfloat16
    np.testing.assert_array_equal(stored.weights.to(torch.float64).numpy(), wanted)
    offset = 1.0 if family == "gemma2" else 0.0
    np.testing.assert_array_equal(stored.gamma().numpy(), wanted + offset)
    np.testing.assert_allclose(stored.gram.numpy(), (wanted + offset) @ (wanted + offset).T, rtol=1e-13)
    single = gammatorch.analyze(gammatorch.read_gains(str(tmp_path / "model")), method="gram").to_dict()
    document = stored.document()
    assert document.keys() == single.keys()
    for name in single.keys() - {"provenance", "cosine", "model"}:
        assert_close(document[name], single[name])
    np.testing.assert_allclose(document["cosine"], single["cosine"], rtol=1e-14)


def test_every_item_opens_with_safetensors_alone(checkpoints, tmp_path):
    sweep(checkpoints(1), out=tmp_path / "out")
    (path,) = (tmp_path / "out" / "items").iterdir()
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"weights", "gram", "pearson", "rank_correlation"}
        assert file.get_tensor("gram").shape == (4, 4)


def test_wide_tensors_leave_a_sketch_in_the_place_of_their_gains(tmp_path):
    write_checkpoint(tmp_path, layers=2, hidden=70_000, shards=1)
    sweep(tmp_path, out=tmp_path / "out", settings=Settings(dims=1024))
    (stored,) = read_items(tmp_path / "out")
    assert stored.weights is None and stored.sketch.shape == (2, 1024)
    gamma = gammatorch.read_gains(str(tmp_path)).gamma
    lengths = torch.linalg.vector_norm(gamma, dim=1)
    torch.testing.assert_close(torch.linalg.vector_norm(stored.sketch.double(), dim=1), lengths, rtol=0.2, atol=0)
    with pytest.raises(OutputError, match="only a sketch"):
        stored.gamma()


def test_the_undefined_is_null_and_comes_back(tmp_path):
    made = write_checkpoint(tmp_path, layers=2, hidden=8, shards=1)
    path = tmp_path / made.shards[0]
    content = bytearray(path.read_bytes())
    for key in ("model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"):
        old = (made.stored[key].astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        assert content.count(old) == 1
        content = content.replace(old, np.full(8, 0x3F80, "<u2").tobytes())  # a step-0 checkpoint: γ = 1
    path.write_bytes(content)
    sweep(tmp_path, out=tmp_path / "out")
    (stored,) = read_items(tmp_path / "out")
    assert stored.document()["statistics"]["pearson"] == [[None, None], [None, None]]
    assert stored.analysis.explained_var is None


def test_a_file_that_is_no_item_is_named(checkpoints, tmp_path):
    sweep(checkpoints(1), out=tmp_path / "out")
    (path,) = (tmp_path / "out" / "items").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MalformedCheckpoint, match="delete it, and run the sweep again"):
        read_item(path)
    with pytest.raises(OutputError, match="not the folder of a sweep"):
        list(read_items(tmp_path))


def test_a_claim_is_the_first_ones_until_it_is_released(tmp_path):
    one, other = Store(tmp_path), Store(tmp_path)
    assert one.claim("a") and not other.claim("a")
    one.release("a")
    assert other.claim("a")


def test_a_store_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        Store(tmp_path / "file" / "out")
