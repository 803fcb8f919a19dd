"""Checkpoints that lie off the way of a training run, and so tell nothing of how it goes on around them.

Several faults in one run must not hide each other: each is judged by what lies beside it, less what is off itself.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

AWAY, UNUSUAL = 3.0, 4.0
"""One that is off lies so many times as far from both neighbours as these lie apart, and as far as steps go around."""

_AROUND = 4
"""Intervals on each side that tell how far steps go around there."""

_FEWEST = 5
"""Checkpoints from which on it can be told."""

_BESIDE = 3
"""Checkpoints on each side among which the neighbours are: those next to one that is off may be off, too."""


def strays(away: Tensor) -> set[int]:
    """Places of checkpoints that lie far from both neighbours, which lie near each other; never the first or last.

    Args:
        away: How far all lie from all, shape (n, n).

    Example:
        >>> at = torch.tensor([0.0, 1, 2, 3, 4, 21, 20, 7, 8, 9, 10, 11])
        >>> strays((at - at[:, None]).abs())
        {5, 6}
    """
    n = len(away)
    if n < _FEWEST:
        return set()
    usual = usual_around(away.diagonal(1))
    off = torch.zeros(n, dtype=torch.bool)
    for before, after in product(range(1, _BESIDE + 1), repeat=2):
        if before + after < n:
            left, right = away.diagonal(before)[: n - before - after], away.diagonal(after)[before:]
            nearest, here = torch.minimum(left, right), slice(before, n - after)
            off[here] |= (nearest > AWAY * away.diagonal(before + after)) & (nearest > UNUSUAL * usual[here])
    return {int(place) for place in off.nonzero()[:, 0]}


def usual_around(step: Tensor) -> Tensor:
    """Median of the steps around each checkpoint, those to and from itself left out.

    Args:
        step: How far each checkpoint lies from the next, or else differs, shape (n - 1, …), of at least four.

    Returns:
        Shape (n, …).
    """
    n = len(step) + 1
    around = (
        [*range(max(0, at - 1 - _AROUND), max(0, at - 1)), *range(at + 1, min(n - 1, at + 1 + _AROUND))]
        for at in range(n)
    )
    return torch.stack([step[places].median(dim=0).values for places in around])
