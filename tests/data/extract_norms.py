"""Take the norm gains of a Llama out of its GGUF file: as a GGUF file of the norms alone, and as safetensors.

    python tests/data/extract_norms.py MODEL.gguf NORMS.gguf NORMS.safetensors

Both are read and written by the formats' own libraries. Metadata is kept, but for the tokenizer. In the safetensors
file the gains have transformers' names and the type bfloat16, which must hold every one of them exactly.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFReader, GGUFValueType, GGUFWriter, get_tensor_name_map
from safetensors.torch import save_file

LEFT_OUT = ("GGUF.", "tokenizer.", "general.architecture")
"""Beginnings of keys that are not copied: the writer adds the first and the last kind itself."""


def transformers_names(layers: int) -> dict[str, str]:
    """transformers' name of each norm of a Llama, by its GGUF name, from the table of llama.cpp's converter."""
    table = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
    names = ["model.norm.weight"]
    for layer in range(layers):
        names += [f"model.layers.{layer}.{norm}_layernorm.weight" for norm in ("input", "post_attention")]
    return {table.get_name(name, try_suffixes=(".weight",)): name for name in names}


def write_gguf(reader: GGUFReader, path: Path) -> None:
    """The metadata and the norms of a GGUF file as another."""
    writer = GGUFWriter(path, reader.get_field("general.architecture").contents())
    for key, field in reader.fields.items():
        if not key.startswith(LEFT_OUT):
            kind, *inner = field.types
            writer.add_key_value(key, field.contents(), kind, inner[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        if tensor.name.endswith("_norm.weight"):
            writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(reader: GGUFReader, path: Path) -> None:
    """The norms of a GGUF file as bfloat16, under transformers' names."""
    names = transformers_names(reader.get_field("llama.block_count").contents())
    stored = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    rounded = {name: stored[key].to(torch.bfloat16) for key, name in names.items()}
    for key, name in names.items():
        if not torch.equal(rounded[name].float(), stored[key]):
            raise ValueError(f"{key} does not fit into bfloat16")
    save_file(rounded, path, {"format": "pt"})


if __name__ == "__main__":
    model = GGUFReader(sys.argv[1])
    write_gguf(model, Path(sys.argv[2]))
    write_safetensors(model, Path(sys.argv[3]))
