"""What every figure, column, verdict and name that is printed or written means: ``glossary.md``, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True)
class Entry:
    """What a name in a table, a sentence or a file means.

    Attributes:
        group: A name from :data:`GROUPS`.
        what: What it is, one sentence.
        formula: How it is computed; γ_i is the gain of layer i, u_i = γ_i / ‖γ_i‖, L layers of width H, r their
            correlations, C their cosines. Of a verdict or a finding: when it is given.
        reading: How to read it, and what can mislead.
        reference: The value to compare it with, short enough for a column of a table.
        source: Papers.
        stored: Where result files hold it, names joined by dots.
        also: Other names it is printed under.
        parts: What the parts mean that files hold of it, by name.
    """

    group: str
    what: str
    formula: str = ""
    reading: str = ""
    reference: str = ""
    source: str = ""
    stored: str = ""
    also: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)


_FIELD = re.compile(r"(formula|reading|reference|source|stored|also|part [\w ]+): ")


def _entry(group: str, lines: Sequence[str]) -> Entry:
    """The entry that some lines hold: a sentence, then its fields; an indented line goes on with the one above."""
    fields, parts, name = {"what": ""}, {}, "what"
    for line in lines:
        found = None if line.startswith(" ") else _FIELD.match(line)
        if found:
            name, line = found[1], line[found.end() :]
        fields[name] = f"{fields.get(name, '')} {line.strip()}".strip()
    for name in [name for name in fields if name.startswith("part ")]:
        parts[name.removeprefix("part ")] = fields.pop(name)
    also = tuple(fields.pop("also").split(", ")) if "also" in fields else ()
    return Entry(group, **fields, also=also, parts=parts)


def _read(text: str) -> tuple[dict[str, str], dict[str, Entry]]:
    """The groups and the entries of the glossary: ``# group: heading``, then ``## title`` and the lines of each."""
    groups, entries = {}, {}
    for section in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        heading, *found = re.split(r"^## ", section, flags=re.MULTILINE)
        group, _, groups[group] = (part.strip() for part in heading.partition(":"))
        for one in found:
            title, *lines = one.strip().splitlines()
            if title in entries:
                raise ValueError(f"glossary.md has two entries {title!r}")
            entries[title] = _entry(group, lines)
    return groups, entries


def formula_label(entry: Entry) -> str:
    """What the formula of an entry tells: how a figure is computed, or when a verdict or a finding is given."""
    return "when" if entry.group in ("verdict", "kinship", "check") else "formula"


def entries_of(name: str) -> dict[str, Entry]:
    """The entries that a name may mean, by their title, or of which it is a part; empty where there is none.

    Capitals, hyphens, underscores and spaces make no difference, and the name in JSON is as good as the one on screen.

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
    """Every name that an entry is found under: its title, its other names, its place in files."""
    yield title
    yield re.sub(r" \(.*\)$", "", title)
    yield from entry.also
    if entry.stored:
        yield entry.stored
        yield entry.stored.rpartition(".")[2]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def group_table(group: str) -> str:
    """The entries of a group as a Markdown table for the manual: the name, what it is, how to read it.

    Example:
        >>> print(group_table("method").splitlines()[2][:60])
        | svd | Principal axes by singular value decomposition; gain
    """
    rows = ["| name | what it is, and how to read it |", "| --- | --- |"]
    for title, entry in GLOSSARY.items():
        if entry.group == group:
            formula = entry.formula and f"{formula_label(entry).capitalize()}: `{entry.formula}`."
            told = " ".join(filter(None, (entry.what, formula, entry.reading)))
            rows.append(f"| {title} | {told} |".replace("|γ", r"\|γ").replace("γ|", r"γ\|").replace("γ'|", r"γ'\|"))
    return "\n".join(rows)


GROUPS, GLOSSARY = _read((files("gammatorch.reports") / "glossary.md").read_text(encoding="utf-8"))
"""The heading of each group, and the entries by title: every name that is printed or written."""
