"""What a sweep would read, from the headers alone: for ``--dry-run``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import TensorEntry
from gammatorch.checkpoints.hub.retry import LONG_RETRIES
from gammatorch.checkpoints.locate import locate
from gammatorch.checkpoints.opening import open_source
from gammatorch.errors import GammatorchError
from gammatorch.results.sweep import Item, PlanDocument, PlannedItem, Settings
from gammatorch.sweep.plan import THREADS, Plan
from gammatorch.sweep.store import done_keys


@dataclass(frozen=True)
class Estimate:
    """What one item would cost.

    Attributes:
        item: The item.
        layers: Number of rows; None where it cannot be read.
        width: Number of values in each.
        bytes_to_read: Listing, headers and gains.
        checkpoint_bytes: Size of its weight files.
        problem: Why it cannot be read.
    """

    item: Item
    layers: int | None = None
    width: int | None = None
    bytes_to_read: int = 0
    checkpoint_bytes: int = 0
    problem: str | None = None


def survey(
    items: Sequence[Item], settings: Settings, token: str | None = None, cache: bool = True
) -> Iterator[Estimate]:
    """Open the headers of each item, many at a time, and read no gains.

    Args:
        items: The items.
        settings: What would be read of each.
        token: Access token for the Hub.
        cache: Whether to use what is kept of the Hub.
    """
    with ThreadPoolExecutor(THREADS, "gammatorch-survey") as pool:
        yield from pool.map(lambda item: _estimate(item, settings, token, cache), items)


def _estimate(item: Item, settings: Settings, token: str | None, cache: bool) -> Estimate:
    try:
        location = locate(item.source, item.commit, token, cache=cache, retry=LONG_RETRIES)
        with open_source(location.source, model=item.name, target=location.target) as checkpoint:
            selection = select(checkpoint, settings.site, stack=settings.stack, pattern=settings.pattern)
            return Estimate(
                item,
                len(selection.entries),
                selection.entries[0].width,
                location.source.traffic.bytes_read + _bytes_of(selection.entries, local=item.commit is None),
                checkpoint.checkpoint_bytes,
            )
    except GammatorchError as error:
        return Estimate(item, problem=str(error))


def _bytes_of(entries: Sequence[TensorEntry], *, local: bool) -> int:
    """What reading tensors moves; from the Hub, small gaps between them come along."""
    spans: list[tuple[str, int, int]] = []
    for entry in sorted(entries, key=lambda entry: (entry.file, entry.start)):
        near = spans and not local and spans[-1][0] == entry.file and entry.start - spans[-1][2] <= _merge_gap()
        first = spans.pop()[1] if near else entry.start
        spans.append((entry.file, first, entry.stop))
    return sum(stop - start for _, start, stop in spans)


def _merge_gap() -> int:
    from gammatorch.checkpoints.hub.source import MERGE_GAP  # with it come modules that local items do without

    return MERGE_GAP


def survey_document(
    plan: Plan, settings: Settings, folder: Path, token: str | None = None, cache: bool = True
) -> PlanDocument:
    """What a sweep would do: its items, which of them are done, and the bytes of those to do.

    Args:
        plan: The items.
        settings: What would be read of each.
        folder: Where they would be kept; it need not be there.
        token: Access token for the Hub.
        cache: Whether to use what is kept of the Hub.
    """
    there = done_keys(folder)
    rows = [
        PlannedItem(
            item=one.item.name,
            step=one.item.step,
            key=one.item.key,
            done=one.item.key in there,
            layers=one.layers,
            width=one.width,
            bytes_to_read=one.bytes_to_read,
            checkpoint_bytes=one.checkpoint_bytes,
            problem=one.problem,
        )
        for one in survey(plan.items, settings, token, cache)
    ]
    missing = [row for row in rows if not row.done]
    return PlanDocument(
        out=str(folder),
        items=rows,
        missing=len(missing),
        bytes_to_read=sum(row.bytes_to_read for row in missing),
        checkpoint_bytes=sum(row.checkpoint_bytes for row in rows),
        failures=list(plan.failures),
    )
