"""The pictures of a page, and what is said of those that cannot be drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from gammatorch.reports.page.html import paragraph
from gammatorch.reports.pictures.picture import Drawn, Picture
from gammatorch.reports.text import in_html


def pictures(table: Mapping[str, Picture[Drawn]], document: Drawn) -> str:
    """Every picture of a table as a ``figure``, in its order.

    Args:
        table: Pictures by name.
        document: Where their figures are.

    Returns:
        HTML, with a line at the end for each reason to leave pictures out, which names these.
    """
    drawn, missing = list[str](), defaultdict[str, list[str]](list)
    for name, picture in table.items():
        if why := picture.why_left_out(document):
            missing[why].append(picture.title)
        else:
            drawn.append(_figure(name, picture, document))
    left = "\n".join(paragraph(f"Not drawn, since {why}: {'; '.join(titles)}.") for why, titles in missing.items())
    return f'<div class="pictures">\n{"".join(drawn)}</div>\n{left}' if drawn else left


def _figure(name: str, picture: Picture[Drawn], document: Drawn) -> str:
    return (
        f"<figure>\n<h3>{in_html(picture.title)}</h3>\n{picture.svg(document, name)}\n"
        f"<figcaption>{in_html(picture.caption, None)}</figcaption>\n</figure>\n"
    )
