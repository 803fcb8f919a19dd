"""The glossary as one table, and how a name is looked up in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gammatorch.reports.glossary.comparing import CHECKS, COMPARISONS, KINSHIP, VERIFICATION
from gammatorch.reports.glossary.entry import Entry
from gammatorch.reports.glossary.layers import LAYERS, NOTES
from gammatorch.reports.glossary.reading import METHODS, SITES, STACKS
from gammatorch.reports.glossary.statistics import STATISTICS
from gammatorch.reports.glossary.sweeps import ANOMALIES, BENCH, FIELDS, SWEEPS
from gammatorch.reports.glossary.verdicts import VERDICTS


def entries_of(name: str) -> dict[str, Entry]:
    """The entries that a name may mean, by their title, or of which it is a part; empty where there is none.

    Capitals, hyphens, underscores and spaces make no difference, and the name in JSON is as good as the one on screen.

    Args:
        name: A title, another name it is printed under, or where files hold it.

    Example:
        >>> list(entries_of("effective_dimension"))
        ['participation ratio']
        >>> list(entries_of("convention"))
        ['convention', 'convention (sweep)']
        >>> list(entries_of("disattenuated"))
        ['loss, noise removed']
    """
    wanted = _plain(name)
    found = {title: entry for title, entry in GLOSSARY.items() if wanted in map(_plain, names_of(title, entry))}
    return found or {title: entry for title, entry in GLOSSARY.items() if wanted in map(_plain, entry.parts)}


def names_of(title: str, entry: Entry) -> Iterator[str]:
    """Every name that an entry is found under.

    Args:
        title: Its title.
        entry: The entry.
    """
    yield title
    yield re.sub(r" \(.*\)$", "", title)
    yield from entry.also
    if entry.stored:
        yield entry.stored
        yield entry.stored.rpartition(".")[2]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


GLOSSARY: Mapping[str, Entry] = {
    **STATISTICS,
    **LAYERS,
    **VERDICTS,
    **COMPARISONS,
    **KINSHIP,
    **CHECKS,
    **VERIFICATION,
    **SITES,
    **STACKS,
    **METHODS,
    **SWEEPS,
    **ANOMALIES,
    **BENCH,
    **NOTES,
    **FIELDS,
}
"""By title: every name that is printed or written. One entry here and `explain`, the manual and the tables have it."""
