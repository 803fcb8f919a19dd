"""A sweep notices what is wrong with published checkpoints, and accuses no honest one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gammatorch.bench.training_runs import HONEST, NASTY, Kind, draw, measure
from gammatorch.sweep import threads
from gammatorch.sweep.item import Settings
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.timeline import make_timeline
from gammatorch.trajectory.anomalies import find_anomalies
from gammatorch.trajectory.measure import Snapshot, trace
from tests.sweep.conftest import sweep


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a sweep."""
    with threads.one_thread():
        yield


CLEAR = {
    name: kind
    for name, kind in HONEST.items()
    if not (kind.shiver or kind.settle or kind.returning or kind.directions)
    and not name.startswith(("slow", "hardly"))
    and name != "drift, log-spaced, bf16"
}
"""Runs whose checkpoints differ by more than noise and rounding, the first ones too."""


def anomalies(steps, stored, files=None):
    return [found for found in find_anomalies(measure(steps, stored, files)) if found.severity == "anomaly"]


def accused(steps, stored):
    return {item for found in anomalies(steps, stored) for item in found.items}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("seed", range(2))
def test_two_hundred_honest_checkpoints_are_not_accused(name, seed):
    assert not anomalies(*draw(HONEST[name], seed, count=200))


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("seed", range(3))
def test_short_runs_of_few_layers_are_not_accused(name, seed):
    assert not anomalies(*draw(HONEST[name], seed, count=14, layers=3, hidden=64))


def test_layers_that_come_back_together_where_all_go_to_and_fro_are_not_accused():
    assert not anomalies(*draw(NASTY["wandering in two directions, bf16"], 10013, 100, layers=12, hidden=768))


def test_gains_that_are_rounded_back_to_those_they_began_with_are_not_accused():
    assert not anomalies(*draw(NASTY["wandering little, in two directions, bf16"], 10014, 100, layers=12, hidden=768))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize(("seed", "shape"), [(0, (80, 6, 128)), (1, (80, 6, 128)), (3, (14, 3, 64)), (5, (14, 3, 64))])
def test_spikes_pauses_and_missing_checkpoints_are_no_anomalies(name, seed, shape):
    assert not anomalies(*draw(NASTY[name], seed, *shape))


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("place", "origin"), [(8, 25), (30, 14), (20, 21), (38, 3)])
def test_a_checkpoint_with_the_gains_of_another_step_is_found(name, place, origin):
    steps, stored = draw(CLEAR[name], seed=1, count=40)
    stored[place] = stored[origin]
    found = anomalies(steps, stored)
    assert [one.kind for one in found] == ["copy"]
    assert f"step{steps[place]}" in found[0].items and f"step{steps[origin]}" in found[0].text


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("one", "other"), [(8, 25), (20, 24), (3, 33)])
def test_exchanged_checkpoints_are_found(name, one, other):
    steps, stored = draw(CLEAR[name], seed=2, count=40, layers=12, hidden=512)
    stored[one], stored[other] = stored[other], stored[one]
    assert accused(steps, stored) == {f"step{steps[one]}", f"step{steps[other]}"}


@pytest.mark.parametrize("places", [(20, 21, 22), (13, 30, 47)])
def test_three_in_each_others_places_are_told_together(places):
    one, other, third = places
    steps, stored = draw(HONEST["wandering"], 0)
    stored[one], stored[other], stored[third] = stored[other], stored[third], stored[one]
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped" and found.items == tuple(f"step{steps[place]}" for place in places)


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize("one", [12, 24])
def test_exchanged_neighbours_are_found(name, one):
    steps, stored = draw(CLEAR[name], seed=3, count=40, layers=12, hidden=512)
    stored[one], stored[one + 1] = stored[one + 1], stored[one]
    assert accused(steps, stored) == {f"step{steps[one]}", f"step{steps[one + 1]}"}


SHIVERING = [name for name, kind in HONEST.items() if kind.shiver and kind.drift >= 0.2 and kind.schedule != "annealed"]


@pytest.mark.parametrize("name", ["drift", "drift, log-spaced"])
@pytest.mark.parametrize("one", [2, 56])
def test_exchanged_neighbours_are_found_near_an_end(name, one):
    steps, stored = draw(HONEST[name], 0, 60, 6, 128)
    stored[one], stored[one + 1] = stored[one + 1], stored[one]
    assert accused(steps, stored) == {f"step{steps[one]}", f"step{steps[one + 1]}"}


@pytest.mark.parametrize(
    ("name", "seed", "one", "other"),
    [
        ("wandering in ten directions, bf16", 1, 5, 30),
        ("wandering in ten directions, bf16", 1, 8, 45),
        ("wandering in three directions", 3, 12, 50),
    ],
)
def test_two_jumps_in_each_others_place_are_exchanged(name, seed, one, other):
    """The steps go to and fro in few directions, so that the order alone does not tell."""
    steps, stored = draw(HONEST[name], seed, 60, 6, 128)
    stored[one], stored[other] = stored[other], stored[one]
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped" and set(found.items) == {f"step{steps[one]}", f"step{steps[other]}"}


@pytest.mark.parametrize("name", SHIVERING)
def test_exchanged_checkpoints_are_found_under_noise_larger_than_a_step(name):
    steps, stored = draw(HONEST[name], seed=2, count=40, layers=12, hidden=512)
    stored[10], stored[26] = stored[26], stored[10]
    assert accused(steps, stored) == {f"step{steps[10]}", f"step{steps[26]}"}


def test_exchanged_checkpoints_are_found_where_a_step_is_a_hundredth_of_the_noise():
    steps, stored = draw(HONEST["shivering"], seed=2, count=100, layers=12, hidden=768)
    stored[40], stored[66] = stored[66], stored[40]
    assert accused(steps, stored) == {"step40000", "step66000"}


@pytest.mark.parametrize("name", ["rate to and fro, settling", "rate in three, settling"])
@pytest.mark.parametrize(("one", "other"), [(20, 41), (30, 34)])
def test_exchanged_checkpoints_are_found_beside_directions_in_which_gains_go_to_and_fro(name, one, other):
    steps, stored = draw(HONEST[name], seed=2, count=60, layers=12, hidden=512)
    stored[one], stored[other] = stored[other], stored[one]
    assert accused(steps, stored) == {f"step{steps[one]}", f"step{steps[other]}"}


@pytest.mark.parametrize("pair", [(1, 2), (58, 59)])
def test_ends_of_noise_that_is_forgotten_slowly_are_found(pair):
    steps, stored = draw(HONEST["returning noise"], seed=2, count=60, layers=12, hidden=512)
    stored[pair[0]], stored[pair[1]] = stored[pair[1]], stored[pair[0]]
    assert accused(steps, stored) == {f"step{steps[place]}" for place in pair}


@pytest.mark.parametrize("name", ["drift", "shivering, decaying", "returning noise", "wandering, log-spaced"])
def test_the_covariance_between_checkpoints_is_the_one_they_are_drawn_with(name):
    kind, shape = HONEST[name], (20, 1, 20_000)
    run = begin(kind, 0, *shape)
    gains = (torch.stack(draw(kind, 0, *shape)[1])[:, 0].double() - torch.from_numpy(run.gamma)) / run.pace.item()
    common, wandering = covariances(kind, run.steps, torch.from_numpy(run.rates))
    wanted = common + wandering
    scale = wanted.diagonal()[1:].sqrt()
    found = (gains @ gains.T / gains.shape[1])[1:, 1:] / scale / scale[:, None]
    torch.testing.assert_close(found, wanted[1:, 1:] / scale / scale[:, None], rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["drift", "drift, log-spaced", "wandering"])
def test_exchanged_last_ones_are_found_without_noise(name):
    steps, stored = draw(HONEST[name], seed=3, count=40, layers=12, hidden=512)
    stored[-2], stored[-1] = stored[-1], stored[-2]
    assert accused(steps, stored) == {f"step{steps[-2]}", f"step{steps[-1]}"}


@pytest.mark.parametrize(
    "name", [name for name, kind in HONEST.items() if kind.shiver and not (kind.drift or kind.wander)]
)
def test_the_order_of_nothing_but_noise_cannot_be_told(name):
    steps, stored = draw(HONEST[name], seed=3, count=40, layers=12, hidden=512)
    stored[10], stored[26] = stored[26], stored[10]
    assert not anomalies(steps, stored)


def test_mixed_halves_of_two_checkpoints_are_not_taken_for_an_exchange():
    steps, stored = draw(Kind(schedule="constant"), seed=4, count=40)
    one, other = stored[10], stored[25]
    stored[10], stored[25] = torch.cat([one[:3], other[3:]]), torch.cat([other[:3], one[3:]])
    assert "swapped" not in {found.kind for found in anomalies(steps, stored)}
    assert accused(steps, stored) >= {"step10000", "step25000"}


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("place", "origin"), [(8, 25), (30, 14)])
def test_mixed_shards_are_found_with_their_layers(name, place, origin):
    steps, stored = draw(CLEAR[name], seed=4, count=40)
    mixed = stored[place].clone()
    mixed[2:5] = stored[origin][2:5]
    stored[place] = mixed
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.layers == (2, 3, 4)
    assert f"step{steps[place]}" in found.items and f"step{steps[origin]}" in found.text


def test_layers_that_move_little_each_are_found_to_be_mixed_by_all_together():
    """Three entries of a layer move by a spacing from each checkpoint to the next, twelve in all, of eight layers."""
    drawn = torch.Generator().manual_seed(0)
    moved = torch.rand(40, 12, 64, generator=drawn).argsort(dim=-1) < 3
    stored = [*(1 + moved.cumsum(dim=0) / 128).to(torch.bfloat16)]
    steps = list(range(40))
    assert not anomalies(steps, stored)
    stored[20] = torch.cat([stored[20][:4], stored[24][4:]])
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.items == ("step20",) and found.layers == tuple(range(4, 12))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_of_the_next_step_are_found_among_layers_that_move(dtype):
    steps, stored = draw(Kind(schedule="constant", dtype=dtype), seed=4, count=40)
    stored[20] = torch.cat([stored[20][:3], stored[21][3:]])
    (found,) = anomalies(steps, stored)
    assert found.kind == "mixed" and found.layers == (3, 4, 5) and found.items == ("step20000", "step21000")


def test_most_branches_that_serve_the_final_model_are_one_finding():
    steps, stored = draw(HONEST["drift, bf16"], seed=5, count=154)
    wrong = sorted(np.random.default_rng(0).choice(np.arange(1, 153), 86, replace=False).tolist())
    files: list[str | None] = [f"sha{step}" for step in steps]
    for place in wrong:
        stored[place], files[place] = stored[153], files[153]
    (found,) = anomalies(steps, stored, files)
    assert set(found.items) == {f"step{steps[place]}" for place in wrong}
    assert found.text.endswith("(86 in all) serve the file of step153000")


def test_a_checkpoint_from_a_step_that_is_not_there_jumps_and_is_placed():
    steps, stored = draw(Kind(schedule="constant"), seed=6, count=61)
    lost = stored[45]
    del steps[45], stored[45]
    stored[20] = lost
    (found,) = anomalies(steps, stored)
    assert found.kind == "jump" and found.items == ("step20000",)
    assert found.text.endswith("fit between step44000 and step46000")


@pytest.mark.parametrize("count", [30, 41])
@pytest.mark.parametrize("name", [name for name in HONEST | NASTY if name.startswith("resumed")])
def test_a_lone_checkpoint_of_a_second_warm_up_is_a_note(name, count):
    findings = find_anomalies(measure(*draw((HONEST | NASTY)[name], 2, count, 24, 256)))
    assert [(one.kind, one.severity) for one in findings] == [("jump", "note")]


def test_a_checkpoint_of_another_run_jumps():
    kind = NASTY["resumed with a short warm-up, settling"]
    steps, stored = draw(kind, 2, 40, 12, 256)
    stored[30] = draw(kind, 3, 40, 12, 256)[1][30]
    (found,) = anomalies(steps, stored)
    assert found.kind == "jump" and found.items == ("step30000",)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_layers_that_come_back_to_the_same_bits_as_all_come_near_are_no_mixture(seed):
    kind = NASTY["wandering little, in two directions, bf16"]
    findings = find_anomalies(measure(*draw(kind, seed, 120, 12, 256)))
    assert "mixed" not in {one.kind for one in findings}
    assert {one.severity for one in findings if one.kind == "returned layers"} == {"note"}


@pytest.mark.parametrize("origin", [14, 70])
def test_mixed_shards_are_found_in_runs_whose_layers_come_back_to_the_same_bits(origin):
    steps, stored = draw(NASTY["wandering in two directions, bf16"], 3, 80, 12, 256)
    stored[40] = torch.cat([stored[40][:5], stored[origin][5:]])
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "mixed"]
    assert found.items == ("step40000",) and found.layers == tuple(range(5, 12))


@pytest.mark.parametrize("span", [range(30, 40), range(5, 6), range(0, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_change_of_convention_is_found_and_explains_the_jump(span, dtype):
    steps, stored = draw(Kind(drift=0.5, dtype=dtype), seed=7, count=40)
    for place in span:
        stored[place] = (stored[place].double() - 1).to(dtype)
    (found,) = anomalies(steps, stored)
    assert found.kind == "convention" and set(found.items) == {f"step{steps[place]}" for place in span}
    assert found.text.endswith("w where the others hold 1 + w")


def test_gains_that_doubled_are_no_change_of_convention():
    """Exchanged, the mean of all moves by 1, but each channel by its own share."""
    gains = 1 + 0.15 * torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    stored = [gains * (1 + number / 60) for number in range(61)]
    stored[2], stored[58] = stored[58], stored[2]
    assert [(one.kind, one.items) for one in anomalies([*range(61)], stored)] == [("swapped", ("step2", "step58"))]


def test_a_layer_that_dies_is_found_and_one_that_begins_with_zero_is_not():
    steps, stored = draw(Kind(), seed=8, count=20)
    stored[0][1] = 0
    assert not anomalies(steps, stored)
    for gains in stored[12:]:
        gains[3] = 0
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "dead"]
    assert found.layers == (3,) and found.items == tuple(f"step{step}" for step in steps[12:])


def test_layers_frozen_in_turn_are_a_habit_and_no_anomaly():
    steps, stored = draw(Kind(schedule="constant"), seed=9, count=60)
    for place in range(5, 55, 3):
        stored[place + 1][place % 6] = stored[place][place % 6]
    assert not anomalies(steps, stored)


def test_figures_are_those_of_numpy():
    steps, stored = draw(Kind(drift=0.5, wander=0.5, dtype=torch.bfloat16), seed=10, count=8)
    run = measure(steps, stored)
    gains = [one.double().numpy() for one in stored]
    for place in range(2, 8):
        one, before = gains[place], gains[place - 1]
        pearson = [np.corrcoef(x, y)[0, 1] for x, y in zip(one, before, strict=True)]
        moved = np.linalg.norm(one - before, axis=1) / np.linalg.norm(before, axis=1)
        assert float(run.pearson_previous[place]) == pytest.approx(np.mean(pearson), abs=1e-12)
        assert float(run.drift[place]) == pytest.approx(moved.mean(), rel=1e-12)
        assert run.changed[place - 1].tolist() == (one != before).sum(axis=1).tolist()


def test_distances_survive_the_projection():
    steps, stored = draw(Kind(drift=0.5, wander=0.5), seed=11, count=6, layers=24, hidden=1000)
    run = measure(steps, stored)
    gains = torch.stack(stored).double().flatten(1)
    exact = torch.cdist(gains, gains)
    near = torch.cdist(run.points.double().flatten(1), run.points.double().flatten(1))
    torch.testing.assert_close(near, exact, rtol=0.06, atol=1e-6)


def plant_several(stored, seed, times):
    """Copies, exchanges and mixed halves, so many of each, before the rate has decayed; the positions of each by kind."""
    places = iter(np.random.default_rng(seed).permutation(np.arange(2, 160)).tolist())
    true, half, planted = list(stored), len(stored[0]) // 2, []
    for _ in range(times):
        one, other = next(places), next(places)
        stored[one] = true[other].clone()
        planted.append(("copy", {one}))
        one, other = next(places), next(places)
        stored[one], stored[other] = true[other], true[one]
        planted.append(("swapped", {one, other}))
        one, other = next(places), next(places)
        stored[one] = torch.cat([true[one][:half], true[other][half:]])
        planted.append(("mixed", {one}))
    return planted


SEVERAL = ["drift", "drift, bf16", "wandering", "wandering, restarts", "wandering, bursts"]


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("seed", range(3))
def test_copies_exchanges_and_mixtures_in_one_run_do_not_hide_each_other(name, seed):
    steps, stored = draw(HONEST[name], seed, 200, 8, 256)
    planted = plant_several(stored, seed, 3)
    found = [(one.kind, set(one.items)) for one in anomalies(steps, stored)]
    for kind, places in planted:
        names = {f"step{steps[place]}" for place in places}
        assert any(kind == told and names <= items for told, items in found), (kind, names)
    assert set().union(*(items for _, items in found)) == {f"step{steps[at]}" for _, places in planted for at in places}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_faults_in_a_run_along_a_straight_line_do_not_hide_each_other(dtype, seed):
    rng = np.random.default_rng(seed)
    first, last = np.exp(0.1 * rng.standard_normal((2, 8, 256)))
    share = np.linspace(0, 1, 200)[:, None, None]
    stored = [gains.to(dtype) for gains in torch.from_numpy(first * (1 - share) + last * share)]
    steps = list(range(200))
    assert not anomalies(steps, stored)
    planted = plant_several(stored, seed, 3)
    assert accused(steps, stored) == {f"step{at}" for _, places in planted for at in places}


def test_of_two_with_the_same_gains_the_earlier_is_home_where_later_ones_are_nearer_as_noise_decays():
    steps, stored = draw(HONEST["shivering, decaying"], 0, 200, 8, 256)
    stored[196] = stored[137].clone()
    (found,) = anomalies(steps, stored)
    assert found.text == "step196000 holds the gains of step137000"


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(("one", "other"), [(0, 33), (0, 50), (8, 59), (30, 59)])
def test_the_first_and_last_exchanged_with_one_far_from_them_are_found(name, one, other):
    steps, stored = draw(CLEAR[name], 0, 60, 8, 256)
    stored[one], stored[other] = stored[other], stored[one]
    (found,) = anomalies(steps, stored)
    assert found.kind == "swapped" and set(found.items) == {f"step{steps[one]}", f"step{steps[other]}"}


def test_home_is_told_though_what_stands_before_the_copy_strays_beyond_it():
    steps, stored = draw(Kind(schedule="constant"), seed=4, count=60)
    true = list(stored)
    stored[19], stored[20], stored[40] = true[40], true[25], true[19]
    copied = [one.text for one in anomalies(steps, stored) if one.kind == "copy"]
    assert copied == ["step20000 holds the gains of step25000"]


def test_a_mixture_beside_others_that_stray_is_placed():
    """What it holds is at home at step 30, though on both sides of there stands another's."""
    steps, stored = draw(Kind(schedule="constant"), seed=4, count=60)
    true = list(stored)
    stored[10] = torch.cat([true[10][:3], true[30][3:]])
    stored[29], stored[31] = true[55], true[58]
    (found,) = [one for one in anomalies(steps, stored) if one.kind == "mixed"]
    assert found.items == ("step10000",) and "of step30000" in found.text


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_checkpoints_are_looked_at_too(count, dtype):
    steps, stored = draw(Kind(schedule="constant", dtype=dtype), seed=4, count=max(count, 2))
    steps, stored = steps[:count], stored[:count]
    assert not anomalies(steps, stored)
    if count > 3:
        stored[1] = stored[-1]
        assert [one.kind for one in anomalies(steps, stored)] == ["copy"]


def write_run(root, stored, steps):
    for step, gains in zip(steps, stored, strict=True):
        folder = root / f"step{step}"
        folder.mkdir(parents=True)
        keys = {f"model.layers.{row}.input_layernorm.weight": one.clone() for row, one in enumerate(gains)}
        save_file(keys | {"model.embed_tokens.weight": torch.zeros(9, gains.shape[1])}, folder / "model.safetensors")
        config = {"model_type": "qwen3", "num_hidden_layers": len(gains), "hidden_size": gains.shape[1]}
        (folder / "config.json").write_text(json.dumps(config))
    return root


def test_the_store_alone_tells_the_table_and_the_anomalies(tmp_path):
    steps, stored = draw(Kind(), seed=12, count=12)
    stored[7] = stored[3]
    runs = write_run(tmp_path / "runs", stored, steps)
    sweep(runs, out=tmp_path / "out")
    told = make_timeline(tmp_path / "out")
    assert [entry.step for entry in told.entries] == steps
    assert told.entries[-1].pearson_last == pytest.approx(1)
    assert told.entries[1].pearson_previous is None, "step 0 is constant"
    rms = np.sqrt((stored[5].double().numpy() ** 2).mean(axis=1)).mean()
    assert told.entries[5].rms_gamma == pytest.approx(rms)
    (found,) = [finding for finding in told.findings if finding.severity == "anomaly"]
    assert found.items[0].endswith("step7000") and found.text.endswith(f"holds the gains of {runs}/step3000")


def test_equal_gains_of_different_models_are_a_note_and_constant_ones_nothing(tmp_path):
    torch.manual_seed(0)
    frozen, ones = torch.rand(4, 32) + 0.5, torch.ones(4, 32)
    for name, gains in {"base": frozen, "tuned": frozen, "seed1": ones, "seed2": ones}.items():
        write_run(tmp_path / name, [gains], [0])
    sweep(*(tmp_path / name for name in ("base", "tuned", "seed1", "seed2")), out=tmp_path / "out")
    told = make_timeline(tmp_path / "out").to_dict()
    assert not told["anomalies"]
    (note,) = told["notes"]
    assert {item.split("/")[-2] for item in note["items"]} == {"base", "tuned"}


def test_two_steps_that_are_one_checkpoint_are_told(checkpoints, tmp_path):
    runs = checkpoints(1, 2)
    (runs / "step3").symlink_to(runs / "step2")
    plan = make_plan([str(runs)], Settings())
    sweep(runs, out=tmp_path / "out")
    told = make_timeline(tmp_path / "out", aliases=plan.aliases)
    assert [finding.text.split("/")[-1] for finding in told.findings if finding.kind == "copy"] == ["step2"]
    assert told.findings[0].items == (f"{runs}/step2", f"{runs}/step3")


def test_one_step_alone_and_sketches_have_a_line_each():
    wide = [Snapshot(f"step{n}", n, torch.randn(2, 64) + n, digest=str(n)) for n in range(3)]
    assert trace(wide[:1], wide[0], (0, 1)).drift.isnan().all()
    assert len(trace(wide, wide[-1], (0, 1))) == 3
