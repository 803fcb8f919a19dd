"""Matrix products as exact as their type, whatever the caller's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_EXACT = "ieee"
_INHERITED = "none"


@contextmanager
def full_float32_products() -> Iterator[None]:
    """Products of float32 matrices without TF32 or bfloat16 shortcuts, and the caller's setting again afterwards.

    The settings are those of each backend: once a caller has set any of them, the older
    ``torch.get_float32_matmul_precision`` raises, where these can always be read.

    Example:
        >>> torch.backends.cuda.matmul.fp32_precision = "tf32"
        >>> with full_float32_products():
        ...     torch.backends.cuda.matmul.fp32_precision
        'ieee'
        >>> torch.backends.cuda.matmul.fp32_precision
        'tf32'
        >>> torch.backends.cuda.matmul.fp32_precision = "none"
    """
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
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


def summing_device(device: torch.device) -> torch.device:
    """Where float64 totals are kept: on the device, or on the CPU beside one that has no float64.

    Example:
        >>> summing_device(torch.device("mps"))
        device(type='cpu')
    """
    return torch.device("cpu") if device.type == "mps" else device
