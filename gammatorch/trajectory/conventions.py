"""Checkpoints that store w where the others of their training run store 1 + w, or the other way round."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from gammatorch.trajectory.finding import Finding, listed
from gammatorch.trajectory.measure import Trajectory
from gammatorch.trajectory.path import FEWEST, usual_around

_NEAR = 0.1
"""A change of convention moves a layer's mean by 1, to within so much."""

_LAYERS = 0.9
"""Share of the layers in which it shows."""

_SPREAD = 0.2
"""Standard deviation over channels that the change stays below."""

_UNUSUAL = 4.0
"""It also stays below so many times the usual one of the steps around, for gains that grow do so each by its share."""

_NARROW = 0.02
"""Standard deviation that is never too large, however little the steps around spread."""


def find_conventions(run: Trajectory) -> tuple[list[Finding], Tensor]:
    """Checkpoints whose gains differ by 1 everywhere from those of most others.

    Args:
        run: The training run.

    Returns:
        What to tell, and the points with the differing convention taken back, shape (n, layer, dim).
    """
    shift, spread = run.shift[1:], run.spread[1:]
    widest = torch.full_like(spread, _SPREAD)
    if len(run) >= FEWEST:
        usual = usual_around(spread)
        widest = (_UNUSUAL * torch.maximum(usual[:-1], usual[1:])).clamp(_NARROW, _SPREAD)
    moves = torch.zeros(len(run), dtype=torch.float64)
    for sign in (1.0, -1.0):
        near = ((shift - sign).abs() < _NEAR) & (spread < widest)
        moves[1:] += sign * (near.double().mean(dim=-1) >= _LAYERS)
    if not bool(moves.any()):
        return [], run.points
    levels = moves.cumsum(dim=0)
    levels = levels - levels.mode().values
    findings = []
    for level, group in groupby(range(len(run)), key=lambda position: float(levels[position])):
        if level:
            names = tuple(run.labels[position] for position in group)
            stored = "1 + w where the others hold w" if level > 0 else "w where the others hold 1 + w"
            text = f"{listed(names)} hold{'s' if len(names) == 1 else ''} {stored}"
            findings.append(Finding("convention", "anomaly", names, text))
    return findings, run.points - levels[:, None, None].to(run.points.dtype) * run.ones
