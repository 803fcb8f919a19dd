"""Outlier channels of gains that are read in column blocks, in the same pass as all else."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gammatorch.analysis.correlations import Correlations
from gammatorch.analysis.gram import chunk_width
from gammatorch.analysis.outliers import Outliers, out_of_most, sampled_channels, usual_range, without

MOST_SUSPECTS = 4_096
"""Channels that are kept until it is known which of them stand out."""

_NARROWER = 0.5
"""The guess at the usual range is half as wide as the first block says, so that the true one lies around it."""

_WATCHED, _FEWEST = 0.75, 0.125
"""Shares of the layers: so many are held against the guess, and a channel that is out of it in so many of these is
kept. One that stands out does so in half of all layers, so in a quarter at least that are watched."""

_MASK_BYTES = 4
"""What it takes to hold a gain against the range, beside the gain."""


class OutlierScan:
    """Which channels stand out of gains that arrive as column blocks of any width, in channel order.

    The usual range of a layer is known only once its last channel has come, so the first block gives a guess that is
    too narrow, and channels that are out of it in an eighth of the layers are kept. In the end they are held against
    the true range: where this lies around the guess in all layers but an eighth, no channel is missing, and the result
    is that of :func:`~gammatorch.analysis.outliers.without_outliers`; else, as where more than 4,096 channels had to be
    kept, it is not known.

    Args:
        layers: Number of layers.
        hidden: Number of channels.

    Example:
        >>> gains = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
        >>> gains[:, 300] = 100
        >>> scan = OutlierScan(8, 512)
        >>> for block in gains.split(200, dim=1):
        ...     scan.add(block)
        >>> from gammatorch.analysis.gram import moments
        >>> scan.finish(Correlations(moments(gains), tuple(range(8)))).channels
        [[300]]
    """

    def __init__(self, layers: int, hidden: int) -> None:
        self._watched, self._fewest = math.ceil(_WATCHED * layers), math.ceil(_FEWEST * layers)
        self._sampled = sampled_channels(hidden)
        self._samples: list[Tensor] = []
        self._first = self._low = self._high = self._varied = torch.empty(0)
        self._kept: list[Tensor] = []
        self._channels: list[Tensor] = []
        self._channel = self._count = 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        if self._channel == 0:
            self._begin(columns)
        count = columns.shape[-1]
        here = self._sampled[(self._sampled >= self._channel) & (self._sampled < self._channel + count)]
        self._samples.append(_exact(columns[:, (here - self._channel).to(columns.device)]))
        for part in torch.split(columns, chunk_width(columns, _MASK_BYTES), dim=1):
            if not bool(self._varied.all()):
                self._varied |= (part != self._first).any(dim=-1)
            if self._count <= MOST_SUSPECTS:
                self._keep(part)
            self._channel += part.shape[-1]

    def _begin(self, columns: Tensor) -> None:
        """A guess at the usual range, in the type of the columns."""
        sample = columns[:, sampled_channels(columns.shape[-1]).to(columns.device)]
        low, high = usual_range(_exact(sample), lambda: _exact(columns).std(dim=-1, correction=0, keepdim=True))
        middle, reach = (low + high) / 2, _NARROWER * (high - low) / 2
        self._low, self._high = (middle - reach).to(columns), (middle + reach).to(columns)
        self._first = columns[:, :1].clone()
        self._varied = torch.zeros(len(columns), dtype=torch.bool, device=columns.device)

    def _keep(self, columns: Tensor) -> None:
        watched, low, high = (_ordered(of[: self._watched]) for of in (columns, self._low, self._high))
        out = (watched < low).logical_or_(watched > high).view(torch.uint8)
        counts = out.sum(dim=0, dtype=torch.uint8 if self._watched < 256 else torch.int32)  # as narrow ones are faster
        suspects = (counts >= self._fewest).nonzero()[:, 0]
        self._count += len(suspects)
        self._kept.append(_exact(columns[:, suspects]))
        self._channels.append(suspects.cpu() + self._channel)

    def finish(self, correlations: Correlations) -> Outliers | None:
        """The outlier channels, None where they are not known.

        Args:
            correlations: Of the same gains, one checkpoint.
        """
        varied, spread = self._varied.cpu(), correlations.spread[0].cpu()[:, None]
        if not bool(varied.any()):
            return Outliers([[]], None)
        low, high = usual_range(torch.cat(self._samples, dim=1), lambda: spread / math.sqrt(self._channel))
        narrower = (_exact(self._low) < low) | (_exact(self._high) > high)  # than the guess
        unwatched = len(varied) - self._watched
        certain = math.ceil(int(varied.sum()) / 2) - unwatched - int(narrower[: self._watched].sum())
        if self._count > MOST_SUSPECTS or certain < self._fewest:
            return None
        values, channels = torch.cat(self._kept, dim=1), torch.cat(self._channels)
        out = out_of_most(values, low, high, varied)
        if not bool(out.any()):
            return Outliers([[]], None)
        place = correlations.norms.device
        rest = without(values[:, out].to(place), channels[out].to(place), correlations.moments)
        return Outliers([channels[out].tolist()], Correlations(rest, correlations.layers))


def _ordered(values: Tensor) -> Tensor:
    """Numbers of 16 bits as integers of the same order, which are compared several times faster."""
    if values.dtype.itemsize != 2:
        return values
    bits = values.contiguous().view(torch.int16)
    return bits ^ (bits >> 15 & 0x7FFF)  # below zero the larger pattern is the lower number


def _exact(values: Tensor) -> Tensor:
    return values.to("cpu", torch.float64)
