"""The same site in two checkpoints: figures against NumPy, nulls against permutations, bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gammatorch import errors
from gammatorch.analysis.across import across, structure_cka
from gammatorch.analysis.intervals import Interval
from gammatorch.bench.worlds import WORLDS, draw


def in_numpy(x, y):
    """Cosine, correlation and drift of each row, step by step."""
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return {
        "cosine": (x * y).sum(axis=1) / (lengths[0] * lengths[1]),
        "pearson": np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]),
        "drift": np.linalg.norm(x - y, axis=1) / lengths[1],
        "drift_of_spread": np.linalg.norm(x - y, axis=1) / np.linalg.norm(y - y.mean(axis=1, keepdims=True), axis=1),
    }


@pytest.mark.parametrize("moved", [1e-9, 1e-3, 0.5, None])
@pytest.mark.parametrize("mean", [0.0, 1.0, 1e4])
def test_figures_match_numpy(moved, mean, device):
    rng = np.random.default_rng(0)
    reference = mean + rng.lognormal(0, 0.3, (7, 700))
    other = (
        mean + rng.lognormal(0, 0.3, (7, 700))
        if moved is None
        else reference * (1 + moved * rng.standard_normal((7, 700)))
    )
    found = across(torch.from_numpy(other).to(device), torch.from_numpy(reference).to(device))
    truth = in_numpy(other, reference)
    for name in truth:
        interval = getattr(found, name)
        np.testing.assert_allclose(interval.value, truth[name], rtol=1e-9, atol=1e-13 if "drift" in name else 1e-9)
    total = np.linalg.norm(other - reference) / np.linalg.norm(reference)
    np.testing.assert_allclose(found.total_drift.value, total, rtol=1e-9)
    edges = [0, *np.cumsum([len(run) for run in np.array_split(np.arange(700), 32)])]
    left_out = [np.r_[0:start, stop:700] for start, stop in itertools.pairwise(edges)]
    without = np.array([in_numpy(other[:, kept], reference[:, kept])["drift"][3] for kept in left_out])
    half = 2.0395 * np.sqrt(31 / 32 * ((np.log(without) - np.log(without).mean()) ** 2).sum())
    np.testing.assert_allclose(np.log(found.drift.high / found.drift.low)[3] / 2, half, rtol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scales_leave_correlations_and_permuting_both_alike_leaves_all(seed, one, other):
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.lognormal(0, 0.3, (2, 6, 64)))
    before, scaled = across(x, y), across(one * x, other * y)
    np.testing.assert_allclose(before.pearson.value, scaled.pearson.value, rtol=1e-8, atol=1e-9)
    order = torch.from_numpy(rng.permutation(64))
    permuted = across(x[:, order], y[:, order])
    for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift", "cka"):
        np.testing.assert_allclose(getattr(before, name).value, getattr(permuted, name).value, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_channels_permuted_as_one_stay_within_the_null(name):
    """As independent training leaves them: the same permutation in all layers, which the layers' likeness widens."""
    rng = np.random.default_rng(0)
    x, y = draw(name, 0, 12, 512), draw(name, 1, 12, 512)
    shuffled = (torch.from_numpy(x[:, rng.permutation(512)]) for _ in range(200))
    found = [across(one, torch.from_numpy(y)) for one in shuffled]
    within = np.mean([abs(float(one.mean_pearson.value)) <= one.null_95 for one in found])
    assert 0.92 <= within <= 0.98


def test_bounds_cover_the_truth():
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((4, 512))
        y = 0.8 * x + 0.6 * rng.standard_normal((4, 512))
        found = across(torch.from_numpy(x), torch.from_numpy(y))
        covered += ((found.pearson.low <= 0.8) & (found.pearson.high >= 0.8)).tolist()
        covered += ((found.drift.low <= 0.4**0.5) & (found.drift.high >= 0.4**0.5)).tolist()
    assert 0.92 <= np.mean(covered) <= 0.98


def test_cka_is_that_of_the_definition():
    """HSIC's unbiased estimate as a mean over quadruples of layers (Song et al. 2012, theorem 1)."""
    rng = np.random.default_rng(0)
    one, other = (np.corrcoef(rng.standard_normal((6, 40)) + rng.standard_normal(40)) for _ in range(2))

    def hsic(k, m):
        total = count = 0
        for i, j, q, r in np.ndindex(6, 6, 6, 6):
            if len({i, j, q, r}) == 4:
                total, count = total + k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]), count + 1
        return total / count

    expected = hsic(one, other) / np.sqrt(hsic(one, one) * hsic(other, other))
    assert float(structure_cka(one, other)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.sampled_from([0.0, 1e-9, 0.01, 1.0, 50.0]), st.integers(8, 80))
def test_every_figure_lies_within_its_bounds(seed, moved, hidden):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_t(2, (5, hidden)))
    found = across(x + moved * torch.from_numpy(rng.standard_t(2, (5, hidden))), x)
    for name, figure in vars(found).items():
        if isinstance(figure, Interval):
            defined = np.isfinite(figure.value) & np.isfinite(figure.low)
            assert ((figure.low <= figure.value) & (figure.value <= figure.high))[defined].all(), name


def test_undefined_rows_are_nan_and_left_out_of_the_means():
    x, y = (torch.from_numpy(draw("drift", seed, 8, 256)) for seed in range(2))
    x[2], y[5] = 0, 1.5
    found = across(x, y)
    assert np.isnan(found.pearson.value).nonzero()[0].tolist() == [2, 5]
    assert np.isnan(found.cosine.value).nonzero()[0].tolist() == [2]
    assert float(found.mean_pearson.value) == pytest.approx(np.nanmean(found.pearson.value))
    assert float(found.drift.value[2]) == 1


@pytest.mark.parametrize("scale", [2.0**-440, 2.0**440])
def test_a_common_scale_leaves_the_comparison(scale):
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(5, 300, dtype=torch.float64, generator=generator) + 0.5
    tuned = base + 0.1 * torch.randn(5, 300, dtype=torch.float64, generator=generator)
    plain, scaled = across(tuned, base), across(tuned * scale, base * scale)
    for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift"):
        np.testing.assert_allclose(getattr(scaled, name).value, getattr(plain, name).value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-160, 1e155])
def test_gains_whose_squares_have_no_digits_are_not_compared(scale):
    gamma = torch.rand(2, 300, dtype=torch.float64) + 0.5
    with pytest.raises(errors.GainError, match="gains of layer 0 are"):
        across(gamma * scale, gamma * scale)
