"""Entries of the glossary and pages of the manual, on the terminal and as documents."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files
from textwrap import wrap

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text
from rich.theme import Theme

from gammatorch.errors import InvalidArgument
from gammatorch.reports.console import reading_width
from gammatorch.reports.glossary import GLOSSARY, GROUPS, Entry, entries_of, formula_label, names_of
from gammatorch.reports.text import printable

_LABELS = {
    "formula": "formula",
    "reading": "how to read it",
    "reference": "reference",
    "source": "source",
    "stored": "in files",
}
_INDENT = 2 + max(map(len, _LABELS.values()))


def find_entries(name: str | None) -> Mapping[str, Entry]:
    """The entries that a name may mean, by title; all of them without a name.

    Args:
        name: A name that is printed or written somewhere, in any case.

    Raises:
        InvalidArgument: There is none; the message names those nearest to it.

    Example:
        >>> list(find_entries("shared_energy"))
        ['shared energy']
    """
    if name is None:
        return GLOSSARY
    if found := entries_of(name):
        return found
    known = {one.casefold(): title for title, entry in GLOSSARY.items() for one in names_of(title, entry)}
    close = dict.fromkeys(known[one] for one in difflib.get_close_matches(name.casefold(), known, n=3))
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InvalidArgument(f"nothing is called '{printable(name)}'{meant} (`gammatorch explain` lists every name)")


def print_names(console: Console) -> None:
    """Print the titles of all entries, group by group."""
    width = reading_width(console)
    for group, heading in GROUPS.items():
        titles = [title.replace(" ", _GLUE) for title, entry in GLOSSARY.items() if entry.group == group]
        console.print(Text(heading, style="bold"))
        for line in _lines(f"{_GLUE}· ".join(titles), width, "  "):
            console.print(line.replace(_GLUE, " "))
    console.print()
    console.print("`gammatorch explain NAME` explains one of them.")


_GLUE = "\N{NO-BREAK SPACE}"


def print_entries(entries: Mapping[str, Entry], console: Console) -> None:
    """Print entries in full."""
    width = reading_width(console)
    for number, (title, entry) in enumerate(entries.items()):
        if number:
            console.print()
        console.print(Text(title, style="bold"))
        console.print(GROUPS[entry.group], style="dim")
        for line in _lines(entry.what, width):
            console.print(line)
        for text, label in _labelled(entry):
            for line in _lines(text, width, " " * _INDENT, label):
                console.print(line)


def _labelled(entry: Entry) -> Iterator[tuple[str, str]]:
    """The parts of an entry that it has, each with its label."""
    for name, label in _LABELS.items():
        if text := getattr(entry, name):
            yield text, formula_label(entry) if name == "formula" else label
    for number, (name, meaning) in enumerate(entry.parts.items()):
        yield f"{name}: {meaning}", "" if number else "holds"
    if entry.also:
        yield ", ".join(entry.also), "also called"


def _lines(text: str, width: int, indent: str = "", label: str = "") -> list[str]:
    """Running text in lines, the first after its label."""
    return wrap(text, width, initial_indent=label.ljust(len(indent)), subsequent_indent=indent, break_on_hyphens=False)


def entries_json(entries: Mapping[str, Entry]) -> str:
    """Entries as one JSON document."""
    return json.dumps({"entries": [{"name": title, **asdict(entry)} for title, entry in entries.items()]}, indent=2)


TOPICS = (
    "models",
    "statistics",
    "compare",
    "sweeps",
    "hub",
    "wide",
    "python",
    "files",
    "inside",
    "extending",
)
"""The pages in the order of the list; each is `gammatorch/manual/TOPIC.md`."""


_PLAIN_CODE = Theme({"markdown.code": "bold cyan"})
"""Without the black ground that rich gives code, which stands out on a light terminal."""

_COMMENT = re.compile(r"<!--.*?-->\n*")


def page_text(topic: str) -> str:
    """A page as it is written, in Markdown.

    Example:
        >>> page_text("models").splitlines()[0]
        '# Models, sites and formats'
    """
    return (files("gammatorch") / "manual" / f"{topic}.md").read_text(encoding="utf-8")


def find_topic(name: str, others: Iterable[str] = ()) -> str:
    """The page of that name.

    Raises:
        InvalidArgument: There is none; the message names the nearest.

    Example:
        >>> find_topic("Sweeps")
        'sweeps'
    """
    topic = name.casefold().strip()
    if topic in TOPICS:
        return topic
    close = difflib.get_close_matches(topic, [*TOPICS, *others], n=2)
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InvalidArgument(f"the manual has no page '{printable(name)}'{meant} (its pages: {', '.join(TOPICS)})")


def print_topics(console: Console) -> None:
    """Print the name and the heading of every page."""
    longest = max(map(len, TOPICS))
    console.print(Text("Pages of the manual", style="bold"))
    for topic in TOPICS:
        heading = page_text(topic).partition("\n")[0].removeprefix("# ")
        console.print(Text(f"  {topic:<{longest}}  {heading}"), soft_wrap=False)
    console.print()
    console.print("`gammatorch help TOPIC` shows a page, `gammatorch explain NAME` what one name means.")


def print_page(topic: str, console: Console) -> None:
    """Print a page, no wider than the terminal."""
    page = Markdown(_COMMENT.sub("", page_text(topic)), hyperlinks=False, code_theme="ansi_dark")
    with console.use_theme(_PLAIN_CODE), console.capture() as captured:
        console.print(page, width=reading_width(console))
    for line in captured.get().splitlines():
        console.out(line if console.is_terminal else line.rstrip(), highlight=False)
