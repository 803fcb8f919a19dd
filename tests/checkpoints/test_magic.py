"""Files of one format under the name of another: told what they are, whichever reader meets them."""

from __future__ import annotations

import gzip
import io
import pickle

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save

from gammatorch import errors
from gammatorch.checkpoints.opening import open_source
from tests.sources import MemorySource

ROWS = {"layers.0.norm.weight": torch.ones(8)}


def torch_file(*, archive: bool = True) -> bytes:
    made = io.BytesIO()
    torch.save(ROWS, made, _use_new_zipfile_serialization=archive)
    return made.getvalue()


def gguf_file(folder) -> bytes:
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "x.gguf").read_bytes()


FILES = {
    "safetensors": (lambda folder: save(ROWS), "is safetensors: let its name end in .safetensors"),
    "archive": (lambda folder: torch_file(), "let its name end in .bin"),
    "old": (lambda folder: torch_file(archive=False), "let its name end in .bin"),
    "gguf": (gguf_file, "is GGUF: let its name end in .gguf"),
    "pickle": (lambda folder: pickle.dumps({"a": np.ones(9)}), "is a pickle, which was not executed"),
    "gzip": (lambda folder: gzip.compress(torch_file()), "is packed with gzip"),
    "page": (lambda folder: b"<html><body>Sign in</body></html>", "is a web page"),
    "json": (lambda folder: b'{"error": "Repository not found"}', "is JSON, not the weights"),
    "pointer": (lambda folder: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
}
OWN = {"model.safetensors": ("safetensors",), "pytorch_model.bin": ("archive", "old"), "model.gguf": ("gguf",)}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_format_is_told_what_it_is(kind, name, tmp_path):
    make, message = FILES[kind]
    source = MemorySource({name: make(tmp_path)})
    if kind in OWN[name]:
        assert open_source(source).entries
    else:
        with pytest.raises(errors.MalformedCheckpoint, match=message):
            open_source(source)
