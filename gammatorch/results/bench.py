"""The result of ``bench``: the keys of its JSON."""

from __future__ import annotations

from typing import Literal

from gammatorch.results.base import Document, Number, Whole


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
