"""What a sweep tells, kept beside its items: all of them are read again only where one of them has changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from gammatorch.errors import OutputError
from gammatorch.reports.document import write_atomically
from gammatorch.results.files import Misfit, decode, encode
from gammatorch.results.sweep import Failure, Item, TimelineDocument
from gammatorch.sweep.store import SUFFIX, done_keys
from gammatorch.version import __version__

FOLDER = "told"
"""Where they are kept, within the sweep's folder: it may be deleted at any time."""

_KEPT = 4
"""How many are kept: those of the whole sweep, of one command's items, of a part."""


def tell(
    folder: Path,
    keys: Collection[str] | None = None,
    failures: Sequence[Failure] = (),
    aliases: Sequence[tuple[Item, Item]] = (),
) -> TimelineDocument:
    """The table of a sweep and what is odd about it, from what was kept of the last time if all items are as they were.

    Items are the same if their names, sizes and times of writing are: they are written once and never changed. What was
    kept and cannot be read, or was made from other items, is made anew, by any process, whichever comes last.

    Args:
        folder: The sweep's folder.
        keys: As for :func:`~gammatorch.sweep.timeline.make_timeline`, as all others.
        failures: As there.
        aliases: As there.

    Raises:
        MalformedCheckpoint: A file in it is not what a sweep wrote.
    """
    chosen = sorted(done_keys(folder) if keys is None else done_keys(folder) & set(keys))
    kept = folder / FOLDER / f"{_stamp(folder, chosen, failures, aliases)}.json"
    with contextlib.suppress(OSError, Misfit):
        return decode(kept.read_bytes(), TimelineDocument)
    from gammatorch.sweep.timeline import make_timeline  # and PyTorch with it

    found = make_timeline(folder, chosen, failures, aliases).document()
    with contextlib.suppress(OSError, OutputError):  # who may only read does without
        kept.parent.mkdir(exist_ok=True)
        write_atomically(kept, encode(found))
        _forget(kept.parent)
    return found


def _stamp(folder: Path, keys: Sequence[str], failures: Sequence[Failure], aliases: Sequence[tuple[Item, Item]]) -> str:
    """A hash of all that the document is made from."""
    chosen = set(keys)
    with os.scandir(folder / "items") if keys else contextlib.nullcontext(()) as files:
        items = [
            (entry.name, told.st_size, told.st_mtime_ns)
            for entry in files
            if entry.name.removesuffix(SUFFIX) in chosen and (told := entry.stat())
        ]
    failed = [(one.name, one.kind) for one in failures]
    names = [(one.name, one.step, other.name, other.step) for one, other in aliases]
    made_from = [_code(), sorted(items), sorted(failed), sorted(map(str, names))]
    return hashlib.sha256(encode(made_from).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """A hash of the code that tells, so that another version never shows what this one found."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(__version__.encode())
    for path in sorted([*(package / "trajectory").glob("*.py"), *(package / "sweep").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _forget(folder: Path) -> None:
    """Delete all but the last few."""
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept[_KEPT:]:
        path.unlink(missing_ok=True)
