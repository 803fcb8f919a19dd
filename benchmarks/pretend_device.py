"""A device that is the CPU but does not let on: what mixes devices fails on it as on a GPU, all else gives its numbers.

Tensors on it are wrappers around tensors on the CPU, under the name that PyTorch keeps for devices of other makers.
Where there is no GPU, this tells of every line that forgets a device, or asks the device for a number of its own, and
counts what a GPU would have to do: kernels, copies, and times that the host waits for it. Once it is registered, parts
of PyTorch take it for the machine's accelerator, so it wants a process of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "pretend"
DEVICE = torch.device("privateuseone", 0)

_aten = torch.ops.aten
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_MAY_MIX = {_aten._to_copy.default, _aten.copy_.default, *_INDEXING}
"""Operations whose operands may lie on several devices; indices may lie on the CPU."""


_ALLOCATE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "detach", "alias"}
_WAIT = {"nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "_linalg_eigh", "_linalg_svd"}
"""Kernels whose result the host looks at before it goes on: a size, an answer, whether a decomposition succeeded."""


@dataclass
class Counts:
    """What was asked of the device.

    Attributes:
        kernels: Operations that compute something there, by name; views and memory cost nothing.
        waits: Times that the host needed a result, by what for.
        sent: Bytes from the host.
        fetched: Bytes to the host.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    fetched: int = 0


_counting: list[Counts] = []


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what is asked of the device meanwhile."""
    _counting.append(Counts())
    try:
        yield _counting[-1]
    finally:
        _counting.pop()


@cache
def register() -> None:
    """Make the device known, for good."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)


class OnDevice(Tensor):
    """A tensor on the device, around the tensor on the CPU that it is."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        wrapper.held = held
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self) -> Any:
        for counts in _counting:
            counts.waits["tolist"] += 1
            counts.fetched += self.held.nbytes
        return self.held.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME} device type tensor to numpy")

    def __repr__(self) -> str:
        return f"OnDevice({self.held})"


class Pretending(TorchDispatchMode):
    """While it is entered, tensors can be made on :data:`DEVICE`."""

    def __enter__(self) -> Pretending:
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(…, device=…) asks for storage on the device
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What an operation gives, on the device if its operands are there or it was asked for there."""
    flat, structure = tree_flatten((args, kwargs))
    ours = [one for one in flat if isinstance(one, OnDevice)]
    stray = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, OnDevice) and one.ndim > 0]
    into_cpu = bool(args) and isinstance(args[0], Tensor) and not isinstance(args[0], OnDevice)
    if ours and stray and (operation not in _MAY_MIX or (operation in _INDEXING and into_cpu)):
        raise RuntimeError(f"Expected all tensors to be on the same device: {operation}, {stray[0].shape} on the CPU")
    plain, named = tree_unflatten([one.held if isinstance(one, OnDevice) else one for one in flat], structure)
    asked = named.get("device")
    if asked is not None:
        stays = torch.device(asked).type == DEVICE.type
        named["device"] = torch.device("cpu") if stays else asked
    else:
        stays = bool(ours) and not (operation is _aten.copy_.default and into_cpu)
    given = operation(*plain, **named)
    if ours or stays:
        for counts in _counting:
            _count(counts, operation, args, flat, given, stays)
    if not stays:
        return given
    wrappers = {id(one.held): one for one in ours}  # in-place operations return the tensor that they were given
    return tree_map(lambda one: wrappers[id(one)] if id(one) in wrappers else _wrapped(one), given)


def _count(counts: Counts, operation: Any, args: tuple[Any, ...], flat: list[Any], given: Any, stays: bool) -> None:
    name = operation._schema.name.removeprefix("aten::")
    on_host = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, OnDevice)]
    if name == "_local_scalar_dense":
        counts.waits["item"] += 1
    elif operation in (_aten._to_copy.default, _aten.copy_.default) and (on_host or not stays):
        moved = given.nbytes if stays else next(one for one in flat if isinstance(one, OnDevice)).nbytes
        counts.sent += moved if stays else 0
        counts.fetched += 0 if stays else moved
        counts.waits.update([] if stays else ["fetch"])
    elif not operation.is_view and name not in _ALLOCATE:
        counts.kernels[name] += 1
        masked = operation in _INDEXING and any(one is not None and one.dtype is torch.bool for one in args[1])
        counts.waits.update([name] if masked or name in _WAIT else [])


def _wrapped(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) else value
