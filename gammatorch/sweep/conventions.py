"""Checkpoints that store w where the others of their training run store 1 + w, or the other way round."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from gammatorch.sweep.finding import Finding, listed
from gammatorch.sweep.strays import usual_around
from gammatorch.sweep.trajectory import Trajectory

_NEAR, _SPREAD, _LAYERS = 0.1, 0.2, 0.9
"""A change of convention moves the mean by 1 to within 0.1, spreads by less than 0.2, in nine layers of ten."""

_UNUSUAL, _NARROW, _FEWEST = 4.0, 0.02, 5
"""Gains that grow by as much do so each by its own share: channels spread no more than so many times as much as from
other checkpoints to the next there, or by less than 0.02; from so many checkpoints on."""


def find_conventions(run: Trajectory) -> tuple[list[Finding], Tensor]:
    """Checkpoints whose gains differ by 1 everywhere from those of most others.

    Args:
        run: The training run.

    Returns:
        What to tell, and the points with the differing convention taken back, shape (n, layer, dim).
    """
    moves = torch.zeros(len(run), dtype=torch.float64)
    widest = torch.full_like(run.spread, _SPREAD)
    if len(run) >= _FEWEST:
        usual = usual_around(run.spread)
        widest = (_UNUSUAL * torch.maximum(usual[:-1], usual[1:])).clamp(_NARROW, _SPREAD)
    for sign in (1.0, -1.0):
        near = ((run.shift - sign).abs() < _NEAR) & (run.spread < widest)
        moves[1:] += sign * (near.to(torch.float64).mean(dim=-1) >= _LAYERS)
    levels = moves.cumsum(dim=0)
    if not bool(moves.any()):
        return [], run.points
    levels = levels - levels.mode().values
    findings = []
    for level, group in groupby(range(len(run)), key=lambda position: float(levels[position])):
        positions = list(group)
        if level:
            names = tuple(run.labels[position] for position in positions)
            stored = "1 + w where the others hold w" if level > 0 else "w where the others hold 1 + w"
            verb = "holds" if len(names) == 1 else "hold"
            findings.append(Finding("convention", "anomaly", names, f"{listed(names)} {verb} {stored}"))
    return findings, run.points - levels[:, None, None].to(run.points.dtype) * run.ones
