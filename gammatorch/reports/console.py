"""The terminal: plain text in, nothing interpreted, no figure ever cut, and no line wider than it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Sequence[str]

_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")

LONGEST_LINE = 100
"""Characters of a line that are still easy to read."""

NARROWEST = 60
"""Columns that every output fits into. A terminal narrower than this wraps lines."""

_UNBOUNDED = 10_000
"""Width given to rich where nothing may be folded or cut: whatever does not go to a terminal."""

_GAP, _NAME, _FOLDED = 2, 24, 20
"""Spaces between columns, and the widths that a column of names and a column of running text keep at least."""


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
    """Columns that running text is set in: the terminal's, 100 at most, and 80 where there is no terminal."""
    return min(console.width, LONGEST_LINE) if console.is_terminal else 80


def print_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    least: Sequence[str] = (),
    folded: Sequence[str] = (),
) -> None:
    """A table under its title: figures on the right, names on the left, columns as wide as they need.

    On a terminal that is too narrow, names are cut in their middle, running text is folded, and columns are left out,
    the least important first. Figures are never cut: one that lost its last digits would be a wrong figure.

    Args:
        console: Where to.
        title: What the table tells.
        columns: Headings; one that starts with ``<`` is a column of names.
        rows: Cells as text, one row each.
        least: Headings of the columns that may be left out, the least important first.
        folded: Headings of columns of running text.
    """
    lines, left_out = table_lines(console, columns, rows, console.width, least=least, folded=folded)
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        console.out(line, highlight=False)
    if left_out:
        console.print(Text(f"not shown in {console.width} columns: {', '.join(left_out)}", style="dim"))


def table_lines(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Row],
    width: int,
    *,
    least: Sequence[str] = (),
    folded: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """The lines of a table, and the headings of the columns that are left out for lack of room.

    Args:
        console: Whose styles they have.
        columns: As for :func:`print_table`, like all others.
        rows: As there.
        width: Columns of the terminal to fit into, taken as at least :data:`NARROWEST`.
        least: As there.
        folded: As there.
    """
    heads = [column.removeprefix("<") for column in columns]
    cells = [list(row) for row in rows]
    full = [max(map(cell_len, texts)) for texts in zip(heads, *cells, strict=True)]
    small = [
        min(wide, _FOLDED) if head in folded else min(wide, _NAME) if column.startswith("<") else wide
        for head, column, wide in zip(heads, columns, full, strict=True)
    ]
    kept, width = list(range(len(heads))), max(width, NARROWEST)
    left_out = []
    for head in least:
        if sum(small[one] + _GAP for one in kept) - _GAP > width and head in heads:
            kept.remove(heads.index(head))
            left_out.append(head)
    widths = _shared_out(width, [small[one] for one in kept], [full[one] for one in kept])
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for one, wide in zip(kept, widths, strict=True):
        justify = "left" if columns[one].startswith("<") else "right"
        table.add_column(heads[one], justify=justify, no_wrap=heads[one] not in folded, overflow="fold", width=wide)  # type: ignore[arg-type]
    for row in cells:
        texts = (
            row[one] if heads[one] in folded else cut(row[one], wide) for one, wide in zip(kept, widths, strict=True)
        )
        table.add_row(*map(Text, texts))
    return _rendered(console, table), left_out


def _shared_out(width: int, small: Sequence[int], full: Sequence[int]) -> list[int]:
    """The widths of columns: the small ones, and what room is left given to the first that want more."""
    left = width - sum(small) - _GAP * (len(small) - 1)
    widths = []
    for least, wanted in zip(small, full, strict=True):
        more = max(0, min(wanted - least, left))
        widths.append(least + more)
        left -= more
    return widths


def _rendered(console: Console, table: Table) -> list[str]:
    """The lines that a table prints; spaces at their end would wrap on a narrow terminal."""
    width, console.width = console.width, _UNBOUNDED
    with console.capture() as captured:
        console.print(table)
    console.width = width
    return [_TRAILING.sub(r"\1", line) for line in captured.get().splitlines()]


def cut(text: str, width: int) -> str:
    """A text with its middle left out where it is wider than that.

    Example:
        >>> cut("model.layers.0.input_layernorm", 21), cut("short", 21)
        ('model.laye…_layernorm', 'short')
    """
    if cell_len(text) <= width:
        return text
    kept = width - 1
    while cell_len(shorter := f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}") > width:
        kept -= 1
    return shorter


def folded_lines(text: str, width: int, indent: str = "") -> list[str]:
    """Running text in lines, all but the first indented."""
    return wrap(text, max(width, NARROWEST), subsequent_indent=indent, break_on_hyphens=False) or [""]
