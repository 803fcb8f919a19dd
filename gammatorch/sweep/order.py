"""Checkpoints of a training run that were exchanged, by how their differences lie to each other.

Let a, b, c, d be checkpoints in a row. Training drifts, wanders, and shivers about its path with a noise of each
checkpoint's own. In (d − a)·(c − b) the noise of each stands once, so none of it is squared: its mean is that of the
path alone, ‖path from b to c‖² and more where the path goes on in its direction. That is negative in no honest run
that does not go back and forth from checkpoint to checkpoint, and it turns its sign where b and c are exchanged. The
same holds of any i and j, with the means of their neighbours for a and d; and of several on each side, whose mean has
less noise and lies further away.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import pairwise

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

_REACHES = 1, 4
"""Neighbours that are taken together on each side: one where steps are long, more where noise hides single ones."""

_ROWS = 128
"""Checkpoints whose products are taken at once."""

_TRIED = 256
"""Exchanges looked at closely, the clearest first, before none is made."""

Pair = tuple[int, int]


def find_exchanged(points: Tensor, positions: list[int], first_is_initial: bool) -> list[Pair]:
    """Pairs of checkpoints that stand in each other's place.

    Args:
        points: Gains or their projections, by ascending step, shape (n, layer, dim).
        positions: Those that are looked at.
        first_is_initial: Whether the first has the gains that training begins with, and so is in its place.

    Returns:
        Two positions each.
    """
    path = _evened(points[positions])
    found: list[Pair] = []
    for reach in _REACHES:
        pairs = _exchange(path, reach, first_is_initial)
        backward = {place for near in _REACHES if near <= reach for place in _backward(path, near)}
        found += [pair for pair in pairs if not _near(backward, pair)]
        if len(pairs) > len(path) // 4:
            break
    return sorted((positions[one], positions[other]) for one, other in found)


def _exchange(path: Tensor, reach: int, first_is_initial: bool) -> list[Pair]:
    """Put right whatever can be, the clearest first; nothing where no order can be made out at all."""
    pairs: list[Pair] = []
    while (best := next(_exchanges(path, reach, first_is_initial), None)) is not None:
        path[list(best)] = path[list(best[::-1])]
        pairs.append(best)
        if len(pairs) > len(path) // 4:
            for pair in reversed(pairs):
                path[list(pair)] = path[list(pair[::-1])]
            return []
    return pairs


def _evened(points: Tensor) -> Tensor:
    """Points in which a usual step of every layer is as long as of any other; in place, for there are many."""
    steps = torch.stack([torch.linalg.vector_norm(after - before, dim=-1) for before, after in pairwise(points)])
    usual = torch.where(steps > 0, steps, torch.nan).nanmedian(dim=0).values
    return points.div_(torch.where(usual.isnan(), torch.inf, usual)[:, None])


def _exchanges(path: Tensor, reach: int, first_is_initial: bool) -> Iterator[Pair]:
    """Exchanges that put two checkpoints right, those that shorten the path most first."""
    n = len(path)
    cosine, shorter = _pairs(_gram(path.flatten(1)), reach)
    allowed = torch.triu(cosine < -_LEAST, diagonal=1)
    if first_is_initial:
        allowed[0] = False
    shorter = torch.where(allowed, shorter, -torch.inf).flatten()
    for flat in shorter.topk(min(_TRIED, int(allowed.sum()))).indices.tolist():
        if _tells(path, flat // n, flat % n, reach):
            yield flat // n, flat % n
    if reach == 1:
        yield from _tails(path.flatten(1), first_is_initial)


def _gram(path: Tensor) -> Tensor:
    """Products of all with all in float64, cast few at a time."""
    parts = torch.split(path, _ROWS)
    return torch.cat([torch.cat([one.double() @ other.double().T for other in parts], dim=1) for one in parts])


def _pairs(gram: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """For i < j the cosine of their difference with that of their neighbours, and what an exchange would shorten.

    Of the matrices of products all else follows. Neighbours are those up to ``reach`` away, for neighbours of each
    other those on the far side; 0 where the two are neither next to each other nor apart enough to share none.
    """
    n = len(gram)
    away = torch.arange(n) - torch.arange(n)[:, None]
    beside = _means((away != 0) & (away.abs() <= reach))
    to_beside = gram @ beside.T  # [i, j]: γ_i · mean of the neighbours of j
    product = to_beside.diagonal()[:, None] + to_beside.diagonal() - to_beside - to_beside.T
    squares = _squares(gram) * _squares(beside @ to_beside)
    if reach > 1:
        product[away.abs() <= 2 * reach] = 0
    at, after = torch.arange(n - 1), torch.arange(1, n)
    axis = _means((away > 1) & (away <= reach + 1))[:-1] - _means((away < 0) & (away >= -reach))[:-1]
    to_axis = axis @ gram
    there = (at >= 1) & (at <= n - 3)
    product[at, after] = torch.where(there, to_axis[at, after] - to_axis[at, at], 0)
    length = gram[after, after] + gram[at, at] - 2 * gram[at, after]
    squares[at, after] = ((to_axis @ axis.T).diagonal() * length).clamp(min=0)
    return torch.where(squares > 0, product / squares.sqrt(), 0), -product


def _means(chosen: Tensor) -> Tensor:
    """Weights that give the mean of the chosen ones of each row; 0 where there are none."""
    return chosen.double() / chosen.sum(dim=-1, keepdim=True).clamp(min=1)


def _squares(gram: Tensor) -> Tensor:
    return (gram.diagonal()[:, None] + gram.diagonal() - 2 * gram).clamp(min=0)


def _tells(path: Tensor, one: int, other: int, reach: int) -> bool:
    """Whether an exchange is beyond chance, in most layers, and no matter of steps that go to and fro."""
    n, span = len(path), range(1, reach + 1)
    if other == one + 1:
        before, after = _mean(path, [one - away for away in span]), _mean(path, [other + away for away in span])
        sure = _NEIGHBOURS_SURE
    else:
        around = [away * side for away in span for side in (-1, 1)]
        before = _mean(path, [one + away for away in around if one + away != other])
        after = _mean(path, [other + away for away in around if other + away != one])
        sure = _SURE
    between, axis = (path[other] - path[one]).double(), after - before
    cosine, error = _cosine(between, axis)
    if cosine > -sure * error or not _in_most(between * axis):
        return False
    if other > one + 2:
        beyond = [away * side for away in range(reach + 1, 2 * reach + 1) for side in (-1, 1)]
        ends = [
            [at for away in beyond if 0 <= (at := place + away) < n and abs(at - mate) > reach]
            for place, mate in ((one, other), (other, one))
        ]
        middle = (_mean(path, ends[0], before) + _mean(path, ends[1], after)) / 2
        for away in (path[one] - middle, middle - path[other]):
            side, error = _cosine(away, axis)
            if side < _EACH_SURE * error:
                return False
    near = [at for place in (one, other) for at in range(max(0, place - _AROUND), min(n, place + _AROUND + 1))]
    exchanged = {one: other, other: one}
    rows = [[exchanged.get(at, at) for at in half] for half in (near[: len(near) // 2], near[len(near) // 2 :])]
    return cosine < -_ALIKE * max(to_and_fro(path[half]) for half in rows)


def _mean(path: Tensor, places: list[int], otherwise: Tensor | None = None) -> Tensor:
    """Mean of the places that are there, float64; something else where none is."""
    there = [place for place in places if 0 <= place < len(path)]
    if there or otherwise is None:
        return path[there].double().mean(dim=0)
    return otherwise


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


def to_and_fro(path: Tensor) -> float:
    """By what cosines, beyond chance, steps that lie apart go against each other: 0 where all go on, 1/√k where they
    go to and fro in k directions.

    Args:
        path: Checkpoints in their order, shape (n, …).
    """
    steps = (path[1:] - path[:-1]).flatten(1).double()
    steps = torch.nn.functional.normalize(steps, dim=-1)
    apart = torch.ones(len(steps), len(steps), dtype=torch.float64).triu(diagonal=2)
    against = 2 * (steps @ steps.T).clamp(max=0).square()
    excess = float((apart * (against - steps.square() @ steps.square().T)).sum())
    return math.sqrt(max(excess / max(float(apart.sum()), 1.0), 0.0))


def _backward(path: Tensor, reach: int) -> list[int]:
    """Places from which the path goes back, by the products with what is left and right of each and the next."""
    found = []
    for place in range(1, len(path) - 2):
        before, after = path[max(0, place - reach) : place], path[place + 2 : place + 2 + reach]
        axis = after.double().mean(dim=0) - before.double().mean(dim=0)
        cosine, error = _cosine((path[place + 1] - path[place]).double(), axis)
        if cosine < -max(_LEAST, _NEIGHBOURS_SURE * error):
            found.append(place)
    return found


def _near(places: Collection[int], pair: Pair) -> bool:
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
        before = path[outward[-_AROUND - 4 : -2]].double()
        b, c, d = (path[place].double() for place in outward[-3:])
        back, back_error = _cosine(b - d, c - d)
        noise, noise_error = _cosine(b - c, d - c)
        turned = back < -max(_LEAST, _NEIGHBOURS_SURE * back_error)
        nothing = back + 3 * back_error < 2 * _LEAST and noise > max(4 * _LEAST, _NEIGHBOURS_SURE * noise_error)
        if not turned and not (nothing and _unusual(before, float((b - c) @ (d - c)))):
            continue
        if torch.linalg.vector_norm(b - d) < 0.6 * torch.linalg.vector_norm(d - c):
            continue  # c alone is far from both
        if -_ALIKE * to_and_fro(path[[*outward[-_AROUND - 1 : -2], outward[-1], outward[-2]]]) > min(back, -noise):
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
