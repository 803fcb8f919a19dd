"""Two checkpoints against what lies beside them: does the way from one to the other go against the run's?"""

from __future__ import annotations

import math
from collections.abc import Collection, Set

import torch
from torch import Tensor

from gammatorch.sweep.course import Course, Points, cosine, mean, squared_distances, to_and_fro

NEIGHBOURS_SURE, SURE, LEAST = 5.0, 6.0, 0.1
"""A cosine tells if it is so many standard errors below zero (of neighbours, of any two), and so much, over the root of
the checkpoints whose mean is taken. Sums of products of either sign exceed t standard errors with odds of no more than
exp(−t²/2), whatever the products are: 4e-6 for each of n pairs of neighbours, 2e-8 for each of n² / 2 pairs."""

_EACH_SURE = 3.0
"""So sure each of two must be on the other's side of the middle, where they are no neighbours."""

_LAYERS = 0.7
"""Share of the layers in which it must show."""

_LATER, _TAKEN_BACK = 4, 0.7
"""A jump is being forgotten where so many checkpoints later so much of it has been taken back."""

AROUND = 8
"""Checkpoints on each side that must be in order for two among them to be called exchanged."""


def contrasts(gram: Tensor, reach: int, off: Collection[int] = ()) -> tuple[Tensor, Tensor]:
    """For i < j the cosine of their difference with that of their neighbours, and what an exchange would shorten.

    Of the matrices of products all else follows. Neighbours are the ``reach`` nearest on each side; of two that share
    some those on the far side.

    Args:
        gram: Products of all checkpoints, shape (n, n), float64.
        reach: How many neighbours on each side.
        off: Places that are no neighbours.

    Returns:
        Two matrices of shape (n, n).
    """
    away = _apart(len(gram), off)
    near = (away.abs() <= reach) & (away != 0)
    near[:, list(off)] = False
    beside, before, after = _means(near), _means(near & (away < 0)), _means(near & (away > 0))
    to_beside, to_before, to_after = gram @ beside.T, gram @ before.T, gram @ after.T
    local = to_beside.diagonal()[:, None] + to_beside.diagonal() - to_beside - to_beside.T
    outer = to_after.diagonal() - to_before.T - to_after + to_before.diagonal()[:, None]
    axis = (before @ to_before).diagonal()[:, None] + (after @ to_after).diagonal() - 2 * before @ to_after
    share = (away >= 1) & (away <= _shared(reach))
    share[0], share[:, -1] = False, False
    product = torch.where(share, outer, local)
    product[(away >= 1) & (away <= _shared(reach)) & ~share] = 0
    squares = squared_distances(gram) * torch.where(share, axis.clamp(min=0), squared_distances(beside @ to_beside))
    return torch.where(squares > 0, product / squares.sqrt(), 0), -product


def _shared(reach: int) -> int:
    """How far apart two are whose neighbours are those on the far side: next to each other, or sharing some."""
    return 1 if reach == 1 else 2 * reach


def _apart(n: int, off: Collection[int]) -> Tensor:
    """How many places on each is from each, below zero where before it; those that are off not counted in between."""
    counts = torch.ones(n, dtype=torch.long)
    counts[list(off)] = 0
    until = counts.cumsum(0)
    later = (until - counts - until[:, None] + 1).triu(diagonal=1)
    return later - later.T


def _means(chosen: Tensor) -> Tensor:
    """Weights that give the mean of the chosen ones of each row; 0 where there are none."""
    return chosen.double() / chosen.sum(dim=-1, keepdim=True).clamp(min=1)


def tells(course: Course, one: int, other: int, reach: int, off: Set[int]) -> bool:
    """Whether an exchange is beyond chance, in most layers, on both sides, and no matter of steps that go to and fro.

    Args:
        course: The training run.
        one: The earlier place.
        other: The later place.
        reach: How many neighbours on each side.
        off: Places that tell nothing of how the run goes.
    """
    if one == 0 or other == len(course) - 1:  # with nothing beyond it, a jump that is being forgotten looks the same
        return False
    path, places = course.without(off - {one, other})
    one, other = places.index(one), places.index(other)
    near = other - one <= _shared(reach)
    before, after = _outer(path, one, other, reach) if near else _local(path, one, other, reach)
    between, axis = (path[other] - path[one]).double(), after - before
    against, error = cosine(between, axis)
    if against > -(NEIGHBOURS_SURE if other == one + 1 else SURE) * error or not in_most(between * axis):
        return False
    if near and recovers(path, one, other, between, reach):
        return False
    if other > one + 2:
        inner = mean(path, [*range(one + 1, other)]) if near else _middle(path, one, other, reach)
        for away in (path[one] - inner, inner - path[other]):
            side, error = cosine(away, axis)
            if side < _EACH_SURE * error:
                return False
    return _goes_on_around(path, one, other, -against / (course.alike * math.sqrt(reach)))


def _outer(path: Points, one: int, other: int, reach: int) -> tuple[Tensor, Tensor]:
    """Means of what lies before the first and after the second."""
    span = range(1, reach + 1)
    return mean(path, [one - away for away in span]), mean(path, [other + away for away in span])


def _local(path: Points, one: int, other: int, reach: int) -> tuple[Tensor, Tensor]:
    """Means of what lies on both sides of each, the other left out."""
    around = [away * side for away in range(1, reach + 1) for side in (-1, 1)]
    return (
        mean(path, [one + away for away in around if one + away != other]),
        mean(path, [other + away for away in around if other + away != one]),
    )


def _middle(path: Points, one: int, other: int, reach: int) -> Tensor:
    """A point half way between two, of what lies around each beyond its neighbours."""
    beyond = [away * side for away in range(reach + 1, 2 * reach + 1) for side in (-1, 1)]
    ends = [
        mean(path, [at for away in beyond if abs((at := place + away) - mate) > reach], otherwise)
        for place, mate, otherwise in zip((one, other), (other, one), _local(path, one, other, reach), strict=True)
    ]
    return (ends[0] + ends[1]) / 2


def recovers(path: Points, one: int, other: int, between: Tensor, reach: int) -> bool:
    """Whether a jump is being forgotten, so that what follows takes back what the two went against; or it came slowly.

    Of S, ρS, ρ²S … the first two go against the way from before to after them, by ρ²(1 − ρ) S², and what follows takes
    all of it back. Of noise about the path that is forgotten by ρ each time it takes back one half.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
        one: The earlier place.
        other: The later place.
        between: The way from one to the other, shape (layer, dim).
        reach: How many neighbours on each side.
    """
    before, after = _outer(path, one, other, reach)
    far = range(reach + 1, reach + max(reach, _LATER) + 1)
    later, earlier = mean(path, [other + away for away in far], after), mean(path, [one - away for away in far], before)
    most = -_TAKEN_BACK * float((between * (after - before)).sum())
    return max(float((between * (later - after)).sum()), float((between * (before - earlier)).sum())) > most


def in_most(products: Tensor) -> bool:
    """Whether two ways go against each other in most of the layers in which they move, by their products there."""
    told = products.sum(dim=-1)
    told = told[told != 0]
    return float((told < 0).double().mean()) >= _LAYERS


def _goes_on_around(path: Points, one: int, other: int, enough: float) -> bool:
    """Whether steps around each of two that are exchanged go less against each other than a cosine."""
    exchanged = {one: other, other: one}
    windows = (range(max(0, place - AROUND), min(len(path), place + AROUND + 1)) for place in (one, other))
    return all(to_and_fro(path[[exchanged.get(at, at) for at in window]]) < enough for window in windows)


def backward(path: Points, reach: int) -> list[int]:
    """Places from which the path goes back, by the products with what is left and right of each and the next.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
        reach: How many neighbours on each side.
    """
    found = []
    for place in range(1, len(path) - 2):
        before, after = range(max(0, place - reach), place), range(place + 2, min(len(path), place + 2 + reach))
        axis = mean(path, [*after]) - mean(path, [*before])
        against, error = cosine((path[place + 1] - path[place]).double(), axis)
        if against < -max(LEAST, NEIGHBOURS_SURE * error):
            found.append(place)
    return found
