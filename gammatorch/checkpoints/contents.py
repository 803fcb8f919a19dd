"""What a reader of a format hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gammatorch.checkpoints.base import ByteSource, TensorEntry


@dataclass(frozen=True)
class Contents:
    """The headers of a checkpoint's files.

    Attributes:
        tables: For each file its tensors by key.
        source: Where to read the tensors from.
        config: What the files themselves say of the model, in config.json's words; None where they do not.
        notes: What a reader of the results should know.
    """

    tables: list[dict[str, TensorEntry]]
    source: ByteSource
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
