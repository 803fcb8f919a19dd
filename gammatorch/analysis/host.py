"""What is left of one checkpoint's gains once their channels are summed: NumPy arrays on the host.

All that follows is L × L, where a call costs more than its arithmetic: NumPy's are several times cheaper than those of
a tensor library, and none of them waits for a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gammatorch.errors import GainError

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


def product(left: Array, right: Array) -> Array:
    """``left @ right`` by PyTorch: for large products NumPy starts threads of its own, which get in PyTorch's way.

    Args:
        left: Shape (…, n) or (n).
        right: Shape (n, m) or (n).

    Example:
        >>> product(np.ones((2, 3)), np.ones(3))
        array([3., 3.])
    """
    one, other = (torch.from_numpy(np.require(values, requirements="W")) for values in (left, right))
    found: Array = torch.matmul(one, other).numpy()
    return found


def sum_of_squares(values: Array) -> float:
    """Σ x² over all values, likewise by PyTorch.

    Args:
        values: Of any shape, contiguous.

    Example:
        >>> sum_of_squares(np.full((2, 2), 3.0))
        36.0
    """
    flat = values.reshape(-1)
    return float(product(flat, flat))


BOUNDS = {torch.float64: (1e-140, 1e140), torch.float32: (1e-15, 1e17)}
"""Root mean squares between which products keep their digits: the squares of deviations of 1e-5 of them are normal
numbers, sums over 10⁹ channels (in float32, over a chunk of them) are finite."""


def check_magnitudes(moments: HostMoments, layers: Sequence[int], dtype: torch.dtype, of: str = "") -> None:
    """Refuse gains beyond :data:`BOUNDS`; layers of zeros are none of them.

    No stored type but F64 reaches beyond those of float64, so this is about tensors of a caller's own, and about layers
    that have decayed to nothing in float32.

    Args:
        moments: Of the gains.
        layers: Layer index of each row.
        dtype: Precision of the products.
        of: Whose gains they are, where there are several checkpoints: `` of checkpoint 3``.

    Raises:
        GainError: The gains of a layer are too large or too small.

    Example:
        >>> from gammatorch.analysis.moments import moments
        >>> tiny = moments(torch.full((1, 4), 1e-170, dtype=torch.float64)).home()[0]
        >>> check_magnitudes(tiny, (7,), torch.float64)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gammatorch.errors.GainError: gains of layer 7 are around 1e-170, and float64 ...: scale them
    """
    low, high = BOUNDS[dtype]
    sizes = _sizes(moments)
    beyond = ((sizes > 0) & (sizes < low)) | ~(sizes < high)
    if not beyond.any():
        return
    row = int(beyond.argmax())
    size = float(sizes[row])
    remedy = "scale them" if dtype is torch.float64 else "pass --dtype float64"
    raise GainError(
        f"gains of layer {layers[row]}{of} are {f'around {size:.0e}' if math.isfinite(size) else 'too large'}, and "
        f"{str(dtype).removeprefix('torch.')} multiplies them without loss between {low:.0e} and {high:.0e}: {remedy}"
    )


def _sizes(moments: HostMoments) -> Array:
    """About the root mean square of each layer, shape (layer): the mean counts where squares vanish."""
    with np.errstate(all="ignore"):
        spread = moments.whole.diagonal() / moments.hidden
        mean = moments.pivot + moments.total / moments.hidden
        return np.maximum(np.sqrt(spread), np.abs(mean))
