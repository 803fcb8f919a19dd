"""Read the norm gains γ of every layer out of any model checkpoint, without loading the model.

>>> import gammatorch
>>> gains = gammatorch.read_gains("Qwen/Qwen3-32B", site="input")      # doctest: +SKIP
>>> gammatorch.analyze(gains).cosine                                    # doctest: +SKIP

The names below are the public API; they are imported when first used, so that ``import gammatorch`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gammatorch.version import __version__ as __version__

if TYPE_CHECKING:
    from gammatorch.analysis.analyze import analyze
    from gammatorch.analysis.lineage import Comparison, compare
    from gammatorch.analysis.projection import Sketch, sketch
    from gammatorch.analysis.result import Analysis
    from gammatorch.architectures.stacks import find_stacks
    from gammatorch.checkpoints.base import Checkpoint
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.errors import GammatorchError, SiteNotFound
    from gammatorch.gains.stack import Gains
    from gammatorch.gains.stream import read_gains
    from gammatorch.gains.wide import WideGains, scan_gains
    from gammatorch.reports.fingerprint import load_sketch, save_sketch

__all__ = [
    "Analysis",
    "Checkpoint",
    "Comparison",
    "Gains",
    "GammatorchError",
    "SiteNotFound",
    "Sketch",
    "WideGains",
    "analyze",
    "compare",
    "errors",
    "find_stacks",
    "load_sketch",
    "open_checkpoint",
    "read_gains",
    "save_sketch",
    "scan_gains",
    "sketch",
]

_HOMES = {
    "Analysis": "gammatorch.analysis.result",
    "Checkpoint": "gammatorch.checkpoints.base",
    "Comparison": "gammatorch.analysis.lineage",
    "Gains": "gammatorch.gains.stack",
    "GammatorchError": "gammatorch.errors",
    "SiteNotFound": "gammatorch.errors",
    "Sketch": "gammatorch.analysis.projection",
    "WideGains": "gammatorch.gains.wide",
    "analyze": "gammatorch.analysis.analyze",
    "compare": "gammatorch.analysis.lineage",
    "find_stacks": "gammatorch.architectures.stacks",
    "load_sketch": "gammatorch.reports.fingerprint",
    "open_checkpoint": "gammatorch.checkpoints.opening",
    "read_gains": "gammatorch.gains.stream",
    "save_sketch": "gammatorch.reports.fingerprint",
    "scan_gains": "gammatorch.gains.wide",
    "sketch": "gammatorch.analysis.projection",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("gammatorch.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
