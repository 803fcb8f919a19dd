"""``gammatorch bench`` as a user sees it."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pytest
import safetensors
from safetensors.torch import load_file, save_file

from gammatorch.bench import layouts, page_cache, throughput
from gammatorch.bench.synthetic import write_checkpoint

STAGES = ["open, headers", "selection", "reads", "to the device", "gains, together", "analysis"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model", "gemma2", layers=6, hidden=64, shards=3)
    for path in (tmp_path / "model").iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return tmp_path / "model"


def test_the_document_says_what_was_read_for_what_was_needed(call, folder, tmp_path):
    out = tmp_path / "bench.json"
    done = call("bench", folder, "--device", "cpu", "--repeats", 2, "--format", "json", "--out", out)
    assert done.code == 0
    document = json.loads(done.stdout)
    assert document == json.loads(out.read_text())
    (measured,) = document["checkpoints"]
    assert (measured["layers"], measured["hidden"], measured["shards"], measured["repeats"]) == (6, 64, 3, 2)
    assert measured["bytes_needed"] == 6 * 64 * 2 < measured["bytes_read"] < measured["checkpoint_bytes"]
    assert measured["bytes_needed"] <= measured["page_bytes"] <= 6 * 2 * mmap.PAGESIZE
    assert measured["page_bytes"] % mmap.PAGESIZE == 0
    assert measured["rounds"] == 3
    assert (measured["cold"] is None) == bool(measured["notes"])
    warm = measured["warm"]
    assert list(warm["stages"]) == ["open", "select", "read", "transfer", "analysis"]
    assert all(seconds > 0 for seconds in warm["stages"].values())
    assert warm["tensors_per_second"] == pytest.approx(6 * warm["checkpoints_per_second"])
    assert warm["over_safe_open"] == pytest.approx(warm["safe_open"] / warm["extraction"])
    if measured["cold"] is not None and warm["disk_bytes"] is not None:
        pages = 3 * 8192 + 6 * 8192 + 2 * 8192  # a header, a gain or the config touches two pages at most
        assert 0 < measured["cold"]["disk_bytes"] <= pages
        assert warm["disk_bytes"] == 0


def test_the_table_has_a_line_for_each_stage(call, folder):
    done = call("bench", folder, "--device", "cpu", "--repeats", 1)
    assert done.code == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert f"{folder}: 6 × 64 of" in lines[1]
    assert [line[:25].strip() for line in lines[3:9]] == STAGES
    assert lines[9].startswith("safe_open, the same gains")
    assert any(line.startswith("warm: ") and line.endswith("× as fast as safe_open") for line in lines)
    cold = [line for line in lines if line.startswith("cold: ")]
    assert all(
        ("; from disk " in line and "(the gains' own pages are " in line) or not Path("/proc/self/io").exists()
        for line in cold
    )
    assert any(line.startswith("read ") and "3 dependent rounds" in line for line in lines)


def test_without_a_model_it_times_the_layouts_of_real_models(call, monkeypatch):
    assert {name: size["layers"] for name, size in layouts.FULL_SIZE.items()} == {
        "Qwen3-32B": 64,
        "DeepSeek-V3": 61,
        "Kimi-K2": 61,
    }
    for name, size in layouts.FULL_SIZE.items():
        small = {"family": size["family"], "layers": 4, "hidden": 16, "shards": 2}
        monkeypatch.setitem(layouts.FULL_SIZE, name, small)
    document = json.loads(call("bench", "--device", "cpu", "--repeats", 1, "--format", "json").stdout)
    assert [one["model"] for one in document["checkpoints"]] == [
        f"{name}'s layout, synthetic gains" for name in layouts.FULL_SIZE
    ]


def test_without_an_index_every_shard_is_asked(call, folder):
    (folder / "model.safetensors.index.json").unlink()
    assert call("bench", folder, "--device", "cpu", "--repeats", 1).code == 0


def test_what_cannot_be_dropped_from_the_cache_has_no_cold_times_but_a_note(call, folder, monkeypatch):
    monkeypatch.setattr(throughput, "can_drop", lambda paths: False)
    (measured,) = json.loads(call("bench", folder, "--device", "cpu", "--repeats", 1, "--format", "json").stdout)[
        "checkpoints"
    ]
    assert measured["cold"] is None
    assert measured["notes"] == ["cold times are left out: the files cannot be dropped from the page cache here"]


def test_what_was_read_a_moment_ago_is_in_the_cache_and_then_dropped(folder):
    paths = [str(path) for path in sorted(folder.glob("*.safetensors"))]
    if not page_cache.can_drop(paths):
        pytest.skip("this file system keeps its pages")
    for path in paths:
        with open(path, "rb") as file:
            file.read(8)
    assert all(page_cache.is_cached(path) for path in paths)
    assert any(page_cache.can_drop(paths) for _ in range(20))


def test_gains_that_safe_open_reads_otherwise_are_an_error(call, folder, monkeypatch):
    peer = throughput._peer
    monkeypatch.setattr(throughput, "_peer", lambda *a: lambda: [row + 1 for row in peer(*a)()])
    done = call("bench", folder, "--device", "cpu")
    assert done.code == 1 and "safe_open reads other gains" in done.stderr


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["--revision", "main"], ["--format", "xml"]])
def test_wrong_usage_ends_with_2(call, arguments):
    done = call("bench", *arguments)
    assert done.code == 2 and "Usage: gammatorch bench" in done.stderr


def test_a_broken_checkpoint_is_one_line_and_leaves_the_old_result(call, folder, tmp_path):
    out = tmp_path / "bench.json"
    out.write_text("old")
    tensors = load_file(folder / "model-00001-of-00003.safetensors")
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    save_file({key: tensor for key, tensor in tensors.items() if ".1." not in key}, folder / "model.safetensors")
    done = call("bench", folder, "--out", out)
    assert done.code == 1 and done.stderr.count("\n") == 1 and out.read_text() == "old"


def test_safe_open_brings_the_gains_to_the_same_device(call, folder, monkeypatch):
    """On a GPU the copy there is in both times, or in neither."""
    asked, waited, opened = set(), [], safetensors.safe_open
    monkeypatch.setattr(
        safetensors, "safe_open", lambda path, kind, device: (asked.add(device), opened(path, kind, device=device))[1]
    )
    monkeypatch.setattr(throughput, "synchronize", waited.append)
    assert call("bench", str(folder), "--device", "cpu", "--repeats", "1").code == 0
    assert asked == {"cpu"} and {str(device) for device in waited} == {"cpu"}
