"""Which reader reads which files, as a table: by their layout, else by how their names end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, Read
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.gguf import read_gguf
from gammatorch.checkpoints.pytorch.dcp import read_dcp
from gammatorch.checkpoints.pytorch.pipeline import read_layer_files, read_rank_folders, read_torch_files
from gammatorch.checkpoints.safetensors.sharded import read_dcp_shards
from gammatorch.checkpoints.weights import DCP_SHARDS, DCP_SUFFIX, LAYER_FILES, RANK_FOLDERS, TORCH_SUFFIXES

READERS: Mapping[str, Callable[[ByteSource, Sequence[str], Sequence[Read]], Contents]] = {
    **dict.fromkeys(TORCH_SUFFIXES, read_torch_files),
    ".gguf": read_gguf,
    DCP_SUFFIX: read_dcp,
    DCP_SHARDS: read_dcp_shards,
    LAYER_FILES: read_layer_files,
    RANK_FOLDERS: read_rank_folders,
}
"""By the layout of several files, or by how the names of the files end. Safetensors is in none of them."""
