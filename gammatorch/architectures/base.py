"""The words for norms: places in a block, sites of a stack, and what is selected for reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gammatorch.checkpoints.base import TensorEntry, stored_bytes

PLACES: Mapping[str, str] = {
    "input": "on the block's input, before attention or whichever mixer the block has",
    "post_attention": "on the output of attention or another mixer, or after its residual in post-LN models",
    "pre_mlp": "before the MLP",
    "post_mlp": "on the MLP's output, or after its residual in post-LN models",
    "query": "on the queries",
    "key": "on the keys",
    "final": "after the last block",
}
"""Where in a block a norm stands. Names are places, not parameter names."""

LAYER = "{layer}"
"""Stands for the layer's index in a pattern of keys."""

ANY = "*"
"""Stands for any one part of a key in a pattern, where blocks are chunked: ``blocks.*.{layer}.norm1.weight``."""


@dataclass(frozen=True)
class NormSite:
    """One norm of a stack, in all layers that have it.

    Attributes:
        place: A name from :data:`PLACES`, or the norm's own name where its place is not known.
        pattern: Key of its tensors, with ``{layer}`` for the index.
        rows: Layer and tensor, in layer order; the layer of ``final`` is None.
        offset: What is added to the stored weight to give the gain: γ = offset + w.
    """

    place: str
    pattern: str
    rows: tuple[tuple[int | None, TensorEntry], ...]
    offset: float

    @property
    def nbytes(self) -> int:
        """Stored size of all its tensors, in bytes."""
        return stored_bytes(entry for _, entry in self.rows)


@dataclass(frozen=True)
class Stack:
    """A run of numbered blocks: a decoder, an encoder, a vision tower.

    Attributes:
        name: The keys' part before the layer index, ``"model.layers"``.
        main: Whether it is the one that is read when none is named.
        layout: How its blocks are normalised (``"pre-norm"``, ``"post-LN"`` …), None if no name tells.
        layers: Indices of its blocks, ascending.
        sites: Its norms.
        offset_doubt: Why the offsets are taken to be what they are; None if they are known.
        kinds: Names of all tensors in each block, by layer.
        fed_with: What the norm on the input stands on, in words, where that is not the block's input itself.
        stages: Names of the stacks that its blocks hold, where they are stages with blocks of their own.
        notes: What a reader should know about it.
    """

    name: str
    main: bool
    layout: str | None
    layers: tuple[int, ...]
    sites: tuple[NormSite, ...]
    offset_doubt: str | None
    kinds: Mapping[int, frozenset[str]] = field(repr=False)
    fed_with: str | None = None
    stages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def site(self, place: str) -> NormSite | None:
        """The norm at a place, None if there is none."""
        return next((site for site in self.sites if site.place == place), None)


@dataclass(frozen=True)
class Selection:
    """The tensors that one run reads, and what they are.

    Attributes:
        site: The place they stand at; ``"pattern"`` for a pattern that is no known site.
        reason: Why this site.
        stack: The stack they belong to, None for a pattern across stacks.
        pattern: Their keys, with ``{layer}`` for the index.
        offset: What is added to the stored weight to give the gain.
        offset_doubt: Why that is taken to be the offset; None if it is known.
        layers: Layer of each row, ascending; ``final`` counts as the last block's.
        entries: Tensor of each row.
        notes: What a reader of the results should know.
    """

    site: str
    reason: str
    stack: str | None
    pattern: str
    offset: float
    offset_doubt: str | None
    layers: tuple[int, ...]
    entries: tuple[TensorEntry, ...]
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take as stored."""
        return stored_bytes(self.entries)
