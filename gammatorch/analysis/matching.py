"""Which layer of one checkpoint is which of another, and how sure it is that the two are related at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gammatorch.analysis.comparable import (
    Placed,
    beyond_smooth,
    comparable_scores,
    cosine_transform,
    inverse_transform,
    is_rotary,
    whitened,
)
from gammatorch.analysis.moments import run_edges
from gammatorch.analysis.scores import normal_scores

ONE_SIDED = 1.645
"""Standard normal quantile that 19 of 20 stay below."""

_DRAWS, _SEED = 64, 0
"""Draws of signs that tell the law of a best match, and their seed."""


@dataclass(frozen=True, eq=False)
class Sides:
    """The layers of two checkpoints, as waves and as channels; all rows have length 1, or 0.

    Strangers' waves have independent signs, whatever the power of each: with a product's terms A_f given, their sum
    has mean 0 and variance Σ A_f². That counts the effective number of channels (Clifford, Richardson and Hemon 1989:
    by Parseval it is their sum over lags) and the correlation between layers at once, and a sum of signs has a tail
    no heavier than the normal one (Hoeffding 1963). What is alike within heads is not seen by waves, so the same is
    asked of 32 runs of channels, and the larger variance counts.

    Attributes:
        waves: Of either checkpoint, shape (layer, wave).
        channels: Likewise, shape (layer, hidden).
    """

    waves: tuple[Tensor, Tensor]
    channels: tuple[Tensor, Tensor]

    @cached_property
    def by_run(self) -> Tensor:
        """Products over each run of channels, shape (run, layer, layer of the other)."""
        one, other = self.channels
        runs = pairwise(run_edges(one.shape[-1]))
        return torch.stack([one[:, start:stop] @ other[:, start:stop].T for start, stop in runs])

    @cached_property
    def correlation(self) -> Tensor:
        """Of every layer with every layer of the other, shape (layer, layer of the other)."""
        return self.waves[0] @ self.waves[1].T

    @cached_property
    def error(self) -> Tensor:
        """Standard deviation of the correlations between strangers, same shape."""
        of_waves = self.waves[0].square() @ self.waves[1].square().T
        return torch.maximum(of_waves, self.by_run.square().sum(dim=0)).sqrt()

    def mean(self, rows: Tensor, partners: Tensor) -> tuple[float, float]:
        """Mean correlation of layers with their counterparts, and its standard deviation between strangers.

        Args:
            rows: Layers of the one, shape (pair).
            partners: Their counterparts in the other, shape (pair).
        """
        by_wave = (self.waves[0][rows] * self.waves[1][partners]).mean(dim=0)
        by_run = self.by_run[:, rows, partners].mean(dim=1)
        return float(by_wave.sum()), math.sqrt(max(float(by_wave @ by_wave), float(by_run @ by_run)))

    def chance(self, rows: Tensor, partners: Tensor) -> float:
        """Standard deviation of that mean between strangers, whether or not these are: its terms about their mean.

        Args:
            rows: Layers of the one, shape (pair).
            partners: Their counterparts in the other, shape (pair).
        """
        by_wave = (self.waves[0][rows] * self.waves[1][partners]).mean(dim=0)
        by_run = self.by_run[:, rows, partners].mean(dim=1)
        return max(float(terms.std()) * math.sqrt(len(terms)) for terms in (by_wave, by_run))

    def best(self, rows: Tensor, partners: Tensor) -> tuple[float, float, float]:
        """Mean correlation of layers with their best matches, and its mean and standard deviation between strangers.

        Args:
            rows: Layers of the one, shape (row).
            partners: Layers of the other among which each finds its best match, shape (partner).
        """
        generator = torch.Generator().manual_seed(_SEED)
        one, other = self.waves[0][rows], self.waves[1][partners].T
        by_run = self.by_run[:, rows][:, :, partners]
        chance = [
            torch.stack([_best((one * signs) @ other) for signs in _signs(one.shape[1], generator)]),
            torch.stack([_best(torch.tensordot(signs, by_run, 1)) for signs in _signs(len(by_run), generator)]),
        ]
        centre, spread = max(float(one.mean()) for one in chance), max(float(one.std()) for one in chance)
        return float(_best(one @ other)), centre, spread


def _best(correlation: Tensor) -> Tensor:
    return correlation.amax(dim=1).mean()


def _signs(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (_DRAWS, count), generator=generator).double() * 2 - 1


def upper_tail(z: Tensor) -> Tensor:
    """Probability that a standard normal number is larger.

    Example:
        >>> upper_tail(torch.tensor([0.0, 1.6449])).round(decimals=4)
        tensor([0.5000, 0.0500])
    """
    tail: Tensor = torch.special.erfc(z / math.sqrt(2)) / 2
    return tail


def adjusted(p_values: Tensor) -> Tensor:
    """P-values of many tests, such that among those up to q at most a share q is expected to be chance.

    ``min over j ≥ i of p_(j) n / j`` for the i-th smallest of n (Benjamini and Hochberg 1995).

    Args:
        p_values: Shape (test).

    Example:
        >>> adjusted(torch.tensor([0.01, 0.04, 0.03, 0.5])).round(decimals=4)
        tensor([0.0400, 0.0533, 0.0533, 0.5000])
    """
    ordered, order = p_values.sort()
    scaled = ordered * len(ordered) / torch.arange(1, len(ordered) + 1)
    least = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1) if len(ordered) else scaled
    return torch.empty_like(p_values).scatter_(0, order, least.to(p_values))


SURE = 1e-4
"""Probability up to which what strangers do by chance is held to be none."""

BEYOND = 0.05
"""Share of chance allowed among the layers, or the pairs, that are said to be beyond it."""

_SLACK = 0.02
"""Distance 1 − r that two layers of one checkpoint may differ by and be copies of the same layer all the same."""


DISTINCT, _EQUAL = 8, 1e-9
"""Different gains of a layer from which on their order tells of it, and the rounding of a correlation of 1."""


class Layers(Placed, Protocol):
    """Gains by layer: :class:`~gammatorch.gains.stack.Gains`, or rows of a site as stored."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layer index of each row."""

    @property
    def gamma(self) -> Tensor:
        """Gain vectors γ, shape (layer, hidden)."""


class Rows:
    """The layers of a checkpoint, made comparable with those of others.

    Args:
        gains: The checkpoint's.
    """

    def __init__(self, gains: Layers) -> None:
        self.rotary = is_rotary(gains)
        self.ranks = torch.nn.functional.normalize(normal_scores(gains.gamma.detach().cpu()), dim=-1)
        self.distinct = (gains.gamma.detach().cpu().sort(dim=-1).values.diff(dim=-1) > 0).sum(dim=-1) >= DISTINCT
        self.scores = torch.nn.functional.normalize(comparable_scores(gains.gamma, self.rotary), dim=-1)
        self.counted = self.scores.abs().amax(dim=-1) > 0
        if gains.site == "input" and gains.layers[0] == 0 and len(gains.layers) > 1:
            self.counted[0] = False  # positions, learned or not, give it the same profile in strangers
        hidden = self.scores.shape[-1]
        self._axes = beyond_smooth(hidden) if self.rotary and hidden <= 256 else None

    @cached_property
    def waves(self) -> Tensor:
        """Scores as waves, shape (layer, wave)."""
        return cosine_transform(self.scores)[:, 1:] if self._axes is None else self.scores @ self._axes

    @cached_property
    def white(self) -> tuple[Tensor, Tensor]:
        """Waves of the same power, and these as channels."""
        waves = whitened(self.waves)
        if self._axes is not None:
            return waves, waves @ self._axes.T
        return waves, inverse_transform(torch.nn.functional.pad(waves, (1, 0)))


@dataclass(frozen=True, eq=False)
class Match:
    """Layers of one checkpoint and their counterparts in another; tensors by layer of the one.

    Attributes:
        partners: Row of each layer's counterpart in the other: the same layer's, or the best match.
        counted: Which layers bear on lineage.
        beyond: Which are more alike than strangers' layers are by chance.
        foreign: Which are not, where the others are much more so.
        complete: Whether all layers of the one have a counterpart, or all of the other are one.
        p_value: Probability that strangers are as alike, of one pair.
        most: What the mean correlation of waves of equal power lies below, 19 times of 20.
        null_95: What strangers' mean correlation stays below in 19 of 20.
    """

    partners: Tensor
    counted: Tensor
    beyond: Tensor
    foreign: Tensor
    complete: bool
    p_value: float
    most: float
    null_95: float

    @property
    def found(self) -> Tensor:
        """Layers that bear on how far the two have moved apart, shape (layer)."""
        return self.counted & ~self.foreign


def match(one: Rows, other: Rows) -> Match:
    """Match the layers of two checkpoints of the same width.

    As many layers: each with the same, but where another is beyond doubt the right one, less than half as far away.
    Else each with its best match, which in strangers is chance: the null is that of the maximum.

    Args:
        one: The one.
        other: The other.
    """
    white = Sides((one.white[0], other.white[0]), (one.white[1], other.white[1]))
    plain = Sides((one.waves, other.waves), (one.scores, other.scores))
    both = one.counted[:, None] & other.counted
    correlation = torch.where(both, white.correlation, -1.0)
    single = torch.where(both, upper_tail(white.correlation / white.error), 1.0)
    single = torch.where(both & _twins(one, other), 0.0, single)
    place, best = torch.arange(len(correlation)), correlation.argmax(dim=1)
    doubt = single * single.numel()
    if correlation.shape[0] == correlation.shape[1]:
        nearer = 1 - correlation[place, best] < (1 - correlation.diagonal()) / 2
        partners = torch.where(nearer & (doubt[place, best] <= SURE), best, place)
        of_layers, mistaken = single[place, partners], torch.zeros_like(nearer)
        chance, most, null = _of_same(white, plain, both.diagonal().nonzero()[:, 0])
    else:
        partners = best
        of_layers = (single[place, best] * correlation.shape[1]).clamp(max=1)
        distance, least = 1 - correlation[place, best], 1 - correlation.amax(dim=0)[best]
        mistaken = distance > 2 * least + _SLACK
        chance, most, null = _of_best(white, plain, one.counted, other.counted)
    counted = both[place, partners]
    beyond = torch.zeros_like(counted)
    beyond[counted] = adjusted(of_layers[counted]) <= BEYOND
    kept = correlation[place, partners]
    level = kept[beyond].median() if bool(beyond.any()) else kept.new_tensor(-2.0)
    below = kept + ONE_SIDED * white.error[place, partners] < level / 2
    foreign = counted & ((~beyond & below) | mistaken)
    used = torch.zeros_like(other.counted)
    used[partners[counted & ~foreign]] = True
    complete = not bool(foreign.any()) or (len(place) != len(used) and bool(used[other.counted].all()))
    p_value = min(1.0, 2 * min(chance, float(doubt.amin())))
    return Match(partners, counted, beyond, foreign, complete, p_value, most, null)


def _twins(one: Rows, other: Rows) -> Tensor:
    """Which layers have all channels in the same order, as no two strangers have."""
    return (one.ranks @ other.ranks.T > 1 - _EQUAL) & one.distinct[:, None] & other.distinct


def _of_same(white: Sides, plain: Sides, rows: Tensor) -> tuple[float, float, float]:
    """P-value of the mean over layers, what it lies below in 19 of 20, and what strangers' does."""
    if not len(rows):
        return 1.0, 1.0, float("nan")
    mean, error = white.mean(rows, rows)
    p_value = float(upper_tail(torch.tensor(mean / error, dtype=torch.float64))) if error else 1.0
    return p_value, mean + ONE_SIDED * error, ONE_SIDED * plain.chance(rows, rows)


def _of_best(white: Sides, plain: Sides, rows: Tensor, partners: Tensor) -> tuple[float, float, float]:
    """The same of the mean over best matches."""
    rows, partners = rows.nonzero()[:, 0], partners.nonzero()[:, 0]
    if not len(rows) or not len(partners):
        return 1.0, 1.0, float("nan")
    mean, centre, spread = white.best(rows, partners)
    p_value = float(upper_tail(torch.tensor((mean - centre) / spread, dtype=torch.float64)))
    _, plain_centre, plain_spread = plain.best(rows, partners)
    return p_value, mean - centre + ONE_SIDED * spread, plain_centre + ONE_SIDED * plain_spread
