"""The tables of the manual that come from the glossary.

    python -m tests.manual.tables

writes them anew, between the comments that name their group.
"""

from __future__ import annotations

import re
from pathlib import Path

import gammatorch
from gammatorch.reports.glossary import group_table

PAGES = sorted((Path(gammatorch.__file__).parent / "manual").glob("*.md"))
_PLACE = re.compile(r"<!-- glossary: (\w+) -->\n\n.*?\n?\n?<!-- end -->", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with its tables as the glossary has them."""

    def told(place: re.Match[str]) -> str:
        return f"<!-- glossary: {place[1]} -->\n\n{group_table(place[1])}\n\n<!-- end -->"

    return _PLACE.sub(told, text)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
