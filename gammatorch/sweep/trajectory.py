"""The checkpoints of one training run in the order of their steps, measured while they stream by.

Of each checkpoint 64 kilobytes are kept: what its rows hash to, how many entries changed since the one before, and
a projection of its gains, from which distances between any two of them follow. The gains of no more than three are in
memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gammatorch.analysis.projection import signs

POINT_DIMS, ROW_DIMS = 16384, 64
"""Numbers kept of each checkpoint, and of each row at least: distances over all layers err by 1/√(2 · 16384), 0.6 %.
The order of noisy checkpoints shows in proportion to its root; up to 21 layers of 768 channels are kept as they are."""


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
        digests: Hash of all gains of each checkpoint.
        files: Identity of the weight files of each; None where it is not known.
        rows: 64-bit hash of each row, shape (n, layer).
        constant: Rows of equal entries, as training begins with, shape (n, layer).
        norms: ‖γ‖, shape (n, layer).
        grain: ‖γ‖ times the spacing of the stored type: what rounding may move a row by, shape (n, layer).
        changed: Entries that differ from the checkpoint before, shape (n - 1, layer).
        shift: Mean over channels of the difference from the checkpoint before, shape (n - 1, layer).
        spread: Standard deviation of that difference, shape (n - 1, layer).
        points: Projection of γ less the gains of the last checkpoint, shape (n, layer, dim).
        ones: Projection of a row of ones, shape (dim).
        pearson_previous: Correlation with the checkpoint before, mean over layers, shape (n); NaN where undefined.
        pearson_last: Correlation with the last one.
        drift: ‖γ − γ'‖ / ‖γ'‖ from γ', the checkpoint before, mean over layers; NaN for the first.
    """

    labels: tuple[str, ...]
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    hidden: int
    digests: tuple[str, ...]
    files: tuple[str | None, ...]
    rows: Tensor
    constant: Tensor
    norms: Tensor
    grain: Tensor
    changed: Tensor
    shift: Tensor
    spread: Tensor
    points: Tensor
    ones: Tensor
    pearson_previous: Tensor
    pearson_last: Tensor
    drift: Tensor

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
        >>> trajectory.changed.tolist(), trajectory.constant.tolist()[0]
        ([[0, 1], [0, 1]], [False, True])
        >>> round(float(trajectory.drift[1]), 3)
        0.118
    """
    reference = last.gamma()
    project = _Projection(*reference.shape)
    final = _centred(reference)
    kept: dict[str, list[Tensor]] = {name: [] for name in _BY_ITEM + _BY_PAIR}
    seen: list[Snapshot] = []
    before: tuple[Snapshot, Tensor, Tensor] | None = None
    for snapshot in snapshots:
        gamma = snapshot.gamma()
        centred = _centred(gamma)
        norms = torch.linalg.vector_norm(gamma, dim=-1)
        kept["rows"].append(_row_hashes(snapshot.stored))
        kept["constant"].append((snapshot.stored == snapshot.stored[:, :1]).all(dim=-1))
        kept["norms"].append(norms)
        kept["grain"].append(norms * torch.finfo(snapshot.stored.dtype).eps)
        kept["points"].append(project(gamma - reference))
        kept["pearson_last"].append(_mean_pearson(centred, final))
        if before is not None:
            earlier, gamma_before, centred_before = before
            difference = gamma - gamma_before
            kept["changed"].append((snapshot.stored != earlier.stored).sum(dim=-1))
            kept["shift"].append(difference.mean(dim=-1))
            kept["spread"].append(difference.std(dim=-1, correction=0))
            kept["pearson_previous"].append(_mean_pearson(centred, centred_before))
            length = kept["norms"][-2]
            moved = torch.linalg.vector_norm(difference, dim=-1) / torch.where(length > 0, length, torch.nan)
            kept["drift"].append(moved.nanmean())
        seen.append(Snapshot(snapshot.label, snapshot.step, torch.empty(0), 0.0, snapshot.digest, snapshot.files))
        before = snapshot, gamma, centred
    count, empty = len(layers), torch.zeros(0, dtype=torch.float64)
    stacked = {name: torch.stack(values) if values else empty.reshape(0, count) for name, values in kept.items()}
    for name in ("pearson_previous", "drift"):
        stacked[name] = torch.cat([torch.full((1,), torch.nan, dtype=torch.float64), stacked[name].reshape(-1)])
    return Trajectory(
        labels=tuple(one.label for one in seen),
        steps=tuple(one.step for one in seen),
        layers=layers,
        hidden=reference.shape[1],
        digests=tuple(one.digest for one in seen),
        files=tuple(one.files for one in seen),
        ones=project(torch.ones(1, reference.shape[1], dtype=torch.float64))[0],
        **stacked,
    )


_BY_ITEM = ["rows", "constant", "norms", "grain", "points", "pearson_last"]
_BY_PAIR = ["changed", "shift", "spread", "pearson_previous", "drift"]


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
    raw = stored.contiguous().view(torch.uint8).numpy()
    digests = [hashlib.blake2b(row, digest_size=8).digest() for row in raw]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests])


def _centred(gamma: Tensor) -> Tensor:
    """Rows less their mean, of unit length; NaN where they are constant."""
    centred = gamma - gamma.mean(dim=-1, keepdim=True)
    lengths = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    constant = lengths <= 1e-12 * torch.linalg.vector_norm(gamma, dim=-1, keepdim=True)
    return torch.where(constant, torch.nan, centred / lengths)


def _mean_pearson(one: Tensor, other: Tensor) -> Tensor:
    mean: Tensor = torch.linalg.vecdot(one, other).clamp(-1, 1).nanmean()
    return mean
