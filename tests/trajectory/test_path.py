"""What strays is left out of what tells how a run goes, and nothing else."""

from __future__ import annotations

import pytest
import torch

from gammatorch.sweep.contrasts import backward, contrasts, tells
from gammatorch.sweep.course import Course, gram
from gammatorch.sweep.strays import strays

SHAPE = 40, 3, 64


def path_of(way, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    noise, start, turn = (torch.randn(shape, generator=drawn) for shape in (SHAPE, SHAPE[1:], SHAPE[1:]))
    number = torch.arange(SHAPE[0])[:, None, None]
    ways = {
        "line": start + number * turn,
        "walk": noise.cumsum(dim=0),
        "noise": noise,
        "curve": start * (number / 9).cos() + turn * (number / 9).sin(),
        "still": start.expand(SHAPE),
    }
    return ways[way].contiguous()


def off(path):
    return strays(torch.cdist(path.flatten(1).double(), path.flatten(1).double()))


@pytest.mark.parametrize("way", ["line", "walk", "noise", "curve", "still"])
@pytest.mark.parametrize("count", [*range(1, 9), 40])
def test_nothing_strays_from_a_run_that_goes_on(way, count):
    assert not off(path_of(way)[:count])


@pytest.mark.parametrize("way", ["line", "walk", "noise", "curve", "still"])
@pytest.mark.parametrize("places", [{1}, {20}, {38}, {10, 11}, {10, 11, 12}, {7, 9, 30}])
def test_what_lies_far_from_both_sides_strays_and_nothing_beside_it(way, places):
    path = path_of(way)
    for number, place in enumerate(sorted(places)):
        path[place] += 100 * (number + 1)
    assert off(path) == places


@pytest.mark.parametrize("reach", [1, 4])
@pytest.mark.parametrize("places", [set(), {5}, {12, 13, 30}, {2, 37}])
def test_contrasts_are_those_of_the_path_without_what_strays(reach, places):
    path = path_of("walk").flatten(1)
    kept = [at for at in range(len(path)) if at not in places]
    for found, wanted in zip(contrasts(gram(path), reach, places), contrasts(gram(path[kept]), reach), strict=True):
        torch.testing.assert_close(found[kept][:, kept].triu(1), wanted.triu(1))


@pytest.mark.parametrize(("one", "other"), [(8, 25), (8, 12), (20, 21)])
def test_an_exchange_is_told_as_in_the_path_without_what_strays(one, other):
    path, places = path_of("line"), {9, 22, 23, 30}
    path[[one, other]] = path[[other, one]]
    path[sorted(places)] += 300 * path_of("noise", seed=1)[: len(places)]
    kept = [at for at in range(len(path)) if at not in places]
    short = Course(path[kept], False, 4.0)
    assert tells(short, kept.index(one), kept.index(other), 1, set())
    assert tells(Course(path, False, 4.0), one, other, 1, places)
    assert not tells(Course(path, False, 4.0), one, other, 1, set())
    way, left = Course(path, False, 4.0).without(places)
    assert left == kept and backward(way, 1) == backward(path[kept], 1) != []


def test_products_follow_what_is_put_elsewhere():
    course = Course(path_of("walk"), False, 4.0)
    order = [12, 13, 10, 11]
    for act in (
        lambda: course.exchange((3, 30)),
        lambda: course.turn_round(10, order),
        lambda: course.exchange((11, 2)),
        lambda: course.exchange((11, 2)),
        lambda: course.turn_back(10, order),
        lambda: course.exchange((3, 30)),
    ):
        act()
        torch.testing.assert_close(course.products, gram(course.flat()), rtol=1e-12, atol=1e-9)
    assert torch.equal(course.path, path_of("walk"))
