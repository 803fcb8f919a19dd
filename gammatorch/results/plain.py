"""Results as plain Python values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Tensors as nested lists, NaN and infinity as None, mappings and lists likewise within.

    Args:
        value: A tensor, mapping, list, or what JSON holds.

    Example:
        >>> import torch
        >>> plain({"gains": torch.tensor([1.0, float("nan")])})
        {'gains': [1.0, None]}
    """
    if isinstance(value, float):  # the most by far, so they come first
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):  # a tensor, told without importing torch
        return value.tolist() if bool(value.isfinite().all()) else plain(value.tolist())
    return value
