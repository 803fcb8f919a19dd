"""Results as plain Python values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """Tensors and arrays as nested lists, NaN and infinity as None, mappings and lists likewise within.

    Args:
        value: A tensor or array, mapping, list, or what JSON holds.

    Example:
        >>> import torch
        >>> plain({"gains": torch.tensor([1.0, float("nan")])})
        {'gains': [1.0, None]}
    """
    if isinstance(value, float):  # the most by far, so they come first
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):  # a tensor or an array, told without importing either
        return value.tolist() if math.isfinite(value.sum()) else plain(value.tolist())
    return value
