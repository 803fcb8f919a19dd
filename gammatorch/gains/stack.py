"""The gains of one site, as they stand on the device and where they came from, or as they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gammatorch.result import Result, View


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin:
    """Where gains came from, and what it cost to read them.

    Attributes:
        layers: Layer index of each row.
        keys: Tensor each row came from.
        site: Where in the block the norm stands; ``"pattern"`` for tensors chosen by pattern.
        site_reason: Why this site.
        stack: Stack the rows belong to, None for a pattern that is no known site.
        pattern: The keys, with ``{layer}`` for the index.
        offset: What was added to the stored weight.
        stored_dtype: Stored type in safetensors' spelling; several joined by ``+``.
        model: The name the checkpoint was asked for by.
        model_type: ``model_type`` of config.json.
        revision: Resolved commit, where there is one.
        bytes_read: Bytes moved so far for this checkpoint: listings, headers and gains.
        bytes_cached: Bytes that came from the cache of what earlier runs had read from the Hub.
        checkpoint_bytes: Size of all its weight files, in bytes.
        shards: Number of its weight files.
        requests: Reads made so far for this checkpoint.
        rounds: How many of them had to wait for others.
        seconds: Time spent on opening and reading it.
        notes: What a reader of the results should know.
    """

    layers: tuple[int, ...]
    keys: tuple[str, ...] = field(repr=False)
    site: str
    site_reason: str
    stack: str | None
    pattern: str
    offset: float
    stored_dtype: str
    model: str
    model_type: str | None
    revision: str | None
    bytes_read: int
    bytes_cached: int
    checkpoint_bytes: int
    shards: int
    requests: int
    rounds: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Gains(Result, Origin):
    """The gain γ of every layer at one site of one checkpoint, with the attributes of :class:`Origin`.

    Attributes:
        gamma: Effective gain γ = offset + weight, shape (layer, hidden), on the device.
    """

    gamma: Tensor = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.gamma.device

    def _view(self) -> View:
        from gammatorch.reports.views import gains_view  # a later stage, for the convenience of callers

        return gains_view(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredWeights:
    """The weights of one site as stored, NaN and infinities among them: what an audit looks at.

    Attributes:
        site: The site's name.
        layers: Layer index of each row.
        keys: Tensor each row came from.
        offset: What the model adds to them.
        weights: Stored weights w, shape (layer, hidden), on the CPU.
        doubt: Why that is taken to be what the model adds; None if it is known.
        dtypes: Stored type of each row in safetensors' spelling; none where it is not known.
    """

    site: str
    layers: tuple[int, ...]
    keys: tuple[str, ...] = field(repr=False)
    offset: float
    weights: Tensor = field(repr=False)
    doubt: str | None = None
    dtypes: tuple[str, ...] = ()

    @property
    def gamma(self) -> Tensor:
        """Effective gain γ = offset + weight, shape (layer, hidden)."""
        return self.weights + self.offset

    @property
    def pattern(self) -> str:
        """The key of its first row, which tells what the norm stands on."""
        return self.keys[0]

    @property
    def mean(self) -> float:
        """Mean of the stored weights."""
        return float(self.weights.mean())

    @property
    def negative(self) -> float:
        """Share of the stored weights below zero."""
        return float((self.weights < 0).double().mean())
