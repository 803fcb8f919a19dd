"""The rolled sign sketch: very wide gains in a few thousand numbers each, the same bits on every machine.

Column j of block b = j div W goes to bucket (j mod W + r_b) mod W with a shift r_b per block, times a sign from a
counter hash of j; W = 65,536 buckets are folded to any smaller power of two, the upper half rolled before it is added
to the lower, so that outlier channels that repeat with a stride do not meet in one bucket. A count sketch (Charikar,
Chen and Farach-Colton 2002) whose buckets are runs, so that it needs no index, no stored matrix and no atomics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gammatorch.errors import InvalidArgument
from gammatorch.gains.accept import as_gains
from gammatorch.gains.device import default_numerics, summing_device
from gammatorch.gains.stack import Gains
from gammatorch.gains.wide import WideGains

BUCKETS = 65_536
"""W: buckets before folding."""

VERSION = 2
"""Changes whenever the same gains would give other numbers."""

GROUP_BLOCKS = 16
"""Blocks of W columns that are added up before they are folded into the float64 totals."""

_ROWS = 16
"""Layers worked on at once on the CPU: enough for its threads, few enough for its cache."""

_STEP, _MIX, _LOW = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB), (1 << 64) - 1


_Run = tuple[int, int, list[tuple[int, int, int, Tensor]]]
"""Columns of one block, first and past the last; and of their neighbours in buckets the same, first bucket, signs."""


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

    @default_numerics()
    def cosine(self, other: Sketch | None = None) -> tuple[Tensor, Tensor]:
        """Cosines between layers and the standard error of each, both of shape (layer, layer of the other).

        With unit rows u: 1 − cos = ‖u_i − u_j‖²/2, which keeps the digits of near-parallel layers. The error is that
        of a sum over k buckets, √(Σ e_b²) with e_b the bucket's share in the deviation to first order; where a few
        outlier channels dominate it is too large rather than too small, as their own products have none. On even
        gains it is (1 − c²)/√k.

        Args:
            other: Another checkpoint's sketch, from any device; this one if None.

        Raises:
            InvalidArgument: The sketches differ in width, seed, buckets, dimensions or version.
        """
        if other is not None:
            self._check_comparable(other)
        unit = _units(self.values)
        others = _units(other.values.to(unit)) if other is not None else unit
        cosines, errors = [], []
        for row in unit:
            apart = (others - row).square()
            distance = apart.sum(dim=-1) / 2
            share = (distance[:, None] * (others.square() + row.square()) - apart) / 2
            cosines.append(1 - distance)
            errors.append(torch.linalg.vector_norm(share, dim=-1))
        return torch.stack(cosines), torch.stack(errors)

    @default_numerics()
    def drift(self, other: Sketch) -> tuple[Tensor, Tensor]:
        """‖γ_i − γ'_i‖ / ‖γ_i‖ between two checkpoints and its standard error, both of shape (layer).

        The error is 1/√k of the drift, however small that is; a drift of less than some 1e-7 of gains that were added
        up in float32 is rounding.

        Args:
            other: The later checkpoint's sketch, of the same layers, from any device.

        Raises:
            InvalidArgument: The sketches differ in width, seed, buckets, dimensions, version or layers.
        """
        self._check_comparable(other)
        if len(self.values) != len(other.values):
            raise InvalidArgument(f"sketches of {len(self.values)} and {len(other.values)} layers have no drift")
        apart = torch.linalg.vector_norm(other.values.to(self.values) - self.values, dim=-1)
        drift = apart / torch.linalg.vector_norm(self.values, dim=-1)
        return drift, drift / self.values.shape[-1] ** 0.5

    def _check_comparable(self, other: Sketch) -> None:
        if self.metadata != other.metadata:
            raise InvalidArgument(
                f"sketches cannot be compared: {self.metadata} against {other.metadata}: "
                "sketch both with the same settings"
            )


def _units(values: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return values / lengths


class Sketcher:
    """Sketch of gains that arrive as column blocks of any width, in channel order.

    Every bucket receives its columns one by one in channel order, by element-wise additions, and folding adds halves;
    so the result has the same bits for any block width, number of threads and device. Columns of 32 bits and less are
    added up in float32 over 16 blocks of W (the sums of so few bfloat16 numbers are mostly exact there, and what is
    rounded is 1e-7 of a bucket), float64 ones in float64; the totals are float64. Cost: one multiplication and one
    addition an entry; W numbers a layer are kept.

    Args:
        layers: Number of layers.
        hidden: Number of channels.
        dims: Buckets to fold to, a power of two from 32 to 65,536.
        seed: Seed of signs and shifts.
        device: Where the columns are.
        dtype: Type of the columns.

    Raises:
        InvalidArgument: ``dims`` is no power of two up to 65,536.

    Example:
        >>> sketcher = Sketcher(layers=1, hidden=4, dims=1024)
        >>> sketcher.add(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))
        >>> float(torch.linalg.vector_norm(sketcher.finish().values))
        5.0
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
        if dims not in [2**power for power in range(5, 17)]:
            raise InvalidArgument(f"a sketch cannot have {dims} dimensions: pass a power of two from 32 to {BUCKETS}")
        device, working = torch.device(device), torch.float64 if dtype is torch.float64 else torch.float32
        self._totals = torch.zeros(layers, dims, dtype=torch.float64, device=summing_device(device))
        rows = layers if device.type != "cpu" else min(_ROWS, layers)
        self._sums = torch.empty(rows, BUCKETS, dtype=working, device=device)
        self._cast: Tensor | None = None
        self._carried: Tensor | None = None
        self._hidden, self._dims, self._seed, self._column = hidden, dims, seed, 0

    def add(self, columns: Tensor) -> None:
        """Take the next columns.

        Args:
            columns: Of every layer, shape (layer, column), any floating type.
        """
        start, group = 0, GROUP_BLOCKS * BUCKETS
        while start < columns.shape[-1]:
            count = min(columns.shape[-1] - start, group - self._column % group)
            self._add_up(columns[:, start : start + count])
            start += count

    @property
    def rounding(self) -> float:
        """What adding up rounds at most, for gains of size 1: an error of the sketch's length."""
        eps = torch.finfo(self._sums.dtype).eps
        return float(eps * GROUP_BLOCKS * self._hidden**0.5)

    def finish(self) -> Sketch:
        """The sketch of all that was added.

        Raises:
            InvalidArgument: Columns are missing.
        """
        if self._column != self._hidden:
            raise InvalidArgument(f"{self._column} of {self._hidden} columns were added: add them all")
        return Sketch(self._totals, self._hidden, self._seed)

    def _add_up(self, columns: Tensor) -> None:
        """Add columns of one group: a few layers at a time, whose sums then stay in the cache.

        The sums of a group that does not come whole are carried to the next call.
        """
        begun = self._column % (GROUP_BLOCKS * BUCKETS) > 0
        runs = self._runs(columns.shape[-1])
        self._column += columns.shape[-1]
        ended = self._column % (GROUP_BLOCKS * BUCKETS) == 0 or self._column == self._hidden
        if self._carried is None and (begun or not ended):
            self._carried = self._sums.new_empty(len(columns), BUCKETS)
        rows = len(self._sums)
        for row in range(0, len(columns), rows):
            few = columns[row : row + rows]
            sums = self._carried[row : row + rows] if self._carried is not None else self._sums[: len(few)]
            self._add_runs(few, sums if begun else sums.zero_(), runs)
            if ended:
                self._totals[row : row + rows] += self._fold(sums).to(self._totals)

    def _add_runs(self, columns: Tensor, sums: Tensor, runs: list[_Run]) -> None:
        if columns.dtype != sums.dtype and columns.device.type == "cpu" and self._cast is None:
            self._cast = torch.empty_like(self._sums)  # other devices cast on the fly
        for first, stop, buckets in runs:
            part = columns[:, first:stop]
            if part.dtype != sums.dtype and self._cast is not None:
                part = self._cast[: part.shape[0], : stop - first].copy_(part)
            for begin, end, bucket, signs_of in buckets:
                sums[:, bucket : bucket + end - begin].addcmul_(part[:, begin:end], signs_of)

    def _runs(self, count: int) -> list[_Run]:
        """The next columns by blocks of W, and each by runs of neighbouring buckets."""
        drawn = signs(self._column, count, self._seed, self._sums.device).to(self._sums.dtype)
        runs: list[_Run] = []
        first = 0
        while first < count:
            block, within = divmod(self._column + first, BUCKETS)
            stop = min(count, first + BUCKETS - within)
            bucket = (within + _hash(self._seed, -1 - block)) % BUCKETS
            turn = min(stop, first + BUCKETS - bucket)  # the rest starts again at the first bucket
            buckets = [(0, turn - first, bucket, drawn[first:turn])]
            if turn < stop:
                buckets.append((turn - first, stop - first, 0, drawn[turn:stop]))
            runs.append((first, stop, buckets))
            first = stop
        return runs

    def _fold(self, sums: Tensor) -> Tensor:
        """Sums of W buckets folded to those that are kept, in place."""
        width = BUCKETS
        while width > self._dims:
            width //= 2
            shift = _hash(self._seed, width) % width
            lower, upper = sums[:, :width], sums[:, width : 2 * width]
            lower[:, shift:] += upper[:, : width - shift]
            lower[:, :shift] += upper[:, width - shift :]
        return sums[:, :width]


@default_numerics()
def sketch(gains: Any, dims: int = 4096, seed: int = 0) -> Sketch:
    """Sketch of gains, whole or in column blocks.

    Args:
        gains: Gain vectors γ, shape (layer, hidden), or what else :func:`~gammatorch.analyze` takes but batches.
        dims: Buckets, a power of two from 32 to 65,536; the error of a cosine c is about (1 − c²)/√dims.
        seed: Seed of signs and shifts.

    Returns:
        Their sketch.

    Raises:
        InvalidArgument: ``dims`` is no power of two up to 65,536.

    Example:
        >>> sketch(torch.ones(2, 8), dims=64).drift(sketch(2 * torch.ones(2, 8), dims=64))
        (tensor([1., 1.], dtype=torch.float64), tensor([0.1250, 0.1250], dtype=torch.float64))
    """
    given = as_gains(gains)
    values = given.gamma if isinstance(given, Gains) else given
    layers, hidden = values.shape
    sketcher = Sketcher(layers, hidden, dims, seed, values.device, values.dtype)
    for block in values.blocks() if isinstance(values, WideGains) else [values]:
        sketcher.add(block)
    return sketcher.finish()


def signs(first: int, count: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Signs ±1 of a run of columns: bit j mod 64 of SplitMix64 of j div 64 (Steele, Lea and Flood 2014).

    Args:
        first: Index of the first column.
        count: Number of columns.
        seed: Seed.
        device: Where to.

    Returns:
        Shape (column), float32.

    Example:
        >>> signs(0, 4, seed=0).tolist() == signs(0, 9, seed=0).tolist()[:4]
        True
    """
    state = torch.arange(first // 64, (first + count + 63) // 64, dtype=torch.int64, device=device)
    state = state * _signed(_STEP) + _signed(_hash(seed, 0))
    for shift, factor in zip((30, 27), _MIX, strict=True):
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    state = state ^ _shifted(state, 31)
    values = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device)
    of_byte = 1 - 2 * (values & 1).to(torch.float32)  # a table for eight columns at a time, lowest bit first
    return of_byte.index_select(0, state.view(torch.uint8).int()).view(-1)[first % 64 :][:count]


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
