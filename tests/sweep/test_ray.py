"""The real Ray on this machine: what is lost with a worker or a node is done elsewhere, and nothing twice."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gammatorch.errors import DeviceError, GammatorchError, InvalidArgument
from gammatorch.sweep import on_ray
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.run import run_sweep
from gammatorch.sweep.store import done_keys
from gammatorch.sweep.task import Task
from tests.sweep.conftest import numbers, sweep

ray = pytest.importorskip("ray", reason="the ray extra is not installed")
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""How soon a node that does not answer counts as lost; by default after 15 s."""

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one slot each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": QUICK})
        try:
            made.second = made.add_node(**{name: value for name, value in NODE.items() if name != "include_dashboard"})
            ray.init(made.address, log_to_driver=False, logging_level="error")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def workers(out, wait_seconds=20.0):
    """Process ids of workers that are at an item right now."""
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        for claim in (out / "claims").iterdir():
            try:
                pid = int(claim.read_text().split()[1])
            except (OSError, IndexError):
                continue
            if pid != os.getpid() and os.path.exists(f"/proc/{pid}"):
                return [pid]
        time.sleep(0.001)
    raise AssertionError("no worker was ever at an item")


@pytest.mark.slow
def test_a_killed_worker_and_a_removed_node_lose_nothing_and_repeat_only_what_was_in_flight(
    cluster, checkpoints, tmp_path
):
    runs, out = checkpoints(*range(40), layers=12, hidden=768), tmp_path / "out"
    plan = make_plan([str(runs)], Settings())
    written: dict[str, int] = {}

    def watch(outcome):
        for key in done_keys(out):
            written.setdefault(key, (out / "items" / f"{key}.safetensors").stat().st_mtime_ns)
        seen.append(outcome.key)
        if len(seen) == 5:
            os.kill(workers(out)[0], signal.SIGKILL)
        if len(seen) == 20:
            cluster.remove_node(cluster.second, allow_graceful=False)

    seen: list[str] = []
    summary = run_sweep(plan, Task(out, Settings(), gpus_per_task=0), engine="ray", watch=watch)
    assert sorted(seen) == sorted(item.key for item in plan.items), "each item is told of once"
    assert summary.done + summary.present == 40 and not summary.failures
    assert done_keys(out) == {item.key for item in plan.items}
    again = {key: (out / "items" / f"{key}.safetensors").stat().st_mtime_ns for key in written}
    assert sum(again[key] != written[key] for key in written) == 0, "what was done was left alone"
    sweep(runs, out=tmp_path / "alone")
    assert numbers(out) == numbers(tmp_path / "alone")
    assert ray.is_initialized(), "a cluster that was there stays"


@pytest.mark.slow
def test_an_item_that_kills_its_worker_fails_alone(cluster, checkpoints, tmp_path, monkeypatch):
    runs, out = checkpoints(*range(6)), tmp_path / "out"
    plan = make_plan([str(runs)], Settings())

    def deadly(task, items):
        from gammatorch.sweep.on_ray import _do_part

        if any(item.name.endswith("step3") for item in items):
            os._exit(1)
        return _do_part(task, items)

    monkeypatch.setattr(on_ray, "_do_part", deadly)
    monkeypatch.setattr(on_ray, "_RETRIES", 0)
    monkeypatch.setattr(on_ray, "_PARTS_PER_SLOT", 1)
    summary = run_sweep(plan, Task(out, Settings()), engine="ray")
    assert summary.done == 5 and [failure.name for failure in summary.failures] == [f"{runs}/step3"]
    assert "its worker died 1 time" in summary.failures[0].message
    assert not on_ray.Store(out).keys() & {summary.failures[0].key}


def test_an_interrupt_cancels_what_is_in_flight(cluster, checkpoints, tmp_path):
    runs, out = checkpoints(*range(30), layers=12, hidden=768), tmp_path / "out"
    plan = make_plan([str(runs)], Settings())

    def interrupt(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, Task(out, Settings()), engine="ray", watch=interrupt)
    kept = done_keys(out)
    assert not list((out / "claims").iterdir())
    time.sleep(1)
    assert 0 < len(kept) < 30 and done_keys(out) == kept
    assert run_sweep(plan, Task(out, Settings()), engine="ray").done == 30 - len(kept)


def test_a_task_does_not_show_its_token():
    assert "hf_secret" not in repr(Task(Path("out"), Settings(), token="hf_secret"))


def test_a_folder_that_a_node_does_not_see_ends_it(cluster, checkpoints, tmp_path, monkeypatch):
    runs, out = checkpoints(1), tmp_path / "out"
    plan = make_plan([str(runs)], Settings())
    monkeypatch.setattr("gammatorch.sweep.run.ENGINES", {"ray": _elsewhere})
    with pytest.raises(GammatorchError, match="must be a folder that all nodes share"):
        run_sweep(plan, Task(out, Settings()), engine="ray")


def _elsewhere(task, items):
    return on_ray.run_on_ray(replace(task, folder=task.folder / "not" / "there"), items)


@pytest.mark.parametrize("gpus", [1, 0.5])
def test_a_gpu_that_no_node_has_is_an_error(cluster, checkpoints, tmp_path, gpus):
    plan = make_plan([str(checkpoints(1))], Settings())
    with pytest.raises(DeviceError, match="no node of the Ray cluster has .* GPU .*--gpus-per-task"):
        run_sweep(plan, Task(tmp_path / "out", Settings(), gpus_per_task=gpus), engine="ray")


class Gpus:
    """A cluster of one node, as far as its resources go."""

    def __init__(self, cpus: float, gpus: float) -> None:
        self.there = {"CPU": cpus, "GPU": gpus}

    def cluster_resources(self):
        return self.there

    def nodes(self):
        return [{"Alive": True, "Resources": self.there}]


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "share"),
    [(64, 8, None, 0.25), (16, 8, None, 0.5), (4, 8, None, 1), (64, 8, 1.0, 1), (64, 8, 0.0, 0), (64, 0, None, 0)],
)
def test_small_items_share_a_gpu_by_the_name_it_has_in_their_worker(cpus, gpus, asked, share):
    task = Task(Path("out"), Settings(), "cuda:1", gpus_per_task=asked)
    resources, told = on_ray._resources(Gpus(cpus, gpus), task)
    assert resources["num_gpus"] == share
    assert told.device == ("cuda" if share else "cpu")


def test_no_ray_and_no_cluster_are_told_in_one_line(checkpoints, tmp_path, monkeypatch):
    plan = make_plan([str(checkpoints(1))], Settings())

    class NoCluster:
        @staticmethod
        def init(*_, **__):
            raise ConnectionError("Could not find any running Ray instance.\nMore lines.")

    with pytest.raises(GammatorchError, match=r"no Ray cluster at auto \(Could not find .*\): begin one") as told:
        on_ray._connect(NoCluster, "auto")
    assert "\n" not in str(told.value)
    with pytest.raises(GammatorchError, match="no Ray cluster at 127.0.0.1:1 "):
        on_ray._connect(NoCluster, "127.0.0.1:1")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'gammatorch\[ray\]'"):
        run_sweep(plan, Task(tmp_path / "out", Settings()), engine="ray")
