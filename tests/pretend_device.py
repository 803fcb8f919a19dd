"""A device that is the CPU but does not let on: what mixes devices fails on it as on a GPU, all else gives its numbers.

Tensors on it are wrappers around tensors on the CPU, under the name that PyTorch keeps for devices of other makers. Where
there is no GPU, this tells of every line that forgets a device, or asks the device for a number of its own. Once it is
registered, parts of PyTorch take it for the machine's accelerator, so it wants a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    if not stays:
        return given
    wrappers = {id(one.held): one for one in ours}  # in-place operations return the tensor that they were given
    return tree_map(lambda one: wrappers[id(one)] if id(one) in wrappers else _wrapped(one), given)


def _wrapped(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) else value
