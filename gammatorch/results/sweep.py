"""What a sweep keeps of each item beside its result and its tensors, and what it tells of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import field

from gammatorch.errors import GammatorchError
from gammatorch.results.base import Document, Figure, Number, Whole, check_layers


class Settings(Document, frozen=True, forbid_unknown_fields=True):
    """What is read of each checkpoint, and how it is analysed; the device is no part of it.

    Attributes:
        site: Place of the norm, ``"auto"`` for the block's input or its nearest analogue.
        stack: Stack, where there are several.
        pattern: Keys to read instead of a site.
        raw: Whether the stored weights are taken without offset.
        dtype: Precision of the arithmetic.
        method: How principal axes are found; ``"auto"`` is ``"gram"`` here, as for any batch.
        dims: Numbers kept of each layer by ``project``, and by the sketch of wide tensors.
        seed: Seed of both.
        phases: Runs of layers to compare.
    """

    site: str = "auto"
    stack: str | None = None
    pattern: str | None = None
    raw: bool = False
    dtype: str = "float64"
    method: str = "auto"
    dims: int = 4096
    seed: int = 0
    phases: str = "auto"


class Item(Document, frozen=True, forbid_unknown_fields=True):
    """One checkpoint of a sweep.

    Attributes:
        name: The name it goes by: a path, or ``org/name@revision``.
        source: Where it is: an absolute path, or ``org/name``.
        identity: What tells it from what stood there before: the commit, or size and time of each local file.
        revision: Branch, tag or commit it was asked for by; None for a local path.
        commit: The commit, None for a local path.
        step: Training step, where the name or a tag tells it.
        tags: Whatever a list file said of it.
        key: Under which it is stored.
    """

    name: str
    source: str
    identity: str
    revision: str | None = None
    commit: str | None = None
    step: Whole | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


class WeightFile(Document, frozen=True):
    """Size of a weight file, and its content hash where the Hub tells it."""

    bytes: Whole
    hash: str | None


class ItemHeader(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stored item says of itself.

    Attributes:
        item: The checkpoint, with name, commit, step, tags and key.
        settings: What was read of it, and how it was analysed.
        layers: Layer index of each row.
        site: Place of the norm that was read.
        offset: What the stored weights lack: γ = offset + weight.
        files: Its weight files by name.
        gains_sha256: Hash of type, shape and bytes of the gains as stored, or of their sketch.
        sketch_of: What two sketches must share to be compared; null where the gains are stored whole.
    """

    item: Item
    settings: Settings
    layers: list[Whole]
    site: str
    offset: Number
    files: dict[str, WeightFile]
    gains_sha256: str
    sketch_of: dict[str, int] | None

    def __post_init__(self) -> None:
        check_layers(self.layers)


class Failure(Document, frozen=True):
    """An item that could not be read, analysed or even planned.

    Attributes:
        key: Of the item; of what was asked for where there is none.
        name: The name it goes by.
        kind: Class of the error.
        message: What is wrong and what to do.
    """

    key: str
    name: str
    kind: str
    message: str

    @classmethod
    def of(cls, key: str, name: str, error: BaseException) -> Failure:
        """The failure that an error makes.

        Args:
            key: Key of the item.
            name: Its name.
            error: What was raised.
        """
        message = str(error) if isinstance(error, GammatorchError) else f"unexpected {type(error).__name__}: {error}"
        return cls(key, name, type(error).__name__, message)


class FailureRecord(Document, frozen=True):
    """A failure as the store keeps it, with the time (UTC) it was written at."""

    key: str
    name: str
    kind: str
    message: str
    time: str


class PlannedItem(Document, frozen=True):
    """What one item of a sweep would cost; where it cannot be read, ``problem`` says why and its shape is null."""

    item: str
    step: Whole | None
    key: str
    done: bool
    layers: Whole | None
    width: Whole | None
    bytes_to_read: Whole
    checkpoint_bytes: Whole
    problem: str | None


class PlanDocument(Document, frozen=True):
    """What ``sweep --dry-run --format json`` prints.

    Attributes:
        out: The sweep's folder.
        items: The items.
        missing: How many are to do.
        bytes_to_read: Bytes that they take.
        checkpoint_bytes: Size of all checkpoints.
        failures: Lines of list files that mean nothing.
    """

    out: str
    items: list[PlannedItem]
    missing: Whole
    bytes_to_read: Whole
    checkpoint_bytes: Whole
    failures: list[Failure]


class Entry(Document, frozen=True):
    """One line of a sweep's table.

    Attributes:
        item: Name of the item.
        key: Its key in the store.
        run: The training run it is a step of; None without a step.
        step: Training step.
        rms_gamma: ‖γ‖/√H, mean over layers.
        shared_energy: Share of the one direction that all layers share.
        effective_dimension: Of the correlations between layers.
        pearson_previous: Correlation of each layer with the item before it in the run, mean over layers.
        pearson_last: With the last item of the run.
        drift: ‖γ − γ'‖ / ‖γ'‖ from γ', the item before, mean over layers.
    """

    item: str
    key: str
    run: str | None
    step: Whole | None
    rms_gamma: Figure
    shared_energy: Figure
    effective_dimension: Figure
    pearson_previous: Figure = None
    pearson_last: Figure = None
    drift: Figure = None


class Noticed(Document, frozen=True):
    """A finding about some items; ``layers`` is empty where it is about all of them."""

    kind: str
    severity: str
    items: list[str]
    text: str
    layers: list[Whole]


class TimelineDocument(Document, frozen=True):
    """A sweep's items in the order of their steps, and what is odd about them."""

    timeline: list[Entry]
    anomalies: list[Noticed]
    notes: list[Noticed]


class SweepDocument(Document, frozen=True, kw_only=True):
    """What ``sweep --format json`` prints.

    Attributes:
        out: The sweep's folder.
        planned: Items that were asked for.
        shard: The part that fell to this run, null for all.
        present: Items that were done before, or by another process meanwhile.
        done: Items done by this run.
        failed: Items that could not be done.
        failures: Why.
        bytes_read: Bytes moved by this run.
        seconds: Time it took.
        timeline: The items in the order of their steps.
        anomalies: What honest training does not do.
        notes: What it may do.
    """

    out: str
    planned: Whole
    shard: str | None
    present: Whole
    done: Whole
    failed: Whole
    failures: list[Failure]
    bytes_read: Whole
    seconds: Number
    timeline: list[Entry]
    anomalies: list[Noticed]
    notes: list[Noticed]


class CurveFigures(Document, frozen=True, kw_only=True):
    """The timeline's figures, each a list over items."""

    item: list[str]
    rms_gamma: list[Figure]
    shared_energy: list[Figure]
    effective_dimension: list[Figure]
    pearson_previous: list[Figure]
    pearson_last: list[Figure]
    drift: list[Figure]


class Curve(CurveFigures, frozen=True, kw_only=True):
    """The figures of one training run, in the order of its steps.

    Attributes:
        run: Name of the run.
        settings: How it was analysed, where that is not as usual.
        site: Place of the norm that was read.
        layers: Layer index of each row.
        hidden: Width of the gains.
        steps: Training step of each item.
        rms_by_layer: RMS γ, item × layer.
    """

    run: str
    settings: str
    site: str
    layers: list[Whole]
    hidden: Whole
    steps: list[Whole]
    rms_by_layer: list[list[Number]]


class CurvesDocument(Document, frozen=True):
    """Everything that a sweep's page draws and tells.

    Attributes:
        out: The sweep's folder.
        curves: One for each training run, settings and shape.
        unordered: Items that are steps of no run.
        anomalies: What honest training does not do.
        notes: What it may do.
        failures: What could not be done.
    """

    out: str
    curves: list[Curve]
    unordered: CurveFigures
    anomalies: list[Noticed]
    notes: list[Noticed]
    failures: list[Failure]
