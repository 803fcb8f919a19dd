"""The command ``sweep``, as people and programs see it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from gammatorch.bench.synthetic import write_checkpoint


@pytest.fixture
def runs(tmp_path):
    for step in (1, 2, 10):
        folder = tmp_path / "runs" / f"step{step}"
        folder.mkdir(parents=True)
        write_checkpoint(folder, layers=2, hidden=16, shards=2, seed=step)
    return tmp_path / "runs"


def test_the_summary_is_all_that_stdout_holds(runs, tmp_path, call):
    done = call("sweep", runs, "--out", tmp_path / "out", "--format", "json")
    summary = json.loads(done.stdout)
    assert done.code == 0 and done.stderr == ""
    assert (summary["planned"], summary["done"], summary["present"], summary["failures"]) == (3, 3, 0, [])
    again = call("sweep", runs, "--out", tmp_path / "out")
    assert "0 done" in again.stdout and "3 were there" in again.stdout


def test_failed_items_end_with_code_4_and_a_table_of_reasons(runs, tmp_path, call):
    shard = sorted((runs / "step2").glob("*.safetensors"))[0]
    shard.write_bytes(b"\x00\x01")
    done = call("sweep", runs, "--out", tmp_path / "out")
    assert done.code == 4
    assert "2 done" in done.stdout and "1 failed" in done.stdout
    assert "too short for safetensors" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["./no/such/run", "--out", "OUT"], 1, "no such file or folder"),
        (["RUNS"], 2, "--out"),
        (["--out", "OUT"], 2, "SPEC"),
        (["RUNS", "--out", "OUT", "--shard", "3/3"], 1, "i from 0 to n - 1"),
        (["RUNS", "--out", "OUT", "--engine", "cloud"], 1, "there is no engine 'cloud'"),
        (["RUNS", "--out", "OUT", "--every", "0"], 2, "--every"),
        (["RUNS", "--out", "OUT", "--pattern", "x.{layer}", "--site", "final"], 2, "--pattern says"),
        (["RUNS", "--out", "OUT", "--device", "cuda:7"], 1, "device 'cuda:7' is not there"),
        (["RUNS", "--out", "RUNS/step1/config.json"], 2, "--out"),
    ],
)
def test_wrong_calls_end_with_one_line_and_leave_nothing(runs, tmp_path, call, arguments, code, message):
    places = {"RUNS": str(runs), "OUT": str(tmp_path / "out")}
    done = call(
        "sweep", *(argument.replace("RUNS", places["RUNS"]).replace("OUT", places["OUT"]) for argument in arguments)
    )
    assert done.code == code and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "items").exists() or not list((tmp_path / "out" / "items").iterdir())


def test_a_dry_run_tells_the_bytes_that_the_run_then_reads(runs, tmp_path, call):
    planned = json.loads(call("sweep", runs, "--out", tmp_path / "out", "--dry-run", "--format", "json").stdout)
    assert not (tmp_path / "out").exists()
    assert [row["step"] for row in planned["items"]] == [1, 2, 10]
    summary = json.loads(call("sweep", runs, "--out", tmp_path / "out", "--format", "json").stdout)
    assert planned["bytes_to_read"] == summary["bytes_read"]
    table = call("sweep", runs, "--out", tmp_path / "out", "--dry-run").stdout
    assert "3 items, 0 to do" in table


def test_a_dry_run_counts_what_cannot_be_read(runs, tmp_path, call):
    weights = next((runs / "step2").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:20])
    done = call("sweep", runs, "--out", tmp_path / "out", "--dry-run")
    assert "3 items, 3 to do (1 of them cannot be read), " in done.stdout


def test_a_slurm_array_task_takes_its_part_and_says_so(runs, tmp_path, call, monkeypatch):
    done = 0
    for task in (5, 6):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "5")
        called = call("sweep", runs, "--out", tmp_path / "out", "--format", "json")
        assert f"shard {task - 5}/2, as SLURM_ARRAY_TASK_ID says" in called.stderr
        done += json.loads(called.stdout)["done"]
    assert done == 3
    assert call("sweep", runs, "--out", tmp_path / "out", "--shard", "0/1").stderr == ""


def test_options_come_from_the_environment(runs, tmp_path, call, monkeypatch):
    monkeypatch.setenv("GAMMATORCH_SWEEP_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("GAMMATORCH_SWEEP_LIMIT", "2")
    assert json.loads(call("sweep", runs, "--format", "json").stdout)["done"] == 2


def test_the_bar_fits_a_narrow_terminal_and_nothing_of_it_reaches_stdout(runs, tmp_path):
    import fcntl
    import struct
    import termios

    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    command = [
        sys.executable,
        "-m",
        "gammatorch",
        "sweep",
        str(runs),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment)
    stdout = process.communicate()[0].decode()
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # the other end is closed: all has been read
        pass
    assert process.returncode == 0 and "3 done" in stdout and "\x1b" not in stdout
    assert b"3/3" in shown
