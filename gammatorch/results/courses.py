"""The schedules that are fitted to the size of γ, as curves over depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

COURSES: Mapping[str, Callable[[Mapping[str, float], int], float]] = {
    "none": lambda fit, k: fit["t0"],
    "geometric": lambda fit, k: fit["t0"] * fit["a"] ** (k - 1),
    "linear": lambda fit, k: fit["t0"] + fit["b"] * (k - 1),
    "logarithmic": lambda fit, k: fit["c"] / math.log1p(k),
    "power": lambda fit, k: fit["t0"] * k ** -fit["p"],
}
"""By the name of a schedule of ``SCHEDULES`` in ``analysis/schedules.py``: its course, k = 1 at the first layer."""
