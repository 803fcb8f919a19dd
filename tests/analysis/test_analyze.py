"""Every figure against float64 NumPy and against the original's float32 arithmetic, and the laws it must obey."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch import errors
from gammatorch.analysis import reduce
from gammatorch.analysis.phases import assign_phases
from gammatorch.bench import reference
from gammatorch.bench.synthetic import write_checkpoint
from tests.zoo import TABLE

METHODS = ["svd", "gram"]


def assert_matches_reference(analysis, gamma, cosine=1e-12, spectrum=1e-10):
    """Norms and cosines always; axes where the first is told from the second."""
    rows = {
        phase.name: [n for n, layer in enumerate(analysis.layers) if phase.first <= layer <= phase.last]
        for phase in analysis.phases
    }
    truth = reference.analyze(np.asarray(gamma.cpu(), dtype=np.float64), rows)
    np.testing.assert_allclose(analysis.norms.cpu(), truth["norms"], rtol=cosine)
    for name in ("cosine", "cos_adjacent", "cos_ones"):
        ours = getattr(analysis, name, None)
        np.testing.assert_allclose(
            (ours if ours is not None else analysis.statistics[name]).cpu(), truth[name], atol=cosine
        )
    np.testing.assert_allclose(analysis.statistics["pearson"].cpu(), truth["pearson"], atol=spectrum)
    np.testing.assert_allclose(analysis.explained_var.cpu(), truth["explained_var"], atol=spectrum)
    assert analysis.statistics["shared_energy"]["value"] == pytest.approx(truth["shared_energy"], abs=cosine)
    np.testing.assert_allclose(
        analysis.statistics["shared_projection"].cpu(), truth["shared_projection"], atol=spectrum
    )
    if analysis.statistics["singular_gap"] > 1e-6:
        np.testing.assert_allclose(analysis.proj_top1.cpu(), truth["proj_top1"], atol=spectrum)
        np.testing.assert_allclose(analysis.residual_top1.cpu(), truth["residual_top1"], atol=spectrum)
    for phase, expected in zip(analysis.phases, truth["phases"], strict=True):
        for name, value in expected.items():
            assert getattr(phase, name) == (
                pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else value
            )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_qwen3_32b_size_matches_numpy(method, seed, device):
    rng = np.random.default_rng(seed)
    gamma = torch.from_numpy(np.exp(0.3 * rng.standard_normal((64, 5120)) + 0.5 * rng.standard_normal(5120)))
    analysis = gammatorch.analyze(gamma.to(device), method=method, phases="qwen3-32b")
    assert analysis.method == method
    assert_matches_reference(analysis, gamma)


@pytest.mark.parametrize("name", TABLE)
def test_every_tiny_model_matches_numpy(name, tiny, device):
    gains = gammatorch.read_gains(tiny(name), device=device)
    assert_matches_reference(gammatorch.analyze(gains), gains.gamma)


@pytest.mark.parametrize("method", METHODS)
def test_trained_gains_match_numpy(trained, method, device):
    for site in ("post_attention", "post_mlp"):
        gains = gammatorch.read_gains(trained, site=site, device=device)
        assert_matches_reference(gammatorch.analyze(gains, method=method), gains.gamma)


def original_in_float32(gamma: np.ndarray) -> dict[str, np.ndarray]:
    """The original script's own arithmetic: float32 throughout, PCA by NumPy's SVD."""
    gamma = gamma.astype(np.float32)
    lengths = np.linalg.norm(gamma, axis=1)
    directions = gamma / lengths[:, None]
    centred = directions - directions.mean(axis=0, keepdims=True)
    _, S, Vt = np.linalg.svd(centred, full_matrices=False)
    return {
        "norms": lengths,
        "proj_top1": directions @ Vt[0],
        "explained_var": S**2 / (S**2).sum(),
        "cos_adjacent": np.diagonal(directions @ directions.T, 1),
    }


def test_the_originals_keys_agree_with_the_original_within_float32(tmp_path, device):
    write_checkpoint(tmp_path)
    gains = gammatorch.read_gains(tmp_path, device=device)
    document = gammatorch.analyze(gains).to_dict()
    original = original_in_float32(gains.gamma.cpu().numpy())
    sign = np.sign(original["proj_top1"][0] * document["proj_top1"][0])
    np.testing.assert_allclose(document["norms"], original["norms"], rtol=1e-6)
    np.testing.assert_allclose(document["proj_top1"], sign * original["proj_top1"], atol=2e-5)
    np.testing.assert_allclose(document["explained_var"], original["explained_var"], atol=2e-6)
    np.testing.assert_allclose(document["cos_adjacent"], original["cos_adjacent"], atol=2e-6)
    assert document["num_layers"] == 64 and document["model"] == str(tmp_path)


GAINS = st.tuples(st.integers(2, 9), st.integers(2, 40), st.integers(0, 10_000)).map(
    lambda drawn: torch.from_numpy(np.random.default_rng(drawn[2]).lognormal(0, 0.4, drawn[:2]))
)
LAWS = settings(deadline=None, max_examples=40)


def close(one, other, atol=1e-10):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def well_separated(analysis) -> bool:
    return analysis.statistics["singular_gap"] is not None and analysis.statistics["singular_gap"] > 1e-3


@LAWS
@given(GAINS, st.integers(0, 99))
def test_scaling_a_layer_changes_its_norm_and_no_direction(gamma, seed):
    scale = torch.from_numpy(np.random.default_rng(seed).uniform(0.01, 100, len(gamma)))
    before, after = gammatorch.analyze(gamma), gammatorch.analyze(gamma * scale[:, None])
    torch.testing.assert_close(after.norms, before.norms * scale, rtol=1e-12, atol=0)
    close(after.cosine, before.cosine)
    close(after.explained_var, before.explained_var)
    if well_separated(before):
        close(after.proj_top1, before.proj_top1, 1e-8)


@LAWS
@given(GAINS, st.integers(0, 99))
def test_rotating_the_channels_changes_nothing_but_the_axes(gamma, seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((gamma.shape[1],) * 2))
    before, after = gammatorch.analyze(gamma), gammatorch.analyze(gamma @ torch.from_numpy(rotation))
    close(after.norms, before.norms)
    close(after.cosine, before.cosine)
    close(after.singular_values, before.singular_values)
    if well_separated(before):
        close(after.proj_top1, before.proj_top1, 1e-8)


@LAWS
@given(GAINS, st.randoms(use_true_random=False))
def test_permuting_the_layers_permutes_the_rows(gamma, random):
    order = random.sample(range(len(gamma)), len(gamma))
    before, after = gammatorch.analyze(gamma), gammatorch.analyze(gamma[order])
    close(after.cosine, before.cosine[order][:, order])
    close(after.explained_var, before.explained_var)
    if well_separated(before) and len(gamma) > 2:  # two layers are ±: which one is first decides the sign
        close(after.proj_top1, before.proj_top1[order], 1e-8)


@LAWS
@given(GAINS)
def test_the_figures_hold_together(gamma):
    analysis = gammatorch.analyze(gamma)
    close(analysis.explained_var.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert bool((analysis.singular_values.diff() <= 1e-12).all())
    close(analysis.proj_top1.square() + analysis.residual_top1.square(), torch.ones(len(gamma), dtype=torch.float64))
    close(analysis.cosine, analysis.cosine.mT)
    assert bool((analysis.cosine.abs() <= 1).all())
    energy = analysis.statistics["shared_energy"]["value"]
    assert 1 / len(gamma) <= energy <= 1
    units = gamma.numpy() / np.linalg.norm(gamma.numpy(), axis=1, keepdims=True)
    assert energy == pytest.approx(np.linalg.norm(units, 2) ** 2 / len(gamma), abs=1e-12)
    close(analysis.statistics["shared_projection"].square().mean(), torch.tensor(energy, dtype=torch.float64))


@LAWS
@given(st.integers(1, 9), st.integers(0, 10_000), st.floats(0, 1))
@example(3, 0, 1.0)  # where the largest eigenvalue of a matrix of ones comes out above their number
@example(4, 0, 1.0)
@example(9, 0, 1.0)
def test_the_shared_energy_goes_from_orthogonal_layers_to_one_direction(layers, seed, shared):
    """With L orthonormal u_i and one direction v orthogonal to them, the cosines of a v + b u_i are a² off the diagonal."""
    rows = np.linalg.qr(np.random.default_rng(seed).standard_normal((16, layers + 1)))[0].T
    gamma = shared * rows[:1] + np.sqrt(1 - shared**2) * rows[1:]
    energy = gammatorch.analyze(torch.from_numpy(gamma)).statistics["shared_energy"]["value"]
    assert 1 / layers <= energy <= 1
    assert energy == pytest.approx((1 + (layers - 1) * shared**2) / layers, abs=1e-12)


@LAWS
@given(GAINS)
def test_both_methods_give_the_same_numbers(gamma):
    by_svd, by_gram = (gammatorch.analyze(gamma, method=method) for method in METHODS)
    close(by_svd.explained_var, by_gram.explained_var)
    if well_separated(by_svd) and len(gamma) > 2:
        close(by_svd.proj_top1, by_gram.proj_top1, 1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("spread", [0.5, 1e-2, 1e-4])
def test_the_error_is_not_above_its_estimate(method, dtype, spread, device):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        gamma = torch.from_numpy(rng.lognormal(0, 1, 512) * (1 + spread * rng.standard_normal((24, 512))))
        analysis = gammatorch.analyze(gamma.to(device), method=method, dtype=dtype)
        truth = reference.analyze(gamma.to(torch.float32 if dtype == "float32" else torch.float64).double())
        assert np.abs(analysis.cosine.cpu().double().numpy() - truth["cosine"]).max() <= analysis.error_estimate
        explained = analysis.explained_var.cpu().double().numpy()
        assert np.abs(explained - truth["explained_var"]).max() <= analysis.error_estimate


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_batch_gives_the_numbers_of_a_loop(dtype):
    batch = torch.rand(5, 7, 800, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    for one, gamma in zip(gammatorch.analyze(batch, dtype=dtype), batch, strict=True):
        alone = gammatorch.analyze(gamma, method="gram", dtype=dtype)
        for name in ("norms", "cosine", "explained_var", "proj_top1"):
            torch.testing.assert_close(getattr(one, name), getattr(alone, name), rtol=1e-10, atol=one.error_estimate)
        found, expected = one.singular_values[:-1], alone.singular_values[:-1]  # the last is 0: the root of rounding
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=one.error_estimate)
        assert one.answer == alone.answer and one.method == alone.method == "gram"


def test_the_shared_direction_sees_what_the_centred_axes_lost():
    direction = torch.rand(256, dtype=torch.float64) + 0.5
    gamma = direction * torch.linspace(1, 3, 12, dtype=torch.float64)[:, None]
    gamma = gamma * (1 + 1e-3 * torch.randn(12, 256, dtype=torch.float64))
    analysis = gammatorch.analyze(gamma)
    assert analysis.statistics["shared_energy"]["value"] > 0.999
    assert float(analysis.statistics["shared_projection"].min()) > 0.999
    assert float(analysis.proj_top1.abs().max()) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_are_equal_give_null_and_a_note(method):
    for gamma in (torch.ones(6, 32), torch.rand(32).repeat(6, 1), torch.ones(6, 32) * torch.arange(1, 7)[:, None]):
        analysis = gammatorch.analyze(gamma.double(), method=method)
        document = analysis.to_dict()
        assert document["explained_var"] is document["proj_top1"] is document["residual_top1"] is None
        assert any("all layers point the same way to rounding" in note for note in analysis.notes)
        np.testing.assert_allclose(document["cosine"], 1, atol=1e-12)


def test_constant_gains_have_no_correlation():
    gamma = torch.rand(4, 16, dtype=torch.float64) + 0.5
    gamma[2] = 1.5
    analysis = gammatorch.analyze(gamma)
    document = analysis.to_dict()["statistics"]["pearson"]
    assert document[2] == [None] * 4 and [row[2] for row in document] == [None] * 4
    assert document[0][0] == 1 and document[0][1] is not None
    assert "constant gain in layer 2: no correlation, and left out of what is made of correlations" in analysis.notes


def test_one_layer_has_a_norm_and_nothing_to_compare():
    document = gammatorch.analyze(torch.tensor([[3.0, 4.0]])).to_dict()
    assert document["norms"] == [5.0] and document["cos_adjacent"] == [] and document["proj_top1"] is None
    assert document["phases"] == [] and document["answer"]["verdict"] == "degenerate"
    assert "one layer only" in document["notes"][0]


def test_an_axis_that_is_not_identified_is_marked():
    analysis = gammatorch.analyze(torch.eye(4, dtype=torch.float64))
    assert any("the first axis, and so proj_top1, is not identified" in note for note in analysis.notes)


def test_differences_at_the_level_of_storage_are_marked(tmp_path):
    from safetensors.torch import save_file

    direction = torch.rand(512) + 0.5
    save_file(
        {f"layers.{n}.norm.weight": (direction * (1 + n / 7)).bfloat16() for n in range(8)},
        tmp_path / "model.safetensors",
    )
    gains = gammatorch.read_gains(tmp_path, pattern="layers.{layer}.norm.weight", device="cpu")
    assert any("no more than storing them as BF16 does" in note for note in gammatorch.analyze(gains).notes)


def test_the_document_is_json_without_nan(tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    document = gammatorch.analyze(gammatorch.read_gains(tmp_path, device="cpu")).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {"model", "num_layers", "norms", "proj_top1", "explained_var", "cos_adjacent"} <= document.keys()


@pytest.mark.parametrize(
    ("gamma", "error", "message"),
    [
        (torch.zeros(0, 3), errors.InvalidArgument, r"not \(0, 3\)"),
        (torch.ones(3), errors.InvalidArgument, r"not \(3,\)"),
        (torch.ones(3, 4, dtype=torch.int64), errors.InvalidArgument, "not torch.int64"),
        (torch.ones(3, 4).to_sparse(), errors.InvalidArgument, "dense"),
        (torch.ones(3, 4, device="meta"), errors.InvalidArgument, "without values"),
        (torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]), errors.NonFiniteGain, "row 1 holds NaN"),
    ],
)
def test_what_has_no_analysis_is_refused(gamma, error, message):
    with pytest.raises(error, match=message):
        gammatorch.analyze(gamma)


@pytest.mark.parametrize("method", ["svd", "gram"])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float64", 2.0**-440), ("float64", 2.0**440), ("float32", 2.0**-46), ("float32", 2.0**50)],
)
def test_a_common_scale_changes_no_angle(dtype, scale, method):
    gamma = torch.rand(5, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    plain, scaled = (gammatorch.analyze(one, dtype=dtype, method=method) for one in (gamma, gamma * scale))
    bound = plain.error_estimate
    torch.testing.assert_close(scaled.cosine, plain.cosine, rtol=0, atol=bound)
    torch.testing.assert_close(scaled.explained_var, plain.explained_var, rtol=0, atol=bound)
    torch.testing.assert_close(scaled.statistics["pearson"], plain.statistics["pearson"], rtol=0, atol=100 * bound)
    torch.testing.assert_close(scaled.norms / scale, plain.norms, rtol=bound, atol=0)


@pytest.mark.parametrize("method", ["svd", "gram", "project"])
@pytest.mark.parametrize("scale", [1e-320, 1e-170, 1e-150, 1e150, 1e300])
def test_gains_whose_squares_have_no_digits_are_refused(scale, method):
    gamma = torch.rand(5, 300, dtype=torch.float64) + 0.5
    gamma[3] *= scale
    with pytest.raises(errors.GainError, match="gains of layer 3 are .*: scale them"):
        gammatorch.analyze(gamma, method=method, dims=32)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e18, 1e38])
def test_in_float32_they_are_sent_to_float64(scale):
    gamma = torch.rand(2, 5, 300) + 0.5
    gamma[1] *= scale
    with pytest.raises(errors.GainError, match="gains of layer 0 of checkpoint 1 are .*: pass --dtype float64"):
        gammatorch.analyze(gamma.clamp(max=3e38), dtype="float32")
    assert not torch.isnan(gammatorch.analyze(gamma.clamp(max=3e38))[1].cosine).any()


@pytest.mark.parametrize("settings", [{"method": "magic"}, {"dtype": "float16"}, {"phases": "?"}, {"phases": [(0, 3)]}])
def test_settings_that_do_not_exist_are_refused(settings):
    with pytest.raises(errors.InvalidArgument):
        gammatorch.analyze(torch.rand(4, 4), **settings)


def test_phases_are_the_presets_or_what_the_data_show():
    assert list(assign_phases("auto", range(64), model_type="qwen3")) == ["A", "B", "C", "D", "E", "tail"]
    assert assign_phases("qwen3-32b", range(64))["E"] == list(range(47, 59))
    assert assign_phases("auto", range(64)) == assign_phases("auto", range(36), model_type="qwen3") == {}
    assert assign_phases("auto", range(6), starts=[4]) == {"P1": [0, 1, 2, 3], "P2": [4, 5]}
    assert assign_phases("auto", range(8), turns=[(2, 5)]) == {"P1": [0, 1, 2], "P2": [5, 6, 7]}
    assert assign_phases("a=3,b=5-", [3, 5, 9]) == {"a": [0], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "cannot read the phase 'a'"),
        ("a=5-2", "holds none of the layers"),
        ("a=0-1,a=2", "given twice"),
        ("a=0-2,b=2", "both hold layer 2"),
        ("a=90-", "holds none of the layers 0-3"),
        ("", "cannot read"),
        ("a=-1", "cannot read"),
    ],
)
def test_phases_that_make_no_sense_are_refused(text, message):
    with pytest.raises(errors.InvalidArgument, match=message):
        assign_phases(text, range(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_half_precision_is_seen_to_be_finite_at_once(monkeypatch, value):
    """Its sums overflow from 65,504, and then every number was looked at by itself."""
    looked_at, isfinite = [], torch.Tensor.isfinite
    gamma = torch.full((2, 70_000), 2.0, dtype=torch.float16)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "isfinite", lambda values: (looked_at.append(values.numel()), isfinite(values))[1])
        gammatorch.analyze(gamma, method="gram")
    assert looked_at and max(looked_at) < 70_000
    gamma[1, 3] = value
    with pytest.raises(errors.NonFiniteGain, match="row 1"):
        gammatorch.analyze(gamma)


@pytest.mark.parametrize(("small", "expected"), [(64 * 8, 1), (64 * 8 - 1, 2)])
def test_small_gains_are_analysed_on_one_thread(monkeypatch, small, expected):
    threads, original, before = [], reduce.reduce_stack, torch.get_num_threads()

    def reduced(*arguments):
        threads.append(torch.get_num_threads())
        return original(*arguments)

    module = sys.modules["gammatorch.analysis.analyze"]
    monkeypatch.setattr(module, "reduce_stack", reduced)
    monkeypatch.setattr(module, "SMALL", small)
    try:
        torch.set_num_threads(2)
        gammatorch.analyze(torch.rand(8, 64) + 0.5)
        assert (threads, torch.get_num_threads()) == ([expected], 2)
    finally:
        torch.set_num_threads(before)
