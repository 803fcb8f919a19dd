"""Throughput as tables."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gammatorch.reports.console import print_table
from gammatorch.reports.text import plural, printable, size
from gammatorch.results.documents import Throughput, Times

_NAMES = {
    "open": "open, headers",
    "select": "selection",
    "read": "reads",
    "transfer": "to the device",
    "analysis": "analysis",
}


def print_throughput(measured: Throughput, console: Console) -> None:
    """Print the stages of one checkpoint, and what they come to."""
    both = (("warm", measured.warm), ("cold", measured.cold))
    columns = [(name, times) for name, times in both if times is not None]
    rows = [[label, *(_ms(getattr(times.stages, stage)) for _, times in columns)] for stage, label in _NAMES.items()]
    rows.insert(-1, ["gains, together", *(_ms(times.extraction) for _, times in columns)])
    rows.append(["safe_open, the same gains", *(_ms(times.safe_open) for _, times in columns)])
    title = (
        f"{printable(measured.model)}: {measured.layers} × {measured.hidden} of "
        f"{size(measured.checkpoint_bytes)} in {plural(measured.shards, 'shard')}, "
        f"on {measured.device}, median of {measured.repeats}"
    )
    print_table(console, title, ["<stage", *(f"{name} ms" for name, _ in columns)], rows)
    for name, times in columns:
        ratio = times.over_safe_open
        faster = "" if ratio is None else f", {ratio:.1f} × as fast as safe_open"
        speed = f"{times.checkpoints_per_second:.1f} checkpoints/s, {times.tensors_per_second:.0f} tensors/s"
        console.print(f"{name}: {speed}{faster}{_fetched(times, measured.page_bytes) if name == 'cold' else ''}")
    console.print(
        f"read {size(measured.bytes_read)} for {size(measured.bytes_needed)} needed, "
        f"{plural(measured.requests, 'request')}, {plural(measured.rounds, 'dependent round')}"
    )
    for note in measured.notes:
        console.print(Text(f"note: {note}", style="yellow"))


def _fetched(times: Times, page_bytes: int | None) -> str:
    """What came from the disk itself, which the page cache hides in a warm run."""
    ours, theirs = times.disk_bytes, times.safe_open_disk_bytes
    if ours is None:
        return ""
    pages = "" if page_bytes is None else f" (the gains' own pages are {size(page_bytes)})"
    return f"; from disk {size(int(ours))}{pages}" + ("" if theirs is None else f", safe_open {size(int(theirs))}")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.2f}"
