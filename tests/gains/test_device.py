"""Devices that are not there, cannot be used, are full or fail: what is told, and how it goes on."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import main
from gammatorch.cli.options import start_device
from gammatorch.gains import device, staging, wide
from gammatorch.gains.device import default_numerics
from gammatorch.sweep import workers
from gammatorch.sweep.item import Settings
from gammatorch.sweep.task import Task

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB\nSee documentation"


def fatal() -> torch.AcceleratorError:
    """What PyTorch raises when a kernel has failed."""
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ...")
    error.error_code = 700
    return error


@pytest.fixture
def broken(monkeypatch):
    """A GPU that is there and cannot be used: this PyTorch was built without, or there is none."""
    if torch.cuda.is_available():
        pytest.skip("there is one that can be used")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def folder(tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=8192, shards=1)
    return tmp_path


def test_auto_leaves_a_gpu_that_cannot_be_used_and_says_why(broken, caplog):
    assert gammatorch.gains.device.choose_device("auto") == torch.device("cpu")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be used (" in record.getMessage() and "going on on the CPU" in record.getMessage()


def test_a_run_goes_on_without_it_in_one_line(broken, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder)])
    told = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 0 and len(told) == 1
    assert told[0].startswith("gammatorch: the CUDA device cannot be used (")


def test_a_gpu_that_was_asked_for_by_name_and_cannot_be_used_is_an_error(broken, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder), "--device", "cuda"])
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 1 and "device 'cuda' cannot be used (" in told and "--device cpu" in told
    with pytest.raises(errors.DeviceError, match="'cuda:3' is not there"):
        device.choose_device("cuda:3")


def test_who_only_passes_a_gpu_on_takes_nothing_of_it(broken, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    task = Task(Path("out"), Settings())
    assert workers._devices(task, items=9) == ["cuda:0", "cuda:1", "cuda:2"]
    assert workers._devices(replace(task, device="cuda:1", workers=2), items=9) == ["cuda:1", "cuda:1"]


@pytest.mark.parametrize(("models", "expected"), [(["./here", "org/name"], ["cuda:1"]), (["./here", "x.json"], [])])
def test_a_gpu_is_made_ready_while_the_hub_answers(monkeypatch, models, expected):
    asked = []

    def choose(name):
        asked.append(name)
        raise errors.DeviceError("told where it is needed")

    monkeypatch.setattr(device, "choose_device", choose)
    start_device(models, "cuda:1")
    for thread in threading.enumerate():
        if thread.name == "gammatorch-start":
            thread.join()
    assert asked == expected


def test_it_is_asked_once_whether_it_can_be_used(monkeypatch):
    asked = []
    monkeypatch.setattr(device, "_usable", set())
    monkeypatch.setattr(torch, "ones", lambda *_, **how: (asked.append(how["device"]), torch.zeros(1))[1])
    here = torch.device("cuda", 1)
    assert [device._trouble(here), device._trouble(here)] == ["", ""] and asked == [here]


def test_what_pytorch_keeps_for_later_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert device.free_bytes(torch.device("cuda")) == 600


def test_a_full_device_is_told_of_in_one_line_and_lets_go_of_what_was_tried(monkeypatch):
    held = []

    def work():
        large = torch.zeros(1000)
        held.append(torch.UntypedStorage._weak_ref(large.untyped_storage()))
        raise torch.OutOfMemoryError(FULL)

    with pytest.raises(errors.OutOfDeviceMemory) as caught, default_numerics():
        work()
    assert str(caught.value).startswith("the device's memory is full (CUDA out of memory): pass --memory")
    assert torch.UntypedStorage._expired(held[0])


def test_a_device_that_has_failed_is_lost_and_one_that_cannot_do_this_is_not():
    with (
        pytest.raises(errors.DeviceLost, match=r"failed \(an illegal memory access was encountered\)"),
        default_numerics(),
    ):
        raise fatal()
    with pytest.raises(errors.DeviceError) as caught, default_numerics():
        raise torch.AcceleratorError("CUDA error: invalid configuration argument")
    assert not isinstance(caught.value, errors.DeviceLost)


def test_a_full_device_ends_a_run_in_one_line(folder, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr("gammatorch.analysis.analyze.reduce_stack", full)
    with pytest.raises(SystemExit):
        main(["run", str(folder), "--device", "cpu"])
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert "memory is full" in told and "report" not in told


@pytest.mark.parametrize("fits", [2048, 4096])
def test_column_blocks_are_halved_until_they_fit(folder, fits):
    gains = gammatorch.scan_gains(folder, device="cpu")
    tried = []

    def work():
        tried.append(gains.columns)
        if gains.columns > fits:
            raise errors.OutOfDeviceMemory("the device's memory is full")
        return gammatorch.analyze(gains)

    found = wide.narrower_when_full([gains], work)
    assert tried == [8192, 4096, 2048][: tried.index(fits) + 1]
    assert torch.equal(found.cosine, gammatorch.analyze(gammatorch.scan_gains(folder, device="cpu")).cosine)


def test_blocks_that_cannot_be_narrower_are_the_end_of_it(folder):
    gains = gammatorch.scan_gains(folder, device="cpu")

    def work():
        raise errors.OutOfDeviceMemory("the device's memory is full")

    with pytest.raises(errors.OutOfDeviceMemory):
        wide.narrower_when_full([gains], work)
    assert gains.columns == wide.LEAST_COLUMNS


@pytest.mark.parametrize(
    ("command", "memory"), [("run", "160MB"), pytest.param("compare", "350MB", marks=pytest.mark.slow)]
)
def test_column_blocks_go_on_narrower_where_the_device_is_full(tmp_path, monkeypatch, capsys, command, memory):
    rows = {f"layers.{layer}.weight": torch.rand(3_000_000).bfloat16() for layer in range(2)}
    save_file(rows, tmp_path / "model.safetensors")
    unpack, seen = wide.unpack, []

    def little(staging, entries, *how):
        seen.append(entries[0].width)
        if entries[0].width > 1_000_000:
            raise torch.OutOfMemoryError(FULL)
        return unpack(staging, entries, *how)

    monkeypatch.setattr(wide, "unpack", little)
    models = [str(tmp_path)] * (2 if command == "compare" else 1)
    with pytest.raises(SystemExit) as ended:
        main([command, *models, "--pattern", "layers.{layer}.weight", "--device", "cpu", "--memory", memory])
    assert ended.value.code == 0 and max(seen) > 1_000_000 >= seen[-1]


class Entered:
    """Stands for torch.cuda.device, and knows where it is."""

    now: torch.device | None = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> None:
        Entered.now = self.device

    def __exit__(self, *_: object) -> None:
        Entered.now = None


def test_a_second_gpu_pins_and_waits_as_itself(monkeypatch, folder):
    second, seen = torch.device("cuda", 1), []
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "device", Entered)

    def pin(*shape, pin_memory=False, **how):
        seen.append((pin_memory, Entered.now))
        return empty(*shape, **how)

    class Event:
        def synchronize(self) -> None:
            seen.append(("waits", Entered.now))

    monkeypatch.setattr(torch, "empty", pin)
    staging.make_staging(8, second)
    assert seen == [(True, second)]
    seen.clear()
    with gammatorch.open_checkpoint(folder) as checkpoint:
        entries = [entry for entry in checkpoint.entries.values() if "input_layernorm" in entry.key]
        pieces = [staging.column_block(entries, start, start + 4096) for start in (0, 4096)]
        with staging.ColumnReader(checkpoint, pieces, second, None) as reader:
            reader._copies = [Event(), Event()]
            assert sum(len(piece) for piece in reader) == 3 * 8192 * 2
    assert seen == [(True, second), (True, second), ("waits", second), ("waits", second)]


def test_the_cpu_and_the_current_gpu_need_no_guard():
    for name in ("cpu", "cuda"):
        assert isinstance(device.current(torch.device(name)), contextlib.nullcontext)


@pytest.mark.parametrize("mode", ["default", "warn", "error"])
def test_algorithms_are_free_inside_and_as_the_caller_wants_them_afterwards(mode):
    before = torch.get_deterministic_debug_mode()
    try:
        torch.set_deterministic_debug_mode(mode)
        asked = torch.get_deterministic_debug_mode()
        with default_numerics():
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_deterministic_debug_mode() == asked
    finally:
        torch.set_deterministic_debug_mode(before)
