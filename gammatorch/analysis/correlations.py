"""What all statistics start from: lengths, cosines and correlations, of one checkpoint or several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from gammatorch.analysis.alternation import period
from gammatorch.analysis.gram import Moments
from gammatorch.analysis.intervals import FEWEST_BLOCKS
from gammatorch.analysis.pca import shared_directions

Value = TypeVar("Value")

_ROUNDING = 32
"""How many times the rounding error of a gain its spread must exceed for the gain not to be constant."""


@dataclass(frozen=True, eq=False)
class Correlations:
    """Lengths and angles between layers, all from their moments; the leading axis is the checkpoint.

    Attributes:
        moments: Products and sums of the gains.
        layers: Layer index of each row.
        measured: Cosines that are known better than the moments tell, shape (checkpoint, layer, layer).
    """

    moments: Moments
    layers: tuple[int, ...]
    measured: Tensor | None = None

    @cached_property
    def gram(self) -> Tensor:
        """G = X Xᵀ, shape (checkpoint, layer, layer)."""
        return self.moments.gram()

    @cached_property
    def norms(self) -> Tensor:
        """‖γ_i‖, shape (checkpoint, layer)."""
        return self.gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()

    @cached_property
    def directed(self) -> Tensor:
        """Which gains have a direction, being longer than zero, shape (checkpoint, layer)."""
        return self.norms > 0

    @cached_property
    def cosine(self) -> Tensor:
        """⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖), shape (checkpoint, layer, layer); NaN in rows and columns of zero gains."""
        if self.measured is not None:
            return self.measured
        cosine = (self.gram / (self.norms[:, :, None] * self.norms[:, None, :])).clamp_(-1, 1)
        cosine.diagonal(dim1=-2, dim2=-1).copy_(torch.where(self.directed, 1, torch.nan))
        return cosine

    @cached_property
    def shared(self) -> tuple[Tensor, Tensor, Tensor]:
        """The direction closest to all, see :func:`~gammatorch.analysis.pca.shared_directions`."""
        return shared_directions(self.cosine)

    @cached_property
    def cos_ones(self) -> Tensor:
        """Σ_h γ_ih / (√H ‖γ_i‖), shape (checkpoint, layer); NaN for zero gains."""
        return (self.moments.sums() / (self.norms * self.moments.hidden.sqrt()[:, None])).clamp_(-1, 1)

    @cached_property
    def spread(self) -> Tensor:
        """‖γ_i − mean γ_i‖, shape (checkpoint, layer)."""
        squares = self.moments.whole.diagonal(dim1=-2, dim2=-1)
        return (squares - self.moments.totals.sum(1).square() / self.moments.hidden[:, None]).clamp(min=0).sqrt()

    @cached_property
    def varied(self) -> Tensor:
        """Which gains vary over channels by more than rounding (a zero gain does not), shape (checkpoint, layer)."""
        return self.spread > _ROUNDING * torch.finfo(self.spread.dtype).eps * self.norms

    @cached_property
    def pairs(self) -> Tensor:
        """Pairs of different layers that have a correlation, shape (checkpoint, layer, layer)."""
        pairs = self.varied[:, :, None] & self.varied[:, None, :]
        pairs.diagonal(dim1=-2, dim2=-1).fill_(False)
        return pairs

    @cached_property
    def pearson(self) -> Tensor:
        """Correlations over channels, shape (checkpoint, layer, layer); NaN in rows and columns of constant gains."""
        return torch.where(self.varied[:, :, None] & self.varied[:, None, :], self.filled, torch.nan)

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Of ``filled``, ascending, shape (checkpoint, layer)."""
        eigenvalues: Tensor = torch.linalg.eigvalsh(self.filled)
        return eigenvalues

    @cached_property
    def filled(self) -> Tensor:
        """The correlations with 0 where they are undefined, on the diagonal too."""
        channels = self.moments.channels.sum(-1)
        return self._correlate(self.moments.whole.clone(), self.moments.totals.sum(1), channels[:, None, None])

    @cached_property
    def without(self) -> Tensor:
        """``filled`` with each run of channels left out, shape (checkpoint, block, layer, layer)."""
        products, totals, channels = self.moments.products, self.moments.totals, self.moments.channels
        left = (channels.sum(-1, keepdim=True) - channels).clamp(min=1)[..., None, None]
        return self._correlate(self.moments.whole[:, None] - products, totals.sum(1, keepdim=True) - totals, left)

    @cached_property
    def effective_channels(self) -> Tensor:
        """Independent channels that the correlations are worth, shape (checkpoint).

        ``Σ (1 − r²)² / Σ v`` over pairs of layers, with v the jackknife's variance of each correlation over runs of
        channels, which is (1 − r²)² / H where channels are independent; no more than there are. Neighbouring channels
        that are alike, as those of a head, are worth fewer (Clifford, Richardson and Hémon 1989 have the number from
        their autocorrelation).
        """
        known, blocks = self.moments.channels.sum(-1), self.without.shape[1]
        if blocks < FEWEST_BLOCKS:
            return known
        moved = (self.without - self.filled[:, None]).flatten(2)  # 0 where undefined, and on the diagonal
        squares = torch.linalg.vector_norm(moved, dim=(1, 2)).square() - blocks * moved.mean(1).square().sum(-1)
        variance = squares * (blocks - 1) / blocks
        expected = torch.where(self.pairs, (1 - self.filled.square()).square(), 0).sum((1, 2))
        return torch.where(variance * known > expected, expected / variance, known)

    @cached_property
    def period(self) -> Mapping[str, Any]:
        """Whether kinds of layers alternate, see :func:`~gammatorch.analysis.alternation.period`."""
        return period(self.filled, self.pairs, self.without)

    def _correlate(self, products: Tensor, totals: Tensor, channels: Tensor) -> Tensor:
        """Correlations, in the place of the products."""
        centred = products.addcmul_(totals[..., None], totals[..., None, :] / channels, value=-1)
        spread = centred.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        varied = self.varied if totals.ndim == 2 else self.varied[:, None]
        scale = torch.where(varied & (spread > 0), 1 / spread, 0)
        pearson = centred.mul_(scale[..., None]).mul_(scale[..., None, :]).clamp_(-1, 1)
        pearson.diagonal(dim1=-2, dim2=-1).copy_(varied)
        return pearson

    def only(self, checkpoints: Tensor, rows: Tensor | None = None) -> Correlations:
        """Some of the checkpoints, with some of their layers.

        Args:
            checkpoints: Their numbers, shape (checkpoint).
            rows: The row numbers to keep, shape (layer), the same in all of them; all if None.
        """
        if rows is None:
            rows = torch.arange(len(self.layers))
        taken = self.moments.only(checkpoints)
        products, totals = taken.products[:, :, rows][..., rows], taken.totals[:, :, rows]
        kept = replace(taken, products=products, totals=totals, pivot=taken.pivot[:, rows])
        measured = self.measured[checkpoints][:, rows][..., rows] if self.measured is not None else None
        return Correlations(kept, tuple(self.layers[row] for row in rows.tolist()), measured)


def pair_mean(values: Tensor, pairs: Tensor) -> Tensor:
    """Mean over the pairs of layers that count; NaN where there are none.

    Args:
        values: Of each pair, shape (checkpoint, layer, layer), or with a block axis after the first.
        pairs: Which count, shape (checkpoint, layer, layer).

    Example:
        >>> pair_mean(torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]), torch.tensor([[[False, True], [True, False]]]))
        tensor([0.5000])
    """
    weights = pairs.flatten(1).to(values)
    sums = values.reshape(len(values), -1, weights.shape[1]) @ weights[:, :, None]
    return sums[..., 0].reshape(values.shape[:-2]) / weights.sum(-1).reshape(-1, *[1] * (values.ndim - 3))


def over_rows(
    statistic: Callable[[Correlations], list[Value]], correlations: Correlations, rows: Tensor
) -> list[Value]:
    """A statistic of the order of layers, where some of them are undefined: of the others, as if they were all.

    Checkpoints in which every layer counts are computed together; the rest alone, so that they do not disturb them.

    Args:
        statistic: From correlations to a list over checkpoints.
        correlations: Of one checkpoint or several.
        rows: Which layers count, shape (checkpoint, layer).
    """
    whole = rows.all(dim=-1)
    if bool(whole.all()):
        return statistic(correlations)
    found: dict[int, Value] = {}
    together = whole.nonzero()[:, 0]
    groups = [(together, torch.arange(rows.shape[1]))] if len(together) else []
    groups += [(row, rows[row[0]].nonzero()[:, 0]) for row in whole.logical_not().nonzero()]
    for checkpoints, kept in groups:
        found |= dict(zip(checkpoints.tolist(), statistic(correlations.only(checkpoints, kept)), strict=True))
    return [found[checkpoint] for checkpoint in range(len(rows))]
