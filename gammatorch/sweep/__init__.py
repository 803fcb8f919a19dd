"""SWEEP: many checkpoints and revisions, each into one immutable file: plan → store → engines → run.

The package can be called: ``gammatorch.sweep(specs, out)`` is :func:`gammatorch.sweep.api.sweep`, since a function of
the same name would hide the modules in here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gammatorch.sweep.api import Sweep


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Sweep:
        """As :func:`gammatorch.sweep.api.sweep`."""
        from gammatorch.sweep.api import sweep

        return sweep(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
