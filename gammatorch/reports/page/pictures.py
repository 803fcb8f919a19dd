"""The pictures of a page, and what is said of those that cannot be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gammatorch.reports.page.html import paragraph
from gammatorch.reports.pictures.picture import Picture
from gammatorch.reports.text import in_html


def pictures(table: Mapping[str, Picture], document: Mapping[str, Any]) -> str:
    """Every picture of a table as a ``figure``, in its order.

    Args:
        table: Pictures by name.
        document: Where their figures are.

    Returns:
        HTML, with a line at the end that names the pictures whose figures are all undefined.
    """
    drawn = [_figure(name, picture, document) for name, picture in table.items() if picture.has_figures(document)]
    missing = [picture.title for picture in table.values() if not picture.has_figures(document)]
    left = paragraph(f"Not drawn, since there are no figures for it: {'; '.join(missing)}.") if missing else ""
    return f'<div class="pictures">\n{"".join(drawn)}</div>\n{left}' if drawn else left


def _figure(name: str, picture: Picture, document: Mapping[str, Any]) -> str:
    return (
        f"<figure>\n<h3>{in_html(picture.title)}</h3>\n{picture.svg(document, name)}\n"
        f"<figcaption>{in_html(picture.caption, None)}</figcaption>\n</figure>\n"
    )
