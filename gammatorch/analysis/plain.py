"""Results as plain Python values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


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
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Tensor | np.ndarray):
        values = np.asarray(value)
        return values.tolist() if np.isfinite(values).all() else plain(values.tolist())
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value
