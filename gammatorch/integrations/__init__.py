"""Where other programs call this package. Names are imported when first used, as what they need is heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gammatorch.integrations.callback import GainsCallback

__all__ = ["GainsCallback"]


def __getattr__(name: str) -> object:
    if name != "GainsCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gammatorch.integrations.callback import GainsCallback

    return GainsCallback
