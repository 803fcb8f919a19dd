"""The triangular factor of gains that arrive in column blocks: the SVD at any width."""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.analysis.gram import chunk_width

_LAYERS = 4
"""Columns of a chunk at least, as a multiple of the layers, so that little is done twice."""

_COPIES = 2
"""Of a chunk: one to stand under the factor so far, one that the factorisation works in."""


class Triangle:
    """R of Xᵀ = Q R, by QR of one chunk of columns after another (TSQR; Demmel, Grigori, Hoemmen and Langou 2012).

    Qᵀ keeps lengths and angles, so Rᵀ has the gains' norms, cosines and singular values in L columns. Nothing is
    squared, so singular values are seen down to 1e-16 of the largest, where the Gram matrix ends at 1e-8. Cost: some
    4 L² operations a channel, in Householder reflections, which are slower than products.

    Args:
        layers: Number of layers, L.
        device: Where the columns are.
        dtype: Precision.

    Example:
        >>> triangle = Triangle(layers=1)
        >>> triangle.add(torch.tensor([[3.0, 0.0]]))
        >>> triangle.add(torch.tensor([[4.0]]))
        >>> triangle.finish().abs()
        tensor([[5.]], dtype=torch.float64)
    """

    def __init__(self, layers: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> None:
        self._factor = torch.zeros(0, layers, dtype=dtype, device=device)

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        width = max(_LAYERS * len(columns), chunk_width(columns, _COPIES * self._factor.dtype.itemsize))
        for chunk in torch.split(columns, width, dim=-1):
            rows = torch.cat([self._factor, chunk.mT.to(self._factor.dtype)])
            self._factor = torch.linalg.qr(rows, mode="r").R

    def finish(self) -> Tensor:
        """Rᵀ, shape (layer, min(layer, hidden)): gains of the same lengths and angles."""
        return self._factor.mT.contiguous()
