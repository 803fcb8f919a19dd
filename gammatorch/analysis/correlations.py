"""What all statistics start from: lengths, cosines and correlations between the layers of one checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from gammatorch.analysis.figures import Period
from gammatorch.analysis.host import Array, Flags, HostMoments, Rows, product, sum_of_squares
from gammatorch.analysis.intervals import FEWEST_BLOCKS
from gammatorch.analysis.layer_kinds import period
from gammatorch.analysis.pca import eigenvalues, shared_direction

Value = TypeVar("Value")

_ROUNDING = 32 * np.finfo(np.float64).eps
"""How much of its length a gain must vary by for it not to be constant."""


@dataclass(frozen=True, eq=False)
class Correlations:
    """Lengths and angles between layers, all from their moments.

    Attributes:
        moments: Products and sums of the gains.
        layers: Layer index of each row.
        measured: Cosines that are known better than the moments tell, shape (layer, layer).
    """

    moments: HostMoments
    layers: tuple[int, ...]
    measured: Array | None = None

    @cached_property
    def gram(self) -> Array:
        """G = X Xᵀ, shape (layer, layer)."""
        return self.moments.gram()

    @cached_property
    def norms(self) -> Array:
        """‖γ_i‖, shape (layer)."""
        return np.asarray(np.sqrt(self.gram.diagonal().clip(min=0)))

    @cached_property
    def directed(self) -> Flags:
        """Which gains have a direction, being longer than zero, shape (layer)."""
        return self.norms > 0

    @cached_property
    def cosine(self) -> Array:
        """⟨γ_i, γ_j⟩ / (‖γ_i‖ ‖γ_j‖), shape (layer, layer); NaN in rows and columns of zero gains."""
        if self.measured is not None:
            return self.measured
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = (self.gram / np.outer(self.norms, self.norms)).clip(-1, 1)
        np.fill_diagonal(cosine, np.where(self.directed, 1, np.nan))
        return cosine

    @cached_property
    def shared(self) -> tuple[float, Array, Array]:
        """The direction closest to all, see :func:`~gammatorch.analysis.pca.shared_direction`."""
        return shared_direction(self.cosine)

    @cached_property
    def cos_ones(self) -> Array:
        """Σ_h γ_ih / (√H ‖γ_i‖), shape (layer); NaN for zero gains."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.moments.sums() / (self.norms * np.sqrt(self.moments.hidden))).clip(-1, 1))

    @cached_property
    def spread(self) -> Array:
        """‖γ_i − mean γ_i‖, shape (layer)."""
        moments = self.moments
        squares: Array = moments.whole.diagonal() - np.square(moments.total) / moments.hidden
        return np.asarray(np.sqrt(squares.clip(min=0)))

    @cached_property
    def varied(self) -> Flags:
        """Which gains vary over channels by more than rounding (a zero gain does not), shape (layer)."""
        return self.spread > _ROUNDING * self.norms

    @cached_property
    def pairs(self) -> Flags:
        """Pairs of different layers that have a correlation, shape (layer, layer)."""
        pairs = np.logical_and.outer(self.varied, self.varied)
        np.fill_diagonal(pairs, False)
        return pairs

    @cached_property
    def pearson(self) -> Array:
        """Correlations over channels, shape (layer, layer); NaN in rows and columns of constant gains."""
        return np.where(np.logical_and.outer(self.varied, self.varied), self.filled, np.nan)

    @cached_property
    def eigenvalues(self) -> Array:
        """Of ``filled``, ascending, shape (layer)."""
        return eigenvalues(self.filled)

    @cached_property
    def filled(self) -> Array:
        """The correlations with 0 where they are undefined, on the diagonal too."""
        moments = self.moments
        outer = np.outer(moments.total, moments.total) / moments.channels.sum()
        return self._correlate(moments.whole - outer)

    @cached_property
    def without(self) -> Array:
        """``filled`` with each run of channels left out, shape (block, layer, layer)."""
        moments = self.moments
        left = (moments.channels.sum() - moments.channels).clip(min=1)
        totals = moments.total - moments.totals
        scaled = totals / left[:, None]
        centred = totals[:, :, None] * scaled[:, None, :]
        centred += moments.products
        return self._correlate(np.subtract(moments.whole, centred, out=centred))

    @cached_property
    def effective_channels(self) -> float:
        """Independent channels that the correlations are worth.

        ``Σ (1 − r²)² / Σ v`` over pairs of layers, with v the jackknife's variance of each correlation over runs of
        channels, which is (1 − r²)² / H where channels are independent; no more than there are. Neighbouring channels
        that are alike, as those of a head, are worth fewer (Clifford, Richardson and Hémon 1989 have the number from
        their autocorrelation).
        """
        known, blocks = float(self.moments.channels.sum()), len(self.without)
        if blocks < FEWEST_BLOCKS:
            return known
        moved = (self.without - self.filled).reshape(blocks, -1)  # 0 where undefined, and on the diagonal
        mean = moved.mean(axis=0)
        variance = (sum_of_squares(moved) - blocks * sum_of_squares(mean)) * (blocks - 1) / blocks
        expected = np.square(1 - np.square(self.filled))[self.pairs].sum()
        return float(expected / variance) if variance * known > expected else known

    @cached_property
    def period(self) -> Period:
        """Whether kinds of layers alternate, see :func:`~gammatorch.analysis.layer_kinds.period`."""
        return period(self.filled, self.pairs, self.without)

    def _correlate(self, centred: Array) -> Array:
        """Correlations, in the place of the products about the mean, shape (…, layer, layer)."""
        spread = np.sqrt(np.diagonal(centred, axis1=-2, axis2=-1).clip(min=0))
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=self.varied & (spread > 0))
        centred *= scale[..., :, None]
        centred *= scale[..., None, :]
        centred.clip(-1, 1, out=centred)
        index = np.arange(centred.shape[-1])
        centred[..., index, index] = self.varied
        return centred

    def only(self, rows: Rows) -> Correlations:
        """Those of some of the layers.

        Args:
            rows: Their rows, ascending.
        """
        measured = None if self.measured is None else self.measured[rows[:, None], rows]
        return Correlations(self.moments.only(rows), tuple(self.layers[row] for row in rows), measured)


def pair_mean(values: Array, pairs: Flags) -> Array:
    """Mean over the pairs of layers that count; NaN where there are none.

    Args:
        values: Of each pair, shape (…, layer, layer).
        pairs: Which count, shape (layer, layer).

    Returns:
        Shape (…).

    Example:
        >>> float(pair_mean(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[False, True], [True, False]])))
        0.5
    """
    count = np.count_nonzero(pairs)
    sums = product(values.reshape(*values.shape[:-2], -1), pairs.ravel().astype(np.float64))
    return np.asarray(sums / count if count else np.full_like(sums, np.nan))


def over_rows(statistic: Callable[[Correlations], Value], correlations: Correlations, rows: Flags) -> Value:
    """A statistic of the order of layers, where some of them are undefined: of the others, as if they were all.

    Args:
        statistic: From correlations to what it gives.
        correlations: Of one checkpoint.
        rows: Which layers count, shape (layer).
    """
    return statistic(correlations if rows.all() else correlations.only(rows.nonzero()[0]))
