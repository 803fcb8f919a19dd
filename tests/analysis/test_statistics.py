"""The statistics against NumPy, in worlds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch.analysis.change_points import boundaries
from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.intervals import first_eigenvalue_null, mean_pearson_null, student_t
from gammatorch.analysis.layer_kinds import lag_sums
from gammatorch.analysis.moments import Accumulator, moments
from gammatorch.analysis.phases import phase_contrasts
from gammatorch.analysis.statistics import STATISTICS
from gammatorch.bench import reference
from gammatorch.bench.worlds import KNOWN, PLANTED, draw, planted, truth

LAWS = settings(deadline=None, max_examples=25)
SHAPES = st.tuples(st.integers(6, 9), st.integers(32, 80), st.integers(0, 10_000))


def world(name, seed=0, layers=64, hidden=5120, device="cpu"):
    return torch.from_numpy(draw(name, seed, layers, hidden)).to(device)


@pytest.mark.parametrize("name", KNOWN)
def test_each_world_gets_its_own_right_sentence(name, device):
    sentences = set()
    for seed in range(5):
        analysis = gammatorch.analyze(world(name, seed, device=device), method="gram")
        assert analysis.answer.verdict == name and analysis.answer.support >= 0.95 and analysis.answer.between is None
        assert analysis.statistics["change_points"] == (list(PLANTED) if name == "phases" else [])
        sentences.add(analysis.answer.sentence.split(":")[0])
    assert len(sentences) == 1 and name.split("-")[0] in sentences.pop().lower()


@pytest.mark.parametrize("name", KNOWN)
def test_intervals_cover_the_truth(name):
    draws, expected = 60, truth(name, 24)
    gains = torch.stack([world(name, seed, 24, 1024) for seed in range(draws)])
    starts = planted(24)
    analyses = gammatorch.analyze(
        gains, phases=f"P1=0-2,P2=3-{starts[1] - 1},P3={starts[1]}-{starts[2] - 1},P4={starts[2]}-"
    )
    for figure, value in expected.items():
        bounds = [
            next(phase for phase in one.statistics["phase_contrasts"] if f"phase {phase['name']}" == figure)
            if figure.startswith("phase")
            else one.statistics[figure]
            for one in analyses
        ]
        covered = sum(bound["low"] <= value <= bound["high"] for bound in bounds)
        assert covered >= 0.88 * draws - 3, (figure, covered)  # 3: as far as 60 draws can tell
        assert np.mean([bound["high"] - bound["low"] for bound in bounds]) < max(0.2 * abs(value), 0.15)


@pytest.mark.parametrize("name", KNOWN)
def test_statistics_match_numpy(name, device):
    gamma = world(name, 1, 24, 700, device)
    found = gammatorch.analyze(gamma).statistics
    expected = reference.statistics(gamma.cpu().numpy())
    for figure in ("mean_pearson", "effective_dimension", "shared_energy"):
        assert found[figure]["value"] == pytest.approx(expected[figure]["value"], rel=1e-9, abs=1e-10), figure
        for part in ("low", "high"):  # 1e-6: the expansion of Student's quantile
            assert found[figure][part] == pytest.approx(expected[figure][part], rel=1e-6, abs=1e-6), (figure, part)
    np.testing.assert_allclose(found["depth_profile"].cpu(), expected["depth_profile"], atol=1e-11)
    assert found["first_eigenvalue"]["value"] == pytest.approx(expected["first_eigenvalue"], rel=1e-4)
    assert found["effective_rank"] == pytest.approx(expected["effective_rank"], rel=1e-9)
    np.testing.assert_allclose(found["rank_correlation"], expected["rank_correlation"], atol=3e-5)
    for part in ("near", "far", "value"):
        assert found["depth_contrast"][part] == pytest.approx(expected["depth_contrast"][part], abs=3e-5)
    for fit, values in expected["schedules"].items():
        # the linear law's change and ρ are searched in turn, which may stop a point of the grid beside the best
        assert found["schedules"][fit]["aicc"] == pytest.approx(values["aicc"], abs=0.02 if fit == "linear" else 1e-4)


def test_a_batch_gives_the_statistics_of_a_loop():
    batch = torch.stack([world(name, 2, 24, 512) for name in KNOWN])
    for one, gamma in zip(gammatorch.analyze(batch), batch, strict=True):
        alone = gammatorch.analyze(gamma, method="gram")
        assert one.answer == alone.answer and one.method == "gram"
        for name in STATISTICS:
            torch.testing.assert_close(one.statistics[name], alone.statistics[name], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(one.proj_top1, alone.proj_top1, rtol=0, atol=1e-9)


@LAWS
@given(SHAPES, st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_columns_may_arrive_in_blocks_of_any_width(shape, widths):
    layers, hidden, seed = shape
    gamma = torch.from_numpy(np.random.default_rng(seed).lognormal(0, 0.4, (1, layers, hidden)))
    accumulator, start = Accumulator(layers, hidden), 0
    while start < hidden:
        width = widths[start % len(widths)]
        accumulator.add(gamma[..., start : start + width])
        start += width
    (home,), whole = accumulator.finish().home(), gammatorch.analyze(gamma[0])
    streamed = Correlations(home, tuple(range(layers)))
    np.testing.assert_allclose(streamed.pearson, whole.statistics["pearson"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(streamed.cosine, whole.cosine, rtol=0, atol=1e-13)
    np.testing.assert_allclose(streamed.norms, np.linalg.norm(gamma[0], axis=1), rtol=1e-13, atol=0)


@LAWS
@given(SHAPES, st.integers(0, 99))
def test_scaling_a_layer_leaves_every_correlation(shape, seed):
    layers, hidden, drawn = shape
    gamma = torch.from_numpy(np.random.default_rng(drawn).lognormal(0, 0.4, (layers, hidden)))
    scale = torch.from_numpy(np.random.default_rng(seed).uniform(0.01, 100, (layers, 1)))
    before, after = gammatorch.analyze(gamma).statistics, gammatorch.analyze(gamma * scale).statistics
    for name in ("pearson", "cos_ones", "mean_pearson", "effective_dimension", "depth_profile", "change_points"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-8, atol=1e-9)


@LAWS
@given(SHAPES)
def test_turning_the_stack_upside_down_leaves_what_has_no_order(shape):
    layers, hidden, seed = shape
    gamma = torch.from_numpy(np.random.default_rng(seed).lognormal(0, 0.4, (layers, hidden)))
    before, after = gammatorch.analyze(gamma).statistics, gammatorch.analyze(gamma.flip(0)).statistics
    for name in ("mean_pearson", "effective_dimension", "first_eigenvalue", "depth_profile", "shared_energy"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-9, atol=1e-10)


def test_correlations_keep_their_digits_where_the_mean_is_large():
    """γ = 1 + 1e-6 noise: without a pivot the mean would cost twelve digits."""
    noise = torch.randn(8, 4096, dtype=torch.float64)
    found = gammatorch.analyze(1 + 1e-6 * noise, method="gram").statistics["pearson"]
    np.testing.assert_allclose(found, np.corrcoef((1 + 1e-6 * noise).numpy()), atol=1e-9)


@pytest.mark.parametrize("layers", [2, 3, 12, 40])
def test_permuted_channels_stay_within_the_nulls(layers):
    rng = np.random.default_rng(0)
    trained = rng.lognormal(0, 0.5, 512) * rng.lognormal(0, 0.2, (layers, 512))
    means, largest = [], []
    for _ in range(400):
        correlation = np.corrcoef(rng.permuted(trained, axis=1))
        means.append(correlation[np.triu_indices(layers, 1)].mean())
        largest.append(np.linalg.eigvalsh(correlation)[-1])
    assert 0.92 <= np.mean(np.abs(means) <= mean_pearson_null(layers * (layers - 1) // 2, 512)) <= 0.98
    assert 0.92 <= np.mean(np.array(largest) <= first_eigenvalue_null(layers, 512)) <= 0.98


def test_the_quantiles_are_students():
    for freedom, expected in ((7, 2.3646), (15, 2.1314), (31, 2.0395)):  # Fisher and Yates, table III
        assert student_t(0.975, freedom) == pytest.approx(expected, abs=1e-3)


def test_the_partition_is_the_best_of_all():
    """Every cut of eight layers into two phases, by hand."""
    gamma = draw("shared-direction", 0, 8, 4096)
    gamma[4:] = draw("shared-direction", 9, 8, 4096)[4:]
    pearson = np.corrcoef(gamma)

    def scatter(start, stop):
        return stop - start - pearson[start:stop, start:stop].sum() / (stop - start)

    best = min(range(3, 6), key=lambda cut: scatter(0, cut) + scatter(cut, 8))
    found = boundaries(Correlations(moments(torch.from_numpy(gamma)).home()[0], tuple(range(8))))
    assert [one.layer for one in found] == [best] == [4]


@pytest.mark.parametrize("walk", [0.02, 0.05, 0.2])
def test_a_walk_has_no_phases(walk):
    """Also where it starts from nothing, so that its first steps turn it fastest."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        gamma = np.exp(walk * np.cumsum(rng.standard_normal((64, 2048)), axis=0))
        assert gammatorch.analyze(torch.from_numpy(gamma)).statistics["change_points"] == []


@pytest.mark.parametrize("odd", [[15], [0, 31], [0, 1]])
def test_odd_layers_are_named_and_are_neither_a_phase_nor_a_drift(odd):
    gamma = world("shared-direction", 0, 32, 2048)
    gamma[odd] = world("layer-specific", 1, 32, 2048)[odd]
    found = gammatorch.analyze(gamma)
    assert found.statistics["odd_layers"] == odd and found.statistics["change_points"] == []
    assert found.answer.verdict == "shared-direction" and f"{', '.join(map(str, odd))} " in found.answer.sentence


def test_a_run_of_three_that_differ_is_a_phase_and_not_odd():
    gamma = world("shared-direction", 0, 32, 2048)
    gamma[29:] = world("shared-direction", 1, 32, 2048)[29:]
    found = gammatorch.analyze(gamma).statistics
    assert found["odd_layers"] == [] and found["change_points"] == [29]


@pytest.mark.parametrize("every", [2, 4, 6])
@pytest.mark.parametrize("name", ["shared-direction", "drift", "phases"])
def test_kinds_of_layers_that_alternate_are_seen_whatever_else_there_is(name, every):
    trouble = {2: "every second", 4: "every fourth", 6: "every sixth"}[every] + " of another kind"
    found = gammatorch.analyze(torch.from_numpy(draw(name, 0, 48, 2048, trouble)))
    ranks = np.asarray(found.statistics["rank_correlation"])
    lag = np.abs(np.subtract.outer(range(48), range(48)))
    kinds = found.statistics["period"]
    assert kinds["period"] == every
    assert kinds["within"] == pytest.approx(ranks[(lag > 0) & (lag % every == 0)].mean(), abs=1e-12)
    assert kinds["across"] == pytest.approx(ranks[lag % every > 0].mean(), abs=1e-12)
    assert f"a multiple of {every} apart" in found.answer.sentence
    assert found.answer.verdict == {"shared-direction": "several-directions"}.get(name, name)


def in_phases(starts, seed, layers=64, hidden=2048):
    """Gains that jump at each start and hold between."""
    rng = np.random.default_rng(seed)
    of_phase = rng.standard_normal((len(starts) + 1, hidden))[np.searchsorted(starts, np.arange(layers), side="right")]
    return np.exp(0.2 * (rng.standard_normal(hidden) + of_phase) + 0.15 * rng.standard_normal((layers, hidden)))


@pytest.mark.parametrize("kinds", [[0, 1], [0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0, 0, 1]])
@pytest.mark.parametrize("starts", [[10, 30, 48], [11, 31, 47], [23]])
def test_phases_are_found_beside_kinds_that_alternate_even_at_layers_of_another_kind(starts, kinds):
    for seed in range(3):
        gains, others = in_phases(starts, seed), in_phases(starts, seed + 1000)
        of_kind = np.resize(kinds, len(gains)) == 1
        gains[of_kind] = others[of_kind]
        found = gammatorch.analyze(torch.from_numpy(gains), method="gram")
        assert found.statistics["change_points"] == starts and found.answer.verdict == "phases"


@pytest.mark.parametrize("every", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("walk", [0.02, 0.05, 0.2])
def test_a_walk_of_kinds_that_alternate_has_no_phases(walk, every):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        steps = rng.standard_normal((2, 64, 2048)).cumsum(axis=1) * walk
        gains, others = np.exp(0.2 * rng.standard_normal((2, 1, 2048)) + steps + 0.1 * rng.standard_normal(steps.shape))
        gains[every - 1 :: every] = others[every - 1 :: every]
        assert gammatorch.analyze(torch.from_numpy(gains), method="gram").statistics["change_points"] == []


@pytest.mark.parametrize("name", KNOWN)
def test_no_kinds_alternate_where_none_do(name):
    for seed in range(10):
        assert gammatorch.analyze(world(name, seed, 40, 1024)).statistics["period"]["period"] is None


@pytest.mark.parametrize("name", KNOWN)
def test_massive_channels_are_named_and_decide_nothing(name):
    disturbed, plain = (torch.from_numpy(draw(name, 1, 64, 5120, trouble)) for trouble in ("outlier channels", None))
    louder = disturbed / plain
    channels = sorted(set((louder > 5).all(dim=0).nonzero()[:, 0].tolist()))
    found = gammatorch.analyze(disturbed)
    outliers = found.statistics["outliers"]
    assert outliers["channels"] == channels and outliers["layers"] == [64] * 6
    sizes = (disturbed / disturbed.median(dim=1, keepdim=True).values)[:, channels].median(dim=0).values
    np.testing.assert_allclose(outliers["sizes"], sizes, rtol=0.01)
    assert found.answer.verdict == name
    assert ("6 massive channels carry" in found.answer.sentence) == (name != "shared-direction")
    assert gammatorch.analyze(plain).statistics["outliers"]["channels"] == []


@pytest.mark.parametrize("trouble", ["heavy tails", "bfloat16", "scales", "odd ends", "outlier channels"])
@pytest.mark.parametrize("name", KNOWN)
def test_what_real_checkpoints_have_beside_changes_no_verdict(name, trouble):
    found = gammatorch.analyze(torch.from_numpy(draw(name, 2, 64, 5120, trouble)))
    assert found.answer.verdict == name
    assert found.statistics["change_points"] == (list(PLANTED) if name == "phases" else [])


@LAWS
@given(st.integers(1, 9), st.integers(0, 1000))
def test_sums_by_lag_are_those_of_the_diagonals(layers, seed):
    values = np.random.default_rng(seed).standard_normal((layers, layers))
    np.testing.assert_allclose(lag_sums(values), [values.diagonal(lag).sum() for lag in range(layers)], atol=1e-12)


def test_phases_of_the_table_are_those_of_the_answer():
    found = gammatorch.analyze(world("phases"))
    assert [phase.first for phase in found.phases] == [0, *PLANTED]
    assert gammatorch.analyze(world("drift")).phases == ()
    assert all(contrast["low"] > 0.1 for contrast in found.statistics["phase_contrasts"])


def test_a_short_phase_is_not_tighter_for_being_short():
    drifting = 0.97 ** np.abs(np.arange(24.0)[:, None] - np.arange(24))
    rows = {"short": range(4), "long": range(4, 24)}
    contrasts = phase_contrasts(rows, drifting, np.broadcast_to(drifting, (32, 24, 24)))
    assert all(abs(contrast.value) < 1e-12 for contrast in contrasts)
    assert float(drifting[:4, :4].mean() - drifting[4:, 4:].mean()) > 0.1


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_cuda_gives_the_statistics_of_the_cpu(precision, device):
    gamma = world("drift")
    torch.set_float32_matmul_precision(precision)
    try:
        on_gpu, on_cpu = (gammatorch.analyze(gamma.to(place)) for place in (device, "cpu"))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert on_gpu.answer == on_cpu.answer
    for name in ("mean_pearson", "effective_dimension", "shared_energy"):
        assert on_gpu.statistics[name] == pytest.approx(on_cpu.statistics[name], rel=1e-10)
