"""What a reader of a format hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        settings: What the trainer that wrote them has kept of its settings, in its own words.
        missing: What the files say of other parts of the model that are not among them, and what to do; None where they
            are the whole.
        metadata: What the headers say of the files, as safetensors' ``__metadata__``.
    """

    tables: list[dict[str, TensorEntry]]
    source: ByteSource
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    missing: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
