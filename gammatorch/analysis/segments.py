"""Phases from the data: runs of layers between which the direction jumps rather than drifts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gammatorch.analysis.alternation import largest_kind
from gammatorch.analysis.correlations import Correlations, over_rows
from gammatorch.analysis.intervals import FEWEST_BLOCKS, standard_error, student_t
from gammatorch.analysis.odd import SHORTEST

MOST_PHASES = 12

SMALLEST_JUMP = 0.05
"""Correlation that must be lost at a boundary, beyond what the distance alone costs."""

STEPS = 3
"""A jump is larger than this many ordinary steps from layer to layer beside it."""


@dataclass(frozen=True)
class Boundary:
    """A jump of the direction from one layer to the next.

    Attributes:
        layer: The first layer after it.
        jump: Correlation lost across it, beyond what the distance alone costs.
        error: Its standard error over channels.
    """

    layer: int
    jump: float
    error: float


def boundaries(correlations: Correlations) -> list[list[Boundary] | None]:
    """Where every phase but the first begins; nowhere where the direction drifts, or stays.

    For every number of phases K the layers are cut so that Σ over phases of n − (1/n) Σ pearson is least, the scatter
    of the standardised gains about their phase's mean: exactly, by dynamic programming over all cuts (Fisher 1958;
    on a matrix of similarities Harchaoui and Cappé 2007). K is the largest number of which every boundary is a jump:
    the correlation lost across it, against pairs **equally far apart** on that side of it where they are less alike,
    exceeds 0.05, three times the loss per layer beside it, and the jackknife error of the channels by a factor that
    holds for all boundaries at once (95 %, Bonferroni). So a smooth drift, whose cost falls with K as well, has no
    phases, nor does a single odd layer make one.

    Where kinds of layers alternate (:func:`~gammatorch.analysis.alternation.period`), those of another kind hide the
    jumps, so the layers of the largest kind are looked at alone as well, and what shows more phases counts. Distances
    there count in layers of the kind; one layer more between two of them costs one step, of which a jump takes three. A
    layer of another kind at a boundary goes to the side on which the next layer of its kind is more like it.

    Args:
        correlations: Of one checkpoint or several.

    Returns:
        For each checkpoint its boundaries in the order of depth; None where it cannot be told: fewer than six layers
        whose gains vary, or fewer than eight channels. Layers of constant gain are passed over. Phases shorter than
        three layers are not seen.

    Example:
        >>> from gammatorch.analysis.gram import moments
        >>> directions = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
        >>> (found,) = boundaries(Correlations(moments(directions.repeat_interleave(6, dim=0)), tuple(range(12))))
        >>> [one.layer for one in found]
        [6]
    """
    return over_rows(_whole_or_by_kind, correlations, correlations.varied)


def _whole_or_by_kind(correlations: Correlations) -> list[list[Boundary] | None]:
    whole = _boundaries(correlations)
    if whole is None:
        return [None] * len(correlations.norms)
    found: list[list[Boundary] | None] = []
    for checkpoint, (starts, every) in enumerate(zip(whole, correlations.period["period"], strict=True)):
        if every is None:
            found.append(starts)
        else:
            of_kind = _of_largest_kind(correlations.only(torch.tensor([checkpoint])), every)
            found.append(max(starts, of_kind, key=len))
    return found


def _of_largest_kind(one: Correlations, every: int) -> list[Boundary]:
    """The boundaries that the layers of the largest kind show, of one checkpoint."""
    rows = largest_kind(one.filled[0], every)
    (found,) = _boundaries(one.only(torch.tensor([0]), torch.tensor(rows))) or [[]]
    around = (rows[rows.index(one.layers.index(start.layer)) - 1 :][:2] for start in found)
    firsts = (one.layers[_first_of_phase(one.filled[0], every, *pair)] for pair in around)
    return [replace(start, layer=first) for start, first in zip(found, firsts, strict=True)]


def _first_of_phase(pearson: Tensor, every: int, before: int, start: int) -> int:
    """The first row after ``before`` from which on all rows up to ``start`` are more like what comes after them."""
    while start - 1 > before and every <= start - 1 < len(pearson) - every:
        row = start - 1
        if pearson[row, row + every] <= pearson[row, row - every]:
            break
        start = row
    return start


def _boundaries(correlations: Correlations) -> list[list[Boundary]] | None:
    """Those of each checkpoint; None for too few layers or channels."""
    layers, checkpoints = len(correlations.layers), len(correlations.norms)
    if layers < 2 * SHORTEST or correlations.without.shape[1] < FEWEST_BLOCKS:
        return None
    real, jump, error = _jumps(correlations)
    if not bool(real.any()):
        return [[] for _ in range(checkpoints)]
    chosen = torch.zeros_like(real)
    for cuts in _best_cuts(_scatter(correlations.filled)):
        all_real = real.gather(1, cuts).all(dim=1, keepdim=True)
        chosen = torch.where(all_real, torch.zeros_like(chosen).scatter(1, cuts, True), chosen)
    return [
        [
            Boundary(correlations.layers[row], float(jump[checkpoint, row]), float(error[checkpoint, row]))
            for row in chosen[checkpoint].nonzero()[:, 0].tolist()
        ]
        for checkpoint in range(checkpoints)
    ]


def _scatter(pearson: Tensor) -> Tensor:
    """Cost of one phase from row a up to, but without, row b: shape (checkpoint, a, b); infinite if too short."""
    layers = pearson.shape[-1]
    corner = torch.nn.functional.pad(pearson.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    diagonal = corner.diagonal(dim1=-2, dim2=-1)
    inside = diagonal[:, None, :] + diagonal[:, :, None] - corner - corner.mT
    edge = torch.arange(layers + 1, device=pearson.device, dtype=pearson.dtype)
    length = edge - edge[:, None]
    return torch.where(length >= SHORTEST, length - inside / length.clamp(min=1), torch.inf)


def _best_cuts(scatter: Tensor) -> list[Tensor]:
    """The best partition into 2, 3, … phases: first rows of all but the first phase, shape (checkpoint, K - 1)."""
    layers = scatter.shape[-1] - 1
    cost, origins, cuts = scatter[:, 0], [], []
    for _ in range(2, min(MOST_PHASES, layers // SHORTEST) + 1):
        cost, origin = (cost[:, :, None] + scatter).min(dim=1)
        origins.append(origin)
        end = torch.full_like(origin[:, :1], layers)
        path = []
        for step in reversed(origins):
            end = step.gather(1, end)
            path.append(end)
        cuts.append(torch.cat(path[::-1], dim=1))
    return cuts


def _jumps(correlations: Correlations) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows begin with a jump, how large it is, and its standard error: shape (checkpoint, layer)."""
    left, right, across = _window_means(correlations.filled)
    left_is_less = left.mean(dim=0) <= right.mean(dim=0)
    inside = torch.where(left_is_less, left, right)
    jump = inside.mean(dim=0) - across.mean(dim=0)
    step = (inside[0] - inside[1]).clamp(min=0)
    others = _window_means(correlations.without)
    jump_without = torch.where(left_is_less[:, None], others[0], others[1]).mean(dim=0) - others[2].mean(dim=0)
    places, blocks = jump.shape[-1], jump_without.shape[1]
    error = standard_error(jump_without.transpose(1, 2))
    sure = student_t(1 - 0.025 / places, blocks - 1) * error
    real = (jump > SMALLEST_JUMP) & (jump > STEPS * step) & (jump > sure)
    padded = (torch.nn.functional.pad(of, (SHORTEST, SHORTEST - 1)) for of in (real, jump, error))
    return next(padded), next(padded), next(padded)


def _window_means(pearson: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean correlation at lags 1 and 2 among the three rows before each boundary, the three after, and across.

    Boundaries stand before rows 3 … L − 3; shapes (lag, …, boundary).
    """
    one, two = pearson.diagonal(1, -2, -1), pearson.diagonal(2, -2, -1)
    count = pearson.shape[-1] - 2 * SHORTEST + 1
    ones = [one[..., start : start + count] for start in range(5)]
    twos = [two[..., start : start + count] for start in range(4)]
    left = torch.stack([(ones[0] + ones[1]) / 2, twos[0]])
    right = torch.stack([(ones[3] + ones[4]) / 2, twos[3]])
    return left, right, torch.stack([ones[2], (twos[1] + twos[2]) / 2])
