"""Checkpoints of a training run that were exchanged, by how their differences lie to each other.

Let a, b, c, d be checkpoints in a row. Training drifts, wanders, and shivers about its path with a noise of each
checkpoint's own. In (d − a)·(c − b) the noise of each stands once, so none of it is squared: its mean is that of the
path alone, ‖path from b to c‖² and more where the path goes on in its direction. That is negative in no honest run
that does not go back and forth from checkpoint to checkpoint, and it turns its sign where b and c are exchanged. The
same holds of any i and j, with the means of their neighbours for a and d; and of several on each side, whose mean has
less noise and lies further away. Where a run goes to and fro in a few directions, it is looked at without these.
Checkpoints that stray, as exchanged ones do, are no neighbours of others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import chain

import torch
from torch import Tensor

from gammatorch.sweep.contrasts import AROUND, LEAST, backward, contrasts, tells
from gammatorch.sweep.course import Course, Pair, evened, joined
from gammatorch.sweep.ends import exchanged_ends
from gammatorch.sweep.junctions import Stretch
from gammatorch.sweep.stretches import put_stretches_right
from gammatorch.sweep.swings import without_swings

_REACHES = 1, 4, 16
"""Neighbours that are taken together on each side: one where steps are long, more where noise hides single ones."""

_ALIKE, _STEADY = 4.0, 20.0
"""How many times as large a cosine must be as those by which steps apart from each other go against each other; and
where the directions in which they do so have been taken out."""

_TRIED = 64
"""Exchanges looked at closely, the clearest first, before none is made: of two that stray or two that do not; and of
others, for there is much that one far off lies better beside."""


def find_exchanged(
    points: Tensor, grain: Tensor, positions: list[int], first_is_initial: bool
) -> tuple[list[Stretch], list[Pair]]:
    """Stretches of checkpoints in a wrong place, and pairs that stand in each other's.

    Args:
        points: Gains or their projections, by ascending step, shape (n, layer, dim).
        grain: What rounding may move each row by, shape (n, layer).
        positions: Those that are looked at.
        first_is_initial: Whether the first has the gains that training begins with, and so is in its place.

    Returns:
        Stretches, which count in ``positions``; and two positions each of the pairs.
    """
    path, usual = evened(points[positions])
    stretches, pairs = _find(Course(path, first_is_initial, _ALIKE), [])
    steady = without_swings(path, grain[positions].median(dim=0).values / usual)
    if steady is not None:
        more, others = _find(Course(steady, first_is_initial, _STEADY), stretches)
        stretches, pairs = stretches + more, pairs + others
    return stretches, sorted((positions[one], positions[other]) for one, other in pairs)


def _find(course: Course, known: list[Stretch]) -> tuple[list[Stretch], list[Pair]]:
    """Stretches, then exchanges of others, each put right; stretches once more where there are any, which hide them."""
    stretches = put_stretches_right(course, known, _REACHES)
    found, refused = _find_pairs(course)
    more = put_stretches_right(course, known + stretches, _REACHES) if found else []
    if more:
        behind = _behind(course, set(), _REACHES)
        found += [group for group in refused if not any(_near(behind, pair) for pair in group)]
    turned = {at for stretch in known + stretches + more for at in stretch.places()}
    told = (group for group in found if not any(turned & {*pair} for pair in group))
    return stretches + more, [*chain.from_iterable(told)]


def _find_pairs(course: Course) -> tuple[list[list[Pair]], list[list[Pair]]]:
    """Exchanges that show with few neighbours, then with more, each put right, in groups that share places; and those
    where the path goes back then."""
    found, refused = list[list[Pair]](), list[list[Pair]]()
    off = course.strays()
    for number, reach in enumerate(_REACHES):
        pairs = _put_right(course, reach)
        behind = _behind(course, off, _REACHES[: number + 1])
        for group in joined(pairs):
            (refused if any(_near(behind, pair) for pair in group) else found).append(group)
        if len(pairs) > len(course) // 4:
            break
    return found, refused


def _behind(course: Course, off: set[int], reaches: tuple[int, ...]) -> set[int]:
    """Places from which the path goes back, without what strayed before and still does: exchanges must make no more."""
    path, places = course.without(off & course.strays())
    return {places[at] for reach in reaches for at in backward(path, reach)}


def _put_right(course: Course, reach: int) -> list[Pair]:
    """Put right whatever can be, the clearest first; nothing where no order can be made out at all."""
    pairs: list[Pair] = []
    while (best := next(_exchanges(course, reach), None)) is not None:
        course.exchange(best)
        pairs.append(best)
        if len(pairs) > len(course) // 4:
            for pair in reversed(pairs):
                course.exchange(pair)
            return []
    return pairs


def _exchanges(course: Course, reach: int) -> Iterator[Pair]:
    """Exchanges that put two checkpoints right, those that shorten the path most first."""
    n = len(course)
    off = course.strays()
    against, shorter = contrasts(course.products, reach, off)
    allowed = torch.triu(against < -LEAST / math.sqrt(reach), diagonal=1)
    if course.first_is_initial:
        allowed[0] = False
    is_off = torch.tensor([place in off for place in range(n)])
    alike = is_off[:, None] == is_off
    clearest = [gain for group in (alike, ~alike) for gain in _most(shorter, allowed & group)]
    for _, one, other in sorted(clearest, reverse=True):
        if tells(course, one, other, reach, off):
            yield one, other
    if reach == 1:
        yield from exchanged_ends(course, off)


def _most(shorter: Tensor, allowed: Tensor) -> Iterator[tuple[float, int, int]]:
    """What shortens the path most: by how much, and which two."""
    top = torch.where(allowed, shorter, -torch.inf).flatten().topk(min(_TRIED, int(allowed.sum())))
    for gain, flat in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        yield gain, flat // len(shorter), flat % len(shorter)


def _near(places: Collection[int], pair: Pair) -> bool:
    return any(place - AROUND <= at <= place + AROUND for at in places for place in pair)
