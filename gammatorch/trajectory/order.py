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

_REACHES = 1, 4, 16
"""Checkpoints whose mean is taken on each side: one where steps are long, more where noise hides single ones."""

_EACH = 3.0
"""Standard errors by which each of two must lie on the wrong side of the middle."""

_BOTH = 6.0
"""Standard errors by which their difference must run against the path. A sum of products of either sign exceeds t of
them with odds of at most exp(−t²/2), whatever the products are: 2e-8 for each of n² / 2 pairs."""

_CLEAR = 4.0
"""Times as large as the cosines by which steps go back and forth around the two their cosine must be."""

_AROUND = 8
"""Checkpoints on each side of the two that tell whether steps go back and forth there."""

_TRIED = 64
"""Pairs looked at closely, the clearest first."""

_MOST = 0.25
"""Share of the checkpoints that can be exchanged; where more seem to be, no order can be made out."""

def find_exchanged(path: Tensor) -> list[Pair]:
    """Pairs of checkpoints that stand in each other's place; pairs that share a place are of one ring.

    Args:
        path: Checkpoints by ascending step, shape (n, layer, dim), as :func:`evened` gives them.
    """
    path, found = path.clone(), list[Pair]()
    for reach in _REACHES:
        pairs = list[Pair]()
        while (pair := next(_exchanges(path, reach), None)) is not None:
            path[list(pair)] = path[list(pair[::-1])]
            pairs.append(pair)
            if len(pairs) > _MOST * len(path):
                for one in reversed(pairs):
                    path[list(one)] = path[list(one[::-1])]
                pairs = []
                break
        found += pairs
    return found


def _exchanges(path: Tensor, reach: int) -> Iterator[Pair]:
    """Exchanges that put two checkpoints right, those that shorten the path most first."""
    gram = gram_matrix(path)
    before, after = _neighbours(len(path), reach, outliers(distances(gram)))
    wrong_first, wrong_second = _wrong_sides(gram, before, after)
    wrong = torch.where((wrong_first > 0) & (wrong_second > 0), wrong_first + wrong_second, 0)
    gain, places = wrong.flatten().topk(min(_TRIED, wrong.numel()))
    for flat in places[gain > 0].tolist():
        one, other = divmod(flat, len(path))
        if _tells(path, one, other, before[one], after[other], reach):
            yield one, other


def _neighbours(n: int, reach: int, off: set[int]) -> tuple[Tensor, Tensor]:
    """Weights of the nearest checkpoints before and after each that are no outliers, shape (n, n) each."""
    weights = torch.zeros(2, n, n, dtype=torch.float64)
    kept = [at for at in range(n) if at not in off]
    for at in range(n):
        for side, chosen in zip(weights, ([o for o in kept if o < at][-reach:], [o for o in kept if o > at][:reach]), strict=True):
            side[at, chosen] = 1 / max(len(chosen), 1)
    return weights[0], weights[1]


def _wrong_sides(gram: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """How far b lies beyond and c before the middle of a and d, along d − a; zero where there is no a, d, or c ≤ b."""
    to_a, to_d = gram @ before.T, gram @ after.T
    middle = ((after * to_d.T).sum(dim=1) - (before * to_a.T).sum(dim=1)[:, None]) / 2  # (d² − a²) / 2 of a_i, d_j
    there = (before.sum(dim=1)[:, None] * after.sum(dim=1) > 0).triu(diagonal=1)
    first = to_d - to_a.diagonal()[:, None] - middle
    second = middle - to_d.diagonal() + to_a.T
    return first * there, second * there


def _tells(path: Tensor, one: int, other: int, before: Tensor, after: Tensor, reach: int) -> bool:
    """Whether an exchange is beyond chance, and no matter of steps that go back and forth."""
    inner = min(reach, (other - one - 1) // 2)
    axes = [(_mean(path, before.nonzero()[:, 0]), _mean(path, after.nonzero()[:, 0]))]
    if inner:
        axes.append((_mean(path, torch.arange(one + 1, one + 1 + inner)), _mean(path, torch.arange(other - inner, other))))
    b, c = path[one].double(), path[other].double()
    for a, d in axes:
        first, second, both = (way * (d - a) for way in (b - (a + d) / 2, (a + d) / 2 - c, b - c))
        if _errors(first) < _EACH or _errors(second) < _EACH or _errors(both) < _BOTH:
            return False
    a, d = axes[0]
    cosine = float(((b - c) * (d - a)).sum() / torch.linalg.vector_norm(b - c) / torch.linalg.vector_norm(d - a))
    exchanged = {one: other, other: one}
    windows = ([*range(max(0, at - _AROUND), min(len(path), at + _AROUND + 1))] for at in (one, other))
    return all(
        cosine > _CLEAR * math.sqrt(reach) * back_and_forth(path[[exchanged.get(at, at) for at in window]])
        for window in windows
    )


def _mean(path: Tensor, places: Tensor) -> Tensor:
    """Mean of some checkpoints."""
    return path[places].double().mean(dim=0)


def _errors(products: Tensor) -> float:
    """A sum in standard errors, had the factors nothing to do with each other."""
    return float(products.sum() / torch.linalg.vector_norm(products).clamp(min=1e-300))
