"""The pickle of a PyTorch checkpoint as data: which tensors it describes, without executing anything.

What comes out is what ``torch.load(..., weights_only=True)`` would build, with places in storages instead of values;
:mod:`gammatorch.checkpoints.pytorch.pickle_machine` takes the pickle apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gammatorch.checkpoints.pytorch.names import GUARDED, ITEM_BYTES, NAMES, PASSED_OVER
from gammatorch.checkpoints.pytorch.pickle_machine import OPAQUE, PICKLE_CAP, Broken, Machine, Name, as_type, put
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
    "opaque": lambda *arguments: OPAQUE,
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
        """A class of the trainer's own, whose objects are passed over: settings mostly."""
        passed_over = any(f"{module}.".startswith(f"{package}.") for package in PASSED_OVER)
        return Name("opaque") if passed_over or module.partition(".")[0] not in GUARDED else None

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
