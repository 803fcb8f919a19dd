"""From what a user types to the items of a sweep."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from gammatorch.errors import CheckpointNotFound, InvalidArgument
from gammatorch.sweep.item import Settings, step_of
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.specs import Spec, resolve
from tests.sweep.conftest import USUAL


def names(*specs, settings=USUAL, **options):
    return [os.path.basename(item.name) for item in make_plan([str(spec) for spec in specs], settings, **options).items]


def test_a_glob_gives_its_checkpoints_in_natural_order_and_nothing_else(checkpoints):
    runs = checkpoints(10, 2, 1)
    (runs / "logs").mkdir()
    (runs / "notes.md").write_text("not a checkpoint")
    assert names(runs / "*") == ["step1", "step2", "step10"]
    assert [item.step for item in make_plan([f"{runs}/*"], Settings()).items] == [1, 2, 10]


def test_a_folder_without_weights_stands_for_the_checkpoints_in_it(checkpoints):
    runs = checkpoints(2, 10)
    assert names(runs) == ["step2", "step10"]
    assert names(runs / "step2") == ["step2"]


def test_a_trainers_folder_stands_for_the_files_in_it_that_are_steps(tmp_path):
    for name in ("epoch=1-step=200.ckpt", "epoch=0-step=100.ckpt", "hparams.yaml"):
        (tmp_path / name).touch()
    assert resolve(Spec(str(tmp_path))) == [str(tmp_path / f"epoch={n}-step={n + 1}00.ckpt") for n in range(2)]
    (tmp_path / "model.safetensors").touch()  # now it is a checkpoint itself
    assert resolve(Spec(str(tmp_path))) == [str(tmp_path)]


def test_every_thins_what_a_pattern_matches_and_limit_caps_the_whole(checkpoints):
    runs = checkpoints(*range(7))
    assert names(f"{runs}/*", every=3) == ["step0", "step3", "step6"]
    assert names(f"{runs}/*", every=3, limit=2) == ["step0", "step3"]
    assert names(runs / "step5", every=3) == ["step5"]


def test_one_checkpoint_named_twice_is_one_item(checkpoints):
    runs = checkpoints(1, 2)
    plan = make_plan([f"{runs}/*", f"{runs}/../runs/step1"], Settings())
    assert len(plan.items) == 2 and [(left.key, kept) for left, kept in plan.aliases] == [
        (plan.items[0].key, plan.items[0])
    ]


def test_list_files_take_comments_patterns_and_tags(checkpoints, tmp_path):
    runs = checkpoints(1, 2, 3)
    (tmp_path / "list.txt").write_text(f"# mine\n\n{runs}/step1  # the first\n  {runs}/step[23]  \n")
    assert names(tmp_path / "list.txt") == ["step1", "step2", "step3"]
    line = {"model": f"{runs}/step2", "step": 2000, "optimizer": "adam"}
    (tmp_path / "tagged.jsonl").write_text(json.dumps(line) + "\n")
    (item,) = make_plan([str(tmp_path / "tagged.jsonl")], Settings()).items
    assert item.step == 2000 and item.tags == {"step": 2000, "optimizer": "adam"}


def test_a_bad_line_of_a_list_is_a_failure_and_a_bad_argument_ends_it(checkpoints, tmp_path):
    runs = checkpoints(1)
    (tmp_path / "list.txt").write_text(f"{runs}/step1\n{runs}/step9\n")
    plan = make_plan([str(tmp_path / "list.txt")], Settings())
    assert len(plan.items) == 1
    assert [failure.kind for failure in plan.failures] == ["CheckpointNotFound"]
    with pytest.raises(CheckpointNotFound, match="no such file or folder"):
        make_plan([str(runs / "step9")], Settings())
    (tmp_path / "broken.jsonl").write_text('{"model": 3}\n')
    with pytest.raises(InvalidArgument, match="broken.jsonl:1: needs"):
        make_plan([str(tmp_path / "broken.jsonl")], Settings())
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(CheckpointNotFound, match="nothing to sweep"):
        make_plan([str(tmp_path / "empty.txt")], Settings())


def test_the_key_changes_with_the_files_the_place_and_the_settings_and_with_nothing_else(checkpoints, tmp_path):
    runs = checkpoints(1)

    def key(path, settings=USUAL):
        (item,) = make_plan([str(path)], settings).items
        return item.key

    first = key(runs / "step1")
    assert key(f"{runs}/../runs/step1/") == first
    assert key(runs / "step1", Settings(site="pre_mlp")) != first
    assert key(runs / "step1", Settings(raw=True)) != first
    shutil.copytree(runs / "step1", tmp_path / "copy", copy_function=shutil.copy2)
    assert key(tmp_path / "copy") != first
    (shard, *_) = sorted((runs / "step1").glob("*.safetensors"))
    os.utime(shard, ns=(1, 1))
    assert key(runs / "step1") != first


def test_a_number_that_no_axis_has_room_for_is_no_step(checkpoints, tmp_path):
    checkpoints(2000)
    for step, wanted in ((500, 500), (-1, 2000), (10**20, 2000), (True, 2000), ("500", 2000)):
        line = {"model": str(tmp_path / "runs" / "step2000"), "step": step}
        (tmp_path / "models.jsonl").write_text(json.dumps(line) + "\n")
        (item,) = make_plan([str(tmp_path / "models.jsonl")], USUAL).items
        assert item.step == wanted
    assert step_of("step" + "0" * 500 + "123456789012345") == 123456789012345
    assert step_of("step" + "9" * 5000) is None
