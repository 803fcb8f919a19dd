"""Stretches of checkpoints that stand in a wrong place are told with what is the matter, and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from gammatorch.sweep import threads
from gammatorch.sweep.anomalies import find_anomalies
from gammatorch.sweep.junctions import Junctions, Stretch
from tests.sweep.runs import HONEST, NASTY, Kind, draw, measure


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a sweep."""
    with threads.one_thread():
        yield


BACKWARDS, BESIDE, APART = Stretch((12, 20)), Stretch((12, 16, 20)), Stretch((10, 13, 26, 29))
LAST_FIRST, FIRST_LAST = Stretch((12, 19, 20)), Stretch((12, 13, 20))
THREE = Stretch((14, 16, 17))
SORTS = [BACKWARDS, BESIDE, APART, LAST_FIRST, FIRST_LAST, THREE]

CLEAR = ["drift", "drift, bf16", "wandering", "wandering, log-spaced", "float16, fine-tuning", "plateau and cool-down"]
NOISY = ["shivering, decaying"]


def planted(kind: Kind, stretch: Stretch, seed: int = 2, shape: tuple[int, int, int] = (40, 12, 512)):
    """Steps and gains of a run in which a stretch was turned round."""
    steps, stored = draw(kind, seed, *shape)
    start, order = stretch.cuts[0], stretch.order()
    inverse = sorted(range(len(order)), key=order.__getitem__)
    stored[start : start + len(order)] = [stored[start + at] for at in inverse]
    return steps, stored


def anomalies(steps, stored):
    return [found for found in find_anomalies(measure(steps, stored)) if found.severity == "anomaly"]


def of_stretches(findings):
    """What is told of stretches, by its sentence."""
    said = ("in reverse order", "moved round by one", "stand in each other's place")
    return [found.text for found in findings if any(words in found.text for words in said)]


@pytest.mark.parametrize("name", ["drift", "drift, bf16", "wandering"])
@pytest.mark.parametrize("stretch", [BACKWARDS, LAST_FIRST, FIRST_LAST], ids=str)
def test_a_stretch_and_exchanges_do_not_hide_each_other(name, stretch):
    steps, stored = planted(HONEST[name], stretch, shape=(80, 8, 256))
    stored[35], stored[60] = stored[60], stored[35]
    stored[42], stored[45] = stored[45], stored[42]
    found = anomalies(steps, stored)
    accused = {item for one in found for item in one.items}
    assert accused == {f"step{steps[at]}" for at in (*stretch.places(), 35, 60, 42, 45)}
    assert stretch.told([f"step{step}" for step in steps]) in of_stretches(found)


@pytest.mark.parametrize("reach", [1, 4, 16])
def test_gains_hold_no_noise_of_a_checkpoints_own(reach):
    torch.manual_seed(0)
    path = torch.randn(40, 30, dtype=torch.float64)
    noise = torch.diag(100 * torch.rand(40, dtype=torch.float64))
    with_noise, without = (Junctions(path @ path.T + own, reach).clearest(20_000) for own in (noise, 0 * noise))
    gains = {stretch: gain for gain, stretch in without}
    assert gains and {stretch for _, stretch in with_noise} == {*gains}
    for gain, stretch in with_noise:
        assert gain == pytest.approx(gains[stretch], rel=1e-6, abs=1e-6)


def test_gains_are_what_squared_steps_lose():
    torch.manual_seed(0)
    path = torch.randn(20, 3, dtype=torch.float64)
    found = Junctions(path @ path.T, 1).clearest(5000)
    assert {len(stretch.cuts) for _, stretch in found} == {2, 3, 4}
    for gain, stretch in found:
        order = [*range(stretch.cuts[0]), *stretch.order(), *range(stretch.cuts[-1], 20)]
        assert sorted(order) == [*range(20)]
        before, after = (sum(float((b - a).square().sum()) for a, b in pairwise(way)) for way in (path, path[order]))
        assert gain == pytest.approx((before - after) / 2)


@pytest.mark.parametrize("stretch", SORTS)
@pytest.mark.parametrize("name", CLEAR)
def test_a_stretch_in_a_wrong_place_is_told_with_all_its_steps_and_nothing_else(name, stretch):
    steps, stored = planted(HONEST[name], stretch)
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped"
    assert found.items == tuple(f"step{steps[place]}" for place in stretch.places())
    assert found.text == stretch.told([f"step{step}" for step in steps])


def test_what_is_the_matter_is_said_in_one_sentence():
    steps, stored = draw(HONEST["drift"], 2, 40, 12, 512)
    stored[12:21] = stored[12:21][::-1]
    (found,) = anomalies(steps, stored)
    assert found.text == "step12000 to step20000 lie in reverse order"
    assert found.items == tuple(f"step{1000 * at}" for at in range(12, 21) if at != 16), "the middle one lies right"
    steps, stored = draw(HONEST["drift"], 2, 40, 12, 512)
    stored[10:12], stored[30:32] = stored[30:32], stored[10:12]
    (found,) = anomalies(steps, stored)
    assert found.text == "step10000 to step11000 and step30000 to step31000 stand in each other's place"
    steps, stored = draw(HONEST["drift"], 2, 40, 12, 512)
    stored[12:20] = [*stored[13:20], stored[12]]
    (found,) = anomalies(steps, stored)
    assert found.text == "step12000 to step19000 are moved round by one: step19000 lies before step12000"
    steps, stored = draw(HONEST["drift"], 2, 40, 12, 512)
    stored[12:20] = [stored[19], *stored[12:19]]
    (found,) = anomalies(steps, stored)
    assert found.text == "step12000 to step19000 are moved round by one: step12000 lies after step19000"


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("stretch", [Stretch((12, 32)), Stretch((8, 16, 24, 32)), Stretch((8, 20, 32))])
def test_long_stretches_are_told_under_noise_larger_than_a_step(name, stretch):
    steps, stored = planted(HONEST[name], stretch, shape=(40, 12, 768))
    found = anomalies(steps, stored)
    assert [one.text for one in found] == [stretch.told([f"step{step}" for step in steps])]


@pytest.mark.parametrize("stretch", [Stretch((30, 50)), Stretch((20, 24, 40, 44))])
def test_stretches_are_told_beside_directions_in_which_gains_go_to_and_fro(stretch):
    steps, stored = planted(HONEST["rate in three, settling"], stretch, shape=(60, 12, 512))
    assert [one.text for one in anomalies(steps, stored)] == [stretch.told([f"step{step}" for step in steps])]


FOLLOWING = {
    "a warm-up and a decay": (Kind(0.05, wander=0.1, dtype=torch.bfloat16, settle=0.3, directions=2), (150, 4, 128)),
    "a warm-up and a decay, wandering": (Kind(0.0, wander=0.5, shiver=0.005, settle=0.3), (100, 6, 256)),
    "leaps and decays": (Kind(0.0, 0.1, 0.05, "restarts", settle=0.1, directions=2), (100, 6, 256)),
    "leaps and decays, wandering": (Kind(0.05, 0.5, 0.0, "restarts", settle=0.1, returning=0.02), (100, 6, 256)),
    "leaps and decays, gaps": (Kind(0.05, 0.0, 0.02, "restarts", "gaps", settle=0.3, directions=1), (150, 4, 128)),
    "pauses": (Kind(0.05, 0.0, 0.05, "pauses", settle=0.1, returning=0.05), (150, 4, 128)),
    "pauses, short": (Kind(0.0, 0.1, 0.02, "pauses", settle=0.1, returning=0.02, directions=2), (40, 6, 128)),
    "one of a second warm-up": (NASTY["resumed with a short warm-up, slow drift, settling"], (100, 6, 256)),
}
"""Gains that follow a learning rate: a leap and a decay look like a stretch in reverse order, but for what is beside."""


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("seed", [190, 2828])
def test_gains_that_follow_the_learning_rate_are_in_order(name, seed):
    kind, shape = FOLLOWING[name]
    assert not of_stretches(anomalies(*draw(kind, seed, *shape)))


@pytest.mark.parametrize("name", ["drift", "wandering", "drift, bf16", "plateau and cool-down"])
@pytest.mark.parametrize(("place", "lost"), [(12, 32), (30, 11)])
def test_one_checkpoint_of_a_step_that_is_not_there_moves_no_others_round(name, place, lost):
    steps, stored = draw(HONEST[name], 6, 41, 12, 512)
    stored[place] = stored[lost]
    item = f"step{steps[place]}"
    del steps[lost], stored[lost]
    assert {one for found in anomalies(steps, stored) for one in found.items} == {item}
