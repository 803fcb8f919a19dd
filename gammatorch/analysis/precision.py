"""Matrix products as exact as their type, whatever the caller's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32_products() -> Iterator[None]:
    """Products of float32 matrices without TF32 or bfloat16 shortcuts, and the caller's setting again afterwards.

    Example:
        >>> torch.set_float32_matmul_precision("high")
        >>> with full_float32_products():
        ...     torch.get_float32_matmul_precision()
        'highest'
        >>> torch.get_float32_matmul_precision()
        'high'
        >>> torch.set_float32_matmul_precision("highest")
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def summing_device(device: torch.device) -> torch.device:
    """Where float64 totals are kept: on the device, or on the CPU beside one that has no float64.

    Example:
        >>> summing_device(torch.device("mps"))
        device(type='cpu')
    """
    return torch.device("cpu") if device.type == "mps" else device
