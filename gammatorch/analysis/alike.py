"""Whether a layer is more like the reference's at the same place than the layers of strangers are by chance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.kinship import RELATED
from gammatorch.analysis.matching import ONE_SIDED, SURE, Rows, Sides, adjusted, upper_tail
from gammatorch.gains.stack import StoredWeights

_BY_CHANCE = 0.001
"""Share of strangers' layers that may be held to be more alike than chance."""

_QUANTILE = 3.09
"""Standard normal quantile that all but that share stay below."""

_BEYOND_POSITIONS = 0.7
"""Correlation that tells a common origin in a first layer, where positions give strangers a common profile."""


@dataclass(frozen=True)
class Alike:
    """How alike one layer and the reference's are.

    Attributes:
        correlation: Of their scores, beyond what strangers share.
        error: Its standard deviation between strangers.
        more_than_chance: Whether strangers are as alike in at most one of a thousand layers.
        related: Whether it is beyond doubt, and enough to tell a common origin.
        foreign: Whether it is no more than chance, and a common origin is excluded.
        tells_all: Whether strangers have nothing in common here; they have on queries and keys, and in the first layer.
    """

    correlation: float
    error: float
    more_than_chance: bool
    related: bool
    foreign: bool
    tells_all: bool

    @property
    def figures(self) -> str:
        """Correlation and what it would be by chance, in words."""
        chance = f"999 of 1,000 strangers stay below {_QUANTILE * self.error:.2f}"
        return f"rank correlation {self.correlation:+.2f}, {chance}"


def alike_by_layer(own: StoredWeights, reference: StoredWeights) -> dict[int, Alike]:
    """How alike the layers are that both have, by layer.

    A common origin is excluded where a correlation of 0.25 is: for the layer alone, or for all layers of the site
    together that are no more alike than chance.

    Args:
        own: Weights of one site, finite.
        reference: Those of a reference, finite, of the same width.
    """
    layers = sorted(set(own.layers) & set(reference.layers))
    if not layers:
        return {}
    one, other = (Rows(_of_layers(stored, layers)) for stored in (own, reference))
    sides = Sides((one.white[0], other.white[0]), (one.white[1], other.white[1]))
    correlation, error = sides.correlation.diagonal(), sides.error.diagonal()
    varied = (error > 0) & (one.scores.abs().amax(dim=-1) > 0) & (other.scores.abs().amax(dim=-1) > 0)
    p_values = torch.where(varied, upper_tail(correlation / error.clamp(min=1e-12)), 1.0)
    beyond = adjusted(p_values) <= _BY_CHANCE
    foreign = varied & ~beyond & _excluded(sides, varied & ~beyond)
    counted = one.counted & other.counted
    tells_all = counted & (not one.rotary)
    enough = torch.where(counted, RELATED, _BEYOND_POSITIONS)
    sure = p_values * len(layers) <= SURE
    if _kin(sides, varied & counted):
        sure |= beyond
    related = sure & (correlation >= enough)
    columns = (correlation, error, beyond, related, foreign, tells_all)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {layer: Alike(*told) for layer, told in zip(layers, rows, strict=True)}


def _kin(sides: Sides, chosen: Tensor) -> bool:
    """Whether all layers together have a common origin beyond doubt."""
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return False
    mean, error = sides.mean(rows, rows)
    return mean >= RELATED and error > 0 and float(upper_tail(torch.tensor(mean / error))) <= SURE


def _excluded(sides: Sides, chosen: Tensor) -> Tensor:
    """Which layers lie below what would tell a common origin, by themselves or all chosen ones together."""
    by_layer = sides.correlation.diagonal() + ONE_SIDED * sides.error.diagonal() < RELATED
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        mean, error = sides.mean(rows, rows)
        if mean + ONE_SIDED * error < RELATED and mean <= ONE_SIDED * error:
            by_layer |= chosen
    return by_layer


def _of_layers(stored: StoredWeights, layers: list[int]) -> StoredWeights:
    """The rows of so many layers."""
    rows = [stored.layers.index(layer) for layer in layers]
    return replace(
        stored, layers=tuple(layers), keys=tuple(stored.keys[row] for row in rows), weights=stored.weights[rows]
    )
