"""Which reader reads which files: the formats beside safetensors, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, Read
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.gguf import read_gguf
from gammatorch.checkpoints.pytorch.archive import read_torch
from gammatorch.checkpoints.pytorch.dcp import read_dcp
from gammatorch.checkpoints.weights import DCP_SUFFIX, TORCH_SUFFIXES

READERS: Mapping[str, Callable[[ByteSource, Sequence[str], Sequence[Read]], Contents]] = {
    **dict.fromkeys(TORCH_SUFFIXES, read_torch),
    ".gguf": read_gguf,
    DCP_SUFFIX: read_dcp,
}
"""By how the names of the files end."""
