"""Schedules over depth: against generalised least squares by hand, and counts of draws with and without a law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.moments import moments
from gammatorch.analysis.schedules import NONE, SCHEDULES, schedules
from gammatorch.results.statistics import CURVES

LAYERS = (12, 24, 64)


def fitted(sizes, layers=None):
    """The fits to sizes, shape (checkpoint, layer), each the RMS of one gain."""
    gains = torch.from_numpy(np.asarray(sizes, dtype=np.float64))[..., None]
    layers = tuple(layers or range(gains.shape[1]))
    return [schedules(Correlations(one, layers)) for one in moments(gains).home()]


def chosen(fits):
    return next((name for name, fit in fits.items() if fit["chosen"]), None)


def persistent(rng, draws, layers, rho):
    """Errors of variance one that correlate by ρ from layer to layer; at ρ = 1 a walk with such steps."""
    errors = rng.standard_normal((draws, layers))
    if rho == 1:
        return errors.cumsum(axis=1)
    for layer in range(1, layers):
        errors[:, layer] = rho * errors[:, layer - 1] + np.sqrt(1 - rho**2) * errors[:, layer]
    return errors


def planted(name, layers, change):
    """ln T of a law whose first and last layer differ by a factor of e^change; the logarithmic law's is its own."""
    k = np.arange(1.0, layers + 1)
    return {
        "geometric": change * (k - 1) / (layers - 1),
        "linear": np.log1p(np.expm1(change) * (k - 1) / (layers - 1)),
        "logarithmic": -np.log(np.log1p(k)),
        "power": change * np.log(k) / np.log(layers),
    }[name]


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("rho", [0, 0.3, 0.6, 0.9, 1])
def test_no_law_is_claimed_where_there_is_none(layers, rho):
    """These seeds set no constant; 2,000 draws of each gave 4.4 % at most."""
    rng = np.random.default_rng(layers)
    for deviation in (0.02, 0.1, 0.3):
        claimed = [chosen(fits) for fits in fitted(np.exp(deviation * persistent(rng, 200, layers, rho)))]
        assert sum(name is not None for name in claimed) <= (16 if rho == 1 else 4), deviation


@pytest.mark.parametrize("rho", [0, 0.3, 0.6])
@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {NONE}))
def test_a_law_is_found_with_its_parameters_and_no_other_in_its_place(name, rho):
    rng = np.random.default_rng(7)
    for layers, change, least in ((64, -1.5, 0.85), (64, 1.5, 0.85), (24, 1.5, 0.55), (24, -0.7, 0), (12, 0.7, 0)):
        course = planted(name, layers, change)
        fits = fitted(np.exp(course + 0.05 * persistent(rng, 100, layers, rho)))
        claimed = [chosen(one) for one in fits]
        assert claimed.count(name) >= 100 * least, (layers, change)
        assert sum(claim not in (name, None) for claim in claimed) <= 10, (layers, change)
        drawn = [CURVES[name](fits[0][name]["parameters"], k) for k in range(1, layers + 1)]
        np.testing.assert_allclose(np.log(drawn), course, atol=0.25)


@pytest.mark.parametrize("layers", LAYERS)
def test_other_shapes_are_no_law(layers):
    rng, place = np.random.default_rng(3), np.linspace(0, 1, layers)
    noise = 0.05 * persistent(rng, 100, layers, 0.3)
    for shape in (
        0.5 * (place > rng.uniform(0.2, 0.8, (100, 1))),
        0.5 * np.sin(np.pi * place),
        0.3 * (np.arange(layers) % 2),
    ):
        assert sum(chosen(fits) is not None for fits in fitted(np.exp(noise + shape))) <= 2


@pytest.mark.parametrize("layers", LAYERS)
def test_the_first_and_the_last_layer_decide_nothing(layers):
    sizes = np.exp(planted("geometric", layers, 1.5) + 0.02 * np.random.default_rng(1).standard_normal(layers))
    plain, odd = sizes[None], sizes.copy()[None]
    odd[:, 0], odd[:, -1] = 0.01, 20
    assert fitted(odd) == fitted(plain) and chosen(fitted(odd)[0]) == "geometric"


def by_hand(heights, at, rho, columns):
    """AICc without its penalty, and the fit, by generalised least squares with the covariance written out."""
    covariance = rho ** np.abs(at[:, None] - at)
    inverse, x = np.linalg.inv(covariance), np.stack(columns, axis=1)
    fit = x @ np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ heights)
    residual = heights - fit
    score = len(at) * np.log(residual @ inverse @ residual / len(at)) + np.linalg.slogdet(covariance)[1]
    return score, fit


@pytest.mark.parametrize("kept", [range(20), [*range(3, 9), *range(12, 30, 2)]], ids=["whole", "gaps"])
@pytest.mark.parametrize("rho", [0, 0.6, 0.95])
def test_fits_are_those_of_generalised_least_squares(rho, kept):
    at = np.array(kept, dtype=float) - kept[0]
    rng = np.random.default_rng(int(10 * rho))
    sizes = np.exp(0.04 * at + 0.1 * persistent(rng, 3, len(at), rho))
    for size, fits in zip(sizes, fitted(sizes, kept), strict=True):
        heights, inner = np.log(size)[1:-1], at[1:-1]
        n, one = len(inner), np.ones(len(inner))
        for name, fit in fits.items():
            course = np.log([CURVES[name](fit["parameters"], 1 + step) for step in inner])
            columns = {"geometric": [one, inner], "power": [one, np.log1p(inner)]}.get(name, [one])
            offset = course - course[0] if name in ("linear", "logarithmic") else 0 * one
            m = 2 + len(columns) + (name == "linear")
            score, curve = by_hand(heights - offset, inner, fit["rho"], columns)
            np.testing.assert_allclose(curve + offset, course, atol=1e-6)
            assert fit["aicc"] == pytest.approx(score + 2 * m + 2 * m * (m + 1) / (n - m - 1), abs=1e-6)
            share = 1 - ((heights - course) ** 2).sum() / ((heights - heights.mean()) ** 2).sum()
            assert fit["r_squared"] == pytest.approx(max(share, 0), abs=1e-6)
            others = [by_hand(heights - offset, inner, other, columns)[0] for other in np.linspace(0, 0.99, 100)]
            assert score <= min(others) + 0.1  # between two points of the grid


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 40), st.integers(0, 10_000), st.floats(-20, 20), st.sampled_from([0.0, 0.5, 1.0]))
def test_scaling_all_gains_leaves_the_fits_but_for_the_scale(layers, seed, scale, rho):
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(0, 1) * np.linspace(0, 1, layers) + 0.1 * persistent(rng, 1, layers, rho))
    (fits,), (scaled,) = fitted(sizes), fitted(sizes * np.exp(scale))
    assert chosen(fits) == chosen(scaled) and fits.keys() == scaled.keys() == SCHEDULES.keys()
    assert [fit["aicc"] for fit in fits.values()] == sorted(fit["aicc"] for fit in fits.values())
    assert sum(fit["chosen"] for fit in fits.values()) <= 1 and not fits[NONE]["chosen"]
    for name, fit in fits.items():
        assert 0 <= fit["r_squared"] <= 1 and 0 <= fit["rho"] <= 0.99
        assert scaled[name]["aicc"] == pytest.approx(fit["aicc"], abs=1e-3)
        for parameter, value in fit["parameters"].items():
            factor = np.exp(scale) if parameter in ("t0", "b", "c") else 1
            assert scaled[name]["parameters"][parameter] == pytest.approx(value * factor, rel=1e-4, abs=1e-5 * factor)


def test_layers_without_a_gain_are_left_out_and_count_as_a_gap():
    sizes = np.exp(planted("power", 40, -1.5) + 0.01 * np.random.default_rng(2).standard_normal(40))
    holed = sizes.copy()
    holed[[0, 7, 8, 39]] = 0
    one, other = fitted(np.stack([holed, sizes]))
    assert chosen(one) == chosen(other) == "power"
    assert one["power"]["parameters"]["p"] == pytest.approx(other["power"]["parameters"]["p"], rel=0.02)
    assert one["power"]["parameters"]["t0"] == pytest.approx(other["power"]["parameters"]["t0"], rel=0.02)
    assert fitted(np.zeros((1, 9))) == [None]


def test_nothing_is_fitted_to_too_few_layers_or_to_equal_ones():
    assert fitted([[1.0, 2.0, 3.0, 4.0, 5.0]]) == [None]
    assert fitted(np.full((2, 12), 0.7)) == [None, None]
    (six,) = fitted([[1.0, 2.0, 3.0, 4.0, 5.0, 6.5]])
    assert all(np.isfinite(fit["aicc"]) for fit in six.values()) and chosen(six) is None
