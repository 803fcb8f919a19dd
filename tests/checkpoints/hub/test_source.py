"""The Hub path: the real huggingface_hub client against a server on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

import gammatorch
from benchmarks.hub_server import COMMIT, FakeHub, serve
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.hub.source import CONNECTIONS
from tests.hub_client import point_client_at, run_command

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


def test_a_65_gb_model_costs_under_2_mb_in_four_rounds(hub):
    gains = gammatorch.read_gains(REPO, device="cpu")
    local = gammatorch.read_gains(hub.folder, device="cpu")
    torch.testing.assert_close(gains.gamma, local.gamma, rtol=0, atol=0)
    assert gains.revision == COMMIT and gains.keys == local.keys
    assert gains.checkpoint_bytes > 65e9
    assert gains.rounds == 4  # listing; links; heads; gains
    assert gains.bytes_read == hub.sent < 2e6
    assert gains.requests == len(hub.requests)


def test_connections_are_used_again(hub):
    """17 shards and config.json at two origins, and one connection more at most where one was closed meanwhile."""
    gammatorch.read_gains(REPO, device="cpu")
    assert len(hub.requests) > 100
    assert hub.connections <= 2 * CONNECTIONS


def test_only_headers_gains_and_config_travel(hub):
    gammatorch.read_gains(REPO, device="cpu")
    touched = {seen.path.rpartition("/")[2] for seen in hub.requests if "/resolve/" in seen.path}
    assert touched == {"config.json"} | {path.name for path in hub.folder.glob("*.safetensors")}


def test_the_commit_is_resolved_once_and_used_in_every_url(hub):
    gammatorch.read_gains(f"{REPO}@main", device="cpu")
    listings = [seen for seen in hub.requests if seen.path.startswith("/api/models/")]
    assert len(listings) == 1
    assert all(f"/resolve/{COMMIT}/" in seen.path for seen in hub.requests if "/resolve/" in seen.path)


def test_a_link_to_the_second_origin_is_used_again(hub):
    gammatorch.read_gains(REPO, device="cpu")
    assert sum("/resolve/" in seen.path for seen in hub.requests) == 17 + 1  # once per shard, and config.json


def test_tokens_reach_the_hub_and_nobody_else(hub):
    hub.token = "hf_secret"
    checkpoint = gammatorch.open_checkpoint(REPO, token="hf_secret")
    gammatorch.read_gains(checkpoint, device="cpu")
    assert all(seen.token == "Bearer hf_secret" for seen in hub.requests if seen.origin == "hub")
    assert all(seen.token is None for seen in hub.requests if seen.origin == "cdn")
    assert sum(seen.origin == "cdn" for seen in hub.requests) > 17


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
    assert gammatorch.read_gains(REPO, device="cpu").rounds == 4


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


def test_the_command_honours_the_environment(hub, tmp_path):
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = run_command("inspect", f"{REPO}@main", **home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{REPO}@main @ {COMMIT[:7]}\n")
    offline = run_command("inspect", REPO, HF_HUB_OFFLINE="1", **home)
    assert offline.returncode == 1
    assert (
        offline.stderr
        == f"gammatorch: error: {REPO}: is not in the local cache, and HF_HUB_OFFLINE is set: unset it to read from the Hub\n"
    )
    shutil.move(
        cache_snapshot(hub, tmp_path / "cache").parents[1], tmp_path / "home" / "hub" / "models--Qwen--Qwen3-32B"
    )
    assert run_command("inspect", REPO, HF_HUB_OFFLINE="1", **home).returncode == 0


def test_no_network_is_one_line_and_soon():
    done = run_command("inspect", REPO, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    told, error = done.stderr.splitlines()
    assert told.startswith(
        "gammatorch: 127.0.0.1 does not answer (connection refused): trying again, up to 3 times within "
    )
    assert error.startswith(f"gammatorch: error: {REPO}: the Hub cannot be read (connection refused")


def test_a_shard_that_claims_a_header_of_99_mb_and_has_none_is_not_read_for_it(hub):
    shard = "model-00002-of-00017.safetensors"
    path = hub.folder / shard
    path.write_bytes((99_000_000).to_bytes(8, "little"))
    os.truncate(path, 100_000_000)
    with pytest.raises(
        errors.MalformedCheckpoint, match=rf"{shard}: header is not valid JSON \(it does not start with"
    ):
        gammatorch.open_checkpoint(REPO)
    assert hub.sent < 300_000
