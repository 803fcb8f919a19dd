"""Which reader reads which files: the formats beside safetensors, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, Read
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.gguf import TYPES, read_gguf
from gammatorch.checkpoints.pytorch.archive import read_torch
from gammatorch.checkpoints.pytorch.dcp import read_dcp
from gammatorch.checkpoints.pytorch.names import ITEM_BYTES
from gammatorch.checkpoints.safetensors.table import DTYPE_BITS
from gammatorch.checkpoints.weights import DCP_SUFFIX, TORCH_SUFFIXES

READERS: Mapping[str, Callable[[ByteSource, Sequence[str], Sequence[Read]], Contents]] = {
    **dict.fromkeys(TORCH_SUFFIXES, read_torch),
    ".gguf": read_gguf,
    DCP_SUFFIX: read_dcp,
}
"""By how the names of the files end."""


def is_known_type(dtype: str) -> bool:
    """Whether a stored type is one that some format is known to have, read as gains or not.

    Example:
        >>> is_known_type("F8_E4M3"), is_known_type("Q4_K"), is_known_type("F8_NEW")
        (True, True, False)
    """
    return dtype in DTYPE_BITS or dtype in ITEM_BYTES or any(dtype == name for name, _, _ in TYPES.values())
