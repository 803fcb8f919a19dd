"""Several checkpoints in a row that stand in the wrong place: read backwards, exchanged for others, moved round by one.

What is put right is what shortens the run most (junctions.py), if it is beyond chance. The products that tell are those
of order.py, (d − a)·(c − b) of a, b, c, d in a row, and the mean of none of them is negative in a run that does not go
back and forth, for no noise is squared in it. Each sort of fault makes several negative (against.py), so that no single
checkpoint that is far off, and no two that were exchanged, look like one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gammatorch.sweep.against import ALSO_SURE, goes_along, products_of
from gammatorch.sweep.contrasts import AROUND, LEAST, backward, contrasts, in_most, recovers
from gammatorch.sweep.course import Course, cosine, to_and_fro
from gammatorch.sweep.junctions import Junctions, Stretch

_TRIED, _MOST = 64, 4
"""Stretches looked at closely before none is put right; and where more would be, no order can be made out at all."""


def put_stretches_right(course: Course, known: list[Stretch], reaches: tuple[int, ...]) -> list[Stretch]:
    """Put right stretches that stand wrong, those that show with few neighbours first.

    Args:
        course: The training run; changed in place.
        known: What has been put right already.
        reaches: Neighbours that are taken together on each side.

    Returns:
        What was put right; none of them shares a place with another.
    """
    found: list[Stretch] = []
    for reach in reaches:
        while (best := next(_stretches(course, reach, known + found), None)) is not None:
            course.turn_round(best.cuts[0], best.order())
            found.append(best)
            if len(found) > _MOST:
                for stretch in reversed(found):
                    course.turn_back(stretch.cuts[0], stretch.order())
                return []
    return found


def _stretches(course: Course, reach: int, found: list[Stretch]) -> Iterator[Stretch]:
    products = course.products
    taken = {at for stretch in found for at in stretch.places()}
    by_pairs = _by_pairs(products, reach)
    for gain, stretch in Junctions(products, reach).clearest(_TRIED):
        places = stretch.places()
        if not taken & {*places} and gain > float(by_pairs[places].max()) and _tells(course, stretch, reach):
            yield stretch


def _by_pairs(products: Tensor, reach: int) -> Tensor:
    """What the best exchange of each with one other would gain, in the units of a stretch's gain, shape (n).

    An exchange makes four junctions anew, (d − a)·(c − b) twice; one of neighbours two.
    """
    shorter = contrasts(products, reach)[1].triu(diagonal=1)
    gain = shorter + shorter.triu(diagonal=2 if reach == 1 else 2 * reach + 1)
    return torch.maximum(gain.amax(dim=0), gain.amax(dim=1))


def _tells(course: Course, stretch: Stretch, reach: int) -> bool:
    """Whether a stretch is wrong beyond chance, in most layers, and no matter of steps that go to and fro."""
    told, path = [], course.path
    for axis, between, sure in products_of(path, stretch, reach):
        found, error = cosine(between, axis)
        if found > -sure * error:
            return False
        if sure > ALSO_SURE:
            told.append(found)
            if found > -LEAST / math.sqrt(reach) or not in_most(between * axis):
                return False
            if goes_along(path, stretch, between, reach):
                return False
            if len(stretch.cuts) < 4 and recovers(path, stretch.cuts[0], stretch.cuts[-1] - 1, between, reach):
                return False
    return _goes_on(course, stretch, reach, -max(told) / (course.alike * math.sqrt(reach)))


def _goes_on(course: Course, stretch: Stretch, reach: int, enough: float) -> bool:
    """Whether the run, put right, goes on around each cut: steps apart go less against each other than a cosine."""
    n = len(course)
    order = [*range(stretch.cuts[0]), *stretch.order(), *range(stretch.cuts[-1], n)]
    for cut in stretch.cuts:
        around = course.path[order[max(0, cut - AROUND) : cut + AROUND]]
        if to_and_fro(around) >= enough or backward(around, min(reach, AROUND)):
            return False
    return True
