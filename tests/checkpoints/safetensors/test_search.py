"""The search of raw headers, held against the full parse on headers of every kind."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.safetensors import headers as headers_module
from gammatorch.checkpoints.safetensors import search as search_module
from gammatorch.checkpoints.safetensors.headers import RawHeader
from gammatorch.checkpoints.safetensors.plain import parse_plain
from gammatorch.checkpoints.safetensors.search import SearchedEntries, is_plain, search
from gammatorch.errors import MalformedCheckpoint, UnreadableCheckpoint
from tests.sources import MemorySource

TEXT = ".input_norm."
KEYS = ["h.0.input_norm.weight", "h.1.input_norm.weight", "h.0.mlp.weight", "input_norm.weight", "é.input_norm.w", "x"]
NAMES = st.sampled_from([*KEYS, 'a"b', "a\\b", "},", "{", "dtype", "__metadata__"])


def header_of(raw: bytes, data_bytes: int, before: bytes = b"", file: str = "m") -> RawHeader:
    """In the middle of a block, as the header of one of several files is."""
    block = bytearray(before + raw + before)
    return RawHeader(file, block, len(before), len(before) + len(raw), 8 + len(raw) + data_bytes, file)


def entry_of(start: int, stop: int) -> dict[str, object]:
    return {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, int]:
    """Headers with norms, with the same names elsewhere, repeated, nested, escaped or broken."""
    pairs: list[tuple[str, object]] = []
    position = 0
    for key in draw(st.lists(NAMES, max_size=5)):
        size = draw(st.integers(0, 3))
        described = entry_of(position, position + size)
        position += size
        match draw(st.sampled_from(["good"] * 8 + ["extra", "nested", "dtype", "offset"])):
            case "extra":
                described["extra"] = draw(st.sampled_from(KEYS))
            case "nested":
                described |= {name: entry_of(0, size) for name in draw(st.lists(NAMES, max_size=3))}
            case "dtype":
                described["dtype"] = draw(st.sampled_from([TEXT, "BF16", "a.input_norm.b"]))
            case "offset":
                described["data_offsets"] = [position, position + 9]
        pairs.append((key, described))
    if draw(st.booleans()):
        values = st.sampled_from([*KEYS, TEXT]) | st.just(entry_of(0, 1))
        metadata = draw(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
        pairs.insert(draw(st.integers(0, len(pairs))), ("__metadata__", metadata))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    texts = [
        f"{json.dumps(key, ensure_ascii=draw(st.booleans()))}{separators[1]}{json.dumps(value, separators=separators)}"
        for key, value in pairs
    ]
    raw = ("{" + separators[0].join(texts) + "}").encode() + b" " * draw(st.integers(0, 9))
    if draw(st.integers(0, 9)) == 0:
        raw = raw.replace(b"input", b"inpu\\u0074", 1)
    return raw, position


@settings(deadline=None, max_examples=500)
@given(headers(), st.sampled_from([b"", b'"h.9.input_norm.weight":{', b"}"]))
def test_search_gives_what_the_full_parse_gives_or_is_in_doubt(made, before):
    header = header_of(*made, before)
    try:
        everything = header.parse()
    except MalformedCheckpoint:
        return
    found = search(header, TEXT.encode()) if is_plain(header) else None
    if found is not None:
        assert found == {key: entry for key, entry in everything.items() if TEXT in key}


@settings(deadline=None, max_examples=300)
@given(headers(), st.integers(0, 2**31), st.integers(1, 3))
def test_damage_to_a_header_never_gives_a_tensor_the_full_parse_gives_otherwise(made, place, times):
    raw, data_bytes = bytearray(made[0]), made[1]
    for number in range(times):
        raw[(place >> number) % len(raw)] = b'0123456789,:{}[]" aU'[(place >> 3 * number) % 20]
    header = header_of(bytes(raw), data_bytes)
    try:
        everything = header.parse()
    except MalformedCheckpoint:
        return
    found = search(header, TEXT.encode()) if is_plain(header) else None
    assert found is None or found == {key: entry for key, entry in everything.items() if TEXT in key}


def check_sweep(header: RawHeader) -> None:
    swept = parse_plain([header])
    try:
        everything = header.parse()
    except MalformedCheckpoint:
        assert swept is None
        return
    assert swept is None or dict(swept) == everything


@settings(deadline=None, max_examples=500)
@given(headers(), st.sampled_from([b"", b'"h.9.input_norm.weight":{', b"}"]))
def test_one_sweep_gives_what_the_full_parse_gives_or_is_in_doubt(made, before):
    check_sweep(header_of(*made, before))


@settings(deadline=None, max_examples=500)
@given(headers(), st.integers(0, 2**31), st.integers(1, 3))
def test_one_sweep_over_a_damaged_header_gives_what_the_full_parse_gives_or_is_in_doubt(made, place, times):
    raw = bytearray(made[0])
    for number in range(times):
        raw[(place >> number) % len(raw)] = b'0123456789,:{}[]" aU\xff\\'[(place >> 3 * number) % 22]
    check_sweep(header_of(bytes(raw), made[1]))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(KEYS), unique=True, max_size=6), st.integers(0, 9), st.booleans())
def test_what_writers_write_is_searched_without_a_doubt(keys, padding, metadata):
    described = {key: entry_of(2 * number, 2 * number + 2) for number, key in enumerate(keys)}
    start = {"__metadata__": {"format": "pt"}} if metadata else {}
    raw = json.dumps(start | described, separators=(",", ":"), ensure_ascii=False).encode() + b" " * padding
    header = header_of(raw, 2 * len(keys))
    assert is_plain(header) == bool(keys)  # without a tensor there is nothing to search
    if keys:
        everything = header.parse()
        assert search(header, TEXT.encode()) == {key: entry for key, entry in everything.items() if TEXT in key}
        swept = parse_plain([header])
        assert list(swept.items()) == list(everything.items()) and len(swept) == len(keys) and "y" not in swept


GOOD = '"h.0.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


@pytest.mark.parametrize(
    "raw",
    [
        '{"__metadata__":{"h.0.input_norm.w":"x"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        '{"__metadata__":{"note":"h.0.input_norm.w"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        '{"__metadata__":{' + GOOD + '},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        '{"a":{' + GOOD + ',"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        '{"a":{"dtype":"U8","shape":[2],' + GOOD + ',"data_offsets":[0,2]}}',
        "{" + GOOD + "," + GOOD + "}",
        "{" + GOOD.replace("[2]", "[3]") + "}",
        "{" + GOOD.replace("U8", "F64") + "}",
        "{" + GOOD.replace("[2]", f"[{'9' * 5000}]") + "}",
        "{" + GOOD.replace("[0,2]", f"[0,{'9' * 5000}]") + "}",
        "{" + GOOD.replace("[2]", "[02]") + "}",
        "{" + GOOD.replace('"U8"', '"U8","dtype":"I8"') + "}",
        "{" + GOOD.replace("input_norm.w", "input_norm.w\x01") + "}",
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' + GOOD + "}",
        "{" + GOOD + "," + GOOD.replace("h.0", "h.1") + "}",
        '{"a":[0,0],"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' + GOOD + "}",
        "{" + GOOD.replace("[2]", "[9]").replace("[0,2]", "[0,9]") + ',"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}',
    ],
)  # fmt: skip
def test_what_is_not_certainly_a_tensor_of_the_file_is_a_doubt(raw):
    header = header_of(raw.encode(), 2)
    assert not is_plain(header) or search(header, TEXT.encode()) is None
    check_sweep(header)


@pytest.mark.parametrize(
    ("raw", "data_bytes"),
    [("{" + GOOD + "}", 1), ("{" + GOOD + "}", 3), ("[" + GOOD + "}", 2), ("{" + GOOD, 2), ('{"a\\n":{},' + GOOD + "}", 2)],
)  # fmt: skip
def test_a_header_that_does_not_look_whole_is_parsed_at_once(raw, data_bytes):
    with pytest.raises(MalformedCheckpoint, match="^m: "):
        SearchedEntries([header_of(raw.encode(), data_bytes)], MemorySource({}))


def shards(*raws: str) -> SearchedEntries:
    return SearchedEntries([header_of(raw.encode(), 2, file=f"f{n}") for n, raw in enumerate(raws)], MemorySource({}))


@pytest.mark.parametrize(
    "raw",
    [
        "{" + GOOD + "}" + GOOD.replace("h.0", "h.1").replace("[2]", "[0]").replace("[0,2]", "[2,2]") + "}",
        "{" + GOOD + ",}",
        "{" + GOOD + "},",
        '{"__metadata__":{"a":"b","a":"c"},' + GOOD + "}",
        '{"__metadata__":{"a":"\xff"},' + GOOD + "}",
        '{"__metadata__":{},"__metadata__":{},' + GOOD + "}",
        "{" + GOOD.replace("h.0.input_norm.w", "__metadata__") + "}",
        "{" + GOOD.replace("norm", "n\xfform") + "}",
        '{x"__metadata__":{},' + GOOD + "}",
        '{"__metadata__":{},x' + GOOD + "}",
        "{" + GOOD + ",x" + GOOD.replace("h.0", "h.1").replace("[2]", "[0]").replace("[0,2]", "[2,2]") + "}",
        "{" + GOOD.replace("[0,2]", "[-1,2]") + "}",
    ],
)
def test_a_broken_header_is_never_swept(raw):
    header = header_of(raw.encode("latin-1"), 2)
    with pytest.raises(MalformedCheckpoint):
        header.parse()
    assert parse_plain([header]) is None


def test_a_key_in_two_shards_is_an_error_at_once_in_short_headers_and_a_doubt_before_it_in_others(monkeypatch):
    with pytest.raises(MalformedCheckpoint, match="stands in both f0 and f1"):
        shards("{" + GOOD + "}", "{" + GOOD + "}")
    monkeypatch.setattr(search_module, "PARSED_ANYWAY", 0)
    entries = shards("{" + GOOD + "}", "{" + GOOD + "}")
    assert entries.search(TEXT) is None
    with pytest.raises(MalformedCheckpoint, match="stands in both f0 and f1"):
        len(entries)


def test_a_search_near_a_file_begins_there_and_ends_with_the_first_that_has_it():
    entries = shards(*("{" + GOOD.replace("h.0", f"h.{n}") + "}" for n in range(3)))
    assert list(entries.search(TEXT)) == [f"h.{n}.input_norm.w" for n in range(3)]
    assert list(entries.search(TEXT, near="f1")) == ["h.1.input_norm.w"]
    assert list(entries.search(".2.input", near="f0")) == ["h.2.input_norm.w"]
    assert entries.search("nothing") == {}
    assert list(entries) == list(entries.search(TEXT)) and len(entries) == 3


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        (b'"model.layers.1.mlp.up_proj.weight":', b'?model.layers.1.mlp.up_proj.weight":', "header is not valid JSON"),
        (b'"shape":[40,8]', b'"shape":[41,8]', "model.layers.0.mlp.gate_proj.weight: .*640 bytes"),
        (
            b'"model.layers.1.mlp.up_proj.weight":',
            b'"model.layers.0.mlp.up_proj.weight":',
            "0.mlp.up_proj.weight.* twice",
        ),
    ],
)
def test_short_headers_are_judged_whole_whatever_is_read(tmp_path, written, instead, problem):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(written, instead, 1))
    with pytest.raises(MalformedCheckpoint, match=problem):
        gammatorch.read_gains(tmp_path)


def make_large(monkeypatch):
    for module in (headers_module, search_module):
        monkeypatch.setattr(module, "SMALL_HEADER", 0)
    monkeypatch.setattr(search_module, "PARSED_ANYWAY", 0)


@pytest.mark.parametrize("family", ["qwen3", "deepseek_v3"])
def test_large_headers_are_read_anew_and_give_the_same(tmp_path, monkeypatch, family):
    write_checkpoint(tmp_path, family, layers=5, hidden=16, shards=4)
    kept = gammatorch.read_gains(tmp_path, device="cpu")
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        table = dict(checkpoint.entries)
    make_large(monkeypatch)
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        before = checkpoint.source.traffic.bytes_read
        gains = gammatorch.read_gains(checkpoint, device="cpu")
        assert before < kept.bytes_read / 2 and gains.rounds <= 5
        assert gains.gamma.equal(kept.gamma) and gains.keys == kept.keys
        checkpoint.close()
        assert dict(checkpoint.entries) == table


def test_a_large_header_that_changed_or_is_cut_short_is_an_error(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, layers=5, hidden=16, shards=2)
    make_large(monkeypatch)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        os.truncate(shard, 100)
        with pytest.raises(UnreadableCheckpoint, match=r"00002\.safetensors: ends at byte 100"):
            gammatorch.read_gains(checkpoint, device="cpu")
    write_checkpoint(tmp_path, layers=5, hidden=16, shards=2)
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(MalformedCheckpoint, match=r"00002\.safetensors: is cut short"):
        gammatorch.read_gains(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "entry",
    [
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[02,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[2,04]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[+2,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[2, 4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[02],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2,],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[-2],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"U 8","shape":[2],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"Ü8","shape":[2],"data_offsets":[2,4]}',
        '"h.1\t.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[2,4],"x":0}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[3],"data_offsets":[2,4]}',
        '"h.1.input_norm.w":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}',
    ],
)
def test_an_entry_that_is_no_good_json_or_fits_nowhere_is_not_found(entry):
    last = '"z":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}'
    header = header_of(f"{{{GOOD},{entry},{last}}}".encode(), 6)
    assert not is_plain(header) or search(header, TEXT.encode()) is None
    good = '"h.1.input_norm.w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}'
    header = header_of(f"{{{GOOD},{good},{last}}}".encode(), 6)
    assert is_plain(header) and len(search(header, TEXT.encode())) == 2  # the test could fail


SMALL_ALPHABET = st.binary(max_size=60).map(lambda raw: bytes(byte % 3 for byte in raw))


@given(SMALL_ALPHABET, SMALL_ALPHABET.filter(bool).map(lambda raw: raw[:4]), st.integers(0, 61), st.integers(0, 60))
def test_a_text_is_found_where_python_finds_it(content, text, start, stop):
    buffer = bytearray(content)
    stop = min(stop, len(buffer))
    assert search_module.make_finder(buffer)(text, start, stop) == buffer.find(text, start, stop)


def test_a_buffer_keeps_its_size_as_long_as_it_is_searched():
    buffer = bytearray(b"norm")
    find = search_module.make_finder(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    del find
    buffer.append(0)


def test_without_the_c_librarys_function_python_searches(monkeypatch):
    monkeypatch.setattr(search_module, "_MEMMEM", None)
    assert search_module.make_finder(bytearray(b"a.norm"))(b"norm", 0, 6) == 2
