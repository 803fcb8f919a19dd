"""Pairs of checkpoints that stand in each other's place, by how their difference lies to the run's path.

Let b and c be two checkpoints, a the mean of those before b, d the mean of those after c. Training drifts, wanders, and
has a noise of each checkpoint's own. In (c − b)·(d − a) the noise of each stands once, so that none of it is squared:
its mean is that of the path alone, which is positive where the run goes on, and turns its sign where b and c are
exchanged. Then b lies beyond the middle of a and d, and c before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gammatorch.trajectory.path import back_and_forth, distances, gram_matrix, outliers

Pair = tuple[int, int]

_REACHES = 1, 16
"""Checkpoints whose mean is taken on each side: one where steps are long, more where noise hides single ones."""

_EACH = 3.0
"""Standard errors by which each of two must lie on the wrong side of the middle."""

_BOTH = 6.0
"""Standard errors by which their difference must run against the path. A sum of products of either sign exceeds t of
them with odds of at most exp(−t²/2), whatever the products are: 2e-8 for each of n² / 2 pairs."""

_LAYERS = 0.7
"""Share of the layers in which it must show."""

_CLEAR = 5.0
"""Times the cosine by which steps of the run go back and forth, of which that of the two with the path must be more."""


def find_exchanged(path: Tensor) -> list[Pair]:
    """Pairs of checkpoints that stand in each other's place; pairs that share a place are of one ring.

    Args:
        path: Checkpoints by ascending step, shape (n, layer, dim), as :func:`evened` gives them.
    """
    path, found = path.clone(), list[Pair]()
    for reach in _REACHES:
        while len(found) < len(path) and (pair := next(_exchanges(path, reach), None)) is not None:
            path[list(pair)] = path[list(pair[::-1])]
            found.append(pair)
    return found


def _exchanges(path: Tensor, reach: int) -> Iterator[Pair]:
    """Exchanges that put two checkpoints right, those that shorten the path most first."""
    gram = gram_matrix(path)
    off = outliers(distances(gram))
    kept = [at for at in range(len(path)) if at not in off]
    usual = _CLEAR * math.sqrt(reach) * back_and_forth(path[kept])
    before, after = _neighbours(len(path), kept, reach)
    to_a, to_d = gram @ before.T, gram @ after.T
    shorter = to_d - to_d.diagonal() - to_a.diagonal()[:, None] + to_a.T  # (b − c)·(d − a)
    shorter = shorter.triu(diagonal=1) * (before.sum(dim=1)[:, None] * after.sum(dim=1) > 0)
    gain, others = shorter.max(dim=1)
    for one in gain.argsort(descending=True).tolist():
        if gain[one] > 0 and _tells(path, one, int(others[one]), kept, reach, usual):
            yield one, int(others[one])


def _neighbours(n: int, kept: list[int], reach: int) -> tuple[Tensor, Tensor]:
    """Weights that give the mean of the nearest checkpoints before and after each, shape (n, n) each."""
    before, after = torch.zeros(2, n, n, dtype=torch.float64)
    for at in range(n):
        for side, places in ((before, _left(kept, at)[-reach:]), (after, _right(kept, at)[:reach])):
            side[at, places] = 1 / max(len(places), 1)
    return before, after


def _left(kept: list[int], at: int) -> list[int]:
    return [place for place in kept if place < at]


def _right(kept: list[int], at: int) -> list[int]:
    return [place for place in kept if place > at]


def _tells(path: Tensor, one: int, other: int, kept: list[int], reach: int, usual: float) -> bool:
    """Whether an exchange is beyond chance, and no matter of steps that go back and forth."""
    left, right = _left(kept, one), _right(kept, other)
    between = [place for place in kept if one < place < other]
    inner = min(reach, len(between) // 2)
    near, far = (between[:inner], between[-inner:]) if inner else (left[-2:-1], right[1:2])
    if not near or not far or not (inner or reach == 1):  # the middle must be told by others than the path
        return False
    b, c, a, d = path[one].double(), path[other].double(), _mean(path, left[-reach:]), _mean(path, right[:reach])
    inwards, outwards = _mean(path, near), _mean(path, far)
    middle, axis = (inwards + outwards) / 2, d - a
    if _errors((b - middle) * axis) < _EACH or _errors((middle - c) * axis) < _EACH or _errors((b - c) * axis) < _BOTH:
        return False
    if float(((b - c) * (outwards - inwards)).sum()) < 0:
        return False
    products = ((b - c) * axis).sum(dim=-1)
    if float((products > 0).double().mean()) < _LAYERS:
        return False
    cosine = float(products.sum() / torch.linalg.vector_norm(b - c) / torch.linalg.vector_norm(axis))
    return cosine > usual


def _mean(path: Tensor, places: list[int]) -> Tensor:
    """Mean of some checkpoints."""
    return path[places].double().mean(dim=0)


def _errors(products: Tensor) -> float:
    """A sum in standard errors, had the factors nothing to do with each other."""
    return float(products.sum() / torch.linalg.vector_norm(products).clamp(min=1e-300))
