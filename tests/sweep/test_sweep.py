"""Sweeps as a whole: nothing lost, nothing done twice, the same bits however they are run."""

from __future__ import annotations

import json

import pytest

from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.errors import InvalidArgument
from gammatorch.sweep import pipeline
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.shard import Shard, parse_shard, slurm_shard
from gammatorch.sweep.store import Store
from gammatorch.sweep.task import Task
from tests.sweep.conftest import numbers, sweep


def test_a_second_run_does_only_what_is_missing(checkpoints, tmp_path):
    runs, out = checkpoints(1, 2, 3), tmp_path / "out"
    first = sweep(runs, out=out)
    assert (first.done, first.present, first.failures) == (3, 0, ())
    victim, *kept = sorted((out / "items").iterdir())
    before = {path: path.stat().st_mtime_ns for path in kept}
    victim.unlink()
    second = sweep(runs, out=out)
    assert (second.done, second.present) == (1, 2)
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_a_bad_item_stops_nothing_and_is_tried_again(checkpoints, tmp_path):
    runs, out = checkpoints(1, 2, 3), tmp_path / "out"
    shards = sorted((runs / "step2").glob("*.safetensors"))
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:20])
    summary = sweep(runs, out=out)
    assert summary.done == 2
    (failure,) = summary.failures
    assert failure.kind == "MalformedCheckpoint" and failure.name.endswith("step2")
    (record,) = (out / "failures").iterdir()
    assert json.loads(record.read_text())["message"] == failure.message
    shards[0].write_bytes(whole)
    assert sweep(runs, out=out).done == 1
    assert not list((out / "failures").iterdir())


def test_numbers_do_not_depend_on_workers_order_or_company(checkpoints, tmp_path):
    runs = checkpoints(*range(5), layers=13, hidden=77)
    sweep(runs, out=tmp_path / "together")
    sweep(runs, out=tmp_path / "processes", workers=2)
    for step in (3, 1, 4, 0, 2):
        sweep(runs / f"step{step}", out=tmp_path / "alone")
    together = numbers(tmp_path / "together")
    assert len(together) == 5
    assert numbers(tmp_path / "processes") == together
    assert {name.replace(str(runs), ""): value for name, value in numbers(tmp_path / "alone").items()} == {
        name.replace(str(runs), ""): value for name, value in together.items()
    }


def test_other_settings_and_changed_checkpoints_are_other_items_beside_the_old(checkpoints, tmp_path):
    runs, out = checkpoints(1), tmp_path / "out"
    sweep(runs, out=out)
    sweep(runs, out=out, settings=Settings(site="pre_mlp"))
    for path in (runs / "step1").iterdir():
        path.unlink()
    write_checkpoint(runs / "step1", layers=4, hidden=32, shards=2, seed=99)
    assert sweep(runs, out=out).done == 1
    assert len(list((out / "items").iterdir())) == 3


def test_a_checkpoint_that_changes_between_plan_and_read_is_refused(checkpoints, tmp_path):
    runs = checkpoints(1)
    plan = make_plan([str(runs)], Settings())
    write_checkpoint(runs / "step1", layers=4, hidden=32, shards=2, seed=99)
    from gammatorch.sweep.run import run_sweep

    summary = run_sweep(plan, Task(tmp_path / "out", Settings(), "cpu"))
    assert "has changed since the sweep was planned" in summary.failures[0].message


def test_what_another_process_has_claimed_comes_last_and_is_not_lost(checkpoints, tmp_path, monkeypatch):
    runs, out = checkpoints(1, 2, 3), tmp_path / "out"
    plan = make_plan([str(runs)], Settings())
    Store(out).claim(plan.items[0].key)  # by one that was killed
    order = []
    monkeypatch.setattr(pipeline, "SPARE_READERS", 0)
    monkeypatch.setattr(
        pipeline, "load", lambda item, task, load=pipeline.load: (order.append(item.step), load(item, task))[1]
    )
    assert sweep(runs, out=out).done == 3
    assert order == [2, 3, 1]
    assert not list((out / "claims").iterdir())


def test_shards_share_the_items_and_agree_whatever_else_is_planned(checkpoints, tmp_path):
    runs = checkpoints(*range(9))
    items = make_plan([str(runs)], Settings()).items
    parts = [{item.key for item in Shard(index, 3).of(items)} for index in range(3)]
    assert sorted(key for part in parts for key in part) == sorted(item.key for item in items)
    for index, part in enumerate(parts):
        assert {item.key for item in Shard(index, 3).of(items[4:])} <= part


def test_shards_are_counted_from_zero_and_slurm_tells_them():
    assert parse_shard("0/4") == Shard(0, 4)
    for wrong in ("4/4", "1", "a/b", "-1/4", "1/0"):
        with pytest.raises(InvalidArgument, match="written i/n"):
            parse_shard(wrong)
    assert slurm_shard({}) is None
    array = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert slurm_shard({**array, "SLURM_ARRAY_TASK_MIN": "10"}) == Shard(2, 4)
    with pytest.raises(InvalidArgument, match="--shard"):
        slurm_shard(array)


def test_an_engine_that_is_not_there_is_named(checkpoints, tmp_path):
    with pytest.raises(InvalidArgument, match="there is no engine 'cloud': pass local"):
        sweep(checkpoints(1), out=tmp_path / "out", engine="cloud")
