"""Result files, made once, and a copy for each test."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch

import gammatorch
from gammatorch.bench.worlds import draw
from gammatorch.reports.document import to_json


@pytest.fixture(scope="session")
def analysed() -> dict[str, Any]:
    """A result with phases and one odd layer, as it comes back from its file."""
    gains = torch.from_numpy(draw("phases", 0, 24, 512))
    gains[0] = torch.exp(0.3 * torch.randn(512, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    return json.loads(to_json(gammatorch.analyze(gains).to_dict()))


@pytest.fixture
def document(analysed) -> dict[str, Any]:
    return copy.deepcopy(analysed)
