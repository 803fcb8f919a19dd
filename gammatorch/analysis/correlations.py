"""What all statistics start from: lengths, cosines and correlations, of one checkpoint or several at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gammatorch.analysis.gram import Moments

_ROUNDING = 32
"""How many times the rounding error of a gain its spread must exceed for the gain not to be constant."""


@dataclass(frozen=True, eq=False)
class Correlations:
    """Lengths and angles between layers, all from their moments; the leading axis is the checkpoint.

    Attributes:
        moments: Products and sums of the gains.
        layers: Layer index of each row.
    """

    moments: Moments
    layers: tuple[int, ...]

    @cached_property
    def gram(self) -> Tensor:
        """G = X Xᵀ, shape (checkpoint, layer, layer)."""
        return self.moments.gram()

    @cached_property
    def norms(self) -> Tensor:
        """‖γ_i‖, shape (checkpoint, layer)."""
        return self.gram.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()

    @cached_property
    def cosine(self) -> Tensor:
        """⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖), shape (checkpoint, layer, layer)."""
        cosine = (self.gram / (self.norms[:, :, None] * self.norms[:, None, :])).clamp_(-1, 1)
        cosine.diagonal(dim1=-2, dim2=-1).fill_(1)
        return cosine

    @cached_property
    def cos_ones(self) -> Tensor:
        """Σ_h γ_ih / (√H ‖γ_i‖), shape (checkpoint, layer)."""
        return (self.moments.sums() / (self.norms * math.sqrt(self.moments.hidden))).clamp_(-1, 1)

    @cached_property
    def varied(self) -> Tensor:
        """Which gains vary over channels by more than rounding, shape (checkpoint, layer)."""
        products, totals = self.moments.products.sum(1), self.moments.totals.sum(1)
        spread = products.diagonal(dim1=-2, dim2=-1) - totals.square() / self.moments.hidden
        return spread.clamp(min=0).sqrt() > _ROUNDING * torch.finfo(spread.dtype).eps * self.norms

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
        """The correlations with 0 where they are undefined, and a diagonal of 1."""
        hidden = self.moments.channels.sum()
        return self._correlate(self.moments.products.sum(1), self.moments.totals.sum(1), hidden)

    @cached_property
    def without(self) -> Tensor:
        """``filled`` with each run of channels left out, shape (checkpoint, block, layer, layer)."""
        products, totals, channels = self.moments.products, self.moments.totals, self.moments.channels
        left = (channels.sum() - channels).clamp(min=1)
        return self._correlate(
            products.sum(1, keepdim=True) - products, totals.sum(1, keepdim=True) - totals, left[:, None, None]
        )

    def _correlate(self, products: Tensor, totals: Tensor, channels: Tensor) -> Tensor:
        centred = products - totals[..., None] * totals[..., None, :] / channels
        spread = centred.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        varied = self.varied if totals.ndim == 2 else self.varied[:, None]
        scale = torch.where(varied & (spread > 0), 1 / spread, 0)
        pearson = centred.mul_(scale[..., None]).mul_(scale[..., None, :]).clamp_(-1, 1)
        pearson.diagonal(dim1=-2, dim2=-1).fill_(1)
        return pearson
