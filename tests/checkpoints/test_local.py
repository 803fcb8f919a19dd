"""Reading from a disk: nothing but headers and gains, and nothing that is not a file."""

from __future__ import annotations

import os

import pytest

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.base import Read
from gammatorch.checkpoints.local import MOST_OPEN, LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.safetensors.headers import FIRST_BYTES
from tests.sources import RecordingSource
from tests.zoo import TABLE


def header_bytes(path) -> int:
    with open(path, "rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


@pytest.mark.parametrize("name", TABLE)
def test_a_run_reads_config_headers_and_gains_and_nothing_else(name, tiny):
    folder = tiny(name)
    source = RecordingSource(LocalSource(folder))
    checkpoint = open_source(source)
    gains = gammatorch.read_gains(checkpoint, device="cpu")
    shards = sorted(folder.glob("*.safetensors"))
    expected = [("config.json", 0, (folder / "config.json").stat().st_size)]
    expected += [(path.name, 0, FIRST_BYTES) for path in shards]
    headers = {path.name: header_bytes(path) for path in shards}
    expected += [(name, FIRST_BYTES, stop) for name, stop in headers.items() if stop > FIRST_BYTES]
    entries = [checkpoint.entries[key] for key in gains.keys]
    expected += [(entry.file, entry.start, entry.stop) for entry in entries]
    assert sorted(source.reads) == sorted(expected)
    assert gains.bytes_read == sum(stop - start for _, start, stop in expected)


def test_qwen3_32b_costs_its_headers_and_its_gains(tmp_path):
    made = write_checkpoint(tmp_path)
    gains = gammatorch.read_gains(tmp_path, device="cpu")
    headers = sum(header_bytes(tmp_path / shard) for shard in made.shards)
    assert gains.bytes_read == 64 * 5120 * 2 + headers + (tmp_path / "config.json").stat().st_size
    assert gains.checkpoint_bytes == made.checkpoint_bytes > 65e9


def read_all(source: LocalSource, file: str) -> bytes:
    buffer = bytearray(source.files[file])
    source.read([Read(file, 0, memoryview(buffer))])
    return bytes(buffer)


def test_a_file_replaced_after_its_header_was_read_still_gives_the_first_ones_bytes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    source = LocalSource(tmp_path)
    assert read_all(source, path.name) == b"first"
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").replace(path)
    assert read_all(source, path.name) == b"first"
    source.close()
    with pytest.raises(errors.UnreadableCheckpoint, match=r"model\.safetensors: was replaced while it was read"):
        read_all(source, path.name)


def test_a_file_cut_short_meanwhile_is_an_error_not_a_crash(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"0123456789")
    source = LocalSource(tmp_path)
    read_all(source, path.name)
    os.truncate(path, 4)
    with pytest.raises(errors.UnreadableCheckpoint, match="ends at byte 4 where 10 were expected"):
        read_all(source, path.name)


def test_a_pipe_in_a_files_place_does_not_hang(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    source = LocalSource(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(errors.UnreadableCheckpoint, match="is not a regular file"):
        read_all(source, path.name)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink(path, path)], ids=["pipe", "loop of links"])
def test_what_is_no_file_is_not_opened(tmp_path, make):
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(errors.CheckpointError):
        gammatorch.open_checkpoint(path)
    with pytest.raises(errors.CheckpointNotFound, match=r"model\.safetensors: is a (pipe, not a file|link to itself)"):
        gammatorch.open_checkpoint(tmp_path)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_are_let_go(tmp_path):
    for number in range(MOST_OPEN + 20):
        (tmp_path / f"{number}.safetensors").write_bytes(b"x")
    before = open_descriptors()
    source = LocalSource(tmp_path)
    for file in source.files:
        read_all(source, file)
    assert open_descriptors() == before + MOST_OPEN
    del source
    assert open_descriptors() == before
    write_checkpoint(tmp_path, layers=2, hidden=8, shards=3)
    (tmp_path / "0.safetensors").unlink()
    gammatorch.read_gains(tmp_path / "model.safetensors.index.json", device="cpu")
    assert open_descriptors() == before


def test_on_a_remote_file_system_many_reads_go_at_once_and_give_the_same(tmp_path, monkeypatch):
    from gammatorch.checkpoints import local

    write_checkpoint(tmp_path, layers=12, hidden=64, shards=5)
    one_by_one = gammatorch.read_gains(tmp_path, device="cpu")
    monkeypatch.setattr(local, "is_remote", lambda folder: True)
    monkeypatch.setattr(local, "MOST_OPEN", 2)
    at_once = gammatorch.read_gains(tmp_path, device="cpu")
    assert at_once.gamma.equal(one_by_one.gamma)
    assert at_once.requests < one_by_one.requests  # the heads are read blindly: a round less
    assert at_once.rounds < one_by_one.rounds
    source = LocalSource(tmp_path)
    os.truncate(tmp_path / "config.json", 1)
    reads = [Read(file, 0, memoryview(bytearray(8))) for file in source.files]
    with pytest.raises(errors.UnreadableCheckpoint, match=r"config\.json: was replaced"):
        source.read(reads)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/x", "ext4"), ("/data", "lustre"), ("/data/m", "lustre"), ("/database", "ext4"), ("/my disk/m", "fuse.sshfs")],
)  # fmt: skip
def test_a_path_is_on_the_mount_that_is_nearest(path, kind):
    from gammatorch.checkpoints.local import file_system

    mounts = "rootfs / rootfs rw 0 0\n/dev/vda / ext4 rw 0 0\na@b:/c /data lustre rw 0 0\nd: /my\\040disk fuse.sshfs rw 0 0\n"
    assert file_system(path, mounts) == kind
