"""Whether gains can be squared in the precision at hand: what overflows or vanishes would give wrong angles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gammatorch.analysis.gram import Moments
from gammatorch.errors import GainError

BOUNDS = {torch.float64: (1e-140, 1e140), torch.float32: (1e-15, 1e17)}
"""Root mean squares between which products keep their digits: the squares of deviations of 1e-5 of them are normal
numbers, sums over 10⁹ channels (in float32, over a chunk of them) are finite."""


def check_magnitudes(moments: Moments, layers: Sequence[int], dtype: torch.dtype) -> None:
    """Refuse gains beyond :data:`BOUNDS`; layers of zeros are none of them.

    No stored type but F64 reaches beyond those of float64, so this is about tensors of a caller's own, and about layers
    that have decayed to nothing in float32.

    Args:
        moments: Of the gains.
        layers: Layer index of each row.
        dtype: Precision of the products.

    Raises:
        GainError: The gains of a layer are too large or too small.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> tiny = moments(torch.full((1, 4), 1e-170, dtype=torch.float64))
        >>> check_magnitudes(tiny, (7,), torch.float64)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        gammatorch.errors.GainError: gains of layer 7 are around 1e-170, and float64 ...: scale them
    """
    low, high = BOUNDS[dtype]
    sizes = _sizes(moments)
    beyond = ((sizes > 0) & (sizes < low)) | ~(sizes < high)
    if not bool(beyond.any()):
        return
    checkpoint, row = beyond.nonzero()[0].tolist()
    of = f" of checkpoint {checkpoint}" if len(sizes) > 1 else ""
    remedy = "scale them" if dtype is torch.float64 else "pass --dtype float64"
    size = float(sizes[checkpoint, row])
    raise GainError(
        f"gains of layer {layers[row]}{of} are {f'around {size:.0e}' if math.isfinite(size) else 'too large'}, and "
        f"{str(dtype).removeprefix('torch.')} multiplies them without loss between {low:.0e} and {high:.0e}: {remedy}"
    )


def _sizes(moments: Moments) -> Tensor:
    """About the root mean square of each layer, shape (checkpoint, layer): the mean counts where squares vanish."""
    hidden = moments.hidden[:, None]
    spread = moments.whole.diagonal(dim1=-2, dim2=-1) / hidden
    mean = moments.pivot + moments.totals.sum(1) / hidden
    return torch.maximum(spread.sqrt(), mean.abs())
