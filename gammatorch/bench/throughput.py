"""How fast this machine's storage and device give gains: each stage by itself, cold and warm, beside safetensors."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gammatorch.analysis.analyze import analyze
from gammatorch.architectures.base import Selection
from gammatorch.architectures.select import select
from gammatorch.bench.page_cache import can_drop, disk_bytes, drop_from_cache, page_bytes
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.weights import INDEX
from gammatorch.errors import GammatorchError
from gammatorch.gains.device import choose_device, choose_dtype, synchronize
from gammatorch.gains.staging import stage, unpack
from gammatorch.gains.stream import stream_gains
from gammatorch.results.documents import Stages, Throughput, Times

EXTRACTION = ("open", "select", "read", "transfer")
"""Stages that give gains, in order: headers, choice of tensors, their bytes, the device."""

STAGES = (*EXTRACTION, "analysis")


def measure(
    reopen: Callable[[], Checkpoint],
    *,
    device: str = "auto",
    repeats: int = 15,
) -> Throughput:
    """Time every stage of a run on one checkpoint.

    The gains are held against those of ``safe_open``, bit by bit, before anything is timed.

    Args:
        reopen: Opens the checkpoint from the start.
        device: Where the gains go.
        repeats: Counted repeats, each after one that is not counted.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        GammatorchError: ``safe_open`` reads other gains.
    """
    with reopen() as checkpoint:
        selection = select(checkpoint)
        gains = stream_gains(checkpoint, selection, device, raw=True)
        paths = {file: path for file in checkpoint.files if (path := checkpoint.source.path(file)) is not None}
        index = checkpoint.source.path(INDEX) if INDEX in checkpoint.source.files else None
    peer = _peer(paths, index, selection, gains.gamma.device) if paths else None
    if peer is not None and not all(ours.equal(row) for ours, row in zip(gains.gamma, peer(), strict=True)):
        raise GammatorchError("safe_open reads other gains: please report it", file=checkpoint.name)
    notes = [] if peer is not None else ["not on a local disk, so there is no safe_open to compare with"]
    warm = _times(reopen, device, peer, repeats, lambda: None, len(gains.layers))
    cold = None
    files = list(paths.values())
    if can_drop(files):
        cold = _times(reopen, device, peer, repeats, lambda: drop_from_cache(files), len(gains.layers))
    else:
        notes.append("cold times are left out: the files cannot be dropped from the page cache here")
    return Throughput(
        model=checkpoint.model,
        device=str(gains.gamma.device),
        layers=len(gains.layers),
        hidden=gains.gamma.shape[1],
        shards=gains.shards,
        checkpoint_bytes=gains.checkpoint_bytes,
        bytes_read=gains.bytes_read,
        bytes_needed=selection.nbytes,
        page_bytes=page_bytes((entry.file, entry.start, entry.stop) for entry in selection.entries) if paths else None,
        requests=gains.requests,
        rounds=gains.rounds,
        repeats=repeats,
        warm=warm,
        cold=cold,
        notes=notes,
    )


def _times(
    reopen: Callable[[], Checkpoint],
    device: str,
    peer: Callable[[], object] | None,
    repeats: int,
    prepare: Callable[[], object],
    layers: int,
) -> Times:
    taken: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        prepare()
        before = disk_bytes()
        seconds = _run(reopen, device)
        _note_fetched(seconds, "disk_bytes", before)
        seconds["extraction"] = sum(seconds[name] for name in EXTRACTION)
        if peer is not None:
            prepare()
            before = disk_bytes()
            with _clock(seconds, "safe_open"):
                peer()
            _note_fetched(seconds, "safe_open_disk_bytes", before)
        if repeat:
            for name, value in seconds.items():
                taken[name].append(value)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    extraction, theirs = medians["extraction"], medians.get("safe_open")
    return Times(
        stages=Stages(**{name: medians[name] for name in STAGES}),
        extraction=extraction,
        safe_open=theirs,
        disk_bytes=medians.get("disk_bytes"),
        safe_open_disk_bytes=medians.get("safe_open_disk_bytes"),
        over_safe_open=None if theirs is None else theirs / extraction,
        checkpoints_per_second=1 / extraction,
        tensors_per_second=layers / extraction,
    )


def _note_fetched(figures: dict[str, float], name: str, before: int | None) -> None:
    after = disk_bytes()
    if before is not None and after is not None:
        figures[name] = after - before


def _run(reopen: Callable[[], Checkpoint], device: str) -> dict[str, float]:
    """Seconds of each stage of one run."""
    seconds: dict[str, float] = {}
    chosen = choose_device(device)
    dtype = choose_dtype("float32" if chosen.type == "mps" else "float64", chosen)
    with _clock(seconds, "open"):
        checkpoint = reopen()
    with checkpoint:
        with _clock(seconds, "select"):
            selection = select(checkpoint)
        with _clock(seconds, "read"):
            staging = stage(checkpoint, selection.entries, chosen)
    with _clock(seconds, "transfer"):
        weights = unpack(staging, selection.entries, chosen, dtype)
        synchronize(chosen)
    with _clock(seconds, "analysis"):
        analyze(weights + selection.offset, dtype=dtype)
        synchronize(chosen)
    return seconds


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def _peer(paths: Mapping[str, str], index: str | None, selection: Selection, device: Any) -> Callable[[], list[Any]]:
    """Reads the same rows by ``safe_open`` to the same device, as a careful user does: the index tells the shards, each
    is opened once."""
    from safetensors import safe_open

    keys = [entry.key for entry in selection.entries]

    def read() -> list[Any]:
        rows: dict[str, Any] = {}
        for file, held in _held(paths, index, keys).items():
            with safe_open(paths[file], "pt", device=str(device)) as opened:
                there = set(held) & set(opened.keys()) if len(held) == len(keys) else held
                rows |= {key: opened.get_tensor(key).flatten().double() for key in there}
        synchronize(device)
        return [rows[key] for key in keys]

    return read


def _held(files: Iterable[str], index: str | None, keys: Sequence[str]) -> dict[str, list[str]]:
    """Keys by shard where an index tells; else any shard may hold any of them."""
    if index is None:
        return {file: list(keys) for file in files}
    with open(index, "rb") as named:
        shard_of = json.load(named)["weight_map"]
    held: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        held[shard_of[key]].append(key)
    return held
