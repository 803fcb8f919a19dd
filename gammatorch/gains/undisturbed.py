"""PyTorch as it is out of the box, whatever the caller has set for a model of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from gammatorch.gains.device import device_errors

_EXACT = "ieee"
_INHERITED = "none"


@contextmanager
def undisturbed() -> Iterator[None]:
    """No autocast, no TF32 or bfloat16 in float32 products; tensors on the CPU and in float32 where nothing is said;
    any algorithm, also where those with an order of their own are forbidden.

    In a training script all of these may be set, and each would change digits or end in an error. The caller's
    settings hold again afterwards; but for autocast and the default device they are those of the whole process. What a
    device does not have, or can no longer do, is a :class:`~gammatorch.errors.DeviceError`.

    Example:
        >>> torch.set_default_dtype(torch.bfloat16)
        >>> with torch.autocast("cpu"), undisturbed():
        ...     torch.ones(2, 2).mm(torch.ones(2, 2)).dtype
        torch.float32
        >>> torch.get_default_dtype()
        torch.bfloat16
        >>> torch.set_default_dtype(torch.float32)
    """
    with device_errors(), ExitStack() as settings:
        settings.enter_context(_exact_products())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                settings.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            settings.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) is not torch.float32:
            settings.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if mode := torch.get_deterministic_debug_mode():
            settings.callback(torch.set_deterministic_debug_mode, mode)
            torch.set_deterministic_debug_mode(0)
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """Set by backend: once a caller has done so, the older ``torch.get_float32_matmul_precision`` raises."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = _EXACT
    try:
        yield
    finally:
        for backend, setting in zip(backends, before, strict=True):
            backend.fp32_precision = _INHERITED  # what was read may be that of all backends, which may change again
            if backend.fp32_precision != setting:
                backend.fp32_precision = setting
