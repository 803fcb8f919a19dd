"""What is kept of the Hub: a second run moves nothing, and nothing on the disk is ever taken for what it is not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import gammatorch
from benchmarks.hub_server import COMMIT, serve
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.hub import cache as ours
from gammatorch.checkpoints.hub.cache import Cache, find_cache
from gammatorch.checkpoints.hub.repository import list_refs
from tests.hub_client import be_patient, point_client_at, run_command

REPO = "org/small"
OTHER = "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A small repository, an empty cache, and a client that uses both."""
    folder = tmp_path / "repo"
    folder.mkdir()
    write_checkpoint(folder, layers=12, hidden=128, shards=3)
    monkeypatch.setenv("GAMMATORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GAMMATORCH_CACHE_GB", "1")
    with serve(REPO, folder) as server:
        point_client_at(server, tmp_path / "downloads", monkeypatch)
        yield server


def truth(hub, **how):
    return gammatorch.read_gains(hub.folder, device="cpu", **how).gamma


def read(hub, revision=None, cache=True, **how):
    """The gains, which are right, and what moved."""
    hub.forget()
    checkpoint = gammatorch.open_checkpoint(REPO, revision, cache=cache)
    gains = gammatorch.read_gains(checkpoint, device="cpu", **how)
    assert gains.gamma.equal(truth(hub, **how))
    assert gains.bytes_read == hub.sent and gains.requests == len(hub.requests)
    return gains


def entries(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


def go_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_second_run_asks_only_what_the_branch_means(hub):
    first = read(hub)
    second = read(hub)
    assert [request.path for request in hub.requests] == [f"/api/models/{REPO}?blobs=true"]
    assert second.requests == second.rounds == 1
    assert second.bytes_cached == first.bytes_read - second.bytes_read > 0 == first.bytes_cached


def test_a_commit_that_was_read_before_asks_nothing(hub):
    read(hub)
    gains = read(hub, COMMIT)
    assert gains.requests == gains.rounds == gains.bytes_read == 0 and gains.revision == COMMIT


@pytest.mark.parametrize(("largest", "kept"), [(3072, True), (3071, False)])
def test_heads_are_kept_however_large_and_tensors_up_to_a_bound(hub, monkeypatch, largest, kept):
    """The heads of a mixture of experts are 27 MB; the gains here are 12 × 128 of 2 bytes."""
    monkeypatch.setattr("gammatorch.checkpoints.hub.cache.LARGEST_ROUND", largest)
    read(hub)
    gains = read(hub)
    assert gains.rounds == (1 if kept else 3)
    assert gains.bytes_cached > 40_000


def test_another_site_costs_its_gains_and_no_headers(hub):
    read(hub)
    gains = read(hub, site="pre_mlp")
    assert gains.rounds == 3  # listing, links, gains
    assert gains.bytes_cached > gains.bytes_read


def test_inspect_has_read_the_headers_for_run(hub):
    gammatorch.open_checkpoint(REPO)
    assert read(hub).bytes_cached > 0


def test_offline_a_branch_is_as_it_was_last_seen_and_a_note_says_so(hub, monkeypatch):
    read(hub)
    go_offline(monkeypatch)
    gains = read(hub)
    assert gains.requests == gains.bytes_read == 0 and gains.revision == COMMIT
    assert f"offline: the default branch is taken as last seen, {COMMIT[:7]}" in gains.notes
    assert not any("offline" in note for note in read(hub, COMMIT).notes)
    assert "offline: main is taken" in read(hub, "main").notes[0]


def test_offline_what_was_never_read_is_named(hub, monkeypatch):
    read(hub)
    go_offline(monkeypatch)
    with pytest.raises(errors.UnreadableCheckpoint, match="safetensors: is not in the local cache, and HF_HUB_OFFLINE"):
        read(hub, site="pre_mlp")
    for model in (f"{REPO}@step9", "org/other"):
        with pytest.raises(errors.CheckpointNotFound, match=f"^{model}: is not in the local cache, and HF_HUB_OFFLINE"):
            gammatorch.open_checkpoint(model)
    assert not hub.requests


def test_a_hub_that_is_gone_is_no_reason_to_read_what_may_be_old_but_to_say_how(hub):
    gone = (500, {}, b"")
    hub.fault = lambda request: gone if request.path.startswith("/api/") else None
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch, deadline_seconds=0.1)
        with pytest.raises(errors.UnreadableCheckpoint, match="again later$"):
            gammatorch.open_checkpoint(REPO)
        hub.fault = lambda request: None
        read(hub)
        hub.fault = lambda request: gone
        with pytest.raises(errors.UnreadableCheckpoint, match="; HF_HUB_OFFLINE=1 reads what was kept of it$"):
            gammatorch.open_checkpoint(REPO)


def test_a_branch_that_has_moved_is_noticed(hub, tmp_path):
    """The new commit has the same names, sizes and headers, and other gains."""
    read(hub)
    moved = tmp_path / "moved"
    moved.mkdir()
    write_checkpoint(moved, layers=12, hidden=128, shards=3, seed=1)
    hub.folders[OTHER], hub.commits["main"] = moved, OTHER
    assert gammatorch.read_gains(REPO, device="cpu").gamma.equal(gammatorch.read_gains(moved, device="cpu").gamma)
    read(hub, COMMIT)
    assert not hub.requests


def test_a_commit_that_leaves_the_weights_alone_costs_the_listing(hub):
    read(hub)
    hub.folders[OTHER], hub.commits["main"] = hub.folder, OTHER
    assert read(hub).requests == 1


def test_files_without_a_digest_are_told_apart_by_commit(hub, tmp_path, monkeypatch):
    whole = type(hub).listing

    def bare(self, commit):
        listed = whole(self, commit)
        for sibling in listed["siblings"]:
            sibling.pop("lfs", None)
            sibling["blobId"] = "0"
        return listed

    monkeypatch.setattr(type(hub), "listing", bare)
    test_a_branch_that_has_moved_is_noticed(hub, tmp_path)


def test_branches_and_commits_that_were_listed_are_there_offline(hub, monkeypatch):
    hub.folders[OTHER], hub.commits["step1"] = hub.folder, OTHER
    assert list_refs(REPO) == {"main": COMMIT, "step1": OTHER}
    read(hub, OTHER)
    go_offline(monkeypatch)
    assert list_refs(REPO) == {"main": COMMIT, "step1": OTHER}
    assert read(hub, OTHER).requests == 0
    with pytest.raises(errors.CheckpointNotFound, match="^org/other: is not in the local cache"):
        list_refs("org/other")


@pytest.mark.parametrize("beside", ["model_index.json", "README.md"])
def test_weights_in_folders_are_pointed_to_offline_too(hub, monkeypatch, beside):
    """A diffusion pipeline has nothing else; beside weights at the top they are of no concern."""
    for folder in ("transformer", "text_encoder"):
        (hub.folder / folder).mkdir()
        (hub.folder / folder / "model.safetensors").write_bytes(bytes(8))
    (hub.folder / beside).write_text("{}")
    gammatorch.open_checkpoint(REPO)
    for path in hub.folder.glob("*.safetensors"):
        path.unlink()
    hub.commits["main"] = OTHER
    hub.folders[OTHER] = hub.folder
    for _ in range(2):
        with pytest.raises(errors.CheckpointNotFound, match=r"its folders do \(text_encoder, transformer\): download"):
            gammatorch.open_checkpoint(REPO)
        go_offline(monkeypatch)


def test_the_hashes_that_the_hub_tells_are_passed_on(hub):
    told = {sibling["rfilename"]: sibling for sibling in hub.listing(COMMIT)["siblings"]}
    for cache in (False, True, True):
        hashes = gammatorch.open_checkpoint(REPO, cache=cache).source.hashes
        assert hashes["config.json"] == told["config.json"]["blobId"]
        assert hashes["model-00001-of-00003.safetensors"] == told["model-00001-of-00003.safetensors"]["lfs"]["sha256"]


def test_no_cache_reads_and_leaves_nothing(hub, tmp_path, monkeypatch):
    for _ in range(2):
        assert read(hub, cache=False).rounds == 4
    monkeypatch.setenv("GAMMATORCH_CACHE_GB", "0")
    assert read(hub).rounds == 4
    assert not (tmp_path / "cache").exists()


# --- what is on the disk ---


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored, other: stored[:-1],
        lambda stored, other: b"",
        lambda stored, other: stored[:-1] + bytes([stored[-1] ^ 1]),
        lambda stored, other: bytes([stored[0] ^ 1]) + stored[1:],
        lambda stored, other: stored + b"\0",
        lambda stored, other: other,
        lambda stored, other: bytes(len(stored)),
    ],
    ids=["cut", "empty", "a bit of the end", "a bit of the start", "longer", "another's", "zeros"],
)
def test_a_damaged_entry_is_read_again_and_mended(hub, tmp_path, damage):
    read(hub)
    held = entries(tmp_path)
    contents = [path.read_bytes() for path in held]
    for path, stored, other in zip(held, contents, [contents[-1], *contents], strict=False):
        path.write_bytes(damage(stored, other))
    assert read(hub).rounds == 4
    assert read(hub).rounds == 1


def test_an_entry_that_is_no_file_is_none(hub, tmp_path):
    read(hub)
    paths = entries(tmp_path)
    for path in paths:
        path.unlink()
    os.mkfifo(paths[0])
    paths[1].mkdir()
    paths[2].symlink_to(paths[2])
    assert read(hub).rounds == 4


HAMMER = """
import sys
from gammatorch.checkpoints.hub.cache import Cache
cache = Cache(sys.argv[1], 10**9)
for turn in range(200):
    cache.put("shared", sys.argv[2].encode() * 50_000)
    found = cache.get("shared")
    assert found is not None and len(set(found)) == 1 and len(found) == 50_000, turn
"""


def test_processes_that_write_one_entry_at_once_leave_a_whole_one(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", HAMMER, str(tmp_path), number]) for number in "123"]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_threads_read_one_repository_at_once(hub):
    """As a sweep does: a listing each, and every answer is right."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: gammatorch.read_gains(REPO, device="cpu"), range(16)))
    assert all(gains.gamma.equal(truth(hub)) for gains in found)
    assert sum(request.path.startswith("/api/models/") for request in hub.requests) == 16


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_costs_the_cache_and_nothing_else(hub, tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ours.os, "replace", fail)
    for _ in range(2):
        assert read(hub).rounds == 4
    assert not entries(tmp_path)


def test_a_folder_that_cannot_be_made_costs_the_cache_and_nothing_else(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GAMMATORCH_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert read(hub).rounds == 4


def test_a_cache_that_may_only_be_read_is_read(hub, tmp_path, monkeypatch):
    read(hub)
    monkeypatch.setattr(ours.os, "utime", lambda path: (_ for _ in ()).throw(PermissionError()))
    monkeypatch.setattr(Cache, "put", lambda *_: pytest.fail("nothing new to keep"))
    assert read(hub).rounds == 1


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = Cache(tmp_path, 100_000)
    for number in range(8):
        cache.put(f"entry {number}", bytes(12_000))
        age(cache, f"entry {number}", 100 - number)
    assert cache.get("entry 0") is not None  # and is the latest by that
    stranger = cache.folder / "notes.txt"
    stranger.write_text("not ours")
    cache.put("entry 8", bytes(12_000))
    held = [number for number in range(9) if cache.get(f"entry {number}") is not None]
    assert 0 in held and 8 in held and 1 not in held
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 100_000
    assert stranger.exists()


def age(cache: Cache, name: str, seconds: float) -> None:
    os.utime(cache._path(name), (time.time() - seconds, time.time() - seconds))


def test_one_entry_may_not_fill_the_cache(tmp_path):
    cache = Cache(tmp_path, 100_000)
    cache.put("large", bytes(30_000))
    assert cache.get("large") is None


def test_what_a_killed_writer_left_is_removed_in_time(tmp_path):
    cache = Cache(tmp_path, 100_000)
    cache.put("entry", b"content")
    stem = next(cache.folder.iterdir()).name
    for name, seconds in ((f".{stem}.0123abcd", 7200), (f".{stem}.4567cdef", 60)):
        (cache.folder / name).write_bytes(b"half")
        os.utime(cache.folder / name, (time.time() - seconds,) * 2)
    Cache(tmp_path, 100_000).put("entry", b"content")
    assert sorted(path.name for path in cache.folder.iterdir()) == [f".{stem}.4567cdef", stem]


def test_the_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("GAMMATORCH_CACHE_GB")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("GAMMATORCH_CACHE", raising=False)
    found = find_cache()
    assert found is not None and found.most_bytes == 2_000_000_000
    assert found.folder.parent == tmp_path / "home" / ".cache" / "gammatorch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_cache().folder.parent == tmp_path / "xdg" / "gammatorch"
    monkeypatch.setenv("GAMMATORCH_CACHE", str(tmp_path / "mine"))
    assert find_cache().folder.parent == tmp_path / "mine"
    monkeypatch.setenv("GAMMATORCH_CACHE_GB", "plenty")
    with pytest.raises(errors.InvalidArgument, match="GAMMATORCH_CACHE_GB: 'plenty' is not a number of gigabytes"):
        find_cache()


def test_nobody_else_may_look_into_a_folder_that_we_made(tmp_path):
    cache = Cache(tmp_path / "new", 100_000)
    cache.put("private", b"weights")
    assert cache.folder.stat().st_mode & 0o077 == 0


def test_the_command_reads_twice_offline_and_without_the_cache(hub, tmp_path):
    world = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    assert "from the cache" not in run_command("inspect", REPO, **world).stdout
    second = run_command("inspect", REPO, **world)
    assert "from the cache) of" in second.stdout and second.returncode == 0
    offline = run_command("inspect", REPO, HF_HUB_OFFLINE="1", **world)
    assert "read 0 B (and" in offline.stdout and "main is taken" not in offline.stdout
    assert "offline: the default branch is taken as last seen" in offline.stdout
    fresh = run_command("inspect", REPO, "--no-cache", **world)
    assert fresh.returncode == 0 and "from the cache" not in fresh.stdout


def test_only_verbose_tells_why_nothing_is_kept(hub, tmp_path):
    (tmp_path / "file").write_text("in the way")
    world = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "GAMMATORCH_CACHE": str(tmp_path / "file")}
    assert run_command("inspect", REPO, **world).stderr == ""
    told = run_command("inspect", REPO, "-v", **world)
    assert told.returncode == 0 and told.stderr.startswith("gammatorch: nothing is kept in ")
