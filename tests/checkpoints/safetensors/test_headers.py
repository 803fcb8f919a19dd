"""The safetensors format: headers as bytes, and their table held against safetensors' own parser."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from gammatorch.checkpoints.dtypes import DTYPE_BITS
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.safetensors.headers import (
    FIRST_BYTES,
    SMALL_HEADER,
    look_through,
    parse_header,
    read_headers,
)
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


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=3)
TENSORS = st.dictionaries(NAMES, st.tuples(st.sampled_from(["f2", "f4", "f8", "i8", "u1"]), SHAPES), max_size=6)


def as_file(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entries_of(content: bytes, speculation: int = 0):
    (header,) = read_headers(MemorySource({"model.safetensors": content}, speculation), ["model.safetensors"])
    return header.parse()


def their_view(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What safetensors itself reads, None if it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        try:
            with safe_open(path, "np") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # no mapping
                return {
                    key: (part.get_dtype(), tuple(part.get_shape()), file.get_tensor(key).tobytes())
                    for key, part in slices.items()
                }
        except (SafetensorError, OSError, TypeError):
            return None


def our_view(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    try:
        entries = entries_of(content)
    except MalformedCheckpoint:
        return None
    return {key: (entry.dtype, entry.shape, content[entry.start : entry.stop]) for key, entry in entries.items()}


@settings(deadline=None)
@given(TENSORS, st.integers(0, 2000))
def test_any_saved_file_parses_as_safetensors_parses_it(tensors, speculation):
    rng = np.random.default_rng(0)
    arrays = {key: rng.integers(0, 9, shape).astype(dtype) for key, (dtype, shape) in tensors.items()}
    content = save(arrays, metadata={"note": "dtype"})
    entries = entries_of(content, speculation)
    theirs = their_view(content)
    assert {
        key: (entry.dtype, entry.shape, content[entry.start : entry.stop]) for key, entry in entries.items()
    } == theirs


HOSTILE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-3, 20),
    st.text(max_size=3),
    st.lists(st.integers(-1, 9), max_size=3),
)


@st.composite
def hostile_headers(draw: st.DrawFn) -> bytes:
    """A good header with a few things wrong in it, as bytes."""
    header: dict[str, object] = {}
    position = 0
    for number in range(draw(st.integers(0, 3))):
        size = draw(st.integers(0, 8))
        header[f"t{number}"] = {"dtype": "U8", "shape": [size], "data_offsets": [position, position + size]}
        position += size
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(["t0", "t1", "t2", "new", "__metadata__"]))
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets", "extra"]))
        if isinstance(header.get(key), dict) and draw(st.booleans()):
            header[key] = {**header[key], field: draw(HOSTILE_VALUES)}  # type: ignore[dict-item]
        else:
            header[key] = draw(HOSTILE_VALUES)
    raw = json.dumps(header).encode()
    for old, new in draw(
        st.lists(
            st.sampled_from([(b"t1", b"t0"), (b'"dtype"', b'"dtyp\\u0065"'), (b"[", b"[ "), (b"8", b"8.0")]), max_size=2
        )
    ):
        raw = raw.replace(old, new)
    cut = draw(st.integers(0, len(raw)) | st.just(len(raw)))
    return as_file(raw[:cut], bytes(range(position + draw(st.sampled_from([0, 0, 0, 1])))))


@settings(deadline=None, max_examples=200)
@given(hostile_headers())
def test_what_we_accept_safetensors_accepts_with_the_same_tensors(content):
    ours = our_view(content)
    if ours is not None and all(dtype in DTYPE_BITS for dtype, _, _ in ours.values()):
        assert ours == their_view(content)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_no_bytes_make_it_fail_otherwise(content):
    our_view(content)
    our_view(struct.pack("<Q", len(content)) + content)


GOOD = {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is 0 bytes long, too short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"nothing that is known", "is not safetensors (header of"),
        (struct.pack("<Q", 900) + b"{}", "is cut short within its header"),
        (as_file(b"[]"), "header is not valid JSON"),
        (as_file(b'{"a": NaN}'), "header is not valid JSON (NaN is not JSON)"),
        (as_file(b'{"a":' * 5000), "header is not valid JSON"),
        (as_file(b"\xff\xfe{"), "header is not valid JSON"),
        (as_file(json.dumps(GOOD).encode() + json.dumps(GOOD).encode(), b"ab"), "header is not valid JSON"),
        (as_file(b'{"a": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "a": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"), "'a' is there twice"),
        # found by fuzzing: what was said first has none of the names that were counted
        (as_file(b'{"a":{"x":0},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"), "'a' is there twice"),
        (as_file(b'{"a":0,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"), "'a' is there twice"),
        (as_file(b'{"a": {"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"), "'dtype' is there twice"),
        (as_file(GOOD, b"a"), "is cut short (header describes"),
        (as_file(GOOD, b"abc"), "has bytes that no tensor owns"),
        (as_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2]}}, b"ab"), "a: header entry is broken (F32 [2] does not take 2 bytes)"),
        (as_file({"a": {"dtype": "U8", "shape": [2]}}, b"ab"), "a: header entry is broken (no 'data_offsets')"),
        (as_file({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"a"), "shape must hold whole numbers"),
        (as_file({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"), "a: starts at byte"),
    ],
)  # fmt: skip
def test_each_kind_of_broken_file_is_told_apart(content, message):
    with pytest.raises(MalformedCheckpoint) as caught:
        entries_of(content)
    assert message in str(caught.value)
    assert str(caught.value).startswith("memory/model.safetensors: ")


def test_an_unknown_type_does_not_hide_the_other_tensors():
    header = {**GOOD, "q": {"dtype": "F3_E1M1", "shape": [9], "data_offsets": [2, 6]}}
    raw = json.dumps(header).encode()
    assert parse_header(raw, "m", 8 + len(raw) + 6, "m")["a"].shape == (2,)


def test_speculation_saves_a_round():
    content = as_file({"__metadata__": {"long": "x" * FIRST_BYTES}} | GOOD, b"ab")
    for speculation, rounds in ((0, 2), (9, 2), (len(content), 1), (10_000, 1)):
        source = MemorySource({"m": content}, speculation)
        calls = []
        read = source.read
        source.read = lambda reads, advance=None, read=read, calls=calls: (calls.append(1), read(reads, advance))[1]
        read_headers(source, ["m"])
        assert len(calls) == rounds
