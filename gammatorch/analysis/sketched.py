"""Moments from a sketch, so that every statistic can be had from it: the method ``project``."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from gammatorch.analysis.moments import CHANNEL_BLOCKS, Moments, about, summed_width
from gammatorch.analysis.projection import Sketch, Sketcher
from gammatorch.gains.device import summing_device


class SketchedMoments:
    """Moments of wide gains from a sketch of them, which arrive as column blocks of any width, in channel order.

    Means and lengths are exact; the products of different layers come from the sketch about the means (it is linear,
    so the sketch of a constant is taken off when all has come), with runs of buckets for runs of channels, so that
    intervals and nulls hold its error too: k buckets over H channels tell what 1 / (1/H + 1/k) channels would.

    Args:
        layers: As for :class:`~gammatorch.analysis.projection.Sketcher`, like all others and the error.
        hidden: As there.
        dims: As there.
        seed: As there.
        device: As there.
        dtype: As there.

    Example:
        >>> sketched = SketchedMoments(layers=1, hidden=2, dims=64)
        >>> sketched.add(torch.tensor([[3.0, 5.0]]))
        >>> sketched.finish()[0].home()[0].gram()
        array([[34.]])
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        dims: int = 4096,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._sketcher = Sketcher(layers, hidden, dims, seed, device, dtype)
        self._of_ones = Sketcher(1, hidden, dims, seed, device, dtype)
        place = torch.device(device)
        self._exact = torch.float32 if place.type == "mps" else torch.float64
        self._pivot = torch.zeros(layers, 1, dtype=self._exact, device=place)
        self._totals, self._squares = torch.zeros(2, layers, dtype=torch.float64, device=summing_device(place)).unbind()
        self._hidden, self._dims, self._begun = hidden, dims, False

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        self._sketcher.add(columns)
        self._of_ones.add(torch.ones_like(columns[:1]))
        for chunk in torch.split(columns, summed_width(columns, self._exact), dim=-1):
            if not self._begun:
                self._pivot, self._begun = chunk.to(self._exact).mean(dim=-1, keepdim=True), True
            part = about(chunk, self._pivot)
            self._totals += part.sum(dim=-1).to(self._totals)
            self._squares += torch.linalg.vector_norm(part, dim=-1).square().to(self._squares)

    def finish(self) -> tuple[Moments, float, Sketch]:
        """The moments, the error stated for a correlation (twice the largest standard error), and the sketch."""
        whole, of_ones = self._sketcher.finish(), self._of_ones.finish()
        apart = self._totals / self._hidden
        mean = self._pivot[:, 0].to(apart) + apart
        length = (self._squares - self._totals.square() / self._hidden).clamp(min=0).sqrt()
        centred = Sketch(whole.values - mean[:, None] * of_ones.values, self._hidden, whole.seed)
        found = torch.linalg.vector_norm(centred.values, dim=-1)
        values = centred.values * torch.where(found > 0, length / found, 0)[:, None]
        blocks = 1 << min(CHANNEL_BLOCKS, self._dims, self._hidden).bit_length() - 1  # a power of two, as dims is
        runs = rearrange(values, "layer (run dim) -> run layer dim", run=blocks)
        worth = 1 / (1 / self._hidden + 1 / self._dims) / blocks
        totals = torch.zeros(1, blocks, len(values), dtype=torch.float64, device=values.device)
        channels, hidden = torch.full_like(totals[..., 0], worth), torch.full_like(totals[:, 0, 0], self._hidden)
        error = 2 * centred.cosine()[1].nan_to_num().max() + self._sketcher.rounding * _largest(mean, length)
        return Moments((runs @ runs.mT)[None], totals, mean[None], channels, hidden), float(error), whole


def _largest(mean: Tensor, length: Tensor) -> Tensor:
    """How much the mean, which is sketched too, enlarges a rounding error beside the deviations from it."""
    return torch.where(length > 0, mean.abs() / length, 0).max()
