"""GGUF as it is found: the norms of SmolLM2-135M-Instruct, alone and among its quantised matrices."""

from __future__ import annotations

import math
import os

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

import gammatorch
from gammatorch.bench import smollm2
from gammatorch.bench.demo import demo_checkpoint
from gammatorch.checkpoints.opening import open_source
from tests.data.extract_norms import write_gguf, write_safetensors
from tests.sources import RecordingSource

SITES = {"input": "blk.{}.attn_norm.weight", "pre_mlp": "blk.{}.ffn_norm.weight", "final": "output_norm.weight"}
HIDDEN, MLP, GROUPED, VOCABULARY = 576, 1536, 192, 49_152
BLOCK = {
    "attn_norm": (HIDDEN,),
    "ffn_down": (HIDDEN, MLP),
    "ffn_gate": (MLP, HIDDEN),
    "ffn_up": (MLP, HIDDEN),
    "ffn_norm": (HIDDEN,),
    "attn_k": (GROUPED, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "attn_q": (HIDDEN, HIDDEN),
    "attn_v": (GROUPED, HIDDEN),
}


def layout():
    """Name, shape and type of each of the model's 272 tensors, in the order of its Q4_1 file, which is that of names."""
    yield "token_embd.weight", (VOCABULARY, HIDDEN), Kind.Q8_0
    for layer in sorted(range(30), key=str):
        for name, shape in BLOCK.items():
            yield f"blk.{layer}.{name}.weight", shape, Kind.F32 if len(shape) == 1 else Kind.Q4_1
    yield "output_norm.weight", (HIDDEN,), Kind.F32


@pytest.fixture(scope="module")
def in_full_size(smollm2_norms, tmp_path_factory):
    """The file that the norms were taken from, but for its tokenizer, with holes for matrices."""
    path = tmp_path_factory.mktemp("full") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(30)
    writer.add_embedding_length(HIDDEN)
    padded = 0
    for name, shape, kind in layout():
        values, size = gguf.GGML_QUANT_SIZES[kind]
        nbytes = math.prod(shape) // values * size
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
        padded += gguf.GGUFWriter.ggml_pad(nbytes, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, gguf.GGUFWriter.ggml_pad(path.stat().st_size, writer.data_alignment) + padded)
    places = {tensor.name: int(tensor.data_offset) for tensor in gguf.GGUFReader(path).tensors}
    with open(path, "r+b") as file:
        for tensor in gguf.GGUFReader(smollm2_norms).tensors:
            file.seek(places[tensor.name])
            file.write(tensor.data.tobytes())
    return path


def read_by_gguf(path, site):
    """The norms of a site as the gguf package reads them, and their names."""
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    keys = [SITES[site].format(layer) for layer in range(30 if "{}" in SITES[site] else 1)]
    return np.stack([stored[key] for key in keys]), tuple(keys)


@pytest.mark.parametrize("site", SITES)
def test_trained_norms_are_read_as_the_gguf_package_reads_them(smollm2_norms, site):
    expected, keys = read_by_gguf(smollm2_norms, site)
    gains = gammatorch.read_gains(smollm2_norms, site=site, device="cpu")
    assert gains.gamma.float().numpy().tobytes() == expected.tobytes() and gains.gamma.dtype == torch.float64
    assert (gains.keys, gains.site, gains.offset, gains.stored_dtype) == (keys, site, 0, "F32")
    assert (gains.model_type, gains.notes) == ("gguf:llama", ())


@pytest.mark.parametrize("site", SITES)
def test_they_are_what_the_demo_has(smollm2_norms, site):
    with demo_checkpoint() as demo:
        assert gammatorch.read_gains(demo, site=site, device="cpu").gamma.equal(
            gammatorch.read_gains(smollm2_norms, site=site, device="cpu").gamma
        )


@pytest.mark.parametrize("site", SITES)
def test_quantised_matrices_around_them_change_nothing_and_are_not_read(in_full_size, smollm2_norms, site):
    expected, keys = read_by_gguf(smollm2_norms, site)
    assert read_by_gguf(in_full_size, site)[0].tobytes() == expected.tobytes()
    source = RecordingSource(gammatorch.open_checkpoint(in_full_size).source)
    with open_source(source, target=in_full_size.name) as checkpoint:
        opened = len(source.reads)
        gains = gammatorch.read_gains(checkpoint, site=site, device="cpu")
        assert len(checkpoint.entries) == 272
        ranges = sorted((checkpoint.entries[key].start, checkpoint.entries[key].stop) for key in keys)
    assert gains.gamma.float().numpy().tobytes() == expected.tobytes() and gains.keys == keys
    assert sorted((start, stop) for _, start, stop in source.reads[opened:]) == ranges
    assert in_full_size.stat().st_size > 96e6 and sum(stop - start for _, start, stop in source.reads[:opened]) < 3e5


def contents(path):
    """Metadata and tensors of a GGUF file."""
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return fields, {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}


def test_the_script_that_made_the_files_makes_them_of_their_own_again(smollm2_norms, tmp_path):
    reader = gguf.GGUFReader(smollm2_norms)
    write_gguf(reader, tmp_path / "norms.gguf")
    write_safetensors(reader, tmp_path / "norms.safetensors")
    assert contents(tmp_path / "norms.gguf") == contents(smollm2_norms)
    made = load_file(tmp_path / "norms.safetensors")
    carried = smollm2.trained_gains()
    assert {key: weight.view(torch.int16).numpy().tobytes() for key, weight in made.items()} == carried


def test_norms_that_bfloat16_cannot_hold_are_not_rounded_by_the_script(smollm2_norms, tmp_path):
    reader = gguf.GGUFReader(smollm2_norms, "c")
    reader.tensors[7].data[3] = 1.001
    with pytest.raises(ValueError, match=f"{reader.tensors[7].name} does not fit into bfloat16"):
        write_safetensors(reader, tmp_path / "norms.safetensors")
    assert list(tmp_path.iterdir()) == []
