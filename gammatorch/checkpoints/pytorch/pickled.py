"""The pickle of a PyTorch checkpoint as data: which tensors it describes, without executing anything.

What comes out is what ``torch.load(..., weights_only=True)`` would build, with places in storages instead of values;
:mod:`gammatorch.checkpoints.pytorch.pickle_machine` takes the pickle apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gammatorch.checkpoints.pytorch.names import ITEM_BYTES, NAMES, may_be_passed_over
from gammatorch.checkpoints.pytorch.pickle_machine import PICKLE_CAP, Broken, Held, Machine, Name, as_type, put
from gammatorch.checkpoints.pytorch.tensors import TENSOR_FUNCTIONS, Storage, as_size
from gammatorch.errors import MalformedCheckpoint


def _dict(*arguments: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    (pairs,) = arguments or ([],)
    for pair in as_type(list, pairs):
        key, value = pair if type(pair) in (list, tuple) else as_type(list, pair)
        put(made, key, value)
    return made


_RETURNS: Mapping[str, Callable[..., Any]] = {
    **TENSOR_FUNCTIONS,
    "dict": _dict,
    "empty dict": lambda *arguments: {},
    "size": lambda extents: tuple(as_type(tuple, extents)),
    "opaque": lambda *arguments: Held(),
}


class _TorchMachine(Machine):
    names = NAMES
    returns = _RETURNS
    purpose = (
        "no part of a state dict: nothing was executed; if you trust the file, load it yourself and save its state "
        "dict as safetensors"
    )

    def __init__(self, raw: bytes, where: str) -> None:
        super().__init__(raw, where)
        self.storages: dict[str, Storage] = {}

    def unlisted(self, module: str, name: str) -> Name | None:
        """A class whose objects are passed over: a trainer's own, for settings mostly, or plain data."""
        return Name("opaque") if may_be_passed_over(module, name) else None

    def persistent(self, identity: Any) -> Storage:
        """A storage, as torch.save writes it: a tag, a type, a name, a device, a length; of old, None for no view."""
        tag, kind, key, _, count, *view = as_type(tuple, identity)
        if view not in ([], [None]):
            raise Broken("a storage that is a view of another")
        if tag != "storage" or as_type(Name, kind).kind != "storage":
            raise Broken("a persistent id that is no storage")
        storage = Storage(as_type(str, key), kind.value, as_size(count) * ITEM_BYTES[kind.value])
        if self.storages.setdefault(key, storage) != storage:  # torch would take the first for both
            raise Broken("one storage is described in two ways")
        return storage


def read_pickle(raw: bytes, where: str) -> Any:
    """What a pickle describes: dicts, lists, texts, numbers and tensors; nothing is executed.

    The tensors are of :class:`~gammatorch.checkpoints.pytorch.tensors.StoredTensor`.

    Args:
        raw: The pickle.
        where: Name of the file, for messages.

    Raises:
        MalformedCheckpoint: It is broken, or longer than any checkpoint's.
        UnsupportedFormat: It names something that no file of tensors needs.
    """
    if len(raw) > PICKLE_CAP:
        raise MalformedCheckpoint(f"holds a pickle of {len(raw)} bytes, more than any checkpoint's", file=where)
    return read_pickles(raw, 1, where)[0][0]


def read_pickles(raw: bytes, count: int, where: str) -> tuple[list[Any], dict[str, Storage], int]:
    """What several pickles describe that stand one after the other, as :func:`read_pickle`.

    Args:
        raw: Bytes that begin with them.
        count: How many.
        where: Name of the file, for messages.

    Returns:
        What each describes, the storages by key, and where the last one ends.
    """
    machine = _TorchMachine(raw, where)
    return machine.read(count), machine.storages, machine.at
