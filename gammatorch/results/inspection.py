"""The result of ``inspect``: the keys of its JSON."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from gammatorch.results.base import Document, Number, Whole


class InspectedTensor(Document, frozen=True):
    """One tensor of a site; ``layer`` is null for the final norm."""

    layer: Whole | None
    key: str
    shard: str
    dtype: str
    shape: list[Whole]


class InspectedSite(Document, frozen=True):
    """A place in the block: γ = offset + weight, size of its tensors in bytes."""

    site: str
    offset: Number
    bytes: Whole
    tensors: list[InspectedTensor]


class InspectedStack(Document, frozen=True):
    """A stack of blocks; ``layout`` is null where the places of its norms are not known."""

    stack: str
    main: bool
    layout: str | None
    sites: list[InspectedSite]


class VerifiedNorm(Document, frozen=True, kw_only=True):
    """One norm of the tiny model: what the headers and the table say of it, and what it does."""

    stack: str
    name: str
    place: str
    offset: Number
    observed_offset: Number | None
    on_input: bool
    side: str | None
    verdict: str


class InspectionDocument(Document, frozen=True, kw_only=True):
    """What ``inspect --format json`` prints.

    Attributes:
        model: The name the checkpoint was asked for by.
        revision: Commit, where there is one.
        model_type: ``model_type`` of config.json.
        num_layers: Layers of the main stack.
        checkpoint_bytes: Size of all weight files.
        stacks: Stacks, sites and tensors.
        notes: What a reader should know.
        verification: What transformers says of each norm, with ``--verify`` alone.
        verification_doubt: Why it has nothing to say.
    """

    model: str
    revision: str | None
    model_type: str | None
    num_layers: Whole | None
    checkpoint_bytes: Whole
    stacks: list[InspectedStack]
    notes: list[str]
    verification: list[VerifiedNorm] | UnsetType = UNSET
    verification_doubt: str | UnsetType | None = UNSET
