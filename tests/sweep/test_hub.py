"""Sweeps over the revisions of a repository, from a Hub on this machine."""

from __future__ import annotations

import time

import pytest

from benchmarks.hub_server import COMMIT, serve
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.hub import client as hub_client
from gammatorch.checkpoints.hub.retry import Pace
from gammatorch.errors import CheckpointNotFound
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.store import read_items
from gammatorch.sweep.survey import survey_document
from tests.hub_client import point_client_at
from tests.sweep.conftest import USUAL, sweep


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository with main and a branch for every hundredth step, each of its own weights."""
    folder = tmp_path / "repo"
    for number in range(4):
        (folder / str(number)).mkdir(parents=True)
        write_checkpoint(folder / str(number), layers=2, hidden=16, shards=1, seed=number)
    with serve("org/name", folder / "0") as server:
        for number in range(1, 4):
            commit = f"{number:040x}"
            server.commits[f"step{number * 100 if number < 3 else 1000}"] = commit
            server.folders[commit] = folder / str(number)
        point_client_at(server, tmp_path / "cache", monkeypatch)
        monkeypatch.setattr(hub_client, "PACE", Pace())
        yield server


def test_a_pattern_over_branches_costs_one_request_and_comes_in_natural_order(hub):
    plan = make_plan(["org/name@step*"], USUAL)
    assert [item.revision for item in plan.items] == ["step100", "step200", "step1000"]
    assert [item.step for item in plan.items] == [100, 200, 1000]
    assert [request.path for request in hub.requests] == ["/api/models/org/name/refs"]
    assert [item.commit for item in make_plan(["org/name", f"org/name@{2:040x}"], USUAL).items] == [COMMIT, f"{2:040x}"]


def test_a_revision_that_is_not_there_is_named_with_those_that_are(hub):
    with pytest.raises(CheckpointNotFound, match=r"no branch or tag 'epoch\*' \(there are main, step100, step200"):
        make_plan(["org/name@epoch*"], USUAL)


def test_items_carry_commit_step_and_the_hashes_that_the_hub_tells(hub, tmp_path):
    assert sweep("org/name@step*", out=tmp_path / "out", cache=False).done == 3
    stored = {one.item.revision: one for one in read_items(tmp_path / "out")}
    assert stored["step200"].item.commit == f"{2:040x}" == stored["step200"].provenance.commit
    hashes = {one.files["model.safetensors"].hash for one in stored.values()}
    assert len(hashes) == 3 and all(len(digest) == 64 for digest in hashes)


def test_a_dry_run_tells_the_bytes_that_the_hub_then_sends(hub, tmp_path):
    planned = survey_document(make_plan(["org/name@step*"], USUAL), USUAL, tmp_path / "out", cache=False)
    summary = sweep("org/name@step*", out=tmp_path / "out", cache=False)
    assert planned.bytes_to_read == summary.bytes_read > 0


def test_a_branch_that_moved_is_a_new_item_beside_the_old(hub, tmp_path):
    sweep("org/name@step100", out=tmp_path / "out", cache=False)
    hub.commits["step100"] = f"{3:040x}"
    summary = sweep("org/name@step100", out=tmp_path / "out", cache=False)
    assert (summary.done, summary.present) == (1, 0)
    assert {one.item.commit for one in read_items(tmp_path / "out")} == {f"{1:040x}", f"{3:040x}"}


def test_a_limit_on_requests_slows_all_threads_and_kills_no_item(hub, tmp_path):
    window, most = 0.4, 6  # six requests in each window, the rest are told to wait for its end
    times: list[float] = []
    refused = 0

    def limit(request):
        nonlocal refused
        now = time.monotonic()
        if sum(now - earlier < window for earlier in times) >= most:
            refused += 1
            return 429, {"Retry-After": str(window)}, b""
        times.append(now)
        return None

    hub.fault = limit
    summary = sweep("org/name@step*", "org/name", out=tmp_path / "out", cache=False)
    assert (summary.done, summary.failures) == (4, ())
    assert 0 < refused <= len(times)  # threads that did not wait for each other would be refused far more often


def test_a_repository_that_fails_stops_nothing_where_a_list_names_it(hub, tmp_path):
    (tmp_path / "list.txt").write_text("org/name@step100\norg/gone\norg/name@step999\n")
    summary = sweep(tmp_path / "list.txt", out=tmp_path / "out", cache=False)
    assert summary.done == 1
    assert sorted(failure.name for failure in summary.failures) == ["org/gone", "org/name@step999"]


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry run", "sweep"])
def test_no_cache_keeps_nothing(hub, call, tmp_path, monkeypatch, options):
    monkeypatch.setenv("GAMMATORCH_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("GAMMATORCH_CACHE_GB", "1")
    command = ["sweep", "org/name@step*", "--out", str(tmp_path / "out"), "--device", "cpu", *options]
    assert call(*command, "--no-cache").code == 0
    assert not (tmp_path / "kept").exists()
    assert call(*command).code == 0
    assert (tmp_path / "kept").exists(), "which is what it keeps otherwise"
