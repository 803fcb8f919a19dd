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

_SURE = 6.0
"""Standard errors by which the difference of the two must run against the path.

A sum of products of either sign exceeds t of them with odds of at most exp(−t²/2): 2e-8 for each of n² / 2 pairs."""

_LAYERS = 0.7
"""Share of the layers in which it must show."""

_SHARE = 0.1
"""Share of their difference that each of the two must lie on the wrong side of the middle; one alone is no exchange."""

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
    before, after = _neighbours(len(path), kept, reach)
    to_a, to_d = gram @ before.T, gram @ after.T
    shorter = to_d - to_d.diagonal() - to_a.diagonal()[:, None] + to_a.T  # (b − c)·(d − a)
    shorter = shorter.triu(diagonal=1) * (before.sum(dim=1)[:, None] * after.sum(dim=1) > 0)
    is_off = torch.tensor([at in off for at in range(len(path))])
    alike = is_off[:, None] == is_off  # much that is far off would shorten the path anywhere
    best = [group.max(dim=1) for group in (shorter * alike, shorter * ~alike)]
    candidates = (
        (float(gain), one, int(other)) for row in best for one, (gain, other) in enumerate(zip(*row, strict=True))
    )
    for gain, one, other in sorted(candidates, reverse=True):
        if gain > 0 and _tells(path, (one, other), kept, reach):
            yield one, other


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


def _tells(path: Tensor, pair: Pair, kept: list[int], reach: int) -> bool:
    """Whether b and c are exchanged beyond chance, in most layers, and more clearly than steps go back and forth."""
    one, other = pair
    left, right = _left(kept, one), _right(kept, other)
    between = [place for place in kept if one < place < other]
    inner = min(reach, len(between) // 2)
    near, far = (between[:inner], between[-inner:]) if inner else (left[-2:-1], right[1:2])
    if not near or not far or not (inner or reach == 1):
        return False  # the middle must be that of others than a and d, whose noise would be squared
    b, c, a, d = path[one].double(), path[other].double(), _mean(path, left[-reach:]), _mean(path, right[:reach])
    inwards, outwards = _mean(path, near), _mean(path, far)
    middle, axis = (inwards + outwards) / 2, d - a
    products = (b - c) * axis
    sides = [float((way * axis).sum()) for way in (b - middle, middle - c)]
    if min(sides) < _SHARE * float(products.sum()) or float(((b - c) * (outwards - inwards)).sum()) <= 0:
        return False
    if not _is_clear(products):
        return False
    usual = back_and_forth(path[[place for place in kept if place not in pair]])
    return float(torch.cosine_similarity((b - c).flatten(), axis.flatten(), dim=0)) > _CLEAR * math.sqrt(reach) * usual


def _is_clear(products: Tensor) -> bool:
    """Whether a sum of products is positive beyond chance, and in most layers.

    The standard error of Σ xy, had x and y nothing in common, is √Σ x²y².
    """
    in_layers = float((products.sum(dim=-1) > 0).double().mean())
    return in_layers >= _LAYERS and float(products.sum()) > _SURE * float(torch.linalg.vector_norm(products))


def _mean(path: Tensor, places: list[int]) -> Tensor:
    """Mean of some checkpoints."""
    return path[places].double().mean(dim=0)
