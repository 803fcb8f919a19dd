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
    from gammatorch.analysis.check import check
    from gammatorch.analysis.checkup import Audit
    from gammatorch.analysis.figures import Statistics
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
    from gammatorch.pages import report
    from gammatorch.reports.fingerprint import load_sketch, save_sketch
    from gammatorch.sweep.api import Sweep, SweepItem, read_sweep, sweep

__all__ = [
    "Analysis",
    "Audit",
    "Checkpoint",
    "Comparison",
    "Gains",
    "GammatorchError",
    "SiteNotFound",
    "Sketch",
    "Statistics",
    "Sweep",
    "SweepItem",
    "WideGains",
    "analyze",
    "check",
    "compare",
    "errors",
    "find_stacks",
    "load_sketch",
    "open_checkpoint",
    "read_gains",
    "read_sweep",
    "report",
    "save_sketch",
    "scan_gains",
    "sketch",
    "sweep",
]

_HOMES = {
    "Analysis": "gammatorch.analysis.result",
    "Audit": "gammatorch.analysis.checkup",
    "Checkpoint": "gammatorch.checkpoints.base",
    "Comparison": "gammatorch.analysis.lineage",
    "Gains": "gammatorch.gains.stack",
    "GammatorchError": "gammatorch.errors",
    "SiteNotFound": "gammatorch.errors",
    "Sketch": "gammatorch.analysis.projection",
    "Statistics": "gammatorch.analysis.figures",
    "Sweep": "gammatorch.sweep.api",
    "SweepItem": "gammatorch.sweep.api",
    "WideGains": "gammatorch.gains.wide",
    "analyze": "gammatorch.analysis.analyze",
    "check": "gammatorch.analysis.check",
    "compare": "gammatorch.analysis.lineage",
    "find_stacks": "gammatorch.architectures.stacks",
    "load_sketch": "gammatorch.reports.fingerprint",
    "open_checkpoint": "gammatorch.checkpoints.opening",
    "read_gains": "gammatorch.gains.stream",
    "read_sweep": "gammatorch.sweep.api",
    "report": "gammatorch.pages",
    "save_sketch": "gammatorch.reports.fingerprint",
    "scan_gains": "gammatorch.gains.wide",
    "sketch": "gammatorch.analysis.projection",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("gammatorch.errors")
    if name == "sweep":  # the package itself, which can be called
        return importlib.import_module("gammatorch.sweep")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
