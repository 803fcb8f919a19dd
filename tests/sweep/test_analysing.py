"""Items that are analysed together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gammatorch.analysis.analyze import analyze
from gammatorch.errors import DeviceLost, InvalidArgument, OutOfDeviceMemory
from gammatorch.results.files import to_plain
from gammatorch.sweep import analysing
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.reading import load
from gammatorch.sweep.run import run_sweep
from gammatorch.sweep.task import Task
from tests.sweep.conftest import USUAL


@pytest.fixture
def loaded(checkpoints, tmp_path):
    checkpoints(1, 2, 3, 4, layers=8, hidden=64)
    runs = checkpoints(5, layers=6, hidden=64)
    return [load(item, Task(tmp_path / "out", USUAL, "cpu")) for item in make_plan([str(runs)], USUAL).items]


def test_a_batch_gives_what_the_analysis_of_one_gives(loaded):
    found = analysing.analyse([loaded[4], *loaded[:4]], USUAL, torch.device("cpu"))
    for one, kept in zip([loaded[4], *loaded[:4]], found, strict=True):
        alone = analyze(one.gains.gamma.double() + one.gains.offset, method="gram").to_dict()
        assert kept.item == one.item and to_plain(kept.analysis.answer) == alone["answer"]
        torch.testing.assert_close(kept.analysis.norms, alone["norms"], rtol=1e-13, atol=0)
        torch.testing.assert_close(kept.document()["cosine"], alone["cosine"], rtol=0, atol=1e-13)


def test_an_item_that_cannot_be_analysed_fails_alone(loaded):
    broken = loaded[1].gains.gamma.clone()
    broken[0, 0] = torch.nan
    items = [loaded[0], replace(loaded[1], gains=replace(loaded[1].gains, gamma=broken)), loaded[2]]
    found = analysing.analyse(items, USUAL, torch.device("cpu"))
    assert [type(one).__name__ for one in found] == ["StoredItem", "NonFiniteGain", "StoredItem"]


def test_settings_that_make_no_sense_are_the_reason_of_each_item(loaded):
    (found,) = analysing.analyse(loaded[:1], Settings(phases="nonsense"), torch.device("cpu"))
    assert isinstance(found, InvalidArgument)


def test_a_full_device_takes_half_of_a_batch_and_does_not_repeat_what_fits(loaded, monkeypatch):
    sizes = []
    together = analysing.analyze_together

    def little(gains, **how):
        sizes.append(len(gains))
        if len(gains) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return together(gains, **how)

    monkeypatch.setattr(analysing, "batch_size", lambda loaded, device: 16)  # as on a GPU
    monkeypatch.setattr(analysing, "analyze_together", little)
    found = analysing.analyse(loaded[:4], USUAL, torch.device("cpu"))
    assert sizes == [4, 2, 2]
    monkeypatch.undo()
    alone = [analysing.analyse([one], USUAL, torch.device("cpu"))[0] for one in loaded[:4]]
    assert [snapshot(one) for one in found] == [snapshot(one) for one in alone]


def test_an_item_that_no_device_holds_fails_alone_and_says_so(loaded, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(analysing, "analyze_together", full)
    found = analysing.analyse(loaded[:2], USUAL, torch.device("cpu"))
    assert [type(one) for one in found] == [OutOfDeviceMemory] * 2


def test_a_device_that_is_lost_ends_the_sweep_and_fails_no_item(checkpoints, tmp_path, monkeypatch):
    runs, out = checkpoints(1, 2, 3, layers=8, hidden=64), tmp_path / "out"
    plan = make_plan([str(runs)], USUAL)

    def fatal(*_, **__):
        error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        error.error_code = 700
        raise error

    with monkeypatch.context() as patch, pytest.raises(DeviceLost, match="begin again"):
        patch.setattr(analysing, "analyze_together", fatal)
        run_sweep(plan, Task(out, USUAL, "cpu"))
    assert not list((out / "claims").iterdir()) and not list((out / "failures").glob("*"))
    assert run_sweep(plan, Task(out, USUAL, "cpu")).done == 3


def snapshot(found):
    return found.analysis, found.gram.tolist(), found.pearson.nan_to_num(nan=9.0).tolist()


@pytest.mark.parametrize("layers", [5, 8, 12, 20])
def test_the_cpu_gives_the_same_bits_whatever_comes_along(layers, checkpoints, tmp_path):
    runs = checkpoints(*range(7), layers=layers, hidden=96)
    items = make_plan([str(runs)], USUAL).items
    loaded = [load(item, Task(tmp_path / "out", USUAL, "cpu")) for item in items]
    odd = loaded[0].gains.gamma.clone()
    odd[2], odd[:, 3] = 0, 50  # a layer without direction, an outlier channel
    loaded[0] = replace(loaded[0], gains=replace(loaded[0].gains, gamma=odd))
    alone = [snapshot(analysing.analyse([one], USUAL, torch.device("cpu"))[0]) for one in loaded]
    for order in ([3, 0, 1, 2, 6, 5, 4], [6, 5, 0], [1, 2], [0, 0, 0, 3]):
        together = analysing.analyse([loaded[row] for row in order], USUAL, torch.device("cpu"))
        assert [snapshot(found) for found in together] == [alone[row] for row in order]


@pytest.mark.cuda
def test_a_gpu_gives_the_same_bits_whatever_comes_along(loaded, device):
    on = torch.device(device)
    alone = analysing.analyse(loaded[:1], USUAL, on)[0]
    together = analysing.analyse([loaded[2], loaded[0], loaded[1]], USUAL, on)[1]
    assert alone.analysis == together.analysis
    torch.testing.assert_close(alone.gram, together.gram, rtol=0, atol=0)
    torch.testing.assert_close(alone.pearson, together.pearson, rtol=0, atol=0)
