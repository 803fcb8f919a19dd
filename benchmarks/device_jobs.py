"""What gammatorch has a device do, for those who count or time it: gains that are there already, and wide ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import gammatorch
from gammatorch.bench.worlds import draw

LAYERS, HIDDEN, TOGETHER = 64, 5_120, 16
WIDE = 300_000
PATTERN = "layers.{layer}.weight"


def gains(seed: int = 0) -> Tensor:
    """Gains that drift over layers, float64."""
    return torch.from_numpy(draw("drift", seed, LAYERS, HIDDEN))


def wide_gains(columns: int = WIDE) -> Tensor:
    """Wide ones, as bfloat16."""
    seeded = torch.Generator().manual_seed(0)
    shared = torch.randn(columns, generator=seeded)
    rows = [1 + 0.2 * shared + 0.1 * torch.randn(columns, generator=seeded) for _ in range(LAYERS)]
    return torch.stack(rows).bfloat16()


def jobs(device: torch.device | str, columns: int = WIDE) -> dict[str, Callable[[], Any]]:
    """Analyses of gains on a device, each to the JSON document that they end in, and a sketch.

    Args:
        device: Where the gains are.
        columns: Width of the wide ones.
    """
    one, several = gains().to(device), torch.stack([gains(seed) for seed in range(TOGETHER)]).to(device)
    held = {PATTERN.format(layer=layer): row for layer, row in enumerate(wide_gains(columns).to(device))}

    def in_blocks() -> gammatorch.WideGains:
        return gammatorch.scan_gains(held, pattern=PATTERN)

    return {
        "svd": lambda: gammatorch.analyze(one, method="svd").to_dict(),
        "gram": lambda: gammatorch.analyze(one, method="gram").to_dict(),
        f"{TOGETHER} together": lambda: [analysis.to_dict() for analysis in gammatorch.analyze(several)],
        "wide, gram": lambda: gammatorch.analyze(in_blocks(), method="gram").to_dict(),
        "wide, svd": lambda: gammatorch.analyze(in_blocks(), method="svd").to_dict(),
        "wide, sketch": lambda: gammatorch.sketch(in_blocks()),
    }
