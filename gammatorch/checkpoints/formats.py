"""Which reader reads which files, as a table: by their layout, else by how their names end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, Read
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.gguf import TYPES, read_gguf
from gammatorch.checkpoints.pytorch.dcp import read_dcp
from gammatorch.checkpoints.pytorch.names import ITEM_BYTES
from gammatorch.checkpoints.pytorch.pipeline import read_layer_files, read_rank_folders, read_torch_files
from gammatorch.checkpoints.safetensors.sharded import read_dcp_shards
from gammatorch.checkpoints.safetensors.table import DTYPE_BITS
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


def is_known_type(dtype: str) -> bool:
    """Whether a stored type is one that some format is known to have, read as gains or not.

    Example:
        >>> is_known_type("F8_E4M3"), is_known_type("Q4_K"), is_known_type("F8_NEW")
        (True, True, False)
    """
    return dtype in DTYPE_BITS or dtype in ITEM_BYTES or any(dtype == name for name, _, _ in TYPES.values())
