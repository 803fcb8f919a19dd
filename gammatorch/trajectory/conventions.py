"""Checkpoints that store w where the others of their training run store 1 + w, or the other way round."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from gammatorch.trajectory.finding import Finding, listed
from gammatorch.trajectory.measure import Trajectory

_NEAR = 0.1
"""A change of convention moves the mean over channels by 1 to within so much, in the median layer."""

_SPREAD = 0.1
"""Standard deviation over channels that it stays below, for gains that grow do so each by its own share."""


def find_conventions(run: Trajectory) -> tuple[list[Finding], Tensor]:
    """Checkpoints whose gains differ by 1 everywhere from those of most others.

    Args:
        run: The training run.

    Returns:
        What to tell, and the points with the differing convention taken back, shape (n, layer, dim).
    """
    shift, spread = (values.median(dim=-1).values for values in (run.shift, run.spread))
    moves = torch.where((shift.abs() - 1).abs().lt(_NEAR) & (spread < _SPREAD), shift.sign(), 0)
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
