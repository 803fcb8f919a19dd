"""What is left of one checkpoint's gains once their channels are summed: NumPy arrays on the host.

All that follows is L × L, where a call costs more than its arithmetic: NumPy's are several times cheaper than those of
a tensor library, and none of them waits for a device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class HostMoments:
    """Products and sums over each run of channels, about a pivot near each layer's mean: x = γ − p.

    Attributes:
        products: Σ x_i x_j over the channels of each run, shape (block, layer, layer).
        totals: Σ x_i likewise, shape (block, layer).
        pivot: p, shape (layer).
        channels: Channels that each run is worth, shape (block): all of its own, or fewer where they were sketched.
        hidden: Channels in all.
    """

    products: Array
    totals: Array
    pivot: Array
    channels: Array
    hidden: float

    @cached_property
    def whole(self) -> Array:
        """``products`` over all channels, shape (layer, layer)."""
        return np.asarray(self.products.sum(axis=0))

    @cached_property
    def total(self) -> Array:
        """``totals`` over all channels, shape (layer)."""
        return np.asarray(self.totals.sum(axis=0))

    def gram(self) -> Array:
        """G = X Xᵀ of the gains themselves, shape (layer, layer)."""
        cross = np.outer(self.pivot, self.total)
        return self.whole + cross + cross.T + self.hidden * np.outer(self.pivot, self.pivot)

    def sums(self) -> Array:
        """s = X·1 of the gains themselves, shape (layer)."""
        return self.total + self.hidden * self.pivot

    def only(self, rows: Rows) -> HostMoments:
        """Those of some of the layers.

        Args:
            rows: Their rows, ascending.
        """
        products = self.products[:, rows[:, None], rows]
        return replace(self, products=products, totals=self.totals[:, rows], pivot=self.pivot[rows])
