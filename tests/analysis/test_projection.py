"""The sketch: the same bits however it is computed, linear, and as exact as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import gammatorch
from gammatorch import errors
from gammatorch.analysis.projection import BUCKETS, Sketcher, _hash, signs, sketch
from gammatorch.bench.worlds import draw

LAWS = settings(deadline=None, max_examples=12)
WIDE = 3 * BUCKETS + 1234


def drawn(seed=0, layers=4, hidden=WIDE):
    return torch.from_numpy(np.random.default_rng(seed).lognormal(0, 0.4, (layers, hidden)))


@LAWS
@given(st.lists(st.integers(1, 150_000), min_size=1, max_size=6))
def test_the_bits_do_not_depend_on_the_width_of_blocks(widths):
    gamma, sketcher, start, turn = drawn(), Sketcher(4, WIDE), 0, 0
    while start < WIDE:
        width = max(widths[turn % len(widths)], 500)
        sketcher.add(gamma[:, start : start + width])
        start, turn = start + width, turn + 1
    assert torch.equal(sketcher.finish().values, sketch(gamma).values)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_threads(threads):
    expected, before = sketch(drawn()).values, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(sketch(drawn()).values, expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.cuda
def test_the_bits_do_not_depend_on_the_device(device):
    assert torch.equal(sketch(drawn().to(device)).values.cpu(), sketch(drawn()).values)


def test_each_column_goes_to_one_bucket_with_its_sign():
    gamma = torch.zeros(3, WIDE, dtype=torch.float64)
    columns = [5, BUCKETS + 5, 2 * BUCKETS + 5]
    for row, column in enumerate(columns):
        gamma[row, column] = 1
    values = sketch(gamma, dims=BUCKETS).values
    assert [int(count) for count in (values != 0).sum(dim=1)] == [1, 1, 1]
    assert len({int(row.nonzero()[0]) for row in values}) == 3  # the shift differs from block to block
    assert [float(row.sum()) for row in values] == [float(signs(column, 1, 0)) for column in columns]
    assert abs(float(signs(0, 100_000, 0).mean())) < 0.02


def test_folding_adds_halves_and_parts_what_repeats_with_a_stride():
    gamma = torch.zeros(1, BUCKETS, dtype=torch.float64)
    gamma[0, ::4096] = 1
    for dims in (BUCKETS, 4096):
        values = sketch(gamma, dims=dims).values
        assert int((values != 0).sum()) >= 15  # of 16; at random two would meet one time in forty
    torch.testing.assert_close(
        sketch(drawn(), dims=1024).values.sum(dim=1), sketch(drawn(), dims=BUCKETS).values.sum(dim=1)
    )


@LAWS
@given(st.floats(-3, 3), st.integers(0, 99))
def test_the_sketch_is_linear(factor, seed):
    one, other = drawn(seed, 2, 70_000), drawn(seed + 100, 2, 70_000)
    together = sketch(one + factor * other).values
    torch.testing.assert_close(together, sketch(one).values + factor * sketch(other).values, rtol=0, atol=1e-11)


def outliers_with_a_stride(seed):
    gamma = drawn(seed, 8)
    gamma[:, ::4096] *= 200
    return gamma


def near_parallel(seed):
    return drawn(seed, 1) * (1 + 1e-3 * drawn(seed + 1, 8))


@pytest.mark.parametrize("make", [drawn, outliers_with_a_stride, near_parallel])
@pytest.mark.parametrize("centred", [False, True])
def test_errors_stay_within_twice_the_standard_error(make, centred):
    within = []
    for seed in range(4):
        gamma = make(seed)
        gamma = gamma - gamma.mean(dim=1, keepdim=True) if centred else gamma
        cosine, error = sketch(gamma, seed=seed).cosine()
        unit = gamma / torch.linalg.vector_norm(gamma, dim=1, keepdim=True)
        truth = 1 - torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        above = torch.ones_like(truth).triu(1).bool()
        within += ((cosine - truth).abs() <= 2 * error)[above].tolist()
        limit = 0.4 if make is outliers_with_a_stride else 0.04  # too large rather than too small
        assert float(error[above].median()) < limit
    assert np.mean(within) >= 0.9


def test_a_drift_of_1e_5_keeps_its_relative_error():
    before = drawn(0, 64, 70_000)
    after = before * (1 + 1e-5 * torch.from_numpy(np.random.default_rng(1).standard_normal(before.shape)))
    truth = torch.linalg.vector_norm(after - before, dim=1) / torch.linalg.vector_norm(before, dim=1)
    drift, error = sketch(before).drift(sketch(after))
    relative = drift / truth - 1
    assert float(truth.max()) < 2e-5
    changed = torch.linalg.vector_norm(sketch(after).values - sketch(before).values, dim=1)
    of_change = changed / torch.linalg.vector_norm(after - before, dim=1) - 1
    assert 0.75 < float(of_change.square().mean().sqrt()) * (2 * 4096) ** 0.5 < 1.25  # 1, ± 9 % for 64 layers
    assert 0.75 < float(relative.square().mean().sqrt()) * 4096**0.5 < 1.25  # as much again from the length below
    assert float(((drift - truth).abs() <= 2 * error).double().mean()) >= 0.9


def test_signs_are_splitmix64():
    def sign(column, start):
        state = (column // 64 * 0x9E3779B97F4A7C15 + start) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        return 1 - 2 * ((state ^ (state >> 31)) >> column % 64 & 1)

    assert signs(100, 64, 3).tolist() == [sign(column, _hash(3, 0)) for column in range(100, 164)]


@pytest.mark.parametrize("change", [{"seed": 1}, {"dims": 2048}])
def test_sketches_that_do_not_fit_together_are_refused(change):
    gamma = drawn(0, 2, 5000)
    with pytest.raises(errors.InvalidArgument, match="cannot be compared"):
        sketch(gamma).drift(sketch(gamma, **change))
    with pytest.raises(errors.InvalidArgument, match="cannot be compared"):
        sketch(gamma).cosine(sketch(gamma[:, 1:]))
    with pytest.raises(errors.InvalidArgument, match="2 and 1 layers"):
        sketch(gamma).drift(sketch(gamma[1:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_give_the_same_bits_in_any_blocks_and_the_sums_of_float64(dtype):
    hidden = 17 * BUCKETS + 77  # more than the blocks that are added up in float32
    gamma = drawn(1, 9, hidden).to(dtype)
    whole = sketch(gamma)
    sketcher = Sketcher(9, hidden, dtype=dtype)
    for block in torch.split(gamma, 300_001, dim=-1):
        sketcher.add(block)
    assert torch.equal(sketcher.finish().values, whole.values)
    exact = sketch(gamma.double()).values
    assert float((whole.values - exact).abs().max() / exact.square().mean().sqrt()) < 2e-6


def test_columns_that_are_missing_are_told():
    sketcher = Sketcher(2, 5000)
    sketcher.add(drawn(0, 2, 4000))
    with pytest.raises(errors.InvalidArgument, match="4000 of 5000 columns"):
        sketcher.finish()


def test_the_cosines_between_two_checkpoints_stay_within_twice_their_error():
    one, other = drawn(0, 6, 70_000), drawn(9, 4, 70_000)
    cosine, error = sketch(one).cosine(sketch(other))
    unit = [gamma / torch.linalg.vector_norm(gamma, dim=1, keepdim=True) for gamma in (one, other)]
    assert float(((cosine - unit[0] @ unit[1].mT).abs() <= 2 * error).double().mean()) >= 0.9


def test_a_saved_sketch_is_the_same_and_says_what_it_is(tmp_path):
    made = gammatorch.sketch(drawn(0, 3, 5000), dims=256, seed=7)
    gammatorch.save_sketch(tmp_path / "a.safetensors", made)
    loaded = gammatorch.load_sketch(tmp_path / "a.safetensors")
    assert torch.equal(loaded.values, made.values) and loaded.metadata == made.metadata
    assert float(loaded.drift(made)[0].max()) == 0
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert (file.metadata()["seed"], file.metadata()["dims"]) == ("7", "256")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_is_no_sketch_is_refused(tmp_path):
    with pytest.raises(errors.CheckpointNotFound, match="no such file"):
        gammatorch.load_sketch(tmp_path / "none")
    save_file({"values": torch.ones(2, 64)}, tmp_path / "other.safetensors")
    with pytest.raises(errors.MalformedCheckpoint, match="is no sketch"):
        gammatorch.load_sketch(tmp_path / "other.safetensors")
    (tmp_path / "text").write_text("text")
    with pytest.raises(errors.MalformedCheckpoint, match="is no sketch"):
        gammatorch.load_sketch(tmp_path / "text")
    metadata = {
        "kind": "gammatorch.sketch",
        "hidden": "9",
        "seed": "0",
        "buckets": "65536",
        "dims": "32",
        "version": "2",
    }
    save_file({"values": torch.ones(2, 64)}, tmp_path / "wrong", metadata)
    with pytest.raises(errors.MalformedCheckpoint, match="another sketch than its header says"):
        gammatorch.load_sketch(tmp_path / "wrong")


def test_a_fingerprint_comes_from_the_same_pass(tmp_path):
    row = torch.rand(1, 9000, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({f"layers.{n}.w": row + n / 7 for n in range(3)}, tmp_path / "model.safetensors")
    wide = gammatorch.scan_gains(tmp_path, pattern="layers.{layer}.w", device="cpu")
    analysis = gammatorch.analyze(wide, fingerprint=True, dims=128, seed=3)
    assert torch.equal(analysis.fingerprint.values, gammatorch.sketch(wide, 128, 3).values)
    assert gammatorch.analyze(wide).fingerprint is None
    assert analysis.method == "gram" and analysis.gains.bytes_read < 2 * (wide.nbytes + 1000)


@pytest.mark.parametrize("dims", [0, 3, 100, 2 * BUCKETS])
def test_dimensions_are_powers_of_two(dims):
    with pytest.raises(errors.InvalidArgument, match="power of two"):
        sketch(drawn(0, 2, 100), dims=dims)


def test_the_method_project_answers_within_its_error():
    gamma = torch.from_numpy(draw("drift", 0, 24, 70_000))
    exact, sketched = gammatorch.analyze(gamma), gammatorch.analyze(gamma, method="project", seed=3)
    assert sketched.method == "project" and sketched.answer.verdict == "drift"
    torch.testing.assert_close(sketched.norms, exact.norms, rtol=1e-12, atol=0)
    torch.testing.assert_close(sketched.statistics["cos_ones"], exact.statistics["cos_ones"], rtol=0, atol=1e-12)
    assert float((sketched.cosine - exact.cosine).abs().max()) <= sketched.error_estimate
    assert float((sketched.explained_var - exact.explained_var).abs().max()) <= sketched.error_estimate
    bounds = sketched.statistics["mean_pearson"]
    assert bounds["low"] <= exact.statistics["mean_pearson"]["value"] <= bounds["high"]
    again = gammatorch.analyze(gamma, method="project", seed=3)
    assert torch.equal(again.cosine, sketched.cosine)
    unrelated = torch.from_numpy(draw("layer-specific", 0, 24, 70_000))
    assert gammatorch.analyze(unrelated, method="project").answer.verdict == "layer-specific"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casting_on_the_fly_gives_the_bits_of_casting_before(dtype):
    """What other devices do: one pass over the columns less."""
    columns, signs_of = drawn().to(dtype)[:, :BUCKETS], signs(0, BUCKETS, 0)
    sums = torch.rand(4, BUCKETS)
    assert torch.equal(torch.addcmul(sums, columns, signs_of), torch.addcmul(sums, columns.to(torch.float32), signs_of))
