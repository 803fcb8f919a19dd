"""The figures of a page, and what is said of those that cannot be drawn."""

from __future__ import annotations

import json
from array import array
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from gammatorch.reports.figures.figure import Drawn, Figure
from gammatorch.reports.figures.look import Spec
from gammatorch.reports.page.html import paragraph
from gammatorch.reports.text import in_html
from gammatorch.results.base import Document

_SHORTEST, _LARGEST = 16, 1e38
"""Numbers from which a list is written as bytes, and the largest that four bytes hold."""


def pictures(table: Mapping[str, Figure[Drawn]], document: Drawn) -> str:
    """Every figure of a table, in its order.

    Args:
        table: Figures by name.
        document: Where their numbers are.

    Returns:
        HTML, with a line at the end for each reason to leave figures out, which names these.
    """
    drawn, missing = list[str](), defaultdict[str, list[str]](list)
    for name, figure in table.items():
        if why := figure.why_left_out(document):
            missing[why].append(figure.title)
        else:
            drawn.append(picture(name, figure.title, figure.caption, figure.draw(document)))
    left = "\n".join(paragraph(f"Not drawn, since {why}: {'; '.join(titles)}.") for why, titles in missing.items())
    return f'<div class="pictures">\n{"".join(drawn)}</div>\n{left}' if drawn else left


def picture(name: str, title: str, caption: str, drawn: Spec, steps: int = 0) -> str:
    """One figure with its numbers.

    Args:
        name: In the page.
        title: Its heading.
        caption: What it shows.
        drawn: The figure.
        steps: Number of steps of its slider; 0 for none.
    """
    height = int(drawn["layout"]["height"])
    slider = f'<label>step <input type="range" min="0" max="{steps - 1}" value="{steps - 1}"> <output></output></label>'
    return (
        f"<figure{_WHOLE if name in _WIDE else ''}>\n<h3>{in_html(title)}</h3>\n{slider if steps else ''}"
        f'<div data-figure="{name}" role="img" aria-label="{in_html(f"{title}. {caption}", 1000)}" '
        f'style="min-height:{height}px"></div>\n{json_block(with_bytes(drawn))}\n'
        f"<figcaption>{in_html(caption, None)}</figcaption>\n</figure>\n"
    )


_WIDE, _WHOLE = ("gamma", "layers_by_step"), ' class="whole"'
"""Figures that take the whole width."""


def json_block(value: Any, name: str = "") -> str:
    """A value as a block that is no script, in which no text can end it.

    Args:
        value: Anything that JSON holds.
        name: Its id; none where empty.
    """
    text = json.dumps(value, separators=(",", ":"))  # in ASCII, so that a lone surrogate has its place
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json"{f" id={chr(34)}{name}{chr(34)}" if name else ""}>{safe}</script>'


def saved(document: Document) -> str:
    """A button that saves the result as JSON; nothing where that would make the page heavy."""
    value = msgspec.to_builtins(document)
    if len(json.dumps(value)) > _HEAVIEST:
        return ""
    button = '<p class="save"><button type="button" data-save="json">result as JSON</button></p>'
    return button + json_block(value, "result")


_HEAVIEST = 2_000_000
"""Bytes of JSON that a page holds at most."""


def with_bytes(drawn: Spec) -> Spec:
    """The figure with its long lists of numbers as typed bytes in base64, which Plotly reads."""
    traces = [
        {key: _packed(value) if key in ("x", "y", "z") else value for key, value in trace.items()}
        for trace in drawn["data"]
    ]
    return {**drawn, "data": traces}


def _packed(value: Sequence[Any]) -> Any:
    if not value or not isinstance(value[0], list):
        return _bytes(value, "f8") if len(value) >= _SHORTEST and _are_numbers(value) else value
    flat = list(chain.from_iterable(value))
    if len(flat) < _SHORTEST:
        return value
    small = all(number is None or abs(number) < _LARGEST for number in flat)
    return {**_bytes(flat, "f4" if small else "f8"), "shape": f"{len(value)}, {len(value[0])}"}


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(value is None or isinstance(value, int | float) for value in values)


def _bytes(values: Sequence[float | None], kind: str) -> dict[str, str]:
    numbers = array({"f4": "f", "f8": "d"}[kind], (float("nan") if one is None else one for one in values))
    return {"dtype": kind, "bdata": b64encode(numbers.tobytes()).decode("ascii")}
