"""PyTorch's files, new and old, held against torch.load(weights_only=True) and against transformers' models."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import gammatorch
from benchmarks.hub_server import serve
from gammatorch import errors
from gammatorch.checkpoints.base import Read
from gammatorch.checkpoints.dtypes import STRIDED, in_form
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.pytorch import archive
from gammatorch.checkpoints.pytorch.archive import read_torch
from gammatorch.gains.stored import STORED_DTYPES
from tests.hub_client import point_client_at
from tests.sources import MemorySource, RecordingSource
from tests.zoo import TABLE


def repack(old: Path, new: Path, changes: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with other contents, by Python's own zip writer."""
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, changes.get(name.partition("/")[2], source.read(name)))
    return new


def stored_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def read_all(source, file):
    contents = read_torch(source, [file])
    (table,) = contents.tables
    found = {}
    for key, entry in table.items():
        buffer = bytearray(entry.nbytes)
        contents.source.read([Read(file, entry.start, memoryview(buffer))])
        found[key] = entry, bytes(buffer)
    return found


def save(value, folder: Path) -> Path:
    torch.save(value, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def various() -> dict[str, torch.Tensor]:
    shared = torch.arange(100.0)
    return {
        "bf16": torch.randn(3, 4).bfloat16(),
        "f16": torch.randn(5).half(),
        "f64": torch.randn(5).double(),
        "view": shared[10:20],
        "other view": shared[20:50].view(5, 6),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
        "one row": torch.randn(7, 1)[3:4],
        "f8": torch.ones(5).to(torch.float8_e4m3fn),
        "i64": torch.arange(4),
        "u16": torch.ones(3).to(torch.uint16),
        "bool": torch.tensor([True, False]),
        "c64": torch.ones(2, dtype=torch.complex64),
        "a\x1b[31mb\nc": torch.ones(2),
    }


SPELLING = {"bf16": "BF16", "f16": "F16", "f64": "F64", "view": "F32", "f8": "F8_E4M3", "i64": "I64", "u16": "U16"}


@pytest.mark.parametrize("wrap", [lambda tensors: tensors, lambda tensors: {"epoch": 3, "state_dict": tensors}])
def test_tensors_are_those_that_torch_load_gives(wrap, tmp_path):
    path = save(wrap(various()), tmp_path)
    loaded = torch.load(path, weights_only=True)
    loaded = loaded.get("state_dict", loaded)
    found = read_all(LocalSource(tmp_path), path.name)
    assert found.keys() == loaded.keys()
    for key, tensor in loaded.items():
        entry, content = found[key]
        assert (entry.shape, content) == (tuple(tensor.shape), stored_bytes(tensor)), key
    assert {key: found[key][0].dtype for key in SPELLING} == SPELLING


@pytest.mark.parametrize("name", TABLE)
def test_a_model_saved_as_bin_has_the_gains_of_its_safetensors(name, tiny, tmp_path):
    tensors = load_file(tiny(name) / "model.safetensors") if (tiny(name) / "model.safetensors").exists() else {}
    for shard in sorted(tiny(name).glob("model-*.safetensors")):
        tensors |= load_file(shard)
    shutil.copy(tiny(name) / "config.json", tmp_path)
    halves = [dict(list(tensors.items())[part::2]) for part in range(2)]
    index = {}
    for number, half in enumerate(halves, start=1):
        shard = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save(half, tmp_path / shard)
        index |= dict.fromkeys(half, shard)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    expected = gammatorch.read_gains(tiny(name), device="cpu")
    for model in (tmp_path, tmp_path / "pytorch_model.bin.index.json"):
        gains = gammatorch.read_gains(model, device="cpu")
        assert gains.gamma.equal(expected.gamma)
        assert (gains.keys, gains.site, gains.offset) == (expected.keys, expected.site, expected.offset)


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth"])
def test_a_single_file_of_any_name_is_read(suffix, tmp_path):
    rows = {f"layers.{n}.norm.weight": torch.randn(4) for n in range(3)}
    torch.save({"model": rows, "step": torch.tensor(7)}, tmp_path / f"step7.{suffix}")
    gains = gammatorch.read_gains(tmp_path / f"step7.{suffix}", pattern="layers.{layer}.norm.weight", device="cpu")
    assert gains.gamma.equal(torch.stack(list(rows.values())).double())
    assert any("tensors were read from 'model'" in note for note in gains.notes)


def test_safetensors_go_before_bin(tiny, tmp_path):
    shutil.copytree(tiny("llama"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even read")
    assert all(file.endswith(".safetensors") for file in gammatorch.open_checkpoint(tmp_path).files)


def test_only_directory_pickle_and_gains_are_read(tmp_path):
    tensors = {f"layers.{n}.{kind}.weight": torch.randn(16) for n in range(6) for kind in ("norm", "other")}
    save(tensors | {"embed.weight": torch.randn(300_000)}, tmp_path)
    source = RecordingSource(LocalSource(tmp_path))
    with open_source(source) as checkpoint:
        opened = len(source.reads)
        counts: list[int] = []
        gains = gammatorch.read_gains(
            checkpoint, pattern="layers.{layer}.norm.weight", device="cpu", advance=counts.append
        )
    assert sum(stop - start for _, start, stop in source.reads) < 140_000
    assert sum(counts) == 6 * 16 * 4
    lengths = sorted(stop - start for _, start, stop in source.reads[opened:])
    assert lengths[:6] == [64] * 6 and lengths[-1] < 192  # a local header, padded, and a gain, per layer
    assert gains.rounds <= 3


def test_over_the_hub_one_round_reads_directory_and_pickle(tmp_path, monkeypatch):
    folder = tmp_path / "repo"
    folder.mkdir()
    rows = {f"model.layers.{n}.input_layernorm.weight": torch.randn(64) for n in range(12)}
    save(rows | {f"model.layers.{n}.mlp.weight": torch.randn(300_000) for n in range(12)}, folder)
    (folder / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 12, "hidden_size": 64}')
    with serve("org/old", folder) as hub:
        point_client_at(hub, tmp_path / "cache", monkeypatch)
        gains = gammatorch.read_gains("org/old", device="cpu")
        assert gains.gamma.equal(torch.stack(list(rows.values())).double())
        assert gains.rounds == 4  # listing; config.json and link; head and tail; gains
        assert hub.sent < 300_000 < 14e6 < gains.checkpoint_bytes


def test_views_that_are_not_contiguous_are_refused_when_selected(tmp_path):
    matrix = torch.randn(4, 3)
    rows = {f"layers.{n}.norm.weight": matrix[:, n] for n in range(3)}
    save(rows | {f"layers.{n}.ln.weight": matrix[n] for n in range(3)}, tmp_path)
    plain = gammatorch.read_gains(tmp_path, pattern="layers.{layer}.ln.weight", device="cpu")
    assert plain.gamma.equal(matrix[:3].double())
    assert any("layers.0.norm.weight (strided view) and 2 more cannot be read" in note for note in plain.notes)
    with pytest.raises(errors.UnsupportedFormat, match=r"layers.0.norm.weight: is stored as F32 \(strided view\)"):
        gammatorch.read_gains(tmp_path, pattern="layers.{layer}.norm.weight", device="cpu")


def test_a_view_yet_to_be_negated_is_not_read_as_it_stands(tmp_path):
    negated = torch.randn(4, dtype=torch.complex64).conj().imag.contiguous()
    lazily = torch._neg_view(torch.ones(4))
    assert lazily.is_neg()
    save({"layers.0.norm.weight": lazily, "layers.0.ln.weight": negated}, tmp_path)
    with pytest.raises(errors.UnsupportedFormat, match="strided view"):
        gammatorch.read_gains(tmp_path, pattern="layers.{layer}.norm.weight", device="cpu")


def test_members_beyond_four_gigabytes_are_found(tmp_path):
    """Written and found by PyTorch itself; the storages are holes until the gain is put in its place."""
    gain, path = torch.randn(8), tmp_path / "large.bin"
    with torch.serialization.skip_data():
        torch.save({"big": torch.empty(5 << 28), "layers.0.norm.weight": gain}, path)
    with open(path, "r+b") as file:
        file.seek(torch._C.PyTorchFileReader(str(path)).get_record_offset("data/1"))
        file.write(stored_bytes(gain))
    assert path.stat().st_blocks * 512 < 10e6 < 5e9 < path.stat().st_size
    checkpoint = gammatorch.open_checkpoint(path)
    assert checkpoint.entries["big"].nbytes == 5 << 30
    gains = gammatorch.read_gains(checkpoint, pattern="layers.{layer}.norm.weight", device="cpu")
    assert gains.gamma[0].equal(gain.double())


def test_archives_of_other_writers_are_read(tmp_path):
    rows = {"layers.0.norm.weight": torch.randn(5)}
    save(rows, tmp_path)
    repack(tmp_path / "pytorch_model.bin", tmp_path / "other.bin", {})
    gains = gammatorch.read_gains(tmp_path / "other.bin", pattern="layers.{layer}.norm.weight", device="cpu")
    assert gains.gamma[0].equal(rows["layers.0.norm.weight"].double())


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return save({"layers.0.norm.weight": torch.arange(40.0), "b": torch.ones(3)}, tmp_path_factory.mktemp("good"))


def open_bytes(raw: bytes):
    return open_source(MemorySource({"pytorch_model.bin": raw}))


def test_what_is_no_such_archive_is_refused(good, tmp_path):
    raw = good.read_bytes()
    other = tmp_path / "other.bin"
    for changed, message in [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"not a zip at all" * 9, "is no file that torch.save has written"),
        *((raw[:length], "is cut short") for length in (2, 100, len(raw) // 2, len(raw) - 1)),
        (b"junk" + raw, "is no file that torch.save has written"),
        (b"PK" + raw, "end of the archive is broken"),
        (raw + b"junk", "is cut short"),
        (repack(good, other, {"byteorder": b"big"}).read_bytes(), "big-endian"),
        (repack(good, other, {"version": b"11"}).read_bytes(), "later version of torch.save's format than 10"),
        (repack(good, other, {"data/0": b"1234"}).read_bytes(), "layers.0.norm.weight: its storage of 160 bytes has 4"),
        (repack(good, other, {}, method=zipfile.ZIP_DEFLATED).read_bytes(), "compressed or encrypted"),
    ]:
        with pytest.raises(errors.CheckpointError, match=message):
            open_bytes(changed)


def test_programs_and_files_without_tensors_are_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(errors.UnsupportedFormat, match="TorchScript program"):
        gammatorch.open_checkpoint(tmp_path / "script.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(errors.UnsupportedFormat, match="holds no dict of tensors"):
        gammatorch.open_checkpoint(tmp_path / "empty.pt")
    torch.save({"model": {"a": torch.ones(1)}, "module": {"a": torch.zeros(1)}}, tmp_path / "two.pt")
    with pytest.raises(errors.UnsupportedFormat, match=r"several state dicts \(model, module\)"):
        gammatorch.open_checkpoint(tmp_path / "two.pt")


def directory_field(raw: bytes, member: bytes, offset: int) -> int:
    """Position of a field of a member's entry in the directory."""
    return raw.rindex(b"PK\1\2", 0, raw.rindex(member)) + offset


@pytest.mark.parametrize(
    ("offset", "form", "value"), [(42, "<I", 1 << 30), (42, "<I", 64), (20, "<II", (1 << 30, 1 << 30)), (24, "<I", 5)]
)
def test_a_directory_that_points_elsewhere_is_refused(good, offset, form, value):
    raw = bytearray(good.read_bytes())
    values = value if isinstance(value, tuple) else (value,)
    struct.pack_into(form, raw, directory_field(raw, b"data/0", offset), *values)
    with pytest.raises(errors.MalformedCheckpoint):
        open_bytes(bytes(raw))


@pytest.mark.parametrize("offset", [0, 8, 26, 28, 30])
def test_a_local_header_that_contradicts_the_directory_is_refused_before_its_gain_is_used(good, offset):
    raw = bytearray(good.read_bytes())
    with zipfile.ZipFile(good) as archive:
        raw[archive.getinfo("pytorch_model/data/0").header_offset + offset] ^= 1
    checkpoint = open_bytes(bytes(raw))
    with pytest.raises(errors.MalformedCheckpoint, match="data/0: local header and directory of the archive do not"):
        gammatorch.read_gains(checkpoint, pattern="layers.{layer}.norm.weight", device="cpu")


def test_a_record_that_is_called_a_folder_is_refused(good):
    """torch.load gives whatever was in memory before."""
    raw = bytearray(good.read_bytes())
    entry = raw.rindex(b"pytorch_model/data/0") - 46  # the fixed part of a directory's entry
    raw[entry + 38] |= 0x10
    with pytest.raises(errors.MalformedCheckpoint, match="directory of the archive is broken"):
        open_bytes(bytes(raw))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_an_error_or_what_torch_load_gives(data, good, tmp_path_factory):
    damaged = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        found = read_all(MemorySource({"x.bin": bytes(damaged)}), "x.bin")
    except errors.GammatorchError:
        return
    path = tmp_path_factory.mktemp("fuzz") / "x.bin"
    path.write_bytes(damaged)
    try:
        loaded = torch.load(path, weights_only=True)
    except Exception:
        return  # torch checks sums, and records that we do not need
    for key, (entry, content) in found.items():
        if "strided" not in entry.dtype:
            assert content == stored_bytes(loaded[key])


def test_a_dict_that_holds_itself_is_looked_through_once(tmp_path):
    tensors = {"norm.weight": torch.ones(4)}
    for name in ("state_dict", "model_state_dict", "model", "module", "params", "weights"):
        tensors[name] = tensors
    save(tensors, tmp_path)
    assert list(read_all(LocalSource(tmp_path), "pytorch_model.bin")) == ["norm.weight"]


TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def save_old(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def open_old(raw: bytes, speculation: int = 0):
    return open_source(MemorySource({"pytorch_model.bin": raw}, speculation))


def assert_same_as_torch(checkpoint, loaded) -> None:
    assert checkpoint.entries.keys() == loaded.keys()
    for key, entry in checkpoint.entries.items():
        if entry.dtype not in STORED_DTYPES:
            continue
        buffer = bytearray(entry.nbytes)
        checkpoint.source.read([Read(entry.file, entry.start, memoryview(buffer))])
        there = loaded[key].contiguous()
        assert entry.shape == tuple(there.shape) and STORED_DTYPES[entry.dtype] is there.dtype
        assert bytes(buffer) == bytes(there.flatten().view(torch.uint8).tolist())


@pytest.mark.parametrize("speculation", [0, 16_384])
def test_old_tensors_are_those_that_torch_load_gives(tmp_path, speculation):
    shared = torch.arange(24.0).reshape(4, 6)
    made = {f"t.{number}": torch.arange(5).to(dtype) for number, dtype in enumerate(TYPES)}
    made |= {
        "shared": shared,
        "row": shared[2],
        "column": shared[:, 1],
        "none": torch.empty(0),
        "one": torch.tensor(3.0),
    }
    made |= {"parameter": torch.nn.Parameter(torch.ones(3)), "count": torch.arange(3)}
    path = save_old(made, tmp_path / "pytorch_model.bin")
    checkpoint = open_old(path.read_bytes(), speculation)
    assert_same_as_torch(checkpoint, torch.load(path, weights_only=True))
    assert checkpoint.entries["column"].dtype == in_form("F32", STRIDED)


def test_a_long_pickle_is_read_on(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_FIRST_BYTES", 100)
    path = save_old({f"key.{number}": torch.ones(2) * number for number in range(50)}, tmp_path / "pytorch_model.bin")
    assert_same_as_torch(open_old(path.read_bytes()), torch.load(path, weights_only=True))


class Evil:
    def __reduce__(self):
        return exec, ("raise AssertionError('executed')",)


def test_nothing_in_an_old_file_is_executed(tmp_path):
    path = save_old({"a": torch.ones(2), "evil": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(errors.UnsupportedFormat, match=r"names .*exec, .*nothing was executed"):
        gammatorch.open_checkpoint(path)


def test_other_versions_and_broken_files_are_refused(tmp_path):
    raw = save_old({"a": torch.ones(200)}, tmp_path / "pytorch_model.bin").read_bytes()
    for changed, message in [
        (raw[:-1], "is cut short"),
        (raw[:200], "pickle is broken"),
        (raw + b"x", "goes on after its last storage"),
        (raw.replace(b"M\xe9\x03", b"M\xea\x03", 1), "version 1002"),
        (raw.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89", 1), "big-endian"),
    ]:
        assert changed != raw
        with pytest.raises(errors.CheckpointError, match=message):
            open_old(changed)


@pytest.mark.parametrize("folds", [b"]" * 5000 + b"a" * 4999, b"]q\0" + b"h\0h\0\x86q\0" * 40], ids=["deep", "folded"])
def test_an_order_of_storages_that_no_list_of_names_is_is_refused_at_once(folds):
    """To write it out would take more than the stack, or 2⁴⁰ brackets."""
    head = [b"M\xe9\x03", b"}X\r\0\0\0little_endian\x88s", b"}", b"](" + folds + b"e"]
    raw = archive.LEGACY_MAGIC + b"".join(b"\x80\x02" + one + b"." for one in head)
    with pytest.raises(errors.MalformedCheckpoint, match="does not hold the storages"):
        open_old(raw)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_old_file_gives_an_error_or_what_torch_load_gives(data, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    raw = bytearray(save_old({"a.norm.weight": torch.arange(4.0), "b": torch.ones(2, 2)}, path).read_bytes())
    for place in data.draw(st.lists(st.integers(15, len(raw) - 1), min_size=1, max_size=2)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        checkpoint = open_old(bytes(raw))
    except errors.CheckpointError:
        return
    try:
        loaded = torch.load(path, weights_only=True)
    except Exception:  # torch also looks at what has nothing to do with tensors
        return
    tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    assert_same_as_torch(checkpoint, tensors)
