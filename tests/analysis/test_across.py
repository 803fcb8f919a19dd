"""The same site in two checkpoints: figures against NumPy, nulls against permutations, verdicts in known cases."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch import errors
from gammatorch.analysis.across import across, structure_cka
from gammatorch.bench.worlds import WORLDS, draw
from gammatorch.gains.stack import Gains


def gains(gamma, name="a", dtype="F64"):
    gamma = torch.as_tensor(gamma)
    rows = range(len(gamma))
    known = {"gamma": gamma, "layers": tuple(rows), "keys": tuple(map(str, rows)), "stored_dtype": dtype, "model": name}
    known |= {"site": "input", "offset": 0.0, "model_type": None, "revision": None}
    return Gains(**known, **{field.name: 0 for field in fields(Gains) if field.name not in (*known, "notes")})


def in_numpy(x, y):
    """Cosine, correlation and drift of each row, step by step."""
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return {
        "cosine": (x * y).sum(axis=1) / (lengths[0] * lengths[1]),
        "pearson": np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]),
        "drift": np.linalg.norm(x - y, axis=1) / lengths[1],
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
    found = across(torch.from_numpy(other)[None].to(device), torch.from_numpy(reference).to(device))
    truth = in_numpy(other, reference)
    for name in truth:
        interval = getattr(found, name)
        np.testing.assert_allclose(
            interval.value[0].cpu(), truth[name], rtol=1e-9, atol=1e-13 if name == "drift" else 1e-9
        )
    total = np.linalg.norm(other - reference) / np.linalg.norm(reference)
    np.testing.assert_allclose(found.total_drift.value.cpu(), [total], rtol=1e-9)
    edges = [0, *np.cumsum([len(run) for run in np.array_split(np.arange(700), 32)])]
    left_out = [np.r_[0:start, stop:700] for start, stop in itertools.pairwise(edges)]
    without = np.array([in_numpy(other[:, kept], reference[:, kept])["drift"][3] for kept in left_out])
    half = 2.0395 * np.sqrt(31 / 32 * ((without - without.mean()) ** 2).sum())
    np.testing.assert_allclose((found.drift.high - found.drift.low)[0, 3].cpu() / 2, half, rtol=1e-3)


def test_many_checkpoints_against_one_are_each_alone():
    stack = torch.stack([torch.from_numpy(draw("drift", seed, 8, 256)) for seed in range(4)])
    together = across(stack[1:], stack[0])
    for row in range(3):
        alone = across(stack[1 + row : 2 + row], stack[0])
        for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift", "cka"):
            for part in ("value", "low", "high"):
                ours, theirs = getattr(getattr(together, name), part)[row], getattr(getattr(alone, name), part)[0]
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scales_leave_correlations_and_permuting_both_alike_leaves_all(seed, one, other):
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.lognormal(0, 0.3, (2, 6, 64)))
    before, scaled = across(x[None], y), across(one * x[None], other * y)
    torch.testing.assert_close(before.pearson.value, scaled.pearson.value, rtol=1e-8, atol=1e-9)
    order = torch.from_numpy(rng.permutation(64))
    permuted = across(x[None, :, order], y[:, order])
    for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift", "cka"):
        torch.testing.assert_close(getattr(before, name).value, getattr(permuted, name).value, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_channels_permuted_as_one_stay_within_the_null(name):
    """As independent training leaves them: the same permutation in all layers, which the layers' likeness widens."""
    rng = np.random.default_rng(0)
    x, y = draw(name, 0, 12, 512), draw(name, 1, 12, 512)
    shuffled = torch.from_numpy(np.stack([x[:, rng.permutation(512)] for _ in range(400)]))
    found = across(shuffled, torch.from_numpy(y))
    within = (found.mean_pearson.value.abs() <= found.null_95).double().mean()
    assert 0.92 <= float(within) <= 0.98


def test_bounds_cover_the_truth():
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((4, 512))
        y = 0.8 * x + 0.6 * rng.standard_normal((4, 512))
        found = across(torch.from_numpy(x)[None], torch.from_numpy(y))
        covered += ((found.pearson.low <= 0.8) & (found.pearson.high >= 0.8))[0].tolist()
        covered += ((found.drift.low <= 0.4**0.5) & (found.drift.high >= 0.4**0.5))[0].tolist()
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
    assert float(structure_cka(torch.from_numpy(one), torch.from_numpy(other))) == pytest.approx(expected, abs=1e-12)


PARENT = draw("drift", 0, 24, 1024)
NOISE = np.random.default_rng(5).standard_normal(PARENT.shape)
CASES = {
    "identical": PARENT.copy(),
    "fine-tuned": PARENT * (1 + 0.01 * NOISE),
    "related": PARENT**0.6 * draw("drift", 9, 24, 1024) ** 0.4,
    "unrelated": draw("drift", 9, 24, 1024),
}


@pytest.mark.parametrize("verdict", CASES)
def test_each_kinship_gets_its_own_verdict(verdict):
    (pair,) = gammatorch.compare([gains(PARENT), gains(CASES[verdict], "b")]).pairs
    assert pair.kinship.verdict == verdict


def test_unrelated_models_are_unrelated_however_high_their_cosine():
    rng = np.random.default_rng(0)
    x, y = 1 + 0.1 * rng.standard_normal((2, 24, 1024))
    (pair,) = gammatorch.compare([gains(x), gains(y, "b")]).pairs
    assert float(pair.figures.cosine.value.mean()) > 0.98 and pair.kinship.verdict == "unrelated"
    assert "0.990 is what gains of one sign share anyway" in pair.kinship.sentence


def test_a_copy_in_another_type_is_a_copy_and_a_change_within_one_type_is_not():
    full = torch.from_numpy(PARENT).float()
    rounded = full.bfloat16()
    (pair,) = gammatorch.compare([gains(full.double(), dtype="F32"), gains(rounded.double(), "b", "BF16")]).pairs
    assert pair.kinship.verdict == "identical" and "to the rounding of BF16" in pair.kinship.sentence
    moved = rounded.clone()
    moved[3, 5] *= 1.01
    (pair,) = gammatorch.compare([gains(rounded.double(), dtype="BF16"), gains(moved.double(), "b", "BF16")]).pairs
    assert pair.kinship.verdict == "fine-tuned"


def test_untrained_checkpoints_tell_nothing_of_lineage():
    (pair,) = gammatorch.compare([gains(torch.ones(6, 64)), gains(torch.ones(6, 64), "b")]).pairs
    assert pair.kinship.verdict == "undetermined" and "constant over channels" in pair.kinship.sentence


def test_families_join_what_is_linked():
    names = ["a", "b", "c", "d"]
    gammas = [PARENT, CASES["unrelated"], CASES["fine-tuned"], draw("drift", 9, 24, 1024) * (1 + 0.01 * NOISE)]
    found = gammatorch.compare([gains(gamma, name) for gamma, name in zip(gammas, names, strict=True)])
    assert found.families == ((0, 2), (1, 3)) and len(found.pairs) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site": "final"}, "b: cannot be compared with a: site final against input"),
        ({"layers": (0, 2, 3)}, "layers 0,2,3 against 0-2"),
        ({"gamma": torch.ones(3, 5)}, "width 5 against 4"),
    ],
)
def test_what_has_no_counterpart_is_refused(change, message):
    one = gains(torch.ones(3, 4))
    with pytest.raises(gammatorch.errors.NotComparable, match=message):
        gammatorch.compare([one, replace(one, model="b", **change)])


def test_undefined_rows_are_nan_and_left_out_of_the_means():
    x, y = (torch.from_numpy(draw("drift", seed, 8, 256)) for seed in range(2))
    x[2], y[5] = 0, 1.5
    found = across(x[None], y)
    assert found.pearson.value[0].isnan().nonzero()[:, 0].tolist() == [2, 5]
    assert found.cosine.value[0].isnan().nonzero()[:, 0].tolist() == [2]
    assert float(found.mean_pearson.value) == pytest.approx(float(found.pearson.value.nanmean()))
    assert float(found.drift.value[0, 2]) == 1


def test_names_are_opened_and_what_is_no_model_is_refused():
    with pytest.raises(errors.CheckpointNotFound, match="base"):
        gammatorch.compare(["./base", "./tuned"])
    with pytest.raises(errors.InvalidArgument, match="not int"):
        gammatorch.compare([1, 2])


@pytest.mark.parametrize("scale", [2.0**-440, 2.0**440])
def test_a_common_scale_leaves_the_comparison(scale):
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(5, 300, dtype=torch.float64, generator=generator) + 0.5
    tuned = base + 0.1 * torch.randn(5, 300, dtype=torch.float64, generator=generator)
    plain, scaled = across(tuned[None], base), across(tuned[None] * scale, base * scale)
    for name in ("cosine", "pearson", "drift", "mean_pearson", "total_drift"):
        torch.testing.assert_close(getattr(scaled, name).value, getattr(plain, name).value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-160, 1e155])
def test_gains_whose_squares_have_no_digits_are_not_compared(scale):
    gamma = torch.rand(2, 300, dtype=torch.float64) + 0.5
    with pytest.raises(errors.GainError, match="gains of layer 0 are"):
        across(gamma[None] * scale, gamma * scale)
