"""A sweep that goes on while checkpoints are written."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.results.sweep import Noticed
from gammatorch.sweep.follow import Follower, execute
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.store import read_items
from gammatorch.sweep.task import Task


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def follower(runs, tmp_path):
    task = Task(tmp_path / "out", Settings(), "cpu", 1)
    return Follower(lambda: make_plan([str(runs / "step*")], Settings()), task)


def write(runs, step, seed=None):
    (runs / f"step{step}").mkdir(exist_ok=True)
    write_checkpoint(runs / f"step{step}", layers=4, hidden=64, shards=1, seed=step if seed is None else seed)
    (file,) = (runs / f"step{step}").glob("*.safetensors")
    return file


def steps(tmp_path):
    return sorted(one.item.step for one in read_items(tmp_path / "out", tensors=False))


def test_a_checkpoint_is_taken_once_it_has_stood_still_for_one_look(runs, follower, tmp_path):
    assert follower.step() == []
    write(runs, 1)
    follower.step()
    assert not (tmp_path / "out").exists()
    follower.step()
    assert steps(tmp_path) == [1]
    write(runs, 2)
    follower.step()
    follower.step()
    assert steps(tmp_path) == [1, 2]
    document = follower.document()
    assert (document.planned, document.done, document.present, document.failed) == (2, 2, 0, 0)


@pytest.mark.parametrize("kept", [4, 100, -1000], ids=["no header", "half a header", "half the tensors"])
def test_a_file_that_is_half_written_waits_and_is_told_once(runs, follower, tmp_path, caplog, kept):
    file = write(runs, 1)
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with caplog.at_level(logging.WARNING, logger="gammatorch"):
        for _ in range(4):
            assert follower.step() == []
    told = [one.getMessage() for one in caplog.records if "waiting until it is whole" in one.getMessage()]
    assert len(told) == 1 and "step1" in told[0] and not follower.document().failures
    file.write_bytes(whole)
    follower.step()
    follower.step()
    assert steps(tmp_path) == [1]


def test_a_folder_waits_for_its_last_shard(runs, follower, tmp_path):
    (runs / "step1").mkdir()
    write_checkpoint(runs / "step1", layers=4, hidden=64, shards=2, seed=0)
    last = sorted((runs / "step1").glob("*.safetensors"))[-1]
    last.rename(tmp_path / "later")
    for _ in range(3):
        follower.step()
    assert not (tmp_path / "out").exists()
    (tmp_path / "later").rename(last)
    follower.step()
    follower.step()
    assert steps(tmp_path) == [1]


def test_a_checkpoint_that_cannot_be_analysed_fails_once_and_stops_nothing(runs, follower, tmp_path):
    (runs / "step1").mkdir()
    (runs / "step1" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    write(runs, 2)
    for _ in range(4):
        follower.step()
    document = follower.document()
    assert [one.kind for one in document.failures] == ["SiteNotFound"]
    assert steps(tmp_path) == [2] and document.planned == 2


def test_an_anomaly_is_given_once_and_deleted_checkpoints_still_count(runs, follower, tmp_path):
    for step in range(1, 6):
        write(runs, step)
    follower.step()
    assert follower.step() == []
    shutil.rmtree(runs / "step1")  # as a trainer does that keeps the last few
    write(runs, 6, seed=2)
    follower.step()
    (copy,) = follower.step()
    assert copy.kind == "copy" and {name.rpartition("/")[2] for name in copy.items} == {"step2", "step6"}
    write(runs, 7)
    follower.step()
    assert follower.step() == []
    assert [entry.step for entry in follower.document().timeline] == [1, 2, 3, 4, 5, 6, 7]


def test_what_was_done_before_is_not_done_again(runs, follower, tmp_path):
    write(runs, 1)
    follower.step()
    follower.step()
    again = Follower(lambda: make_plan([str(runs)], Settings()), Task(tmp_path / "out", Settings(), "cpu", 1))
    again.step()
    assert (again.document().present, again.document().done) == (1, 0)


def test_a_command_gets_the_finding_as_json(tmp_path):
    finding = Noticed("copy", "anomaly", ["a'; rm -rf /"], "γ", [3])
    assert execute(f"cat > {shlex.quote(str(tmp_path / 'told'))}; exit 3", finding) == 3
    assert json.loads((tmp_path / "told").read_text()) == {
        "kind": "copy", "severity": "anomaly", "items": ["a'; rm -rf /"], "text": "γ", "layers": [3],
    }  # fmt: skip


@pytest.mark.parametrize("broken", [False, True])
def test_ctrl_c_ends_it_with_all_kept(runs, tmp_path, broken):
    for step in range(1, 5):
        write(runs, step)
    write(runs, 5, seed=2)
    if broken:
        (runs / "step6").mkdir()
        (runs / "step6" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    command = [
        *(sys.executable, "-m", "gammatorch", "sweep", str(runs / "step*"), "--out", str(tmp_path / "out")),
        *("--follow", "--interval", "0.2", "--exec", f"cat > {tmp_path / 'told'}", "--format", "json"),
        *("--device", "cpu", "--workers", "1"),
    ]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    until = time.time() + 60
    while not ((tmp_path / "told").exists() and (tmp_path / "told").stat().st_size) and time.time() < until:
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    out, told = program.communicate(timeout=60)
    assert program.returncode == (4 if broken else 0), told
    document = json.loads(out)
    assert document["done"] == 5 and [one["kind"] for one in document["anomalies"]] == ["copy"]
    assert json.loads((tmp_path / "told").read_text())["kind"] == "copy"
    assert told.count("copy: ") == 1
    assert not list((tmp_path / "out").rglob("*.tmp")) and not list((tmp_path / "out" / "claims").iterdir())


def test_options_that_do_not_go_together_are_refused(runs, tmp_path, call):
    assert call("sweep", runs, "--out", tmp_path / "out", "--follow", "--dry-run").code == 2
    done = call("sweep", runs, "--out", tmp_path / "out", "--exec", "true")
    assert done.code == 2 and "--exec is for --follow" in done.stderr
