"""Gains as a document: where they came from, and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gammatorch.results.base import Document, Matrix, Number, Size, Whole, build, check_layers, check_length
from gammatorch.results.plain import plain

if TYPE_CHECKING:
    from gammatorch.gains.stack import Gains

_NAMES = ("model", "layers", "keys", "stack", "site", "site_reason", "offset", "stored_dtype", "notes")


class GainsDocument(Document, frozen=True, kw_only=True):
    """What ``Gains.save`` writes.

    Attributes:
        model: The name the checkpoint was asked for by.
        num_layers: Number of layers, L.
        hidden: Width of the gains, H.
        layers: Layer index of each row.
        keys: Tensor each row came from; none for numbers that were given.
        stack: Stack the rows belong to.
        site: Place of the norm in the block.
        site_reason: Why this site.
        offset: γ = offset + weight.
        stored_dtype: Type they are stored in.
        notes: What a reader should know.
        gamma: γ, L × H.
    """

    schema_version: Literal[1] = 1
    model: str
    num_layers: Whole
    hidden: Size
    layers: list[Whole]
    keys: list[str]
    stack: str | None
    site: str
    site_reason: str
    offset: Number
    stored_dtype: str
    notes: list[str]
    gamma: Matrix

    def __post_init__(self) -> None:
        check_layers(self.layers, self.num_layers)
        check_length("gamma", self.gamma, self.num_layers)


def gains_document(gains: Gains) -> GainsDocument:
    """Gains as a document.

    Args:
        gains: The gains.
    """
    layers, hidden = gains.gamma.shape
    fields = {name: getattr(gains, name) for name in _NAMES}
    return build({**fields, "num_layers": layers, "hidden": hidden, "gamma": plain(gains.gamma)}, GainsDocument)
