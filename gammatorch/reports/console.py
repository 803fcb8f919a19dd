"""The terminal: plain text in, nothing interpreted, no figure ever cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Sequence[str]

_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")

LONGEST_LINE = 100
"""Characters of a line that are still easy to read."""

_UNBOUNDED = 10_000
"""Width given to rich where nothing may be folded or cut: tables, and whatever does not go to a terminal."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the decision to the caller, where rich would exit."""
        raise BrokenPipeError


def make_console(file: TextIO | None = None) -> Console:
    """A console that takes every text literally; ``NO_COLOR`` and ``TERM=dumb`` are rich's to obey."""
    console = _Console(file=file, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def reading_width(console: Console) -> int:
    """Columns that running text is set in: the terminal's, 100 at most, and 80 where there is no terminal.

    Args:
        console: Where the text goes.
    """
    return min(console.width, LONGEST_LINE) if console.is_terminal else 80


def print_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A table under its title: figures on the right, names on the left, columns as wide as they need.

    A terminal narrower than the table wraps its lines; a figure that lost its last digits would be a wrong figure.

    Args:
        console: Where to.
        title: What the table tells.
        columns: Headings; one that starts with ``<`` is a column of names.
        rows: Cells as text, one row each.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.removeprefix("<"), justify="left" if column.startswith("<") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print()
    console.print(Text(title, style="bold"))
    width, console.width = console.width, _UNBOUNDED
    with console.capture() as captured:
        console.print(table)
    console.width = width
    for line in captured.get().splitlines():
        console.out(_TRAILING.sub(r"\1", line), highlight=False)  # spaces at the end would wrap on a narrow terminal
