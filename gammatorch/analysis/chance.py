"""How alike strangers are by chance, where neighbouring channels and layers are alike: by changing signs of waves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from gammatorch.analysis.gram import run_edges

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
