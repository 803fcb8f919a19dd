"""The original script's arithmetic in NumPy float64, step by step and slow: what our results are held against.

Imports nothing of the rest of the package, so that a mistake there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def analyze(gains: npt.ArrayLike, phases: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
    """Every figure of the analysis, by its JSON name.

    Args:
        gains: Gain vectors γ, shape (layer, hidden).
        phases: Row numbers of each phase.

    Returns:
        Arrays: ``norms, cosine, cos_adjacent, singular_values, explained_var, proj_top1, residual_top1, pearson,
        cos_ones, shared_projection``; ``shared_energy``; ``phases`` as a list of dicts. The sign of an axis makes
        the entry of its left vector that is largest in magnitude positive.

    Example:
        >>> analyze([[3.0, 4.0], [4.0, 3.0]])["norms"]
        array([5., 5.])
    """
    x: Array = np.asarray(gains, dtype=np.float64)
    norms = np.sqrt((x * x).sum(axis=1))
    units = x / norms[:, None]
    cosine = units @ units.T
    left, singular_values, right = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    proj_top1 = units @ right[0] * _sign(left[:, 0])
    left_all, shared_values, right_all = np.linalg.svd(units, full_matrices=False)
    shared_projection = units @ right_all[0] * _sign(left_all[:, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        explained_var = singular_values**2 / (singular_values**2).sum()
        pearson = np.atleast_2d(np.corrcoef(x))
    return {
        "norms": norms,
        "cosine": cosine,
        "cos_adjacent": np.diagonal(cosine, 1),
        "singular_values": singular_values,
        "explained_var": explained_var,
        "proj_top1": proj_top1,
        "residual_top1": np.sqrt(np.maximum(1 - proj_top1**2, 0)),
        "pearson": pearson,
        "cos_ones": units.sum(axis=1) / np.sqrt(x.shape[1]),
        "shared_energy": float(shared_values[0] ** 2 / len(x)),
        "shared_projection": shared_projection,
        "phases": [_phase(name, list(rows), norms, units) for name, rows in (phases or {}).items()],
    }


def _sign(left: Array) -> float:
    """Makes the entry of largest magnitude positive, the first of those within 1e-6 of it."""
    size = np.abs(left)
    return float(np.sign(left[np.argmax(size >= size.max() * (1 - 1e-6))]))


def _phase(name: str, rows: list[int], norms: Array, units: Array) -> dict[str, Any]:
    others = [row for row in range(len(units)) if row not in rows]
    inside = units[rows] @ units[rows].T
    pairs = inside[np.triu_indices(len(rows), k=1)]
    return {
        "name": name,
        "n": len(rows),
        "norm_mean": float(norms[rows].mean()),
        "norm_std": float(norms[rows].std()),
        "intra_cos": float(pairs.mean()) if len(pairs) else None,
        "vs_other_cos": float((units[rows] @ units[others].T).mean()) if others else None,
    }
