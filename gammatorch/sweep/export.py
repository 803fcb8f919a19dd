"""A sweep as a table: one row for each figure, or one for each item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from gammatorch.reports.table_files import Table
from gammatorch.results.run import Summary
from gammatorch.results.sweep import Entry, Failure, Noticed
from gammatorch.results.tidy import figure_rows
from gammatorch.sweep.item import natural, step_of
from gammatorch.sweep.labels import settings_text
from gammatorch.sweep.store import SUFFIX, StoredItem, is_sweep, kept_failures, read_item, read_items
from gammatorch.sweep.told import tell

TIMELINE = ("rms_gamma", "pearson_previous", "pearson_last", "drift")
"""Figures of the timeline that an item's own result does not hold."""

_WIDE = {
    **dict.fromkeys(("shared_energy", "effective_dimension", "misfit"), ("value", "low", "high")),
    **dict.fromkeys(("mean_pearson", "mean_rank_correlation"), ("value", "low", "high", "null_95")),
    "first_eigenvalue": ("value", "null_95"),
    "depth_contrast": ("value", "low", "high", "near", "far", "disattenuated"),
    "period": ("period", "value", "low", "high", "within", "across"),
    **dict.fromkeys(
        ("shared_directions", "effective_rank", "depth_order", "correlation_length", "singular_gap"), ("",)
    ),
}
"""Statistics that are one figure of all layers, with their parts."""

_WHOLE = ("shared_directions", "period.period")
"""Those of them that count something."""


class Row(NamedTuple):
    """One figure of one item, or one thing that is said of it.

    Attributes:
        item: Name of the item, made unique where several have the same.
        step: Training step, where it is known.
        layer: Index of the layer; of the first of two for ``cos_adjacent``; None for figures of the whole item.
        statistic: Name of the figure; parts are joined by dots, places in other lists counted from 0.
            ``answer.verdict`` and ``answer.sentence`` are texts, and so are anomalies and notes (``anomalies.copy``),
            one row for each of their layers; ``failure`` says why an item could not be done.
        value: The figure, None where it is undefined.
        text: What is a text and no figure.
        run: The training run that the item is a step of.
    """

    item: str
    step: int | None
    layer: int | None
    statistic: str
    value: float | None
    text: str | None
    run: str | None


LONG: Mapping[str, type] = {
    **{"item": str, "step": int, "layer": int, "statistic": str, "value": float, "text": str, "run": str},
}
"""Columns of the long table, and what they hold."""

WIDE: Mapping[str, type] = {
    **{"item": str, "run": str, "step": int, "revision": str, "commit": str, "settings": str, "site": str},
    **{"offset": float, "num_layers": int, "hidden": int, "verdict": str, "support": float, "sentence": str},
    **dict.fromkeys(TIMELINE, float),
    **{
        name: int if name in _WHOLE else float
        for statistic, parts in _WIDE.items()
        for name in (f"{statistic}.{part}".rstrip(".") for part in parts)
    },
    **{"anomalies": str, "notes": str, "failure": str},
}
"""Columns of the wide table."""


def long_table(folder: Path) -> Table:
    """Every figure of every item, and what is said of it, items by name and step, with one item in memory at a time.

    Args:
        folder: The sweep's folder.

    Raises:
        OutputError: It is no sweep's folder.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    told = _Told(folder)
    rows = (row for one, entry in told.items() for row in _long_rows(one, entry, told))
    failed = (Row(one.name, step_of(one.name), None, "failure", None, _why(one), None) for one in told.failures)
    return Table("figures", LONG, chain(rows, failed))


def wide_table(folder: Path) -> Table:
    """One row for each item: what it is, its verdict, the figures of all its layers with their bounds, what is odd.

    Args:
        folder: The sweep's folder.

    Raises:
        OutputError: It is no sweep's folder.
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    told = _Told(folder)
    rows = (_wide_row(one, entry, told) for one, entry in told.items())
    failed = (
        [{"item": one.name, "step": step_of(one.name), "failure": _why(one)}.get(name) for name in WIDE]
        for one in told.failures
    )
    return Table("items", WIDE, chain(rows, failed))


def _why(failure: Failure) -> str:
    """The kind of error and what it says."""
    return f"{failure.kind}: {failure.message}"


class _Told:
    """What a sweep tells, by item."""

    def __init__(self, folder: Path) -> None:
        if not is_sweep(folder):
            next(read_items(folder))  # says so
        self.failures = sorted(kept_failures(folder), key=lambda one: natural(one.name))
        document = tell(folder, None, self.failures)
        self._folder = folder
        self._entries = sorted(document.timeline, key=lambda entry: natural(entry.item))
        self.found: dict[str, list[tuple[str, Noticed]]] = defaultdict(list)
        for table in ("anomalies", "notes"):
            for one in getattr(document, table):
                for item in one.items:
                    self.found[item].append((table, one))

    def items(self) -> Iterator[tuple[StoredItem, Entry]]:
        """Each item without its tensors, and its line of the timeline."""
        for entry in self._entries:
            yield read_item(self._folder / "items" / f"{entry.key}{SUFFIX}", tensors=False), entry


def _long_rows(stored: StoredItem, entry: Entry, told: _Told) -> Iterator[Row]:
    for layer, statistic, value in figure_rows(stored.analysis):
        yield Row(entry.item, entry.step, layer, statistic, value, None, entry.run)
    for name in TIMELINE:
        yield Row(entry.item, entry.step, None, name, getattr(entry, name), None, entry.run)
    answer = stored.analysis.answer
    yield Row(entry.item, entry.step, None, "answer.verdict", None, answer.verdict, entry.run)
    yield Row(entry.item, entry.step, None, "answer.support", answer.support, None, entry.run)
    yield Row(entry.item, entry.step, None, "answer.sentence", None, answer.sentence, entry.run)
    for table, one in told.found.get(entry.item, ()):
        for layer in one.layers or (None,):
            yield Row(entry.item, entry.step, layer, f"{table}.{one.kind}", None, one.text, entry.run)


def _wide_row(stored: StoredItem, entry: Entry, told: _Told) -> Sequence[Any]:
    item, analysis = stored.item, stored.analysis
    values = {
        **{name: getattr(entry, name) for name in ("item", "run", "step", *TIMELINE)},
        **{"revision": item.revision, "commit": item.commit, "settings": settings_text(stored.settings) or None},
        **{name: getattr(analysis, name) for name in ("offset", "num_layers", "hidden")},
        **{name: getattr(analysis.answer, name) for name in ("verdict", "support", "sentence")},
        **_statistics(analysis),
        "site": stored.site,
        "failure": None,
    }
    for table in ("anomalies", "notes"):
        texts = [f"{one.kind}: {one.text}" for of, one in told.found.get(entry.item, ()) if of == table]
        values[table] = "; ".join(texts) or None
    return [values[name] for name in WIDE]


def _statistics(analysis: Summary) -> dict[str, Any]:
    """The figures of all layers, by their names in the long table."""
    found: dict[str, Any] = {}
    for name, parts in _WIDE.items():
        value = getattr(analysis.statistics, name)
        found |= {f"{name}.{part}" if part else name: getattr(value, part) if part else value for part in parts}
    return found
