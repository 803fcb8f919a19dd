"""Planted faults are named with their layers, and honest checkpoints are not accused."""

from __future__ import annotations

import pytest
import torch

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.analysis.findings import KINDS, VERDICTS, tell
from tests.analysis.faults import TYPES, faults, faulty, honest, named, real, sites, stored, trained

SEEDS = (403, 413)
"""One with real gains among them; thresholds were chosen on seeds below 200."""

TAKEN_FOR = {"permuted": {"permuted", "foreign"}}
"""A shuffled layer that was trained on since may look like any other layer of no kinship."""


def check_named(planted, found):
    """All layers with a fault, and no others, each by its name."""
    assert {one[:2] for one in named(found)} == {one[:2] for one in planted}
    told = {one[:2]: one[2] for one in named(found)}
    assert all(told[site, layer] in TAKEN_FOR.get(verdict, {verdict}) for site, layer, verdict in planted)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_is_named_with_its_layers(seed):
    for _, planted, found in faulty(seed, 12, 640):
        check_named(planted, found)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_honest_checkpoint_is_accused(seed):
    for name, found in honest(seed, 12, 640):
        assert not named(found), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [310, 311])
def test_the_same_holds_at_the_size_of_a_large_model(seed):
    for _, planted, found in faulty(seed, 36, 2560):
        check_named(planted, found)
    for name, found in honest(seed, 36, 2560):
        assert not named(found), name


@pytest.mark.parametrize("name", faults(0))
def test_exact_gains_give_the_exact_name(name):
    base = sites(106, 12, 640)
    gains = dict(base)
    planted = faults(106)[name](gains)
    assert named(hold_against(stored(gains), stored(base))) == planted


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_cast_is_rounding_and_says_to_which_type(kind, offset):
    base = sites(107, 12, 640)
    found = hold_against(stored(base, kind, offset), stored(base, "F32", offset))
    assert {one.verdict for one in found} <= ({"same"} if kind == "F32" else {"same", "rounded"})
    assert {one.detail for one in found} - {None} <= {kind}


def test_a_cast_and_back_is_rounding_too():
    base = sites(106, 12, 640)
    back = {site: gamma.float().bfloat16().double() for site, gamma in base.items()}
    assert {one.verdict for one in hold_against(stored(back, "F32"), stored(base, "F32"))} == {"rounded"}


def test_layers_all_one_off_are_one_finding():
    base = sites(106, 12, 640)
    gains = dict(base)
    faults(106)["all layers one off"](gains)
    errors = [one for one in tell(hold_against(stored(gains), stored(base))) if one.level == "error"]
    assert [one.what for one in errors] == ["other-layer"]
    told = "layer 0 is the reference's layer 11; layers 1-11 are the reference's layers 0-10"
    assert errors[0].text.startswith(told) and errors[0].layers == tuple(range(12))


def test_sites_that_agree_are_told_together_and_others_apart():
    shifted = [LayerVerdict(site, layer, "shifted", 3.0, "+1") for site in ("input", "key") for layer in (0, 1)]
    found = tell([*shifted, LayerVerdict("query", 0, "shifted", 3.0, "-1"), LayerVerdict("query", 1, "same", 0.0)])
    assert [(one.site, one.layers) for one in found] == [("input, key", (0, 1)), ("query", (0,)), ("query", (1,))]
    assert "stands 1 below the reference's: an offset was lost" in found[1].text


def test_places_without_a_counterpart_are_missing_extra_or_of_another_width():
    base = sites(106, 12, 640)
    wide, narrow = stored(base), stored({**base, "pre_mlp": base["pre_mlp"][:, :320]})
    del narrow["final"]
    found = hold_against(narrow, wide)
    assert {(one.site, one.verdict) for one in found} == {
        ("input", "same"),
        ("query", "same"),
        ("pre_mlp", "width"),
        ("final", "missing"),
    }
    assert [one.verdict for one in hold_against(wide, narrow) if one.site == "final"] == ["extra"]


def test_gains_before_training_are_near_or_undetermined_never_foreign():
    ones = {"input": torch.ones(6, 256, dtype=torch.float64)}
    random = torch.Generator().manual_seed(0)
    begun = {"input": ones["input"] + 0.05 * torch.randn(6, 256, generator=random, dtype=torch.float64)}
    assert {one.verdict for one in hold_against(stored(begun), stored(ones))} == {"tuned"}
    twice = {"input": begun["input"] + 1}
    assert {one.verdict for one in hold_against(stored(twice), stored(ones))} == {"shifted"}


def test_coarse_rounding_that_fits_any_order_of_channels_is_no_permutation():
    """γ of 0.26 ± 0.03 stored as γ - 1 in bfloat16, in steps of 0.004: sorted, they match those before training."""
    base = {site: gains for site, gains in real().items() if site != "final"}
    found = hold_against(stored(trained(base, 0.1, 510), "BF16", 1.0), stored(base, "F32", 0.0))
    assert {one.verdict for one in found} <= {"tuned", "rounded"}


def test_every_verdict_is_a_kind_that_can_be_ignored():
    assert set(VERDICTS) <= set(KINDS)
