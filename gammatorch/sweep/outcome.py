"""What became of an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gammatorch.results.sweep import Failure

__all__ = ["Failure", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What became of one item in this run; what it holds is in the store.

    Attributes:
        key: Of the item.
        status: ``"done"``; ``"present"``: another process had done it; ``"failed"``.
        bytes_read: Bytes moved for it.
        failure: Why it failed.
    """

    key: str
    status: Literal["done", "present", "failed"]
    bytes_read: int = 0
    failure: Failure | None = None
