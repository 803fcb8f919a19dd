"""What two checkpoints are told to be, where it is known; gains that were drawn, and gains that training made."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import gammatorch
from gammatorch import errors
from gammatorch.bench.worlds import draw
from gammatorch.gains.stack import Gains
from tests.analysis.trained import relatives


def gains(gamma, name="a", dtype="F64", site="input"):
    gamma = torch.as_tensor(gamma)
    rows = range(len(gamma))
    known = {"gamma": gamma, "layers": tuple(rows), "keys": tuple(map(str, rows)), "stored_dtype": dtype, "model": name}
    known |= {"site": site, "offset": 0.0, "model_type": None, "revision": None, "pattern": ""}
    return Gains(**known, **{field.name: 0 for field in fields(Gains) if field.name not in (*known, "notes")})


def pair(one, other, site="input"):
    (found,) = gammatorch.compare([gains(one, site=site), gains(other, "b", site=site)]).pairs
    return found


PARENT = draw("drift", 0, 24, 1024)
STRANGER = draw("drift", 9, 24, 1024)
NOISE = np.random.default_rng(5).standard_normal(PARENT.shape)
PRUNED, GROWN = [0, 1, 2, 4, *range(6, 24)], [0, 1, 2, 3, 2, 3, *range(4, 24)]
CASES = {
    "identical": PARENT.copy(),
    "fine-tuned": PARENT * (1 + 0.01 * NOISE),
    "related": PARENT**0.6 * STRANGER**0.4,
    "partly": np.concatenate([PARENT[:12] * (1 + 0.01 * NOISE[:12]), STRANGER[12:]]),
    "permuted": PARENT[:, np.random.default_rng(6).permutation(1024)],
    "unrelated": STRANGER,
}


@pytest.mark.parametrize("verdict", CASES)
def test_each_kinship_gets_its_own_verdict(verdict):
    assert pair(PARENT, CASES[verdict]).kinship.verdict == verdict


@pytest.mark.parametrize(("correlation", "verdict"), [(0.96, "fine-tuned"), (0.93, "related"), (0.28, "related")])
@pytest.mark.parametrize("site", ["input", "query"])
def test_the_words_follow_the_correlation(correlation, verdict, site):
    rng = np.random.default_rng(0)
    one, own = 0.2 * rng.standard_normal((2, 16, 256))
    assert (
        pair(np.exp(one), np.exp(correlation * one + (1 - correlation**2) ** 0.5 * own), site).kinship.verdict
        == verdict
    )
    weak = pair(np.exp(one), np.exp(0.21 * one + (1 - 0.21**2) ** 0.5 * own), site)
    assert weak.kinship.verdict == "undetermined" and "too little to tell a common origin" in weak.kinship.sentence


def test_layers_that_are_foreign_are_named():
    found = pair(PARENT, CASES["partly"])
    assert "layers 1-11 have it, layers 12-23 are foreign" in found.kinship.sentence
    assert found.evidence.match.beyond.tolist() == [False] + 11 * [True] + 12 * [False]
    assert float(found.evidence.mean.value) > 0.99 > 0.6 > float(found.figures.mean_pearson.value)


@pytest.mark.parametrize("order", [PRUNED, GROWN])
def test_each_layer_of_pruned_and_grown_models_finds_its_own(order):
    found = pair(PARENT, CASES["fine-tuned"][order])
    assert found.kinship.verdict == "fine-tuned" and "layers added or taken out" in found.kinship.sentence
    assert found.evidence.match.partners.tolist()[1:] == order[1:]
    assert pair(CASES["fine-tuned"][order], PARENT).kinship.verdict == "fine-tuned"


def test_the_best_matches_of_strangers_are_chance():
    found = pair(PARENT, STRANGER[PRUNED])
    assert found.kinship.verdict == "unrelated" and "of best matches" in found.kinship.sentence


def test_layers_that_were_exchanged_are_found_where_they_went():
    order = [0, 1, 7, *range(3, 7), 2, *range(8, 24)]
    found = pair(draw("layer-specific", 0, 24, 512), draw("layer-specific", 0, 24, 512)[order])
    assert found.evidence.match.partners.tolist() == order and found.kinship.verdict == "fine-tuned"


def test_unrelated_models_are_unrelated_however_high_their_cosine():
    rng = np.random.default_rng(0)
    found = pair(*(1 + 0.1 * rng.standard_normal((2, 24, 1024))))
    assert float(found.figures.cosine.value.mean()) > 0.98 and found.kinship.verdict == "unrelated"
    assert "0.990 is what gains of one sign share anyway" in found.kinship.sentence


@pytest.mark.parametrize("count", [2, 4, 8])
def test_strangers_that_share_massive_channels_are_strangers_and_pearson_is_said_to_differ(count):
    rng = np.random.default_rng(count)
    massive = rng.choice(1024, count, replace=False)
    one, other = PARENT.copy(), STRANGER.copy()
    for gamma in (one, other):
        gamma[:, massive] *= rng.uniform(10, 50, count)
    found = pair(one, other)
    assert found.kinship.verdict == "unrelated" and float(found.figures.mean_pearson.value) > 0.5
    assert "few channels of large gains decide it" in found.kinship.sentence


def test_opposite_patterns_are_no_kinship():
    assert pair(PARENT, 10 - PARENT).kinship.verdict == "unrelated"


def alike(rng, shape, coefficient):
    """Autoregressive over channels."""
    place = np.arange(shape[-1])
    covariance = coefficient ** np.abs(place[:, None] - place)
    return rng.standard_normal(shape) @ np.linalg.cholesky(covariance).T


@pytest.mark.parametrize("coefficient", [0.9, 0.98])
def test_channels_that_are_alike_make_no_relatives(coefficient):
    means, verdicts = [], []
    for seed in range(40):
        rng = np.random.default_rng([seed, 1])
        shared, own = (alike(rng, (2, layers, 128), coefficient) for layers in (1, 8))
        found = pair(*np.exp(0.2 * shared + 0.02 * own))
        means.append(float(found.evidence.mean.value) / found.evidence.match.null_95)
        verdicts.append(found.kinship.verdict)
    assert set(verdicts) <= {"unrelated", "undetermined"} and np.mean(np.array(means) > 1) <= 0.1


def rotary(rng, layers, width, interleaved):
    """Gains of strangers at queries: one profile over frequency in all models, and each model's own."""
    place = np.arange(width // 2) / (width // 2)
    profile = 1 / (1 + np.exp(30 * (0.55 - place))) + 0.5 * np.exp(-(((place - 0.4) / 0.12) ** 2))
    both = np.stack([profile, 0.9 * profile], axis=int(interleaved)).reshape(width)
    size = 1 + 0.3 * rng.standard_normal((layers, 1))
    return np.exp(0.4 * size * both + 0.2 * rng.standard_normal((layers, width)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_profile_that_rotary_positions_give_is_no_kinship(interleaved):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        one, other = (rotary(rng, 12, 128, interleaved) for _ in "ab")
        found = pair(one, other, "query")
        assert float(found.figures.mean_pearson.value) > 0.2 and found.kinship.verdict == "unrelated"
        child = one * (1 + 0.01 * rng.standard_normal(one.shape))
        assert pair(one, child, "query").kinship.verdict == "fine-tuned"


@pytest.mark.parametrize("site", ["input", "query"])
def test_trained_relatives_are_told_and_strangers_are_not_taken_for_them(site):
    models = {name: of_sites[site] for name, of_sites in relatives().items()}
    assert pair(models["parent"], models["child"], site).kinship.verdict == "fine-tuned"
    assert pair(models["child"], models["sibling"], site).kinship.verdict == "fine-tuned"
    strangers = pair(models["parent"], models["stranger"], site)
    assert strangers.kinship.verdict in {"input": ("unrelated",), "query": ("unrelated", "undetermined")}[site]


def test_the_first_layers_positions_are_no_kinship():
    one, other = draw("layer-specific", 0, 6, 512), draw("layer-specific", 1, 6, 512)
    other[0] = one[0] ** 0.8 * other[0] ** 0.2
    assert pair(one, other).kinship.verdict == "unrelated"


def test_a_copy_in_another_type_is_a_copy_and_a_change_within_one_type_is_not():
    full = torch.from_numpy(PARENT).float()
    rounded = full.bfloat16()
    (found,) = gammatorch.compare([gains(full.double(), dtype="F32"), gains(rounded.double(), "b", "BF16")]).pairs
    assert found.kinship.verdict == "identical" and "to the rounding of BF16" in found.kinship.sentence
    shuffled = rounded[:, torch.randperm(1024, generator=torch.Generator().manual_seed(0))].double()
    (found,) = gammatorch.compare([gains(full.double(), dtype="F32"), gains(shuffled, "b", "BF16")]).pairs
    assert found.kinship.verdict == "permuted"
    moved = rounded.clone()
    moved[3, 5] *= 1.01
    (found,) = gammatorch.compare([gains(rounded.double(), dtype="BF16"), gains(moved.double(), "b", "BF16")]).pairs
    assert found.kinship.verdict == "fine-tuned"


def test_untrained_checkpoints_tell_nothing_of_lineage():
    found = pair(torch.ones(6, 64), torch.ones(6, 64))
    assert found.kinship.verdict == "undetermined" and "constant over channels" in found.kinship.sentence


def test_too_few_channels_tell_nothing():
    x, y = np.exp(0.2 * np.random.default_rng(0).standard_normal((2, 1, 16)))
    assert pair(x, y).kinship.verdict == "undetermined"


def test_widths_that_differ_tell_nothing_and_are_no_error():
    found = gammatorch.compare([gains(PARENT), gains(PARENT[:, :64], "b"), gains(CASES["fine-tuned"], "c")])
    assert [one.kinship.verdict for one in found.pairs] == ["undetermined", "fine-tuned", "undetermined"]
    assert "width 64 and 1024 have no channels in common" in found.pairs[0].kinship.sentence
    assert found.widths == (1024, 64, 1024) and found.families == ((0, 2), (1,))


def test_families_join_what_is_linked():
    names = ["a", "b", "c", "d"]
    gammas = [PARENT, CASES["unrelated"], CASES["fine-tuned"], STRANGER * (1 + 0.01 * NOISE)]
    found = gammatorch.compare([gains(gamma, name) for gamma, name in zip(gammas, names, strict=True)])
    assert found.families == ((0, 2), (1, 3)) and len(found.pairs) == 6 and found.bridges == ()


def test_a_merge_that_puts_strangers_in_one_family_is_named():
    found = gammatorch.compare([gains(PARENT), gains(STRANGER, "b"), gains((PARENT + STRANGER) / 2, "c")])
    assert found.families == ((0, 1, 2),)
    assert [(bridge.model, bridge.links) for bridge in found.bridges] == [(2, (0, 1))]


def test_sites_that_differ_are_refused():
    one = gains(torch.ones(3, 4))
    with pytest.raises(errors.NotComparable, match="b: cannot be compared with a: site final against input"):
        gammatorch.compare([one, replace(one, model="b", site="final")])


def test_names_are_opened_and_what_is_no_model_is_refused():
    with pytest.raises(errors.CheckpointNotFound, match="base"):
        gammatorch.compare(["./base", "./tuned"])
    with pytest.raises(errors.InvalidArgument, match="not int"):
        gammatorch.compare([1, 2])
