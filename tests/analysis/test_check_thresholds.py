"""The conventions that ``check`` rests on: a figure well below each gives one verdict, well above it another.

The numbers are written out, so that whoever moves a convention by half or twice is told.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.analysis.alike import Alike, alike_by_layer
from gammatorch.analysis.orders import reordered, rolled_by, too_near
from gammatorch.analysis.storage import StoredRow, rounded_to
from gammatorch.gains.stack import StoredWeights

SPREAD = 0.1


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(hidden: int, seed: int = 0) -> Tensor:
    """Of mean 0 and mean square 1."""
    drawn = normal(hidden, seed=seed)
    drawn -= drawn.mean()
    return drawn / drawn.square().mean().sqrt()


def beside(one: Tensor, seed: int) -> Tensor:
    """Of mean 0 and mean square 1, and uncorrelated with another."""
    other = unit(len(one), seed)
    other -= (other @ one) / (one @ one) * one
    return other / other.square().mean().sqrt()


def site(*rows: Tensor, name: str = "pre_mlp") -> dict[str, StoredWeights]:
    layers = tuple(range(len(rows)))
    keys = tuple(f"{name}.{layer}" for layer in layers)
    return {name: StoredWeights(site=name, layers=layers, keys=keys, offset=0.0, weights=torch.stack(rows))}


def verdict(own: Tensor, reference: Tensor) -> LayerVerdict:
    (told,) = hold_against(site(own), site(reference))
    return told


@pytest.mark.parametrize(("drift", "name"), [(0.4, "tuned"), (0.6, "undetermined")])
def test_gains_are_the_references_up_to_half_the_spread(drift: float, name: str) -> None:
    """With so few channels likeness tells nothing more."""
    shape = unit(16)
    told = verdict(1 + SPREAD * (shape + drift * beside(shape, 1)), 1 + SPREAD * shape)
    assert told.drift == pytest.approx(drift)
    assert told.verdict == name


@pytest.mark.parametrize(("share", "name"), [(0.30, "other-layer"), (0.36, "tuned")])
def test_another_account_leaves_at_most_half_of_the_difference(share: float, name: str) -> None:
    """So much of the way from the reference's layer 1 to its layer 0: 0.43 and 0.56 of what is left the other way."""
    first = unit(256)
    second = first + 0.8 * beside(first, 1)
    reference = [1 + SPREAD * first, 1 + SPREAD * second]
    own = reference[1] + share * (reference[0] - reference[1])
    told = hold_against(site(own, reference[1]), site(*reference))
    assert [one.verdict for one in told] == [name, "same"]


@pytest.mark.parametrize(("noise", "is_scaled"), [(0.12, True), (0.2, False)])
def test_a_multiple_may_be_trained_on_by_no_more_than_three_twentieths(noise: float, is_scaled: bool) -> None:
    shape = unit(256)
    own = 1.3 * (1 + SPREAD * (shape + noise * beside(shape, 1)))
    assert (verdict(own, 1 + SPREAD * shape).verdict == "scaled") is is_scaled


@pytest.mark.parametrize(("step", "is_shifted"), [(1.08, True), (1.15, False)])
def test_a_shift_is_1_within_a_tenth(step: float, is_shifted: bool) -> None:
    gamma = 1 + SPREAD * unit(256)
    assert (verdict(gamma + step, gamma).verdict == "shifted") is is_shifted


@pytest.mark.parametrize(("factor", "is_scaled"), [(1.0015, True), (1.0007, False)])
def test_an_exact_multiple_counts_from_a_thousandth_on(factor: float, is_scaled: bool) -> None:
    gamma = 1 + SPREAD * unit(256)
    assert (verdict(factor * gamma, gamma).verdict == "scaled") is is_scaled


@pytest.mark.parametrize(("factor", "is_scaled"), [(1.12, True), (1.07, False)])
def test_a_multiple_that_was_trained_on_counts_from_a_tenth_on(factor: float, is_scaled: bool) -> None:
    shape = unit(256)
    own = factor * (1 + SPREAD * (shape + 0.05 * beside(shape, 1)))
    assert (verdict(own, 1 + SPREAD * shape).verdict == "scaled") is is_scaled


def exchanged(gamma: Tensor, drift: float) -> Tensor:
    """Two channels exchanged that lie so far apart that the layer moves by so many spreads."""
    apart = drift * float(gamma.std(correction=0)) * (len(gamma) / 2) ** 0.5
    other = int((gamma - gamma[0] - apart).abs().argmin())
    moved = gamma.clone()
    moved[[0, other]] = gamma[[other, 0]]
    return moved


@pytest.mark.parametrize(("drift", "name"), [(0.15, "permuted"), (0.07, "tuned")])
def test_another_order_is_looked_for_from_a_tenth_of_the_spread_on(drift: float, name: str) -> None:
    gamma = torch.linspace(0.8, 1.2, 64, dtype=torch.float64)
    told = verdict(exchanged(gamma, drift), gamma)
    assert told.drift == pytest.approx(drift, rel=0.1)
    assert told.verdict == name


def test_constant_layers_have_a_spread_of_a_thousandth_of_their_size() -> None:
    constant = torch.full((64,), 2.0, dtype=torch.float64)
    assert verdict(constant + 0.001 * unit(64), constant).drift == pytest.approx(0.5)


@pytest.mark.parametrize(("massive", "counts"), [(14, False), (20, True)])
def test_at_most_one_channel_in_four_is_left_out_as_massive(massive: int, counts: bool) -> None:
    gamma = 1 + SPREAD * unit(64)
    gamma[:massive] = 100.0
    own = gamma.clone()
    own[:massive] += torch.arange(massive)
    assert bool(verdict(own, gamma).drift) is counts


def alike(own: Tensor, reference: Tensor, *following: Tensor, name: str = "pre_mlp") -> Alike:
    """Of a first layer; two that follow it make it one of several."""
    rows = zip((own, reference), following, strict=True) if following else [(own,), (reference,)]
    one, other = (site(*layers, name=name)[name] for layers in rows)
    return alike_by_layer(one, other)[0]


def test_one_in_a_thousand_strangers_is_held_for_more_than_chance() -> None:
    """A normal quantile of 3.09; half of the share would be 3.29, twice 2.88."""
    shape = unit(512)
    told = [alike(share * shape + beside(shape, 1), shape) for share in torch.linspace(0.05, 0.25, 201)]
    scores = [(one.correlation / one.error, one.more_than_chance) for one in told]
    below = {beyond for score, beyond in scores if 2.90 < score < 3.05}
    above = {beyond for score, beyond in scores if 3.13 < score < 3.27}
    assert (below, above) == ({False}, {True})


def test_what_strangers_stay_below_is_told_by_the_same_quantile() -> None:
    told = Alike(0.2, 0.1, more_than_chance=False, related=False, foreign=False, tells_all=True)
    assert told.figures == "rank correlation +0.20, 999 of 1,000 strangers stay below 0.31"


@pytest.mark.parametrize(("correlation", "related"), [(0.6, False), (0.8, True)])
def test_a_first_layer_is_related_from_seven_tenths_on(correlation: float, related: bool) -> None:
    shape = unit(2048)
    own = correlation * shape + (1 - correlation**2) ** 0.5 * beside(shape, 1)
    strangers = [1 + normal(2048, seed=seed) for seed in (7, 8)]
    told = alike(own, shape, *strangers, name="input")
    assert told.correlation == pytest.approx(correlation, abs=0.05)
    assert not told.tells_all
    assert told.related is related


@pytest.mark.parametrize(("hidden", "rolled"), [(48, None), (80, 5)])
def test_fewer_than_64_channels_do_not_tell_their_order(hidden: int, rolled: int | None) -> None:
    gamma = unit(hidden)
    assert rolled_by(gamma.roll(5), gamma) == rolled
    assert too_near(gamma.flip(0), gamma) is (rolled is not None)


@pytest.mark.parametrize(("correlation", "rolled"), [(0.4, None), (0.62, 5)])
def test_a_rolled_layer_correlates_by_more_than_a_half(correlation: float, rolled: int | None) -> None:
    shape = unit(2048)
    own = correlation * shape + (1 - correlation**2) ** 0.5 * beside(shape, 1)
    assert rolled_by(own.roll(5), shape) == rolled


@pytest.mark.parametrize(("moved", "near"), [(24, True), (48, False)])
def test_one_channel_in_twenty_is_left_out_at_either_end_of_sorted_gains(moved: int, near: bool) -> None:
    gamma = unit(640).sort().values
    own = gamma.clone()
    own[-moved:] += 10
    assert too_near(own.flip(0), gamma) is near


@pytest.mark.parametrize(("share", "near"), [(0.35, True), (0.8, False)])
def test_sorted_gains_lie_too_near_up_to_half_of_what_two_draws_differ_by(share: float, near: bool) -> None:
    gamma = unit(640).sort().values
    step = share * (2 / 640) ** 0.5 * float(gamma[32:-32].std())
    assert too_near((gamma + step).flip(0), gamma) is near


@pytest.mark.parametrize(("reach", "told"), [(0.4, True), (0.7, False)])
def test_rounding_that_reaches_half_of_the_difference_tells_no_order(reach: float, told: bool) -> None:
    gamma = torch.linspace(1.0, 1.9, 1024, dtype=torch.float64)
    usual = float(StoredRow(gamma, gamma, "BF16").reach.median())
    own = exchanged(gamma, usual / reach / float(gamma.std(correction=0)))
    assert reordered(StoredRow(own, own, "BF16"), StoredRow(gamma, gamma, "F32")) is told


@pytest.mark.parametrize(("half_steps", "name"), [(0.8, "BF16"), (1.01, "BF16"), (1.5, None)])
def test_rounding_moves_a_weight_by_little_more_than_half_a_step(half_steps: float, name: str | None) -> None:
    exact = torch.ones(8, dtype=torch.float64)
    cast = exact + half_steps * torch.finfo(torch.bfloat16).eps / 2
    assert rounded_to(StoredRow(cast, cast, "BF16"), StoredRow(exact, exact, "F32")) == name
