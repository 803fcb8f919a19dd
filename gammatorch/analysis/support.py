"""How sure a verdict is: how often it comes out when channels are drawn again and its conventions are moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from gammatorch.analysis.evidence import ORDERED, Evidence
from gammatorch.analysis.host import Array
from gammatorch.analysis.intervals import FEWEST_BLOCKS

SHARED = 0.5
"""Mean correlation from which on layers are said to share their direction: half of the variance over channels."""

OWN = 0.25
"""Correlation of the median layer with its closest below which each is said to have a direction of its own."""

DRIFT = 0.04
"""Correlation lost from near to far layers from which on the direction is said to drift."""

TURN = 0.025
"""What must be left of that loss where each layer's own noise is taken out."""

MISFIT = 0.08
"""Root mean square of the correlations that one direction leaves from which on there are several."""

SURE = 0.9
"""Support from which on a verdict is given."""

_SAMPLES, _MOVED = 512, 0.1
"""Samples, and the standard deviation by which conventions are moved, on a logarithmic scale."""

_CONVENTIONS = {"shared": SHARED, "own": OWN, "drift": DRIFT, "turn": TURN, "misfit": MISFIT, "jump": 1.0}
_ORDER_MOVED = 0.25
"""Standard deviation by which the least standard score of order is moved, in units of its own."""

VERDICTS = ("shared-direction", "drift", "phases", "several-directions", "layer-specific")


@dataclass(frozen=True)
class Support:
    """Verdicts by how often they come out.

    Attributes:
        shares: Verdict → share of the samples, the most frequent first.
    """

    shares: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """The verdict that comes out in nine samples of ten, or ``"undecided"``."""
        first = next(iter(self.shares))
        return first if self.shares[first] >= SURE else "undecided"


def support(found: Evidence) -> Support:
    """How often each verdict comes out.

    The 32 blocks of channels are drawn with replacement 512 times (bootstrap of blocks: Künsch 1989), each figure to
    first order: θ + Σ_b (w_b − 1) (B − 1)(θ − θ_b) / B with the weights w of a draw and θ_b the figure without block b.
    In each sample the conventions, :data:`SHARED` and the others, are moved too, by some 10 %, so that nothing hangs on
    whether a figure lies just above or just below one. The same samples for all, from a fixed seed.

    Args:
        found: The evidence of one checkpoint, with at least two layers that vary.

    Example:
        >>> import torch
        >>> from gammatorch.analysis.correlations import Correlations
        >>> from gammatorch.analysis.evidence import evidence
        >>> from gammatorch.analysis.gram import moments
        >>> one = torch.randn(512, generator=torch.Generator().manual_seed(0)).expand(8, -1)
        >>> support(evidence(Correlations(moments(one).home()[0], tuple(range(8))))).shares
        {'shared-direction': 1.0}
    """
    verdicts = _verdicts(_figures(found), _moved(_CONVENTIONS))
    counts = np.bincount(verdicts, minlength=len(VERDICTS)).tolist()
    order = sorted(range(len(VERDICTS)), key=lambda verdict: -counts[verdict])
    return Support({VERDICTS[one]: counts[one] / _SAMPLES for one in order if counts[one]})


def _verdicts(figures: Mapping[str, Array], least: Mapping[str, Array]) -> NDArray[np.intp]:
    """The verdict of each sample, as its number in :data:`VERDICTS`: the first line that holds."""
    ordered = figures["order"] >= least["order"]
    several = figures["misfit"] >= least["misfit"]
    turns = (figures["loss"] >= least["drift"]) & (figures["turn"] >= least["turn"])
    ladder = (
        ("layer-specific", figures["closest"] < least["own"]),
        ("phases", ordered & (figures["jump"] >= least["jump"])),
        ("drift", ordered & (turns | (figures["own_misfit"] >= least["misfit"]))),
        ("several-directions", several),
        ("shared-direction", figures["mean"] >= least["shared"]),
    )
    verdicts = np.full(_SAMPLES, VERDICTS.index("layer-specific"))
    for verdict, holds in reversed(ladder):
        verdicts[holds] = VERDICTS.index(verdict)
    return verdicts


def _figures(found: Evidence) -> dict[str, Array]:
    """Samples of every figure, shape (sample)."""
    names = ("closest", "mean", "loss", "turn", "misfit", "own_misfit", "order")
    values = np.nan_to_num(np.stack([getattr(found, name) for name in names], axis=-1))
    blocks = len(values) - 1
    if blocks >= FEWEST_BLOCKS:
        influence = (values[:1] - values[1:]) * (blocks - 1) / blocks
        samples = values[0] + (_weights(blocks) - 1) @ influence
    else:
        samples = np.broadcast_to(values[0], (_SAMPLES, len(names)))
    jump, error = found.jump
    return {
        **dict(zip(names, samples.T, strict=True)),
        "jump": jump + error * _normal(len(_CONVENTIONS) + 2)[:, -1],
    }


def _moved(conventions: Mapping[str, float]) -> dict[str, Array]:
    """Every convention in every sample."""
    moves = _normal(len(conventions) + 2)
    moved = {name: value * np.exp(_MOVED * moves[:, n]) for n, (name, value) in enumerate(conventions.items())}
    return moved | {"order": ORDERED + _ORDER_MOVED * moves[:, -2]}


@lru_cache
def _weights(blocks: int) -> Array:
    """How often each block is drawn, shape (sample, block)."""
    drawn = torch.randint(blocks, (_SAMPLES, blocks), generator=torch.Generator().manual_seed(0)).numpy()
    return np.stack([np.bincount(row, minlength=blocks) for row in drawn]).astype(np.float64)


@lru_cache
def _normal(count: int) -> Array:
    drawn: Array = torch.randn(_SAMPLES, count, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).numpy()
    return drawn
