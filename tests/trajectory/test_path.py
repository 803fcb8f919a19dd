"""Outliers are told, and nothing else of a run that goes on; steps that go back and forth are."""

from __future__ import annotations

import pytest
import torch

from gammatorch.trajectory.path import back_and_forth, distances, gram_matrix, outliers, usual_around

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
    return outliers(distances(gram_matrix(path)))


@pytest.mark.parametrize("way", ["line", "walk", "noise", "curve", "still"])
@pytest.mark.parametrize("count", [*range(1, 9), 40])
def test_no_outlier_in_a_run_that_goes_on(way, count):
    assert not off(path_of(way)[:count])


@pytest.mark.parametrize("way", ["line", "walk", "noise", "curve", "still"])
@pytest.mark.parametrize("places", [{1}, {20}, {38}, {10, 11}, {10, 11, 12}, {7, 9, 30}])
def test_what_lies_far_from_both_sides_is_an_outlier_and_nothing_beside_it(way, places):
    path = path_of(way)
    for number, place in enumerate(sorted(places)):
        path[place] += 100 * (number + 1)
    assert off(path) == places


def test_six_in_a_row_are_a_place_to_be_and_no_outliers():
    path = path_of("walk")
    path[10:16] += 1000 * torch.arange(1, 7)[:, None, None]
    assert not off(path)


@pytest.mark.parametrize(("count", "found"), [(4, set()), (5, {2}), (6, {2})])
def test_an_outlier_shows_from_five_checkpoints_on(count, found):
    at = torch.tensor([0.0, 1, 50, 3, 4, 5])[:count]
    assert outliers((at - at[:, None]).abs()) == found


@pytest.mark.parametrize(("aside", "found"), [(4.5, set()), (8.0, {8})])
def test_an_outlier_is_three_times_as_far_from_its_neighbours_as_they_from_each_other(aside, found):
    """On a line of steps of 1 the neighbours are 2 apart."""
    points = torch.stack([torch.arange(16.0), torch.zeros(16)], dim=1).double()
    points[8, 1] = aside
    assert outliers(torch.cdist(points, points)) == found


@pytest.mark.parametrize(("away", "found"), [(3.0, set()), (6.0, {8})])
def test_an_outlier_is_four_times_as_far_off_as_steps_are_long(away, found):
    """Where every other checkpoint is the same, neighbours are no distance apart."""
    at = torch.arange(16.0) % 2
    at[8] = -away
    assert outliers((at - at[:, None]).abs()) == found


def test_usual_steps_are_the_four_on_each_side_beyond_those_of_the_checkpoint():
    steps = torch.tensor([9.0, 1, 1, 5, 5, 100, 100, 5, 5, 1, 1, 9, 9, 9, 9, 9])
    assert usual_around(steps)[6] == 1.0, "the lower median of 1, 1, 5, 5 and 5, 5, 1, 1"


@pytest.mark.parametrize("directions", [1, 2, 10])
def test_back_and_forth_is_one_over_the_root_of_the_directions(directions):
    drawn = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(500, directions, generator=drawn)).Q
    path = torch.randn(400, directions, generator=drawn).cumsum(dim=0) @ axes.T
    assert back_and_forth(path) == pytest.approx(directions**-0.5, rel=0.25)


@pytest.mark.parametrize("way", ["line", "walk", "still"])
def test_a_run_that_goes_on_does_not_go_back_and_forth(way):
    assert back_and_forth(path_of(way)) < 0.03
