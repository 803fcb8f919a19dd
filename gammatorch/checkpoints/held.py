"""Models in memory as checkpoints: a module or a state dict, whose tensors stay where they are.

Nothing of torch is imported here: whoever holds a module has imported it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from gammatorch.checkpoints.base import Advance, ByteSource, Checkpoint, JsonObject, Read, TensorEntry, Traffic
from gammatorch.checkpoints.dtypes import DTENSOR, ITEM_BYTES, META, OWN_CLASS, SPARSE, TORCH_DTYPES, in_form
from gammatorch.errors import InvalidArgument

STATE_DICT = "state_dict()"
"""What the tensors of a model in memory are said to be in."""


def is_model(value: object) -> bool:
    """Whether a value is a model in memory: a module, or a state dict.

    Example:
        >>> is_model({"norm.weight": None}), is_model("org/name")
        (True, False)
    """
    return isinstance(value, Mapping) or callable(getattr(value, "state_dict", None))


def hold(model: Any) -> Checkpoint:
    """A model in memory as an open checkpoint."""
    is_dict = isinstance(model, Mapping)
    state = model if is_dict else model.state_dict()
    tensors = {str(key): value for key, value in state.items() if hasattr(value, "shape") and hasattr(value, "dtype")}
    name = "state dict" if is_dict else type(model).__name__
    if not tensors:
        raise InvalidArgument("holds no tensors: pass a module, or what its state_dict() gives", file=name)
    entries, start = {}, 0
    for key, tensor in tensors.items():
        entry = _entry(key, tensor, start)
        entries[key], start = entry, entry.stop
    source = HeldSource(name, tensors, entries, start)
    config = None if is_dict else _config(model)
    return Checkpoint(name, source, (STATE_DICT,), entries, config, tensors=tensors)


class HeldSource(ByteSource):
    """The tensors of a model in memory, as bytes for those who cannot take tensors."""

    def __init__(self, name: str, tensors: Mapping[str, Any], entries: Mapping[str, TensorEntry], nbytes: int) -> None:
        self.name, self.revision = name, None
        self.files = {STATE_DICT: nbytes}
        self.traffic = Traffic()
        self._tensors = tensors
        self._entries = [entry for entry in entries.values() if entry.nbytes]

    def speculate(self, file: str) -> int:
        """Nothing: there are no headers."""
        return 0

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Copy the bytes of tensors, or of parts of them, to the host."""
        for _, start, into in reads:
            entry = self._entries[bisect_right(self._entries, start, key=lambda entry: entry.start) - 1]
            within = start - entry.start
            into[:] = _as_bytes(self._tensors[entry.key])[within : within + len(into)]
            self.traffic.bytes_read += len(into)
            if advance is not None:
                advance(len(into))

    def close(self) -> None:
        """Nothing to let go of."""


def _entry(key: str, tensor: Any, start: int) -> TensorEntry:
    """A tensor as a header would describe it; those whose values do not stand in memory as they are, by their form."""
    dtype = TORCH_DTYPES.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
    shape = tuple(map(int, tensor.shape))
    form = _form(tensor)
    if form:
        return TensorEntry(key, in_form(dtype, form), shape, STATE_DICT, start, start)
    return TensorEntry(key, dtype, shape, STATE_DICT, start, start + prod(shape) * ITEM_BYTES.get(dtype, 1))


def _form(tensor: Any) -> str:
    if hasattr(tensor, "full_tensor"):
        return DTENSOR
    if getattr(tensor, "is_meta", False):
        return META
    if getattr(tensor, "is_sparse", False):
        return SPARSE
    return OWN_CLASS if getattr(tensor, "is_quantized", False) else ""


def _as_bytes(tensor: Any) -> memoryview:
    """The values of a tensor or an array, one after the other, on the host."""
    if hasattr(tensor, "detach"):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        return memoryview(flat.view(flat.new_empty(0).byte().dtype).numpy())
    return memoryview(tensor.reshape(-1).copy().view("u1"))


def _config(model: Any) -> JsonObject | None:
    """What the module says of itself, as transformers writes it into config.json."""
    describe = getattr(getattr(model, "config", None), "to_dict", None)
    described = describe() if callable(describe) else None
    return described if isinstance(described, dict) else None
