"""What a sweep tells: its items in the order of their steps, figure by figure, and what is odd about them.

All of it comes from the store, so it is the same after any restart. One item's gains are in memory at a time, and those
of the item before and of the last of its run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from gammatorch.gains.device import one_thread
from gammatorch.results.files import to_plain
from gammatorch.results.sweep import Entry, Failure, Item, Noticed, Settings, TimelineDocument, WeightFile
from gammatorch.sweep.item import natural, run_of
from gammatorch.sweep.labels import label_items
from gammatorch.sweep.store import SUFFIX, StoredItem, done_keys, read_item
from gammatorch.trajectory.anomalies import Print, find_anomalies, find_same
from gammatorch.trajectory.finding import Finding, listed
from gammatorch.trajectory.measure import Snapshot, trace


@dataclass(frozen=True)
class Timeline:
    """What a sweep tells.

    Attributes:
        entries: The items: runs one after the other, each by its steps, then those without a step.
        findings: What is odd, anomalies first.
    """

    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]

    def document(self) -> TimelineDocument:
        """As it is written."""
        told = [(finding.severity, _noticed(finding)) for finding in self.findings]
        return TimelineDocument(
            timeline=list(self.entries),
            anomalies=[one for severity, one in told if severity == "anomaly"],
            notes=[one for severity, one in told if severity == "note"],
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return to_plain(self.document())


def _noticed(finding: Finding) -> Noticed:
    return Noticed(finding.kind, finding.severity, list(finding.items), finding.text, list(finding.layers))


@dataclass(frozen=True)
class _Record:
    """The little that is kept of each item while all are looked at."""

    item: Item
    settings: Settings
    entry: Entry
    digest: str
    files: str | None
    layers: tuple[int, ...]
    kind: tuple[Any, ...]
    constant: bool


@one_thread()
def make_timeline(
    folder: Path,
    keys: Collection[str] | None = None,
    failures: Sequence[Failure] = (),
    aliases: Sequence[tuple[Item, Item]] = (),
) -> Timeline:
    """Read what a sweep has kept, and tell it.

    Cost: two reads of each stored item, and 64 kilobytes of memory for each of a training run.

    Args:
        folder: The sweep's folder.
        keys: The items to tell of, those that are done; all if left out.
        failures: Items that could not be done.
        aliases: Items that are another one under a second name, with that one.

    Raises:
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    chosen = sorted(done_keys(folder) if keys is None else done_keys(folder) & set(keys))
    kept = [_record(stored) for stored in _read(folder, chosen)]
    labels = label_items((one.item, one.settings) for one in kept)
    records = [replace(one, entry=msgspec.structs.replace(one.entry, item=labels[one.item.key])) for one in kept]
    runs: dict[tuple[Any, ...], list[_Record]] = defaultdict(list)
    for record in records:
        if record.entry.run is not None:
            runs[record.entry.run, record.kind].append(record)
    entries, findings = {record.entry.key: record.entry for record in records}, list[Finding]()
    for run in runs.values():
        if len(run) > 1:
            told, found = _tell_run(folder, sorted(run, key=_by_step))
            entries |= {entry.key: entry for entry in told}
            findings += found
    findings += [_tell_alias(left, kept) for left, kept in aliases if left.step != kept.step]
    findings += find_same(
        Print(one.entry.item, str(one.entry.run or one.entry.item), one.digest, one.files, one.constant)
        for one in sorted(records, key=lambda one: _place(one.entry))
    )
    broken = [failure.name for failure in failures if failure.kind == "NonFiniteGain"]
    if broken:
        findings.append(
            Finding("non-finite", "anomaly", tuple(broken), f"{listed(broken)}: gains with NaN or infinity")
        )
    findings.sort(key=lambda finding: finding.severity)
    return Timeline(tuple(sorted(entries.values(), key=_place)), tuple(findings))


def _read(folder: Path, keys: Sequence[str], tensors: bool = False) -> Iterator[StoredItem]:
    for key in keys:
        yield read_item(folder / "items" / f"{key}{SUFFIX}", tensors=tensors)


def _record(stored: StoredItem) -> _Record:
    analysis = stored.analysis
    hidden, statistics = analysis.hidden, analysis.statistics
    rms = sum((norm or 0.0) / math.sqrt(hidden) for norm in analysis.norms) / len(stored.layers)
    entry = Entry(
        item=stored.item.name,
        key=stored.item.key,
        run=run_of(stored.item),
        step=stored.item.step,
        rms_gamma=rms,
        shared_energy=statistics.shared_energy.value,
        effective_dimension=statistics.effective_dimension.value,
    )
    constant = all(value is not None and 1 - abs(value) < 1e-12 for value in statistics.cos_ones)
    kind = (stored.site, stored.layers, hidden, stored.settings)
    files = _files(stored.files)
    return _Record(stored.item, stored.settings, entry, stored.gains_sha256, files, stored.layers, kind, constant)


def _files(files: Mapping[str, WeightFile]) -> str | None:
    """What tells the weight files from any others; None where a hash of one is not known."""
    hashes = [files[name].hash or "" for name in sorted(files)]
    return " ".join(hashes) if hashes and all(hashes) else None


def _by_step(record: _Record) -> tuple[int, Any]:
    return record.entry.step or 0, natural(record.entry.item)


def _place(entry: Entry) -> tuple[Any, ...]:
    return entry.run is None, natural(entry.run or ""), entry.step or 0, natural(entry.item)


def _tell_run(folder: Path, run: Sequence[_Record]) -> tuple[list[Entry], list[Finding]]:
    keys = [record.entry.key for record in run]
    by_key = {record.entry.key: record for record in run}
    snapshots = (_snapshot(stored, by_key[stored.item.key]) for stored in _read(folder, keys, tensors=True))
    (last,) = _read(folder, keys[-1:], tensors=True)
    trajectory = trace(snapshots, _snapshot(last, run[-1]), run[0].layers)
    whole = last.weights is not None  # the mean of a sketch is not that of the gains
    entries = []
    for position, record in enumerate(run):
        entries.append(
            msgspec.structs.replace(
                record.entry,
                pearson_previous=_plain(trajectory.pearson_previous[position]) if whole else None,
                pearson_last=_plain(trajectory.pearson_last[position]) if whole else None,
                drift=_plain(trajectory.drift[position]),
            )
        )
    return entries, find_anomalies(trajectory)


def _snapshot(stored: StoredItem, record: _Record) -> Snapshot:
    gains, offset = (stored.weights, stored.offset) if stored.weights is not None else (stored.sketch, 0.0)
    assert gains is not None  # an item keeps the one or the other
    entry = record.entry
    return Snapshot(entry.item, entry.step or 0, gains, offset, record.digest, record.files)


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _tell_alias(left: Item, kept: Item) -> Finding:
    names = (kept.name, left.name)
    what = "commit" if kept.commit else "checkpoint"
    return Finding("copy", "anomaly", names, f"{left.name} is the same {what} as {kept.name}")
