"""Real processes that are killed, interrupted, or work on one folder together."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gammatorch.sweep.store import read_items
from tests.sweep.conftest import numbers, sweep


def start(runs: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """A sweep, as the first process of a group of its own."""
    command = [sys.executable, "-m", "gammatorch", "sweep", str(runs), "--out", str(out), "--device", "cpu", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_items(out: Path, least: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(done(out)) < least and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def done(out: Path) -> dict[str, tuple[int, int]]:
    """Items that are there, and which file on the disk each is."""
    stats = {path.name: path.stat() for path in (out / "items").glob("*.safetensors")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in stats.items()}


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_loses_nothing_and_repeats_nothing(checkpoints, tmp_path, kills):
    runs, out = checkpoints(*range(60)), tmp_path / "out"
    sweep(runs, out=tmp_path / "whole")
    moments = random.Random(kills)
    for _ in range(kills):
        process = start(runs, out)
        wait_for_items(out, len(done(out)) + moments.randrange(1, 60 // kills), process)
        time.sleep(moments.random() / 50)
        process.kill()
        process.communicate()
        before = done(out)
        assert numbers(out).items() <= numbers(tmp_path / "whole").items()
    assert start(runs, out).wait() == 0
    assert before.items() <= done(out).items()  # what was done when it was killed is the very same file
    assert numbers(out) == numbers(tmp_path / "whole")
    assert not list((out / "claims").iterdir())


@pytest.mark.slow
def test_two_processes_share_a_folder_and_the_work(checkpoints, tmp_path):
    runs, out = checkpoints(*range(80), layers=16, hidden=128), tmp_path / "out"
    pair = [start(runs, out, "--format", "json") for _ in range(2)]
    summaries = [process.communicate()[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    computed = sum(json.loads(summary)["done"] for summary in summaries)
    assert len(numbers(out)) == 80
    assert 80 <= computed <= 80 + 24  # what one had in flight when the other ran out of unclaimed items


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_keeps_what_is_done_and_says_so(checkpoints, tmp_path, signals):
    runs, out = checkpoints(*range(150), layers=16, hidden=128), tmp_path / "out"
    process = start(runs, out)
    wait_for_items(out, 3, process)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert time.monotonic() - sent < 10
    assert stdout == ""
    assert "interrupted" in stderr and "Traceback" not in stderr
    kept = len(list(read_items(out)))
    assert 3 <= kept < 150
    if signals == 1:
        assert f"{kept} of 150 items are kept" in stderr
        assert not list((out / "claims").iterdir())
    assert not [name for name in os.listdir(out / "items") if name.endswith(".tmp")] or signals == 2


def left_of_group(group: int, wait_seconds: float = 10.0) -> list[int]:
    """Processes of a group that are still there after a while."""
    deadline = time.monotonic() + wait_seconds
    while (left := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if group_of(pid) == group]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    return left


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize(
    "whole_group", [pytest.param(False, marks=pytest.mark.slow), True], ids=["kill -INT", "a terminal's Ctrl-C"]
)
def test_ctrl_c_ends_all_workers_and_leaves_nothing_behind(checkpoints, tmp_path, whole_group):
    runs, out = checkpoints(*range(300), layers=16, hidden=128), tmp_path / "out"
    process = start(runs, out, "--workers", "2")
    wait_for_items(out, 3, process)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "interrupted" in stderr and "Traceback" not in stderr
    assert not left_of_group(process.pid)
    kept = len(list(read_items(out)))
    assert 3 <= kept < 300 and f"{kept} of 300 items are kept" in stderr
    assert not list((out / "claims").iterdir())
    assert not [name for name in os.listdir(out / "items") if name.endswith(".tmp")]


@pytest.mark.slow
def test_workers_whose_sweep_was_killed_end_too(checkpoints, tmp_path):
    runs, out = checkpoints(*range(300), layers=16, hidden=128), tmp_path / "out"
    process = start(runs, out, "--workers", "2")
    wait_for_items(out, 3, process)
    process.kill()
    process.communicate()
    assert not left_of_group(process.pid)
    assert 3 <= len(list(read_items(out))) < 300
