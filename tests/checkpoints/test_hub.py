"""The Hub path: the real huggingface_hub client against a server on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from tests.hub_server import COMMIT, FakeHub, serve

REPO = "Qwen/Qwen3-32B"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository with Qwen3-32B's layout, and a client that knows no other Hub and has an empty cache."""
    folder = tmp_path / "repo"
    folder.mkdir()
    write_checkpoint(folder)
    with serve(REPO, folder) as server:
        point_client_at(server, tmp_path / "cache", monkeypatch)
        yield server


def point_client_at(server: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants
    import huggingface_hub.hf_api as hf_api

    from gammatorch.checkpoints import hub as ours

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hf_api, "ENDPOINT", server.url, raising=False)
    monkeypatch.setattr(ours, "_pauses", lambda: iter([0.01] * 1000))


def test_a_65_gb_model_costs_under_2_mb_in_three_rounds(hub):
    gains = gammatorch.read_gains(REPO, device="cpu")
    local = gammatorch.read_gains(hub.folder, device="cpu")
    torch.testing.assert_close(gains.gamma, local.gamma, rtol=0, atol=0)
    assert gains.revision == COMMIT and gains.keys == local.keys
    assert gains.checkpoint_bytes > 65e9
    assert gains.rounds == 3
    assert gains.bytes_read <= hub.sent < 2e6
    assert gains.requests == sum(request.origin == "hub" or not redirected(hub, request) for request in hub.requests)


def redirected(hub: FakeHub, request) -> bool:
    """Whether a request to the second origin was the tail of a redirect, and so part of one of ours."""
    resolved = [seen.range for seen in hub.requests if seen.origin == "hub" and seen.range]
    return request.range in resolved


def test_only_headers_gains_and_config_travel(hub):
    gammatorch.read_gains(REPO, device="cpu")
    touched = {seen.path.rpartition("/")[2] for seen in hub.requests if "/resolve/" in seen.path}
    assert touched == {"config.json"} | {path.name for path in hub.folder.glob("*.safetensors")}


def test_the_commit_is_resolved_once_and_used_in_every_url(hub):
    gammatorch.read_gains(f"{REPO}@main", device="cpu")
    listings = [seen for seen in hub.requests if seen.path.startswith("/api/")]
    assert len(listings) == 1
    assert all(f"/resolve/{COMMIT}/" in seen.path for seen in hub.requests if "/resolve/" in seen.path)


def test_a_link_to_the_second_origin_is_used_again(hub):
    gammatorch.read_gains(REPO, device="cpu")
    assert sum("/resolve/" in seen.path for seen in hub.requests) == 17 + 1  # once per shard, and config.json


def test_an_expired_link_is_resolved_again(hub):
    """Each link is good for one use."""
    used, expired = set(), []

    def expire(request):
        if request.origin == "cdn" and request.path in used:
            expired.append(request)
            return 403, {}, b"Request has expired"
        used.add(request.path)
        return None

    hub.fault = expire
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert expired
    assert gains.gamma.equal(gammatorch.read_gains(hub.folder, device="cpu").gamma)


def test_tokens_reach_the_hub_and_nobody_else(hub):
    hub.token = "hf_secret"
    checkpoint = gammatorch.open_checkpoint(REPO, token="hf_secret")
    gammatorch.read_gains(checkpoint, device="cpu")
    assert all(seen.token == "Bearer hf_secret" for seen in hub.requests if seen.origin == "hub")
    assert all(seen.token is None for seen in hub.requests if seen.origin == "cdn")
    assert sum(seen.origin == "cdn" for seen in hub.requests) > 17


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_faults_are_waited_out(hub, status):
    failed = []

    def fail(request):
        if len(failed) < 6 and (request.range or "/api/" in request.path):
            failed.append(request)
            return status, {"Retry-After": "0.01"}, b"busy"
        return None

    hub.fault = fail
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert len(failed) == 6
    assert gains.gamma.equal(gammatorch.read_gains(hub.folder, device="cpu").gamma)


def test_a_body_cut_short_is_read_again(hub):
    cut = []

    def shorten(request):
        if request.origin == "cdn" and len(cut) < 3:
            cut.append(request)
            start, stop = map(int, request.range.removeprefix("bytes=").split("-"))
            name = request.path.rpartition("file=")[2].partition("&")[0]
            size = (hub.folder / name).stat().st_size
            return 206, {"Content-Range": f"bytes {start}-{stop}/{size}", "Content-Length": "3"}, b"abc"
        return None

    hub.fault = shorten
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert len(cut) == 3
    assert gains.gamma.equal(gammatorch.read_gains(hub.folder, device="cpu").gamma)


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Length": str(4_000_000_000)}, b"whole shard"),
        (206, {"Content-Range": "bytes 8-15/99"}, b"somewhere"),
        (206, {}, b"nowhere in particular"),
    ],
    ids=["range ignored", "another range", "no Content-Range"],
)
def test_an_answer_to_another_question_is_refused(hub, answer):
    hub.fault = lambda request: answer if request.origin == "cdn" and "safetensors" in request.path else None
    with pytest.raises(errors.UnreadableCheckpoint, match="ignores ranges") as caught:
        gammatorch.read_gains(REPO, device="cpu")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("Qwen/Nothing", None, "Qwen/Nothing: no such path here, and no such repository on the Hub"),
        (REPO, "step9", f"{REPO}@step9: no such branch, tag or commit"),
        (f"{REPO}@step9", None, f"{REPO}@step9: no such branch, tag or commit"),
    ],
)
def test_what_is_not_there_is_named(hub, model, revision, message):
    with pytest.raises(errors.CheckpointNotFound, match=f"^{message}"):
        gammatorch.open_checkpoint(model, revision)


def test_a_gated_repository_says_what_to_do(hub):
    hub.gated = True
    with pytest.raises(errors.CheckpointNotFound, match="is gated: accept its terms"):
        gammatorch.open_checkpoint(REPO)


def test_a_downloaded_snapshot_is_read_from_disk(hub, tmp_path):
    snapshot = cache_snapshot(hub, tmp_path / "cache")
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert [seen.path.partition("?")[0] for seen in hub.requests] == [f"/api/models/{REPO}"]
    assert gains.revision == COMMIT
    assert gammatorch.read_gains(snapshot, device="cpu").revision == COMMIT


def test_an_incomplete_snapshot_is_not(hub, tmp_path):
    (cache_snapshot(hub, tmp_path / "cache") / "model-00003-of-00017.safetensors").unlink()
    assert gammatorch.read_gains(REPO, device="cpu").rounds == 3


def cache_snapshot(hub: FakeHub, cache: Path) -> Path:
    """The repository as huggingface_hub keeps it after a download."""
    repo = cache / "models--Qwen--Qwen3-32B"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for file in hub.folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    return snapshot


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gammatorch", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_honours_the_environment(hub, tmp_path):
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = run_command("inspect", f"{REPO}@main", **home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{REPO}@main @ {COMMIT[:7]}\n")
    offline = run_command("inspect", REPO, HF_HUB_OFFLINE="1", **home)
    assert offline.returncode == 1
    assert offline.stderr == f"gammatorch: error: {REPO}: is not in the local cache, and HF_HUB_OFFLINE is set\n"
    shutil.move(
        cache_snapshot(hub, tmp_path / "cache").parents[1], tmp_path / "home" / "hub" / "models--Qwen--Qwen3-32B"
    )
    assert run_command("inspect", REPO, HF_HUB_OFFLINE="1", **home).returncode == 0


def test_no_network_is_one_line_and_soon():
    done = run_command("inspect", REPO, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith(f"gammatorch: error: {REPO}: the Hub cannot be read (ConnectError)")
    assert done.stderr.count("\n") == 1
