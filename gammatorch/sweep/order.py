"""Checkpoints of a training run that were exchanged, by how their differences lie to each other.

Let a, b, c, d be checkpoints in a row. Training drifts, wanders, and shivers about its path with a noise of each
checkpoint's own. In (d − a)·(c − b) the noise of each stands once, so none of it is squared: its mean is that of the
path alone, ‖path from b to c‖² and more where the path goes on in its direction. That is negative in no honest run
that does not go back and forth from checkpoint to checkpoint, and it turns its sign where b and c are exchanged. The
same holds of any i and j, with the means of their neighbours for a and d.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_NEIGHBOURS_SURE, _SURE, _LEAST = 5.0, 6.0, 0.1
"""A cosine tells if it is so many standard errors below zero (of neighbours, of any two), and so much. Sums of
products of either sign exceed t standard errors with odds of no more than exp(−t²/2), whatever the products are: 4e-6
for each of n pairs of neighbours, 2e-8 for each of n² / 2 pairs."""

_EACH_SURE = 3.0
"""So sure each of two must be on the other's side of the middle, where they are no neighbours."""

_ALIKE = 4.0
"""And so many times as large as the cosines by which steps apart from each other go against each other."""

_LAYERS = 0.7
"""Share of the layers in which it must show."""

_AROUND = 8
"""Checkpoints on each side that must be in order for two among them to be called exchanged."""

_SHIVERS = 3.0
"""At an end, noise that is so many times that of the checkpoints before is none, but an exchange."""

_FEWEST_STEPS = 6
"""Checkpoints before the last two that tell what noise is usual."""

_TRIED = 256
"""Exchanges looked at closely, the clearest first, before none is made."""

Pair = tuple[int, int]


def find_exchanged(points: Tensor, first_is_initial: bool) -> list[Pair]:
    """Pairs of checkpoints that stand in each other's place.

    Args:
        points: Gains or their projections, by ascending step, shape (n, layer, dim).
        first_is_initial: Whether the first has the gains that training begins with, and so is in its place.
    """
    path = _evened(points)
    order = torch.arange(len(path))
    pairs: list[Pair] = []
    while (best := next(_exchanges(path[order], first_is_initial), None)) is not None:
        order[list(best)] = order[list(best[::-1])]
        pairs.append(best)
        if len(pairs) > len(path) // 4:
            return []  # no order can be made out at all
    backward = _backward(path[order])
    return sorted(pair for pair in pairs if not _near(backward, pair))


def _evened(points: Tensor) -> Tensor:
    """Points in which a usual step of every layer is as long as of any other, float64, shape (n, layer, dim)."""
    points = points.to(torch.float64)
    steps = torch.linalg.vector_norm(points[1:] - points[:-1], dim=-1)
    usual = torch.where(steps > 0, steps, torch.nan).nanmedian(dim=0).values
    return points / torch.where(usual.isnan(), torch.inf, usual)[:, None]


def _exchanges(path: Tensor, first_is_initial: bool) -> Iterator[Pair]:
    """Exchanges that put two checkpoints right, those that shorten the path most first."""
    n = len(path)
    cosine, shorter = _pairs(path.flatten(1))
    allowed = torch.triu(cosine < -_LEAST, diagonal=1)
    if first_is_initial:
        allowed[0] = False
    shorter = torch.where(allowed, shorter, -torch.inf).flatten()
    for flat in shorter.topk(min(_TRIED, int(allowed.sum()))).indices.tolist():
        if _tells(path, flat // n, flat % n):
            yield flat // n, flat % n
    yield from _tails(path.flatten(1), first_is_initial)


def _neighbours(n: int) -> Tensor:
    """Means of the neighbours of each: shape (n, n), rows that sum to 1."""
    beside = torch.zeros(n, n, dtype=torch.float64)
    first = torch.arange(n - 1)
    beside[first, first + 1] = beside[first + 1, first] = 1
    return beside / beside.sum(dim=-1, keepdim=True)


def _pairs(path: Tensor) -> tuple[Tensor, Tensor]:
    """For i < j the cosine of their difference with that of their neighbours, and what an exchange would shorten."""
    n = len(path)
    path = path - path.mean(dim=0)
    beside = _neighbours(n)
    gram = path @ path.T
    to_beside = gram @ beside.T  # [i, j]: γ_i · mean of the neighbours of j
    product = to_beside.diagonal()[:, None] + to_beside.diagonal() - to_beside - to_beside.T
    squares = _squares(gram) * _squares(beside @ to_beside)
    at = torch.arange(1, n - 2)  # neighbours: what is left and right of both
    outer, inner = path[3:] - path[:-3], path[2:-1] - path[1:-2]
    product[at, at + 1] = (outer * inner).sum(dim=-1)
    squares[at, at + 1] = outer.square().sum(dim=-1) * inner.square().sum(dim=-1)
    product[[0, n - 2], [1, n - 1]] = 0
    return torch.where(squares > 0, product / squares.sqrt(), 0), -product


def _squares(gram: Tensor) -> Tensor:
    return (gram.diagonal()[:, None] + gram.diagonal() - 2 * gram).clamp(min=0)


def _tells(path: Tensor, one: int, other: int) -> bool:
    """Whether an exchange is beyond chance, in most layers, and no matter of steps that go to and fro."""
    between, axis = path[other] - path[one], _beside(path, other, one) - _beside(path, one, other)
    cosine, error = _cosine(between, axis)
    sure = _NEIGHBOURS_SURE if other == one + 1 else _SURE
    if cosine > -sure * error or not _in_most(between * axis):
        return False
    if other > one + 2:
        middle = (_beside(path, one, other, 2) + _beside(path, other, one, 2)) / 2
        for away in (path[one] - middle, middle - path[other]):
            side, error = _cosine(away, axis)
            if side < _EACH_SURE * error:
                return False
    order = torch.arange(len(path))
    order[[one, other]] = order[[other, one]]
    return cosine < -_ALIKE * to_and_fro(path[order], (one, other))


def _beside(path: Tensor, place: int, other: int, away: int = 1) -> Tensor:
    """Mean of the checkpoints so far away from a place; none of those that stand beside the other one."""
    taken = {other} if away == 1 else {other - 1, other, other + 1}
    near = [at for at in (place - away, place + away) if 0 <= at < len(path) and at not in taken]
    return path[near].mean(dim=0) if near else _beside(path, place, other)


def _in_most(products: Tensor) -> bool:
    told = products.sum(dim=-1)
    told = told[told != 0]
    return float((told < 0).to(torch.float64).mean()) >= _LAYERS


def _cosine(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Cosine and its standard error, had the two nothing to do with each other: Σ xy and √Σ x²y² over both lengths."""
    lengths = float(torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other))
    if not lengths:
        return 0.0, 1.0
    products = one * other
    return float(products.sum()) / lengths, float(torch.linalg.vector_norm(products)) / lengths


def to_and_fro(path: Tensor, places: tuple[int, ...]) -> float:
    """By what cosines, beyond chance, steps that lie apart go against each other: 0 where all go on, 1/√k where they
    go to and fro in k directions.

    Args:
        path: Checkpoints in their order, shape (n, …).
        places: Those near which it is asked.
    """
    excess, count = 0.0, 0
    for place in places:
        near = path[max(0, place - _AROUND) : place + _AROUND + 1].flatten(1)
        steps = torch.nn.functional.normalize(near[1:] - near[:-1], dim=-1)
        apart = torch.ones(len(steps), len(steps), dtype=torch.float64).triu(diagonal=2)
        against = 2 * (steps @ steps.T).clamp(max=0).square()
        chance = steps.square() @ steps.square().T
        excess += float((apart * (against - chance)).sum())
        count += int(apart.sum())
    return math.sqrt(max(excess / max(count, 1), 0.0))


def _backward(path: Tensor) -> list[int]:
    """Places b where (d − a)·(c − b) says that the path goes back."""
    found = []
    for place in range(1, len(path) - 2):
        a, b, c, d = path[place - 1 : place + 3]
        cosine, error = _cosine(d - a, c - b)
        if cosine < -max(_LEAST, _NEIGHBOURS_SURE * error):
            found.append(place)
    return found


def _near(places: list[int], pair: Pair) -> bool:
    return any(place - _AROUND <= at <= place + _AROUND for at in places for place in pair)


def _tails(path: Tensor, first_is_initial: bool) -> Iterator[Pair]:
    """The last two, or the first two, which have nothing beyond them to be held against.

    Of b, c, d at the end, (b − d)·(c − d) is the noise of d squared, and the last step squared where the path goes on.
    It is negative only where the path turns back: after an exchange of steps that drift. If it is nothing, the last
    step was short and c's noise, (b − c)·(d − c), is all there is between them, as at the end of a cool-down; or steps
    that wander were exchanged, and that noise is a multiple of what it was before.
    """
    n = len(path)
    for outward in ([*range(n)], [] if first_is_initial else [*range(n - 1, -1, -1)]):
        if len(outward) < _FEWEST_STEPS + 2:
            continue
        before = path[outward[-_AROUND - 4 : -2]]
        b, c, d = (path[place] for place in outward[-3:])
        back, back_error = _cosine(b - d, c - d)
        noise, noise_error = _cosine(b - c, d - c)
        turned = back < -max(_LEAST, _NEIGHBOURS_SURE * back_error)
        nothing = back + 3 * back_error < 2 * _LEAST and noise > max(4 * _LEAST, _NEIGHBOURS_SURE * noise_error)
        if not turned and not (nothing and _unusual(before, float((b - c) @ (d - c)))):
            continue
        if torch.linalg.vector_norm(b - d) < 0.6 * torch.linalg.vector_norm(d - c):
            continue  # c alone is far from both
        if -_ALIKE * to_and_fro(path[[*outward[:-2], outward[-1], outward[-2]]], (n - 1,)) > min(back, -noise):
            yield min(outward[-2:]), max(outward[-2:])


def _unusual(path: Tensor, squared_noise: float) -> bool:
    """Whether a checkpoint's squared noise is a multiple of that of all of these, and of what is uncertain about it.

    Of three in a row it is −δ·δ' with the two steps between them, but for what the path has of each direction; steps
    two apart, which share no noise, tell that.
    """
    steps = path[1:] - path[:-1]
    products = steps @ steps.T
    here, apart = -products.diagonal(1), products.diagonal(2)
    estimates = here[1:-1] + (apart[:-1] + apart[1:]) / 2
    return squared_noise > _SHIVERS * float(estimates.max())
