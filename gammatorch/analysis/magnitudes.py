"""Whether gains can be squared in the precision at hand: what overflows or vanishes would give wrong angles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from gammatorch.analysis.host import Array, HostMoments
from gammatorch.errors import GainError

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
        >>> from gammatorch.analysis.gram import moments
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
