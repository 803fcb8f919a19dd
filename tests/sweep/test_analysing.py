"""Items that are analysed together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gammatorch.errors import InvalidArgument
from gammatorch.sweep import analysing
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.reading import load
from gammatorch.sweep.task import Task
from tests.sweep.conftest import USUAL


@pytest.fixture
def loaded(checkpoints, tmp_path):
    checkpoints(1, 2, 3, 4, layers=8, hidden=64)
    runs = checkpoints(5, layers=6, hidden=64)
    return [load(item, Task(tmp_path / "out", USUAL, "cpu")) for item in make_plan([str(runs)], USUAL).items]


def test_a_batch_gives_each_item_what_it_gets_alone(loaded, monkeypatch):
    alone = [analysing.analyse([one], USUAL, torch.device("cpu"))[0] for one in loaded]
    monkeypatch.setattr(analysing, "batch_size", lambda device: 3)
    mixed = [loaded[4], *loaded[:4]]
    together = analysing.analyse(mixed[:3], USUAL, torch.device("cpu")) + analysing.analyse(
        mixed[3:], USUAL, torch.device("cpu")
    )
    for one, other in zip([alone[4], *alone[:4]], together, strict=True):
        assert one.item == other.item and one.gains_sha256 == other.gains_sha256
        torch.testing.assert_close(one.gram, other.gram, rtol=1e-13, atol=0)
        torch.testing.assert_close(one.pearson, other.pearson, rtol=0, atol=1e-12)
        assert one.analysis["keys"] == other.analysis["keys"] and one.analysis["answer"] == other.analysis["answer"]


def test_an_item_that_cannot_be_analysed_fails_alone(loaded, monkeypatch):
    monkeypatch.setattr(analysing, "batch_size", lambda device: 4)
    broken = loaded[1].gains.gamma.clone()
    broken[0, 0] = torch.nan
    items = [loaded[0], replace(loaded[1], gains=replace(loaded[1].gains, gamma=broken)), loaded[2]]
    found = analysing.analyse(items, USUAL, torch.device("cpu"))
    assert [type(one).__name__ for one in found] == ["StoredItem", "NonFiniteGain", "StoredItem"]


def test_settings_that_make_no_sense_are_the_reason_of_each_item(loaded):
    (found,) = analysing.analyse(loaded[:1], Settings(phases="nonsense"), torch.device("cpu"))
    assert isinstance(found, InvalidArgument)


@pytest.mark.cuda
def test_a_gpu_gives_the_same_bits_whatever_comes_along(loaded, device):
    on = torch.device(device)
    alone = analysing.analyse(loaded[:1], USUAL, on)[0]
    together = analysing.analyse([loaded[2], loaded[0], loaded[1]], USUAL, on)[1]
    assert alone.analysis == together.analysis
    torch.testing.assert_close(alone.gram, together.gram, rtol=0, atol=0)
    torch.testing.assert_close(alone.pearson, together.pearson, rtol=0, atol=0)
