"""Files in the format from before PyTorch 1.6, held against torch.load on the same file."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch import errors
from gammatorch.checkpoints.base import Read
from gammatorch.checkpoints.dtypes import STRIDED, in_form
from gammatorch.checkpoints.opening import open_source
from gammatorch.checkpoints.pytorch import archive
from gammatorch.gains.stored import STORED_DTYPES
from tests.sources import MemorySource

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def save(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def open_bytes(raw: bytes, speculation: int = 0):
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
def test_tensors_are_those_that_torch_load_gives(tmp_path, speculation):
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
    path = save(made, tmp_path / "pytorch_model.bin")
    checkpoint = open_bytes(path.read_bytes(), speculation)
    assert_same_as_torch(checkpoint, torch.load(path, weights_only=True))
    assert checkpoint.entries["column"].dtype == in_form("F32", STRIDED)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_saved_long_ago_has_the_gains_of_its_safetensors(name, tiny, tmp_path):
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_bytes((tiny(name) / "config.json").read_bytes())
    tensors = {key: value for shard in tiny(name).glob("*.safetensors") for key, value in load_file(shard).items()}
    save(tensors, tmp_path / "pytorch_model.bin")
    ours = gammatorch.read_gains(tmp_path, device="cpu")
    assert ours.gamma.equal(gammatorch.read_gains(tiny(name), device="cpu").gamma)


def test_a_long_pickle_is_read_on(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_FIRST_BYTES", 100)
    path = save({f"key.{number}": torch.ones(2) * number for number in range(50)}, tmp_path / "pytorch_model.bin")
    assert_same_as_torch(open_bytes(path.read_bytes()), torch.load(path, weights_only=True))


class Evil:
    def __reduce__(self):
        return exec, ("raise AssertionError('executed')",)


def test_nothing_is_executed(tmp_path):
    path = save({"a": torch.ones(2), "evil": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(errors.UnsupportedFormat, match=r"names .*exec, .*nothing was executed"):
        gammatorch.open_checkpoint(path)


def test_other_versions_and_broken_files_are_refused(tmp_path):
    raw = save({"a": torch.ones(200)}, tmp_path / "pytorch_model.bin").read_bytes()
    for changed, message in [
        (raw[:-1], "is cut short"),
        (raw[:200], "pickle is broken"),
        (raw + b"x", "goes on after its last storage"),
        (raw.replace(b"M\xe9\x03", b"M\xea\x03", 1), "version 1002"),
        (raw.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89", 1), "big-endian"),
    ]:
        assert changed != raw
        with pytest.raises(errors.CheckpointError, match=message):
            open_bytes(changed)


@pytest.mark.parametrize("folds", [b"]" * 5000 + b"a" * 4999, b"]q\0" + b"h\0h\0\x86q\0" * 40], ids=["deep", "folded"])
def test_an_order_of_storages_that_no_list_of_names_is_is_refused_at_once(folds):
    """To write it out would take more than the stack, or 2⁴⁰ brackets."""
    head = [b"M\xe9\x03", b"}X\r\0\0\0little_endian\x88s", b"}", b"](" + folds + b"e"]
    raw = archive.LEGACY_MAGIC + b"".join(b"\x80\x02" + one + b"." for one in head)
    with pytest.raises(errors.MalformedCheckpoint, match="does not hold the storages"):
        open_bytes(raw)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_gives_an_error_or_what_torch_load_gives(data, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    raw = bytearray(save({"a.norm.weight": torch.arange(4.0), "b": torch.ones(2, 2)}, path).read_bytes())
    for place in data.draw(st.lists(st.integers(15, len(raw) - 1), min_size=1, max_size=2)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        checkpoint = open_bytes(bytes(raw))
    except errors.CheckpointError:
        return
    try:
        loaded = torch.load(path, weights_only=True)
    except Exception:  # torch also looks at what has nothing to do with tensors
        return
    tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    assert_same_as_torch(checkpoint, tensors)
