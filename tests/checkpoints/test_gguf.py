"""GGUF, held against the gguf package of llama.cpp: its writer, its reader, and its table of names."""

from __future__ import annotations

import struct
from itertools import pairwise

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, MODEL_ARCH_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from benchmarks.hub_server import serve
from gammatorch import errors
from gammatorch.checkpoints.base import Read
from gammatorch.checkpoints.dtypes import GGUF_TYPES
from gammatorch.checkpoints.gguf import read_gguf
from gammatorch.checkpoints.opening import open_source
from tests.hub_client import point_client_at
from tests.sources import MemorySource, RecordingSource
from tests.zoo import TABLE

LAYERS, HIDDEN = 3, 8


def write(path, tensors, arch="llama", layers=LAYERS, hidden=HIDDEN, vocabulary=20, alignment=None, arrays=None):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(layers)
    writer.add_embedding_length(hidden)
    writer.add_float32("some.epsilon", 1e-5)
    writer.add_bool("some.flag", True)
    writer.add_token_list([f"token{number}" for number in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    for name, values in (arrays or {}).items():
        writer.add_array(name, values)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in tensors.items():
        if isinstance(value, tuple):
            writer.add_tensor(key, value[0], raw_dtype=value[1])
        else:
            writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def norms(seed=0):
    rows = np.random.default_rng(seed).normal(1, 0.1, (LAYERS, HIDDEN)).astype(np.float32)
    return {f"blk.{layer}.attn_norm.weight": rows[layer] for layer in range(LAYERS)}


def read_all(source, files):
    contents = read_gguf(source, files)
    found = {}
    for table in contents.tables:
        for key, entry in table.items():
            buffer = bytearray(entry.nbytes)
            contents.source.read([Read(entry.file, entry.start, memoryview(buffer))])
            found[key] = entry, bytes(buffer)
    return found


@pytest.mark.parametrize("alignment", [None, 64, 256])
def test_entries_are_those_of_the_reference_reader(tmp_path, alignment):
    generator = np.random.default_rng(1)
    tensors = norms() | {
        "half": generator.normal(size=(3, 5)).astype(np.float16),
        "double": generator.normal(size=7),
        "brain": (np.arange(10, dtype=np.uint8), gguf.GGMLQuantizationType.BF16),
        "blk.0.ffn_up.weight": (np.zeros((4, 34), np.uint8), gguf.GGMLQuantizationType.Q8_0),
        "cube": generator.normal(size=(2, 3, 4)).astype(np.float32),
    }
    path = write(tmp_path / "model.gguf", tensors, alignment=alignment)
    found = read_all(MemorySource({"model.gguf": path.read_bytes()}), ["model.gguf"])
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert found.keys() == reference.keys()
    for key, tensor in reference.items():
        entry, content = found[key]
        assert (entry.dtype, entry.start, entry.nbytes) == (
            tensor.tensor_type.name,
            tensor.data_offset,
            int(tensor.n_bytes),
        )
        assert entry.shape == tuple(int(extent) for extent in tensor.shape)[::-1]
        assert content == tensor.data.tobytes()


def test_the_table_of_types_is_the_reference_one():
    reference = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert reference.items() <= GGUF_TYPES.items()


GGUF_OF = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "olmo2": "olmo2",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
    "bloom": "bloom",
    "bert": "bert",
}


@pytest.mark.parametrize("name", [name for name in GGUF_OF if name in TABLE])
def test_converted_models_have_the_same_gains_at_the_same_places(name, tiny, tmp_path):
    """Names by the table that llama.cpp's converter uses; the 1 of Gemma's norms is added as the converter does."""
    original = gammatorch.open_checkpoint(tiny(name))
    (stack,) = gammatorch.find_stacks(original)
    arch = next(arch for arch, known in MODEL_ARCH_NAMES.items() if known == GGUF_OF[name])
    names = gguf.get_tensor_name_map(arch, len(stack.layers))
    tensors, expected = {}, {}
    for place in (*TABLE[name].places, *(["final"] if stack.site("final") else [])):
        gains = gammatorch.read_gains(original, site=place, device="cpu")
        expected[place] = gains.gamma
        for key, gamma in zip(gains.keys, gains.gamma, strict=True):
            shorter = key.partition(".")[2]  # converters take "bert." and "transformer." off
            known = [names.get_name(tried, try_suffixes=(".weight",)) for tried in (key, shorter)]
            tensors[next(filter(None, known))] = gamma.float().numpy()
    hidden = expected[TABLE[name].auto].shape[1]
    path = write(tmp_path / "model.gguf", tensors, GGUF_OF[name], len(stack.layers), hidden)
    with gammatorch.open_checkpoint(path) as converted:
        for place, gamma in expected.items():
            gains = gammatorch.read_gains(converted, site=place, device="cpu")
            torch.testing.assert_close(gains.gamma, gamma, rtol=1e-6, atol=1e-6)
            assert (gains.offset, gains.model_type, gains.notes) == (0, f"gguf:{GGUF_OF[name]}", ())
        assert gammatorch.read_gains(converted, device="cpu").site == TABLE[name].auto


def test_a_place_that_architectures_disagree_on_is_not_guessed(tmp_path):
    tensors = norms() | {f"blk.{layer}.post_attention_norm.weight": np.ones(HIDDEN, np.float32) for layer in range(3)}
    path = write(tmp_path / "model.gguf", tensors, "glm4moe")
    with pytest.raises(errors.SiteNotFound, match="no learned norm at site 'post_attention'"):
        gammatorch.read_gains(path, site="post_attention", device="cpu")


def test_falcons_second_norm_feeds_attention(tmp_path):
    tensors = norms() | {f"blk.{layer}.attn_norm_2.weight": np.full(HIDDEN, 2, np.float32) for layer in range(LAYERS)}
    gains = gammatorch.read_gains(write(tmp_path / "model.gguf", tensors, "falcon"), device="cpu")
    assert gains.keys[0] == "blk.0.attn_norm_2.weight"
    one = gammatorch.read_gains(write(tmp_path / "seven.gguf", norms(), "falcon"), device="cpu")
    assert (one.site, one.keys[0]) == ("input", "blk.0.attn_norm.weight")


def test_quantised_gains_are_refused_and_the_count_is_checked(tmp_path):
    rows = {f"blk.{n}.attn_norm.weight": (np.zeros(34, np.uint8), gguf.GGMLQuantizationType.Q8_0) for n in range(3)}
    path = write(tmp_path / "model.gguf", rows, hidden=32)
    with pytest.raises(errors.UnsupportedFormat, match=r"blk.0.attn_norm.weight: is stored as Q8_0"):
        gammatorch.read_gains(path, device="cpu")
    path = write(tmp_path / "short.gguf", norms(), layers=4)
    with pytest.raises(errors.IncompleteCheckpoint, match="layer 3 of stack 'blk' missing"):
        gammatorch.read_gains(path, device="cpu")


def test_parts_are_read_as_one_model(tmp_path):
    rows = norms()
    for number, key in enumerate(rows, start=1):
        write(tmp_path / f"model-{number:05d}-of-00003.gguf", {key: rows[key]})
    gains = gammatorch.read_gains(tmp_path, device="cpu")
    torch.testing.assert_close(gains.gamma, torch.tensor(np.stack(list(rows.values()))).double(), rtol=0, atol=0)


def test_the_header_is_read_once_and_nothing_of_other_tensors(tmp_path):
    big = {"token_embd.weight": np.zeros((500_000, HIDDEN), np.float32)}
    path = write(tmp_path / "model.gguf", norms() | big, vocabulary=100_000)
    source = RecordingSource(gammatorch.open_checkpoint(path).source)
    with open_source(source, target="model.gguf") as checkpoint:
        header = list(source.reads)
        gammatorch.read_gains(checkpoint, device="cpu")
    assert all(first[2] <= second[1] for first, second in pairwise(header))
    assert sum(stop - start for _, start, stop in source.reads) < 3e6 < path.stat().st_size / 5
    assert len(source.reads) - len(header) == LAYERS


def test_over_the_hub_the_vocabulary_takes_one_round_more(tmp_path, monkeypatch):
    folder = tmp_path / "repo"
    folder.mkdir()
    rows = norms()
    big = {"token_embd.weight": np.zeros((500_000, HIDDEN), np.float32)}
    write(folder / "model.gguf", rows | big, vocabulary=100_000)
    with serve("org/small", folder) as hub:
        point_client_at(hub, tmp_path / "cache", monkeypatch)
        gains = gammatorch.read_gains("org/small", device="cpu")
        torch.testing.assert_close(gains.gamma, torch.tensor(np.stack(list(rows.values()))).double(), rtol=0, atol=0)
        assert gains.rounds == 5  # listing; link; 1 MB; 4 MB; gains
        assert hub.sent < 6e6 < gains.checkpoint_bytes


def header(*parts, tensors=1, pairs=0, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, pairs) + b"".join(parts) + bytes(64)


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def tensor(key=b"a", shape=(4,), kind=0, offset=0):
    return text(key) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "too short for GGUF"),
        (b"GGUF" + bytes(8), "too short"),
        (header(magic=b"GGML"), "is not GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian GGUF"),
        (header(version=1), "version 1"),
        (header(version=9), "version 9"),
        (header(tensors=1 << 60), "1152921504606846976 tensors"),
        (header(pairs=1 << 63), "9223372036854775808 pairs"),
        (header(struct.pack("<Q", 1 << 60), tensors=0, pairs=1), f"text of {1 << 60} bytes"),
        (header(text(b"k"), struct.pack("<IQ", 8, 1 << 60), tensors=0, pairs=1), f"text of {1 << 60} bytes"),
        (header(text(b"k"), struct.pack("<IIQ", 9, 4, 1 << 60), tensors=0, pairs=1), "cut short within its header"),
        (header(text(b"k"), struct.pack("<IIQQ", 9, 8, 2, 1 << 60), tensors=0, pairs=1), "cut short within its header"),
        (header(text(b"k"), struct.pack("<IIQ", 9, 77, 1), tensors=0, pairs=1), "array of the unknown kind 77"),
        (
            header(text(b"k"), struct.pack("<I" + 4 * "IQ", 9, *(9, 1) * 4), tensors=0, pairs=1),
            "array of the unknown kind 9",
        ),
        (header(text(b"k"), struct.pack("<IIQ", 9, 8, 1 << 40), tensors=0, pairs=1), f"array of {1 << 40} texts"),
        (header(text(b"k"), struct.pack("<I", 77), tensors=0, pairs=1), "value of the unknown kind 77"),
        (header(*[text(b"k") + struct.pack("<II", 4, 1)] * 2, tensors=0, pairs=2), "same key twice"),
        (header(text(b"\xff"), struct.pack("<II", 4, 1), tensors=0, pairs=1), "not UTF-8"),
        (header(text(b"general.alignment"), struct.pack("<II", 4, 0), tensors=0, pairs=1), "alignment"),
        (header(tensor(shape=(1,) * 5)), "tensor of 5 dimensions"),
        (header(tensor(shape=(1 << 62, 1 << 62))), "is cut short"),
        (header(tensor(shape=(400,))), "is cut short"),
        (header(tensor(offset=1 << 62)), "is cut short"),
        (header(tensor(offset=3)), "a: starts at 3, which is not aligned"),
        (header(tensor(), tensor(), tensors=2), "a: is there twice"),
        (header(tensor(), tensor(key=b"b"), tensors=2), "b: begins within the tensor before it"),
        (header(tensor(kind=8, shape=(33,))), "rows of 33 values, which are no whole blocks of Q8_0"),
    ],
)
def test_broken_files_are_refused(raw, message):
    with pytest.raises(errors.CheckpointError, match=message):
        open_source(MemorySource({"x.gguf": raw}))


def test_arrays_of_arrays_are_passed_over(tmp_path):
    rows = norms()
    path = write(tmp_path / "model.gguf", rows, arrays={"pairs": [[1, 2], [3]], "names": [["a"], ["b", "c"]]})
    assert len(gguf.GGUFReader(path).fields["names"].parts) > 2
    gains = gammatorch.read_gains(path, device="cpu")
    assert gains.gamma.equal(torch.from_numpy(np.stack(list(rows.values()))).double())


def test_an_unknown_type_is_listed_and_refused_when_read():
    source = MemorySource({"x.gguf": header(tensor(key=b"blk.0.attn_norm.weight", kind=99))})
    checkpoint = open_source(source)
    assert checkpoint.entries["blk.0.attn_norm.weight"].dtype == "GGML_99"
    with pytest.raises(errors.UnsupportedFormat, match="is stored as GGML_99"):
        gammatorch.read_gains(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("gguf") / "model.gguf", norms() | {"half": np.ones((2, 3), np.float16)})
    return path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_header_gives_an_error_or_what_the_reference_reader_gives(data, real, tmp_path_factory):
    damaged = bytearray(real)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) if data.draw(st.booleans()) else bytes(damaged)
    try:
        found = read_all(MemorySource({"x.gguf": damaged}), ["x.gguf"])
    except errors.GammatorchError as error:
        assert "\n" not in str(error).replace(repr("\n"), "")
        return
    path = tmp_path_factory.mktemp("fuzz") / "x.gguf"
    path.write_bytes(damaged)
    try:
        reference = {entry.name: entry for entry in gguf.GGUFReader(path).tensors}
    except (ValueError, KeyError, OverflowError, IndexError, UnicodeDecodeError):
        return  # the reference knows fewer types, or minds a value that we pass over
    for key, (entry, content) in found.items():
        if not entry.dtype.startswith("GGML_"):
            assert content == reference[key].data.tobytes()
