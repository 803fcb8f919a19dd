"""Whether a layer holds the values of another in another order of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.analysis.comparable import comparable_scores
from gammatorch.analysis.matching import DISTINCT
from gammatorch.analysis.storage import StoredRow

_SORTED, _TAIL, _FEWEST = 0.5, 20, 64
"""Sorted gains of two draws of one law lie about √(2 / H) spreads apart: the share of it that is too near for chance;
one in how many channels is left out at either end; fewer channels cannot tell."""

_ROLLED = 0.5
"""Correlation of scores from which on a layer is the reference's with its channels rolled."""

_COARSE = 0.5
"""Rounding that reaches further, in units of the distance between two layers, fits their sorted gains together although
each channel has only moved a little in place."""


def is_varied(row: StoredRow) -> bool:
    """Whether a layer has enough different gains for their order to tell of it.

    Args:
        row: The layer.
    """
    return int((row.gamma.sort().values.diff() > 0).sum()) >= DISTINCT


def reordered(one: StoredRow, other: StoredRow) -> bool:
    """Whether two layers have the same gains, but for rounding, in whatever order of channels.

    Not told of layers of two types that lie so near that rounding could account for it.

    Args:
        one: A layer.
        other: The same of a reference.

    Example:
        >>> gamma = torch.arange(1.0, 9.0).double()
        >>> reordered(StoredRow(gamma.roll(1), gamma.roll(1)), StoredRow(gamma, gamma))
        True
    """
    own, others = (row.gamma.sort() for row in (one, other))
    if one.dtype == other.dtype:
        return torch.equal(own.values, others.values)
    reach = one.reach[own.indices] + other.reach[others.indices]
    apart = (one.gamma - other.gamma).square().mean().sqrt()
    tells = float(reach.median()) <= _COARSE * float(apart)
    return tells and bool(((own.values - others.values).abs() <= reach).all())


def rolled_by(gamma: Tensor, reference: Tensor) -> int | None:
    """By how many channels a layer is the reference's rolled: where their scores correlate by more than a half.

    Args:
        gamma: A layer's gain, shape (hidden).
        reference: The reference's, same shape.

    Example:
        >>> gamma = torch.randn(128, generator=torch.Generator().manual_seed(0)).double().exp()
        >>> rolled_by(gamma.roll(3), gamma), rolled_by(gamma.flip(0), gamma)
        (3, None)
    """
    own, others = (torch.nn.functional.normalize(comparable_scores(one[None])[0], dim=-1) for one in (gamma, reference))
    by_lag = torch.fft.irfft(torch.fft.rfft(own) * torch.fft.rfft(others).conj(), n=len(own))
    lag = int(by_lag.argmax())
    return lag if len(own) >= _FEWEST and float(by_lag[lag]) > _ROLLED else None


def too_near(gamma: Tensor, reference: Tensor) -> bool:
    """Whether sorted gains lie nearer to each other than those of two draws of one law do.

    Args:
        gamma: A layer's gain, shape (hidden).
        reference: The reference's, same shape.

    Example:
        >>> one, other = torch.randn(2, 640, generator=torch.Generator().manual_seed(0)).double()
        >>> too_near(one.flip(0), one), too_near(one, other)
        (True, False)
    """
    hidden = len(gamma)
    if hidden < _FEWEST:
        return False
    tail = hidden // _TAIL
    own, others = (one.sort().values[tail : hidden - tail] for one in (gamma, reference))
    spread = float(others.std())
    return spread > 0 and float((own - others).square().mean().sqrt()) <= _SORTED * (2 / hidden) ** 0.5 * spread
