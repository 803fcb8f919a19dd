"""The rolled sign sketch: very wide gains in a few thousand numbers each, the same bits on every machine.

Column j of block b = j div W goes to bucket (j mod W + r_b) mod W with a shift r_b per block, times a sign from a
counter hash of j; W = 65,536 buckets are folded to any smaller power of two, the upper half rolled before it is added
to the lower, so that outlier channels that repeat with a stride do not meet in one bucket. A count sketch (Charikar,
Chen and Farach-Colton 2002) whose buckets are runs, so that it needs no index, no stored matrix and no atomics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gammatorch.errors import InvalidArgument

BUCKETS = 65_536
"""W: buckets before folding."""

VERSION = 1
"""Changes whenever the same gains would give other numbers."""

_STEP, _MIX, _LOW = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB), (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Sketch:
    """A linear fingerprint of the gains, comparable with those of the same metadata.

    Attributes:
        values: Bucket sums, shape (layer, bucket), float64.
        hidden: Width of the gains.
        seed: Seed of signs and shifts.
        version: Version of the algorithm.
    """

    values: Tensor
    hidden: int
    seed: int
    version: int = VERSION

    @property
    def metadata(self) -> dict[str, int]:
        """What two sketches must share to be compared."""
        return {
            "hidden": self.hidden,
            "seed": self.seed,
            "buckets": BUCKETS,
            "dims": self.values.shape[-1],
            "version": self.version,
        }

    def cosine(self) -> tuple[Tensor, Tensor]:
        """Cosines between layers and the standard error of each, both of shape (layer, layer).

        With unit rows u: 1 − cos = ‖u_i − u_j‖²/2, which keeps the digits of near-parallel layers. The error is that
        of a sum over k buckets, √(Σ e_b²) with e_b the bucket's share in the deviation to first order; where a few
        outlier channels dominate it is too large rather than too small, as their own products have none. On even
        gains it is (1 − c²)/√k.
        """
        unit = self.values / torch.linalg.vector_norm(self.values, dim=-1, keepdim=True)
        cosines, errors = [], []
        for row in unit:
            apart = (unit - row).square()
            distance = apart.sum(dim=-1) / 2
            share = (distance[:, None] * (unit.square() + row.square()) - apart) / 2
            cosines.append(1 - distance)
            errors.append(torch.linalg.vector_norm(share, dim=-1))
        return torch.stack(cosines), torch.stack(errors)

    def drift(self, other: Sketch) -> Tensor:
        """‖γ_i − γ'_i‖ / ‖γ_i‖ between two checkpoints, shape (layer); standard error 1/√k of it, however small it is.

        Args:
            other: The later checkpoint's sketch.

        Raises:
            InvalidArgument: The sketches differ in width, seed, buckets, dimensions, version or layers.
        """
        if self.metadata != other.metadata or len(self.values) != len(other.values):
            raise InvalidArgument(
                f"sketches cannot be compared: {len(self.values)} layers, {self.metadata} against "
                f"{len(other.values)} layers, {other.metadata}: sketch both with the same settings"
            )
        apart = torch.linalg.vector_norm(other.values - self.values, dim=-1)
        drift: Tensor = apart / torch.linalg.vector_norm(self.values, dim=-1)
        return drift


class Sketcher:
    """Sketch of gains that arrive as column blocks of any width, in channel order.

    Every bucket receives its columns one by one in channel order, by element-wise additions, and folding adds halves;
    so the result has the same bits for any block width, number of threads and device. Cost: one multiplication and
    one addition an entry; W float64 numbers a layer are kept.

    Args:
        layers: Number of layers.
        hidden: Number of channels.
        dims: Buckets to fold to, a power of two from 32 to 65,536.
        seed: Seed of signs and shifts.
        device: Where the columns are.

    Raises:
        InvalidArgument: ``dims`` is no power of two up to 65,536.

    Example:
        >>> sketcher = Sketcher(layers=1, hidden=4, dims=1024)
        >>> sketcher.add(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))
        >>> float(torch.linalg.vector_norm(sketcher.finish().values))
        5.0
    """

    def __init__(
        self, layers: int, hidden: int, dims: int = 4096, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if dims not in [2**power for power in range(5, 17)]:
            raise InvalidArgument(f"a sketch cannot have {dims} dimensions: pass a power of two from 32 to {BUCKETS}")
        self._sums = torch.zeros(layers, BUCKETS, dtype=torch.float64, device=device)
        self._hidden, self._dims, self._seed, self._column = hidden, dims, seed, 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        start = 0
        while start < columns.shape[-1]:
            block, within = divmod(self._column, BUCKETS)
            bucket = (within + _hash(self._seed, -1 - block)) % BUCKETS
            count = min(columns.shape[-1] - start, BUCKETS - max(within, bucket))
            sign = signs(self._column, count, self._seed, self._sums.device)
            for sums, row in zip(self._sums, columns[:, start : start + count], strict=True):  # a row stays in cache
                sums[bucket : bucket + count].addcmul_(row.to(torch.float64), sign)
            self._column += count
            start += count

    def finish(self) -> Sketch:
        """The sketch of all that was added."""
        values = self._sums
        while values.shape[-1] > self._dims:
            half = values.shape[-1] // 2
            shift = _hash(self._seed, half) % half
            values = values[:, :half] + values[:, half:].roll(shift, dims=-1)
        return Sketch(values, self._hidden, self._seed)


def sketch(gains: Tensor, dims: int = 4096, seed: int = 0) -> Sketch:
    """Sketch of gains that are in memory.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        dims: Buckets, a power of two from 32 to 65,536; the error of a cosine c is about (1 − c²)/√dims.
        seed: Seed of signs and shifts.

    Returns:
        Their sketch.

    Raises:
        InvalidArgument: ``dims`` is no power of two up to 65,536.

    Example:
        >>> sketch(torch.ones(2, 8), dims=64).drift(sketch(2 * torch.ones(2, 8), dims=64))
        tensor([1., 1.], dtype=torch.float64)
    """
    sketcher = Sketcher(len(gains), gains.shape[-1], dims, seed, gains.device)
    sketcher.add(gains)
    return sketcher.finish()


def signs(first: int, count: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Signs ±1 of a run of columns, from SplitMix64 of the column's index (Steele, Lea and Flood 2014).

    Args:
        first: Index of the first column.
        count: Number of columns.
        seed: Seed.
        device: Where to.

    Returns:
        Shape (column), float64.

    Example:
        >>> signs(0, 4, seed=0).tolist() == signs(0, 9, seed=0).tolist()[:4]
        True
    """
    state = torch.arange(first, first + count, dtype=torch.int64, device=device)
    state = state * _signed(_STEP) + _signed(_hash(seed, 0))
    for shift, factor in zip((30, 27), _MIX, strict=True):
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    state = state ^ _shifted(state, 31)
    return 1 - 2 * (state & 1).to(torch.float64)


def _shifted(state: Tensor, shift: int) -> Tensor:
    """Logical shift to the right of 64 bits, which torch's signed integers do not have."""
    return (state >> shift) & ((1 << (64 - shift)) - 1)


def _hash(seed: int, counter: int) -> int:
    """SplitMix64 of a seed and a counter, 64 bits."""
    state = (seed * _STEP + counter * _MIX[0] + _STEP) & _LOW
    for shift, factor in zip((30, 27), _MIX, strict=True):
        state = ((state ^ (state >> shift)) * factor) & _LOW
    return state ^ (state >> 31)


def _signed(value: int) -> int:
    """The same 64 bits as torch's int64 reads them."""
    return value - (1 << 64) if value >= 1 << 63 else value
