"""What is no header is told by how it begins, whatever length it claims; headers that are some cost nothing more."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.safetensors.headers import FIRST_BYTES, SMALL_HEADER, look_through, read_headers
from gammatorch.errors import MalformedCheckpoint
from tests.sources import MemorySource, RecordingSource

CLAIMED = 99_000_000
NAME = "model.safetensors"
BEGINNINGS = {"zeros": b"", "a list": b"[1, 2]", "a space": b" {}", "a pickle": b"\x80\4"}
MESSAGE = r"model\.safetensors: header is not valid JSON \(it does not start with \{\): download it again"


def claim(path: Path, length: int, beginning: bytes) -> None:
    """A file as long as it says, of which next to nothing is on the disk."""
    path.write_bytes(length.to_bytes(8, "little") + beginning)
    os.truncate(path, 8 + length + 100)


@pytest.mark.parametrize("length", [CLAIMED, 1000])
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_first_bytes_of_a_file_on_the_disk_tell_that_it_has_no_header(tmp_path, kind, length):
    claim(tmp_path / NAME, length, BEGINNINGS[kind])
    source = RecordingSource(LocalSource(tmp_path))
    with pytest.raises(MalformedCheckpoint, match=MESSAGE):
        open_source(source)
    assert source.reads == [(NAME, 0, FIRST_BYTES)]


@pytest.mark.parametrize("length", [0, 2, CLAIMED])
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_head_that_is_read_blindly_tells_it_without_another_read(kind, length):
    content = length.to_bytes(8, "little") + BEGINNINGS[kind].ljust(592, b"\0")
    source = RecordingSource(MemorySource({NAME: content}, 500))
    source.files[NAME] = 8 + length + 592  # what the first bytes say of the others suffices
    with pytest.raises(MalformedCheckpoint, match=MESSAGE):
        open_source(source)
    assert source.reads == [(NAME, 0, 500)]


def test_what_begins_in_another_formats_way_is_told_as_that(tmp_path):
    (tmp_path / NAME).write_bytes(b"\x80\4\x95\0\0\0\0\0")
    os.truncate(tmp_path / NAME, 0x950480 + 100)
    with pytest.raises(MalformedCheckpoint, match="is a pickle, which was not executed"):
        open_source(LocalSource(tmp_path))


def test_one_bad_shard_among_good_ones_is_named(tmp_path):
    save_file({"a": np.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    claim(tmp_path / "model-00002-of-00002.safetensors", CLAIMED, b"")
    source = RecordingSource(LocalSource(tmp_path))
    with pytest.raises(MalformedCheckpoint, match=r"model-00002-of-00002\.safetensors: header is not valid JSON"):
        open_source(source)
    assert sum(stop - start for _, start, stop in source.reads) <= 2 * FIRST_BYTES


@pytest.mark.parametrize("padding", [0, 1000, 1_000_000])
@pytest.mark.parametrize("remote", [False, True])
def test_good_headers_are_read_in_two_reads_at_most(tmp_path, padding, remote):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode() + b" " * padding
    content = len(header).to_bytes(8, "little") + header + b"abcd"
    (tmp_path / NAME).write_bytes(content)
    source = RecordingSource(MemorySource({NAME: content}, 500) if remote else LocalSource(tmp_path))
    assert [header.stop for header in look_through(source, read_headers(source, [NAME]))] == [len(header)]
    stop = 8 + len(header)
    first = min(500 if remote else FIRST_BYTES, len(content))
    then = 8 if not remote and len(header) > SMALL_HEADER else first  # a large one is read anew, as a whole
    assert source.reads == ([(NAME, 0, first)] if first >= stop else [(NAME, 0, first), (NAME, then, stop)])
    assert open_source(source).entries["a"].start == stop
