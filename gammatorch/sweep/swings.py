"""Directions in which a training run goes to and fro, as gains do with the learning rate, and the run without them.

In few directions checkpoints come to lie in each other's places by chance, or with the rate, and nothing can be told of
their order; in all others the run may go on as steadily as any.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gammatorch.sweep.course import ROWS, gram, usual_steps

_STANDS_OUT, _PERSISTENT, _LONG = 10.0, 0.35, 3.0
"""A direction that swings has so many times the variance of most, also without its longest steps; and a step along it
has no more than such a correlation with the next, those aside that are so many times as long as most, as the ones
beside an exchange are. Steps of drift have 0.9, and the directions of noise do not stand out."""

_FEWEST = 24
"""Checkpoints from which on directions can be told from chance."""


def without_swings(path: Tensor, grain: Tensor) -> Tensor | None:
    """Points without the few directions in which they go to and fro, in place for they are many.

    Those are principal axes of the steps.

    Args:
        path: Checkpoints in their order, shape (n, layer, dim).
        grain: What rounding may move each layer by, shape (layer).

    Returns:
        The points; None where there are no such directions, or nothing else but rounding.
    """
    if len(path) < _FEWEST:
        return None
    flat = path.flatten(1)
    squares, parts = torch.linalg.eigh(gram(flat).diff(dim=0).diff(dim=1))  # products of the steps
    usual = squares.clamp(min=0).median()
    along = parts * squares.clamp(min=0).sqrt()
    chosen = [at for at in range(len(squares)) if squares[at] > _STANDS_OUT * usual and _swings(along[:, at], usual)]
    if not chosen:
        return None
    weights = -torch.nn.functional.pad(parts[:, chosen] / squares[chosen].sqrt(), (0, 0, 1, 1)).diff(dim=0)
    few_by_few = zip(torch.split(flat, ROWS), torch.split(weights, ROWS), strict=True)
    axes = torch.stack([points.double().T @ of_points for points, of_points in few_by_few]).sum(dim=0)
    rounding = torch.maximum(grain, torch.finfo(path.dtype).eps * torch.linalg.vector_norm(path, dim=-1).amax(dim=0))
    for few in torch.split(flat, ROWS):
        few -= (few.double() @ axes) @ axes.T
    return path if bool((usual_steps(path) > rounding).double().mean() > 0.5) else None


def _swings(steps: Tensor, usual: Tensor) -> bool:
    """Whether steps along an axis do not go on in their direction, single long ones aside, and are many."""
    short = torch.where(steps.abs() <= _LONG * steps.abs().median(), steps, 0)
    persistence = (short[1:] @ short[:-1]) / short.square().sum()
    many = steps.square().sort().values[: -max(4, len(steps) // 10)]
    return bool(persistence < _PERSISTENT and many.sum() > _STANDS_OUT * usual)
