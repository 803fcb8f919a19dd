"""Parts of a page. Whatever text they are given comes out escaped, control characters written out, long names cut."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache

from gammatorch.reports.glossary import entries_of
from gammatorch.reports.page.script import SCRIPT, plotly_script
from gammatorch.reports.page.style import STYLE
from gammatorch.reports.text import in_html

Cells = Sequence[str]

LONGEST_TEXT = 1000
"""Characters of a sentence; of a name :data:`~gammatorch.reports.text.LONGEST_NAME`."""

_POLICY = "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data: blob:"
"""Told to the browser as well: it is to fetch nothing, and to run the page's own script alone. Plotly sets styles."""

_MOVED = '<div class="wide" role="group" aria-label="Table" tabindex="0">'

_SAVE_TABLE = '<p class="save"><button type="button" data-save="csv">table as CSV</button></p>'

_LONGEST_LINE = 50
"""Characters of a table's cell that stay on one line."""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: What it is about; its heading too.
        parts: HTML.
    """
    name, body = in_html(title), "\n".join(parts)
    script = (plotly_script() if "<div data-figure=" in body else "") + SCRIPT
    policy = _POLICY.format(b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<link rel="icon" href="data:,">\n<title>{name} · gammatorch</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{name}</h1>\n{body}\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """Parts under a heading of their own; nothing where they are empty."""
    body = "\n".join(part + (_SAVE_TABLE if part.startswith(_MOVED) else "") for part in parts if part)
    return f"<section>\n<h2>{in_html(heading)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is a class of the style sheet."""
    return f"<p{_class(kind)}>{in_html(text, LONGEST_TEXT)}</p>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, a line each; those without a value are left out."""
    lines = (f"<dt>{in_html(name)}</dt><dd>{in_html(value, LONGEST_TEXT)}</dd>" for name, value in pairs if value)
    return "<dl>" + "\n".join(lines) + "</dl>"


def bullets(items: Iterable[str]) -> str:
    """A list, an item each; nothing without items."""
    lines = "\n".join(f"<li>{in_html(item, LONGEST_TEXT)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def table(columns: Cells, rows: Iterable[Cells]) -> str:
    """A table that can be moved sideways where the page is narrow, with a finger or with the arrow keys.

    Args:
        columns: Headings; one that starts with ``<`` is a column of names, the others are of figures.
        rows: Cells as text.

    Returns:
        HTML, nothing without rows.
    """
    sides = [_class("name" if column.startswith("<") else "") for column in columns]
    head = _row("th", [column.removeprefix("<") for column in columns], sides, explain=len(columns))
    body = "\n".join(_row("td", row, sides, explain=1) for row in rows)
    if not body:
        return ""
    return f"{_MOVED}<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>"


def folded(summary: str, inner: str) -> str:
    """What is shown when its summary is clicked."""
    return f"<details><summary>{in_html(summary)}</summary>\n{inner}\n</details>" if inner else ""


def _row(tag: str, cells: Cells, sides: Cells, explain: int) -> str:
    """A row; the first cells have their names explained on hover."""
    written = (
        f"<{tag}{side}{_hint(cell) if place < explain else ''}>{_within(in_html(cell), len(cell))}</{tag}>"
        for place, (cell, side) in enumerate(zip(cells, sides, strict=True))
    )
    return f"<tr>{''.join(written)}</tr>"


@cache
def _hint(name: str) -> str:
    """What the glossary says of a name, shown on hover; nothing where it has no entry."""
    found = next(iter(entries_of(name).values()), None) if 0 < len(name) <= _LONGEST_LINE else None
    if found is None:
        return ""
    return f' title="{in_html(" ".join(filter(None, (found.what, found.reading))), None)}"'


def _within(cell: str, length: int) -> str:
    """A cell, on several lines where it is a long name."""
    return cell if length <= _LONGEST_LINE else f'<div class="long">{cell}</div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
