"""The smaller documents: gains, what ``inspect`` prints, what ``bench`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from gammatorch.results.base import Document, Matrix, Number, Size, Whole, build, check_layers, check_length, plain

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
    """Gains as a document."""
    layers, hidden = gains.gamma.shape
    fields = {name: getattr(gains, name) for name in _NAMES}
    return build({**fields, "num_layers": layers, "hidden": hidden, "gamma": plain(gains.gamma)}, GainsDocument)


LARGEST_HELD = 1_000_000
"""Numbers up to which gains are drawn."""


def held_gains(gains: Any) -> GainsDocument | None:
    """Gains for a figure: of a checkpoint, or a tensor of shape (layer, hidden).

    Args:
        gains: What was analysed.

    Returns:
        The gains; None where they are read in blocks or are more than a page can show.
    """
    from gammatorch.gains.stack import Gains

    gamma = gains.gamma if isinstance(gains, Gains) else gains
    if len(getattr(gamma, "shape", ())) != 2 or gamma.shape[0] * gamma.shape[1] > LARGEST_HELD:
        return None
    if isinstance(gains, Gains):
        return gains_document(gains)
    layers, hidden = gamma.shape
    fields = dict.fromkeys(_NAMES, "") | {"layers": list(range(layers)), "keys": [], "offset": 0.0, "notes": []}
    return build({**fields, "num_layers": layers, "hidden": hidden, "gamma": plain(gamma)}, GainsDocument)


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


class Stages(Document, frozen=True):
    """Seconds of each stage, in the order in which they follow each other."""

    open: Number
    select: Number
    read: Number
    transfer: Number
    analysis: Number


class Times(Document, frozen=True, kw_only=True):
    """Medians over the repeats, in seconds, and the rates that follow from them.

    Attributes:
        stages: Each stage by itself.
        extraction: All stages that give gains, together.
        safe_open: The same gains by safetensors' ``safe_open``; None where it cannot read them.
        disk_bytes: Bytes that the system fetched from the disk for the extraction; None where it does not tell.
        safe_open_disk_bytes: The same for ``safe_open``.
        over_safe_open: How many times as fast as ``safe_open``.
        checkpoints_per_second: Extractions in a second.
        tensors_per_second: Gains in a second.
    """

    stages: Stages
    extraction: Number
    safe_open: Number | None
    disk_bytes: Number | None
    safe_open_disk_bytes: Number | None
    over_safe_open: Number | None
    checkpoints_per_second: Number
    tensors_per_second: Number


class Throughput(Document, frozen=True, kw_only=True):
    """What was measured on one checkpoint.

    Attributes:
        model: Its name.
        device: Where the gains went.
        layers: Rows that were read.
        hidden: Width of each.
        shards: Weight files.
        checkpoint_bytes: Their size.
        bytes_read: Bytes read for one extraction.
        bytes_needed: Bytes of the gains alone.
        page_bytes: Bytes of the pages they stand on, the least that a disk gives; None where they are on none.
        requests: Reads that one extraction makes.
        rounds: How many of them wait for others.
        repeats: Counted repeats.
        warm: Times with the files in the page cache.
        cold: Times with the files dropped from it, None where that cannot be done.
        notes: What a reader should know.
    """

    model: str
    device: str
    layers: Whole
    hidden: Whole
    shards: Whole
    checkpoint_bytes: Whole
    bytes_read: Whole
    bytes_needed: Whole
    page_bytes: Whole | None
    requests: Whole
    rounds: Whole
    repeats: Whole
    warm: Times
    cold: Times | None
    notes: list[str]


class BenchDocument(Document, frozen=True, kw_only=True):
    """What ``bench --out`` writes: the machine, and what was measured of each checkpoint."""

    schema_version: Literal[1] = 1
    machine: dict[str, str | int]
    checkpoints: list[Throughput]
