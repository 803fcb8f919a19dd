"""Parts of a page. Whatever text they are given comes out escaped, control characters written out, long names cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gammatorch.reports.page.style import STYLE
from gammatorch.reports.text import in_html

Cells = Sequence[str]

LONGEST_TEXT = 1000
"""Characters of a sentence; of a name :data:`~gammatorch.reports.text.LONGEST_NAME`."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Told to the browser as well: it is to fetch and run nothing."""


_MOVED = '<div class="wide" role="group" aria-label="Table" tabindex="0">'

_LONGEST_LINE = 50
"""Characters of a table's cell that stay on one line."""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: What it is about; its heading too.
        parts: HTML.
    """
    name = in_html(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{name} · gammatorch</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{name}</h1>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """Parts under a heading of their own; nothing where they are empty."""
    body = "\n".join(part for part in parts if part)
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
    head = _row("th", [column.removeprefix("<") for column in columns], sides)
    body = "\n".join(_row("td", row, sides) for row in rows)
    if not body:
        return ""
    return f"{_MOVED}<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>"


def folded(summary: str, inner: str) -> str:
    """What is shown when its summary is clicked."""
    return f"<details><summary>{in_html(summary)}</summary>\n{inner}\n</details>" if inner else ""


def _row(tag: str, cells: Cells, sides: Cells) -> str:
    written = (
        f"<{tag}{side}>{_within(in_html(cell), len(cell))}</{tag}>" for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def _within(cell: str, length: int) -> str:
    """A cell, on several lines where it is a long name."""
    return cell if length <= _LONGEST_LINE else f'<div class="long">{cell}</div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
