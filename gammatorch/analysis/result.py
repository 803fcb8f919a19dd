"""What an analysis says, and how it is written down."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gammatorch.analysis.answer import Answer
from gammatorch.analysis.phases import Phase
from gammatorch.analysis.plain import plain
from gammatorch.analysis.projection import Sketch
from gammatorch.gains.stack import Origin
from gammatorch.version import __version__

SCHEMA_VERSION = 2


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the directions of one site's gains say. Attributes bear the names of the JSON keys.

    What is undefined is NaN inside a tensor and None elsewhere, null in JSON: cosines and projections of a zero gain,
    correlations of a constant one. Tensors are on the CPU, wherever the gains were.

    Attributes:
        num_layers: Number of rows, L.
        hidden: Width of the gains, H.
        layers: Layer index of each row.
        norms: Length of each gain, shape (layer).
        cosine: Cosines between layers, shape (layer, layer).
        cos_adjacent: Cosine of each row with the next, shape (layer - 1).
        singular_values: Of the centred units, shape (min(layer, hidden)).
        explained_var: Share of each principal axis in the variance, same shape; None if undefined.
        proj_top1: Projection of each unit on the first principal axis, shape (layer); None if undefined.
        residual_top1: √(1 − proj_top1²), shape (layer); None if undefined.
        phases: Figures of each run of layers.
        statistics: Further tensors and figures by name: those of
            :data:`~gammatorch.analysis.measures.STATISTICS`, ``singular_gap``, ``phase_contrasts``, ``outliers``.
        answer: The verdict, and the sentence that gives its numbers.
        method: How the principal axes were found.
        error_estimate: Estimated largest absolute error of cosines and explained_var.
        device: Where it was computed.
        dtype: In which precision.
        seconds: Time it took.
        gains: Where the gains came from; None for a plain tensor.
        fingerprint: A sketch of the gains, where one was asked for or the method is ``project``.
        notes: What a reader should know, undefined figures among it.
    """

    num_layers: int
    hidden: int
    layers: tuple[int, ...]
    norms: Tensor
    cosine: Tensor
    cos_adjacent: Tensor
    singular_values: Tensor
    explained_var: Tensor | None
    proj_top1: Tensor | None
    residual_top1: Tensor | None
    phases: tuple[Phase, ...]
    statistics: Mapping[str, Any]
    answer: Answer
    method: str
    error_estimate: float
    device: str
    dtype: str
    seconds: float
    gains: Origin | None = field(repr=False)
    fingerprint: Sketch | None = field(repr=False)
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python values, ready for JSON: undefined numbers are None, never NaN."""
        gains = self.gains
        return {
            "schema_version": SCHEMA_VERSION,
            "model": gains.model if gains else None,
            "num_layers": self.num_layers,
            "hidden": self.hidden,
            "layers": list(self.layers),
            "keys": list(gains.keys) if gains else None,
            "stack": gains.stack if gains else None,
            "site": gains.site if gains else None,
            "site_reason": gains.site_reason if gains else None,
            "offset": gains.offset if gains else None,
            "norms": plain(self.norms),
            "proj_top1": plain(self.proj_top1),
            "residual_top1": plain(self.residual_top1),
            "explained_var": plain(self.explained_var),
            "singular_values": plain(self.singular_values),
            "cos_adjacent": plain(self.cos_adjacent),
            "cosine": plain(self.cosine),
            "phases": [dict(vars(phase)) for phase in self.phases],
            "statistics": plain(self.statistics),
            "answer": self.answer.to_dict(),
            "method": self.method,
            "error_estimate": self.error_estimate,
            "notes": list(self.notes),
            "provenance": self._provenance(),
        }

    def _provenance(self) -> dict[str, Any]:
        gains = self.gains
        return {
            "gammatorch": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "commit": gains.revision if gains else None,
            "model_type": gains.model_type if gains else None,
            "stored_dtype": gains.stored_dtype if gains else None,
            "device": self.device,
            "dtype": self.dtype,
            "bytes_read": gains.bytes_read if gains else None,
            "bytes_cached": gains.bytes_cached if gains else None,
            "checkpoint_bytes": gains.checkpoint_bytes if gains else None,
            "shards": gains.shards if gains else None,
            "requests": gains.requests if gains else None,
            "rounds": gains.rounds if gains else None,
            "seconds": self.seconds + (gains.seconds if gains else 0.0),
        }
