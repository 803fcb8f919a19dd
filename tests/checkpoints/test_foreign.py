"""Files that cannot be read as weights: told what they are, by name or by how they begin, and what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import socket
import tarfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.foreign import FOREIGN
from gammatorch.checkpoints.opening import open_source
from tests.sources import MemorySource


def archive(pack) -> bytes:
    made = io.BytesIO()
    pack(made)
    return made.getvalue()


def tar_file() -> bytes:
    def pack(made):
        with tarfile.open(fileobj=made, mode="w") as packed:
            packed.addfile(tarfile.TarInfo("model_config.yaml"))

    return archive(pack)


def zip_file() -> bytes:
    def pack(made):
        with zipfile.ZipFile(made, "w") as packed:
            packed.writestr("config.json", "{}")

    return archive(pack)


FILES = {
    "model.onnx": (b"\x08\x08\x12\x07pytorch", "an ONNX graph", "pass the model that it was made from"),
    "model.ONNX": (b"\x08\x08\x12\x07pytorch", "an ONNX graph", "pass the model that it was made from"),
    "weights.npz": (archive(lambda made: np.savez(made, a=np.ones(3))), "an archive of NumPy arrays", "numpy.load"),
    "weights.npy": (archive(lambda made: np.save(made, np.ones(3))), "a NumPy array", "numpy.load"),
    "megatron.nemo": (tar_file(), "a tar archive with a NeMo or Megatron checkpoint", "unpack it with tar -xf"),
    "model.keras": (zip_file(), "a Keras archive", "save its weights as safetensors"),
    "tf_model.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write it", "as safetensors"),
    "flax_model.msgpack": (b"\x82\xa6params", "a MessagePack file, as Flax writes it", "as safetensors"),
    "model.tflite": (b"\x1c\0\0\0TFL3", "a TensorFlow Lite graph", "pass the model that it was made from"),
    "model.pkl": (pickle.dumps({"a": 1}), "a pickle", "it is never executed, so load it yourself"),
    "model.tar": (tar_file(), "a packed archive", "unpack it, and pass a model's folder"),
    "model.tar.gz": (gzip.compress(tar_file()), "a packed archive", "unpack it, and pass a model's folder"),
    "model.zip": (zip_file(), "a packed archive", "unpack it, and pass a model's folder"),
    "model.safetensors.gz": (gzip.compress(b"x"), "a compressed file", "unpack it, and pass what comes out"),
    "model.safetensors.part": (b"", "an unfinished download", "download it to its end"),
    "bert_model.ckpt.index": (b"\0\0\1", "a part of a TensorFlow checkpoint", "save its weights as safetensors"),
    "ckpt.data-00000-of-00001": (b"\0\0\1", "a part of a TensorFlow checkpoint", "save its weights as safetensors"),
    "saved_model.pb": (b"\x08\1\x12", "a part of a TensorFlow checkpoint", "save its weights as safetensors"),
    "model.engine": (b"ftrt", "a TensorRT engine", "pass the model that it was made from"),
    "model.mlmodel": (b"\x08\4", "a Core ML model", "pass the model that it was made from"),
    "model.pte": (b"\x08\4", "an ExecuTorch program", "pass the model that it was made from"),
    "model.pdparams": (pickle.dumps({}), "a file of Paddle's weights", "save its weights as safetensors"),
    "model.ggml": (b"lmgg", "a file in GGML's old format", "convert it to GGUF"),
}


def test_every_format_of_the_table_is_tried():
    assert all(any(one.pattern.fullmatch(name) for name in FILES) for one in FOREIGN)


@pytest.mark.parametrize("name", FILES)
def test_a_format_that_is_not_read_is_named_with_what_to_do(tmp_path, name):
    content, what, remedy = FILES[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "README.md").write_text("# A model\n")
    with pytest.raises(errors.UnsupportedFormat) as alone:
        gammatorch.open_checkpoint(tmp_path / name)
    assert str(alone.value).startswith(f"{tmp_path / name}: is {what}, which gammatorch does not read: ")
    with pytest.raises(errors.UnsupportedFormat) as held:
        gammatorch.open_checkpoint(tmp_path)
    wanted = f"{tmp_path}: holds no weights but {what} ({name}), which gammatorch does not read: "
    assert str(held.value).startswith(wanted)
    assert (
        remedy in str(alone.value)
        and str(alone.value).partition(" read: ")[2] == str(held.value).partition(" read: ")[2]
    )


def test_weights_beside_such_files_are_read_all_the_same(tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    for name, (content, _, _) in FILES.items():
        (tmp_path / name).write_bytes(content)
    assert gammatorch.read_gains(tmp_path, device="cpu").gamma.shape == (3, 8)


RENAMED = {
    "pointer": (b"version https://git-lfs", "is a Git LFS pointer, not the weights, which gammatorch does not read"),
    "README": (b"# A model", r"is none of the files that are read \(.*\): pass one of them, or the folder of a model"),
    "result.json": (b'{"schema_version": 1}', r"is none of the files that are read \(.*\): pass one of them"),
    "empty": (b"", r"is none of the files that are read \(.*\): pass one of them"),
}


@pytest.mark.parametrize("name", RENAMED)
def test_a_file_of_another_name_is_told_by_its_beginning(tmp_path, name):
    content, message = RENAMED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.UnsupportedFormat, match=f"^{re.escape(str(tmp_path / name))}: {message}"):
        gammatorch.open_checkpoint(tmp_path / name)


NORMS = {f"model.layers.{layer}.input_layernorm.weight": torch.arange(8.0) + layer for layer in range(3)}
TORCH = archive(lambda made: torch.save(NORMS, made))
OLD = archive(lambda made: torch.save(NORMS, made, _use_new_zipfile_serialization=False))


@pytest.mark.parametrize(
    "name", ["model_best.pth.tar", "x.tar", "network.pkl", "x.th", "x.pyth", "x.PT", "x.params", "x.weights", "x"]
)
@pytest.mark.parametrize("content", [TORCH, OLD, save(NORMS)], ids=["archive", "old", "safetensors"])
def test_a_file_of_another_name_is_read_by_its_content(tmp_path, name, content):
    """As trainers call what torch.save writes, moco's and timm's .pth.tar among them: no such archive is a tar."""
    (tmp_path / name).write_bytes(content)
    gains = gammatorch.read_gains(tmp_path / name, device="cpu")
    assert gains.gamma.equal(torch.stack(list(NORMS.values())))


@pytest.mark.parametrize("name", ["Model.SafeTensors", "lora.sft", "weights"])
def test_such_a_file_is_read_with_the_config_beside_it(tmp_path, name):
    (tmp_path / name).write_bytes(save(NORMS))
    (tmp_path / "config.json").write_text('{"model_type": "gemma", "num_hidden_layers": 3}')
    assert gammatorch.read_gains(tmp_path / name, device="cpu").offset == 1


@pytest.mark.parametrize("name", ["model.npz", "model.zip", "model.keras", "model.safetensors.part", "x.tar"])
def test_other_archives_and_unfinished_downloads_stay_what_their_names_say(tmp_path, name):
    content = b"model/weights.bin" + bytes(300) if name == "x.tar" else TORCH
    (tmp_path / name).write_bytes(save(NORMS) if name.endswith(".part") else content)
    with pytest.raises(errors.UnsupportedFormat, match="which gammatorch does not read"):
        gammatorch.open_checkpoint(tmp_path / name)


def listen(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


STRANGE = {
    "a folder": (os.mkdir, "is a folder, though its name is a file's: put the file there, or pass the folder"),
    "a pipe": (os.mkfifo, "is a pipe, not a file: save what comes out of it as a file"),
    "a socket": (listen, "is a socket, not a file: save what comes out of it as a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file: save what comes out of it"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "is a link to something that does not exist: put"),
    "a loop": (lambda path: path.symlink_to(path.name), "is a link to itself: put the file there"),
}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "q4.gguf", "model.safetensors.index.json"])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_bears_a_weight_files_name_and_is_no_file_is_told(tmp_path, name, kind):
    make, message = STRANGE[kind]
    make(tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    for model in (tmp_path, tmp_path / name):
        with pytest.raises(errors.CheckpointError) as caught:
            gammatorch.open_checkpoint(model)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


@pytest.mark.parametrize("kind", STRANGE)
def test_a_config_that_is_no_file_is_not_taken_for_none(tmp_path, kind):
    make, message = STRANGE[kind]
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    (tmp_path / "config.json").unlink()
    make(tmp_path / "config.json")
    for model in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(errors.UnreadableCheckpoint) as caught:
            gammatorch.open_checkpoint(model)
        assert str(caught.value).startswith(f"{tmp_path}/config.json: {message}")


def test_a_folder_with_a_weight_files_name_that_holds_the_model_is_read(tmp_path):
    folder = tmp_path / "model.safetensors"
    folder.mkdir()
    write_checkpoint(folder, layers=3, hidden=8, shards=1)
    assert gammatorch.read_gains(folder, device="cpu").gamma.shape == (3, 8)


def test_several_models_are_not_hidden_by_a_strange_file_beside_them(tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    os.link(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    os.mkfifo(tmp_path / "c.bin")
    with pytest.raises(errors.CheckpointNotFound, match="holds several safetensors files"):
        gammatorch.open_checkpoint(tmp_path)


# --- stored types ---

BITS = {"F4": 4, "F8_E8M0": 8, "U8": 8, "F8_NEW": 8, "bfloat16": 16, "C64": 64}
KEY = "model.layers.{}.input_layernorm.weight"


def write_as(folder: Path, dtype: str, layers: tuple[int, ...], width: int = 8) -> None:
    """Three layers of which these have a norm of another type."""
    header, position = {}, 0
    for layer in range(3):
        for name, size in (("input_layernorm", width if layer in layers else 8), ("mlp.down_proj", 8)):
            stored = dtype if layer in layers and name == "input_layernorm" else "BF16"
            stop = position + size * {**BITS, "BF16": 16}[stored] // 8
            header[f"model.layers.{layer}.{name}.weight"] = {
                "dtype": stored,
                "shape": [size],
                "data_offsets": [position, stop],
            }
            position = stop
    raw = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + b"\x80\x3f" * (position // 2))
    config = {"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("layers", [(1,), (0, 1, 2)], ids=["one layer", "all layers"])
@pytest.mark.parametrize("dtype", BITS)
def test_a_stored_type_that_gives_no_gains_is_named_and_one_that_is_not_known_is_called_so(tmp_path, dtype, layers):
    write_as(tmp_path, dtype, layers)
    known = {
        True: ", and gains are read as F64, F32, F16, BF16 (and F8 without a scale): quantised weights have no gain of their own",
        False: ", a type that this version does not know: upgrade gammatorch, or save the tensor again as one of F64",
    }[dtype not in ("F8_NEW", "bfloat16")]
    with pytest.raises(errors.UnsupportedFormat) as caught:
        gammatorch.read_gains(tmp_path, device="cpu")
    place = f"{tmp_path}/model.safetensors: {KEY.format(layers[0])}"
    assert str(caught.value).startswith(f"{place}: is stored as {dtype}{known}")


@pytest.mark.parametrize(
    ("layers", "than"), [((1,), "where model.layers.0"), ((0, 1, 2), "but config.json says hidden size 8")]
)
def test_packed_rows_are_not_called_another_models(tmp_path, layers, than):
    write_as(tmp_path, "U8", layers, width=4)
    with pytest.raises(errors.WidthMismatch, match="holds 4 values stored as U8") as caught:
        gammatorch.read_gains(tmp_path, device="cpu")
    assert than in str(caught.value) and ("or the weights are packed" in str(caught.value)) == (len(layers) > 1)


NORM_ROWS = {"layers.0.norm.weight": torch.ones(8)}


def torch_file(*, archive: bool = True) -> bytes:
    made = io.BytesIO()
    torch.save(NORM_ROWS, made, _use_new_zipfile_serialization=archive)
    return made.getvalue()


def gguf_file(folder) -> bytes:
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "x.gguf").read_bytes()


DISGUISED = {
    "safetensors": (lambda folder: save(NORM_ROWS), "is safetensors: let its name end in .safetensors"),
    "archive": (lambda folder: torch_file(), "let its name end in .bin"),
    "old": (lambda folder: torch_file(archive=False), "let its name end in .bin"),
    "gguf": (gguf_file, "is GGUF: let its name end in .gguf"),
    "pickle": (lambda folder: pickle.dumps({"a": np.ones(9)}), "is a pickle, which was not executed"),
    "gzip": (lambda folder: gzip.compress(torch_file()), "is packed with gzip"),
    "page": (lambda folder: b"<html><body>Sign in</body></html>", "is a web page"),
    "json": (lambda folder: b'{"error": "Repository not found"}', "is JSON, not the weights"),
    "pointer": (lambda folder: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
}
NAMED_RIGHTLY = {
    "model.safetensors": ("safetensors",),
    "pytorch_model.bin": ("archive", "old"),
    "model.gguf": ("gguf",),
}


@pytest.mark.parametrize("name", NAMED_RIGHTLY)
@pytest.mark.parametrize("kind", DISGUISED)
def test_a_file_of_another_format_is_told_what_it_is(kind, name, tmp_path):
    make, message = DISGUISED[kind]
    source = MemorySource({name: make(tmp_path)})
    if kind in NAMED_RIGHTLY[name]:
        assert open_source(source).entries
    else:
        with pytest.raises(errors.MalformedCheckpoint, match=message):
            open_source(source)
