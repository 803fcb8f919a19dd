"""Which reader reads which files: the formats beside safetensors, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gammatorch.checkpoints.base import ByteSource, Read
from gammatorch.checkpoints.contents import Contents
from gammatorch.checkpoints.gguf import read_gguf
from gammatorch.checkpoints.torch_zip import read_torch
from gammatorch.checkpoints.weights import TORCH_SUFFIXES

READERS: Mapping[str, Callable[[ByteSource, Sequence[str], Sequence[Read]], Contents]] = {
    **dict.fromkeys(TORCH_SUFFIXES, read_torch),
    ".gguf": read_gguf,
}
"""By how the names of the files end."""
