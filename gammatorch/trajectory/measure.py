"""The checkpoints of one training run in the order of their steps, measured while they stream by.

Of each checkpoint some 64 kilobytes are kept: what its rows hash to, and a projection of its gains, from which the
distances between any two of them follow. The gains of no more than three are in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gammatorch.analysis.projection import signs

POINT_DIMS = 16384
"""Numbers kept of each checkpoint: distances over all layers err by 1/√(2 · 16384), 0.6 %."""

ROW_DIMS = 64
"""Numbers kept of each row at least, however many layers there are."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One checkpoint of a training run.

    Attributes:
        label: What it is called.
        step: Training step.
        stored: Gains as stored, or the sketch of wide ones, shape (layer, hidden).
        offset: γ = offset + stored.
        digest: Hash of all its gains as stored.
        files: What tells its weight files from any others; None where that is not known.
    """

    label: str
    step: int
    stored: Tensor = field(repr=False)
    offset: float = 0.0
    digest: str = ""
    files: str | None = None

    def gamma(self) -> Tensor:
        """The gains γ, float64, shape (layer, hidden)."""
        return self.stored.to(torch.float64) + self.offset


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What is kept of a training run of n checkpoints.

    Attributes:
        labels: Names of the checkpoints.
        steps: Their steps, ascending.
        layers: Layer index of each row.
        hidden: Width of the gains.
        coarse: Whether they are stored in 16 bits or fewer, which round small steps away.
        digests: Hash of all gains of each checkpoint.
        files: Identity of the weight files of each; None where it is not known.
        rows: 64-bit hash of each row, shape (n, layer).
        norms: ‖γ‖, shape (n, layer).
        grain: ‖γ‖ times the spacing of the stored type: what rounding may move a row by, shape (n, layer).
        points: Projection of γ minus the gains of the last checkpoint, shape (n, layer, dim).
        ones: Projection of a row of ones, shape (dim).
        pearson_last: Correlation with the last checkpoint, mean over layers, shape (n); NaN where undefined.
        pearson_previous: The same with the checkpoint before; NaN for the first.
        drift: ‖γ − γ'‖ / ‖γ'‖ from γ', the checkpoint before, mean over layers, shape (n); NaN for the first.
        shift: Mean over channels of γ − γ', shape (n, layer); NaN for the first.
        spread: Standard deviation over channels of γ − γ', shape (n, layer); NaN for the first.
    """

    labels: tuple[str, ...]
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    hidden: int
    coarse: bool
    digests: tuple[str, ...]
    files: tuple[str | None, ...]
    rows: Tensor
    norms: Tensor
    grain: Tensor
    points: Tensor
    ones: Tensor
    pearson_last: Tensor
    pearson_previous: Tensor
    drift: Tensor
    shift: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def trace(snapshots: Iterable[Snapshot], last: Snapshot, layers: tuple[int, ...]) -> Trajectory:
    """Measure a training run.

    Cost: some ten passes over the gains of each checkpoint.

    Args:
        snapshots: Its checkpoints by ascending step, the last one included; all of one shape, without NaN.
        last: The last of them.
        layers: Layer index of each row.

    Example:
        >>> run = [Snapshot(f"step{n}", n, torch.tensor([[1.0, 2.0], [3.0, 3.0 + n]])) for n in range(3)]
        >>> trajectory = trace(run, run[-1], layers=(0, 1))
        >>> trajectory.steps, trajectory.shift.tolist()[1:]
        ((0, 1, 2), [[0.0, 0.5], [0.0, 0.5]])
        >>> round(float(trajectory.drift[1]), 3)
        0.118
    """
    reference = last.gamma()
    project, final = _Projection(*reference.shape), _centred(reference)
    measured: list[dict[str, Tensor]] = []
    seen: list[Snapshot] = []
    before: Tensor | None = None
    for snapshot in snapshots:
        gamma = snapshot.gamma()
        norms = torch.linalg.vector_norm(gamma, dim=-1)
        one = {
            "rows": _row_hashes(snapshot.stored),
            "norms": norms,
            "grain": norms * torch.finfo(snapshot.stored.dtype).eps,
            "points": project(gamma - reference),
            "pearson_last": _mean_pearson(_centred(gamma), final),
        }
        measured.append(one | _from_before(gamma, torch.full_like(gamma, torch.nan) if before is None else before))
        seen.append(Snapshot(snapshot.label, snapshot.step, torch.empty(0), 0.0, snapshot.digest, snapshot.files))
        before = gamma
    return Trajectory(
        labels=tuple(one.label for one in seen),
        steps=tuple(one.step for one in seen),
        layers=layers,
        hidden=reference.shape[1],
        coarse=last.stored.element_size() <= 2,
        digests=tuple(one.digest for one in seen),
        files=tuple(one.files for one in seen),
        ones=project(torch.ones(1, reference.shape[1], dtype=torch.float64))[0],
        **{name: torch.stack([one[name] for one in measured]) for name in measured[0]},
    )


def _from_before(gamma: Tensor, before: Tensor) -> dict[str, Tensor]:
    """How far the gains lie from those of the checkpoint before."""
    difference = gamma - before
    length = torch.linalg.vector_norm(before, dim=-1)
    moved = torch.linalg.vector_norm(difference, dim=-1) / torch.where(length > 0, length, torch.nan)
    return {
        "pearson_previous": _mean_pearson(_centred(gamma), _centred(before)),
        "drift": moved.nanmean(),
        "shift": difference.mean(dim=-1),
        "spread": difference.std(dim=-1, correction=0),
    }


class _Projection:
    """Signs and folding: each number is the sum of channels at even distances, each with a sign of its own.

    Distances keep their expectation under signs that are drawn evenly; the pull of a channel that stands out is
    exact, since it is alone among small ones. Rows that are narrow enough are kept as they are.
    """

    def __init__(self, layers: int, hidden: int) -> None:
        self._dims = max(ROW_DIMS, -(-POINT_DIMS // layers))
        self._exact = hidden <= self._dims
        self._signs = signs(0, hidden, seed=0)
        self._padding = -hidden % self._dims

    def __call__(self, rows: Tensor) -> Tensor:
        """Projection of rows, shape (layer, hidden) to (layer, dim), float32."""
        if not self._exact:
            signed = torch.nn.functional.pad(rows * self._signs, (0, self._padding))
            rows = signed.reshape(len(rows), -1, self._dims).sum(dim=-2)
        return rows.to(torch.float32)


def _row_hashes(stored: Tensor) -> Tensor:
    """64-bit hash of each row's bytes."""
    raw = stored.contiguous().view(torch.uint8).numpy()
    digests = [hashlib.blake2b(row, digest_size=8).digest() for row in raw]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests])


def _centred(gamma: Tensor) -> Tensor:
    """Rows minus their mean, of unit length; NaN where they are constant."""
    centred = gamma - gamma.mean(dim=-1, keepdim=True)
    lengths = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    constant = lengths <= 1e-12 * torch.linalg.vector_norm(gamma, dim=-1, keepdim=True)
    return torch.where(constant, torch.nan, centred / lengths)


def _mean_pearson(one: Tensor, other: Tensor) -> Tensor:
    """Mean over layers of the correlation of two lots of centred rows."""
    mean: Tensor = torch.linalg.vecdot(one, other).clamp(-1, 1).nanmean()
    return mean
