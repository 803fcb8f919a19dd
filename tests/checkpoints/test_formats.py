"""What every reader does, whatever the format: one table of files, which each of these tests crosses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

import gammatorch
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.errors import CheckpointError
from tests.sources import MemorySource, RecordingSource

LAYERS, HIDDEN, WIDE = 3, 48, 200_000
NORM, MATRIX = "model.layers.{}.input_layernorm.weight", "model.layers.{}.mlp.up_proj.weight"
GGUF_NAMES = {"input_layernorm": "attn_norm", "mlp.up_proj": "ffn_up", "model.layers": "blk"}
Tensors = Mapping[str, torch.Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed is disabled")


def shards(tensors: Tensors, folder: Path) -> None:
    for number in range(LAYERS):
        own = {key: value for key, value in tensors.items() if f".{number}." in key}
        save_file(own, folder / f"model-{number + 1:05d}-of-{LAYERS:05d}.safetensors")


def in_gguf(tensors: Tensors, folder: Path) -> None:
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for key, value in tensors.items():
        for old, new in GGUF_NAMES.items():
            key = key.replace(old, new)
        writer.add_tensor(key, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


FORMATS: Mapping[str, Callable[[Tensors, Path], object]] = {
    "safetensors": lambda tensors, folder: save_file(dict(tensors), folder / "model.safetensors"),
    "shards": shards,
    "torch.save": lambda tensors, folder: torch.save(tensors, folder / "pytorch_model.bin"),
    "a trainer's file": lambda tensors, folder: torch.save({"model": tensors, "step": 7}, folder / "last.ckpt"),
    "torch.save of old": lambda tensors, folder: torch.save(
        tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "torch.distributed": lambda tensors, folder: dcp.save(
        dict(tensors), storage_writer=dcp.FileSystemWriter(folder, thread_count=2), no_dist=True
    ),
    "GGUF": in_gguf,
}


def tensors_of(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    norms = {NORM.format(n): torch.randn(HIDDEN, generator=generator).to(dtype) for n in range(LAYERS)}
    return norms | {MATRIX.format(n): torch.full((WIDE,), 2.0, dtype=dtype) for n in range(LAYERS)}


def gamma_of(tensors: Tensors) -> torch.Tensor:
    return torch.stack([tensors[NORM.format(n)] for n in range(LAYERS)]).double()


@pytest.fixture(params=FORMATS)
def made(request, tmp_path) -> tuple[Path, Tensors]:
    tensors = tensors_of(torch.float32)
    FORMATS[request.param](tensors, tmp_path)
    return tmp_path, tensors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_gains_of_every_type_are_those_that_were_saved(format, dtype, tmp_path):
    if format == "GGUF" and dtype is torch.bfloat16:
        pytest.skip("NumPy has no bfloat16 to write")
    tensors = tensors_of(dtype)
    FORMATS[format](tensors, tmp_path)
    gains = gammatorch.read_gains(tmp_path, device="cpu")
    assert gains.gamma.equal(gamma_of(tensors))
    assert (gains.layers, gains.site, gains.offset) == (tuple(range(LAYERS)), "input", 0.0)


def test_a_source_far_away_gives_the_same(made):
    folder, tensors = made
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with open_source(MemorySource(files, 4096)) as checkpoint:
        assert gammatorch.read_gains(checkpoint, device="cpu").gamma.equal(gamma_of(tensors))


def test_nothing_within_other_tensors_is_read(made):
    """Matrices of 800 kB stand beside the gains: no reader goes into them further than a window around a header."""
    folder, tensors = made
    source = RecordingSource(LocalSource(folder))
    with open_source(source) as checkpoint:
        assert gammatorch.read_gains(checkpoint, device="cpu").gamma.equal(gamma_of(tensors))
    read = sum(stop - start for _, start, stop in source.reads)
    assert read < sum(source.files.values()) / 2


def test_a_file_that_is_cut_short_is_refused(made):
    folder, _ = made
    last = max((path for path in folder.iterdir() if path.name != ".metadata"), key=lambda path: path.name)
    content = last.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 100, 0):
        last.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=last.name.partition(".")[0]):
            gammatorch.read_gains(folder, device="cpu")
