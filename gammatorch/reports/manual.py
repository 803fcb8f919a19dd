"""The pages of the manual, on the terminal and as plain text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib.resources import files

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text
from rich.theme import Theme

from gammatorch.errors import InvalidArgument
from gammatorch.reports.console import reading_width
from gammatorch.reports.text import printable

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

    Args:
        topic: One of :data:`TOPICS`.

    Example:
        >>> page_text("models").splitlines()[0]
        '# Models, sites and formats'
    """
    return (files("gammatorch") / "manual" / f"{topic}.md").read_text(encoding="utf-8")


def find_topic(name: str, others: Iterable[str] = ()) -> str:
    """The page of that name.

    Args:
        name: What was asked for; case makes no difference.
        others: Names that would have been understood as well.

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
    """Print the name and the heading of every page.

    Args:
        console: Where to.
    """
    longest = max(map(len, TOPICS))
    console.print(Text("Pages of the manual", style="bold"))
    for topic in TOPICS:
        heading = page_text(topic).partition("\n")[0].removeprefix("# ")
        console.print(Text(f"  {topic:<{longest}}  {heading}"), soft_wrap=False)
    console.print()
    console.print("`gammatorch help TOPIC` shows a page, `gammatorch explain NAME` what one name means.")


def print_page(topic: str, console: Console) -> None:
    """Print a page, no wider than the terminal.

    Args:
        topic: One of :data:`TOPICS`.
        console: Where to.
    """
    page = Markdown(_COMMENT.sub("", page_text(topic)), hyperlinks=False, code_theme="ansi_dark")
    with console.use_theme(_PLAIN_CODE), console.capture() as captured:
        console.print(page, width=reading_width(console))
    for line in captured.get().splitlines():
        console.out(line if console.is_terminal else line.rstrip(), highlight=False)
