"""The way of a training run through the space of its gains, for those who judge the order of its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from gammatorch.sweep.strays import strays

Pair = tuple[int, int]

ROWS = 32
"""Checkpoints that are cast to float64 at once."""


@dataclass(frozen=True, eq=False)
class Way:
    """Some of the checkpoints of a path, without copying them.

    Attributes:
        path: Points of all, shape (n, …).
        places: Which they are.
    """

    path: Tensor
    places: list[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: int | list[int]) -> Tensor:
        return self.path[self.places[at] if isinstance(at, int) else [self.places[one] for one in at]]


Points = Tensor | Way
"""Checkpoints in their order, to be asked for by place."""


@dataclass(frozen=True, eq=False)
class Course:
    """Checkpoints in the order in which they stand.

    Attributes:
        path: Their points, a usual step of every layer as long as of any other, shape (n, layer, dim); exchanges are
            made in place.
        first_is_initial: Whether the first has the gains that training begins with, and so is in its place.
        alike: A cosine tells if it is so many times as large as those by which steps apart go against each other; more
            where means are taken, in which noise is less and going to and fro is not.
        products: Of all with all, all layers together, shape (n, n), float64.
    """

    path: Tensor
    first_is_initial: bool
    alike: float
    products: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "products", gram(self.flat()))

    def __len__(self) -> int:
        return len(self.path)

    def flat(self) -> Tensor:
        """All layers in a row, shape (n, layer · dim)."""
        return self.path.flatten(1)

    def exchange(self, pair: Pair) -> None:
        """Put each of two in the other's place; twice is nothing."""
        self._put(list(pair), list(pair[::-1]))

    def without(self, off: Collection[int]) -> tuple[Points, list[int]]:
        """The path without some places, and which are left."""
        places = [at for at in range(len(self)) if at not in off]
        return (Way(self.path, places) if off else self.path), places

    def turn_round(self, start: int, order: list[int]) -> None:
        """Put those at these places from a place on."""
        self._put([*range(start, start + len(order))], order)

    def turn_back(self, start: int, order: list[int]) -> None:
        """Put those from a place on back to these places."""
        self._put(order, [*range(start, start + len(order))])

    def _put(self, places: list[int], others: list[int]) -> None:
        """Put into places what stands at others."""
        self.path[places] = self.path[others]
        self.products[places] = self.products[others]
        self.products[:, places] = self.products[:, others]

    def strays(self) -> set[int]:
        """Places of checkpoints that lie off the way."""
        return strays(squared_distances(self.products).sqrt())

    def outwards(self) -> tuple[list[int], list[int]]:
        """Places towards the end and towards the start, without one that is in its place for sure."""
        n = len(self)
        return [*range(n)], [*range(n - 1, 0 if self.first_is_initial else -1, -1)]


def evened(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points in which a usual step of every layer has length 1, in place for they are many, and how long it was."""
    usual = usual_steps(points)
    usual = torch.where(usual > 0, usual, torch.inf)
    return points.div_(usual[:, None]), usual


def usual_steps(points: Tensor) -> Tensor:
    """Median length of the steps of each layer that are any, shape (layer); NaN where none is."""
    steps = step_lengths(points)
    return torch.where(steps > 0, steps, torch.nan).nanmedian(dim=0).values


def step_lengths(points: Tensor, apart: int = 1) -> Tensor:
    """How far each layer lies from where it is so many checkpoints later, one after the other for they are many.

    Args:
        points: Checkpoints in their order, shape (n, layer, dim), or (n, dim) for all layers together.
        apart: How many checkpoints later.

    Returns:
        Shape (n - apart, layer), or (n - apart).
    """
    pairs = zip(points, points[apart:], strict=False)
    return torch.stack([torch.linalg.vector_norm(after - before, dim=-1) for before, after in pairs])


def gram(rows: Tensor) -> Tensor:
    """Products of all with all in float64, cast few at a time."""
    parts = torch.split(rows, ROWS)
    return torch.cat([torch.cat([one.double() @ other.double().T for other in parts], dim=1) for one in parts])


def joined(pairs: list[Pair]) -> list[list[Pair]]:
    """Exchanges in groups: those that share a place are of one.

    Example:
        >>> joined([(1, 2), (5, 6), (2, 3)])
        [[(5, 6)], [(1, 2), (2, 3)]]
    """
    groups: list[list[Pair]] = []
    for pair in pairs:
        touched = [group for group in groups if any({*pair} & {*other} for other in group)]
        apart = [group for group in groups if group not in touched]
        groups = [*apart, [*chain.from_iterable(touched), pair]]
    return groups


def squared_distances(products: Tensor) -> Tensor:
    """Of all from all, by the products of all with all, shape (n, n)."""
    own = products.diagonal()
    return (own[:, None] + own - 2 * products).clamp(min=0)


def mean(path: Points, places: list[int], otherwise: Tensor | None = None) -> Tensor:
    """Mean of the places that are there, float64; something else where none is."""
    count = len(path)
    there = [place for place in places if 0 <= place < count]
    if there or otherwise is None:
        return path[there].double().mean(dim=0)
    return otherwise


def cosine(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Cosine and its standard error, had the two nothing to do with each other: Σ xy and √Σ x²y² over both lengths.

    Example:
        >>> [round(value, 3) for value in cosine(torch.tensor([3.0, 4.0]), torch.tensor([-3.0, 4.0]))]
        [0.28, 0.734]
    """
    lengths = float(torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other))
    if not lengths:
        return 0.0, 1.0
    products = one * other
    return float(products.sum()) / lengths, float(torch.linalg.vector_norm(products)) / lengths


def to_and_fro(path: Tensor) -> float:
    """By what cosines, beyond chance, steps that lie apart go against each other: 0 where all go on, 1/√k where they
    go to and fro in k directions.

    Args:
        path: Checkpoints in their order, shape (n, …).
    """
    steps = (path[1:] - path[:-1]).flatten(1).double()
    products = steps @ steps.T
    squares = steps.square_()
    lengths = products.diagonal()
    scale = torch.where(lengths > 0, 1 / lengths, 0)
    apart = torch.ones_like(products).triu(diagonal=2)
    against = 2 * products.clamp(max=0).square() - squares @ squares.T
    excess = float((apart * against * scale[:, None] * scale).sum())
    return math.sqrt(max(excess / max(float(apart.sum()), 1.0), 0.0))
