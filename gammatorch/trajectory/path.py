"""The path of a training run through the space of its gains: lengths of steps, their directions, outliers."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

FAR = 3.0
"""An outlier lies so many times as far from both neighbours as they lie from each other."""

UNUSUAL = 4.0
"""An outlier lies so many times as far from both neighbours as the steps around it are long."""

_AROUND = 4
"""Steps on each side that tell how long steps are around a checkpoint."""

_BESIDE = 3
"""Checkpoints on each side that may be its neighbours, for those next to an outlier may be outliers, too."""

FEWEST = 5
"""Checkpoints from which on an outlier can be told."""


def step_lengths(points: Tensor, apart: int = 1) -> Tensor:
    """How far each checkpoint lies from the one so many later, shape (n - apart, …), of points (n, …, dim)."""
    pairs = zip(points, points[apart:], strict=False)
    return torch.stack([torch.linalg.vector_norm(after - before, dim=-1) for before, after in pairs])


def evened(points: Tensor) -> Tensor:
    """A copy of the points, shape (n, layer, dim), in which the median step of every layer has length 1."""
    steps = step_lengths(points)
    usual = torch.where(steps > 0, steps, torch.nan).nanmedian(dim=0).values
    return points / torch.where(usual > 0, usual, torch.inf)[:, None]


def gram_matrix(points: Tensor) -> Tensor:
    """Products of all checkpoints with all, in float64, shape (n, n)."""
    flat = points.flatten(1).double()
    return flat @ flat.T


def distances(gram: Tensor) -> Tensor:
    """Distances of all checkpoints from all, shape (n, n), from their products."""
    own = gram.diagonal()
    return (own[:, None] + own - 2 * gram).clamp(min=0).sqrt()


def back_and_forth(points: Tensor) -> float:
    """By what cosines, beyond chance, steps that lie apart oppose each other.

    It is 0 where all steps go on, and 1/√k where they go back and forth in k directions.

    Args:
        points: Checkpoints in their order, shape (n, …).
    """
    steps = points.diff(dim=0).flatten(1).double()
    products, squares = steps @ steps.T, steps.square()
    lengths = products.diagonal()
    scale = torch.where(lengths > 0, 1 / lengths, 0)
    apart = torch.ones_like(products).triu(diagonal=2)
    excess = 2 * products.clamp(max=0).square() - squares @ squares.T
    return math.sqrt(max(float((apart * excess * scale[:, None] * scale).sum() / apart.sum().clamp(min=1)), 0.0))


def outliers(away: Tensor) -> set[int]:
    """Places of checkpoints that lie far from both neighbours, which lie near each other; never the first or last.

    Args:
        away: Distances of all checkpoints from all, shape (n, n).

    Example:
        >>> at = torch.tensor([0.0, 1, 2, 3, 4, 21, 20, 7, 8, 9, 10, 11])
        >>> outliers((at - at[:, None]).abs())
        {5, 6}
    """
    n = len(away)
    if n < FEWEST:
        return set()
    usual = usual_around(away.diagonal(1))
    found = torch.zeros(n, dtype=torch.bool)
    for before, after in product(range(1, _BESIDE + 1), repeat=2):
        if before + after < n:
            left, right = away.diagonal(before)[: n - before - after], away.diagonal(after)[before:]
            nearest, here = torch.minimum(left, right), slice(before, n - after)
            found[here] |= (nearest > FAR * away.diagonal(before + after)) & (nearest > UNUSUAL * usual[here])
    return {int(place) for place in found.nonzero()[:, 0]}


def usual_around(steps: Tensor) -> Tensor:
    """Median of the steps around each checkpoint, those to and from itself left out.

    Args:
        steps: How far each checkpoint lies from the next, or else differs, shape (n - 1, …), of at least four.

    Returns:
        Shape (n, …).
    """
    n = len(steps) + 1
    around = (
        [*range(max(0, at - 1 - _AROUND), max(0, at - 1)), *range(at + 1, min(n - 1, at + 1 + _AROUND))]
        for at in range(n)
    )
    return torch.stack([steps[places].median(dim=0).values for places in around])
