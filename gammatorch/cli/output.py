"""Where a result goes: to stdout as tables or JSON, and to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gammatorch.cli.options import Session

if TYPE_CHECKING:
    from gammatorch.results.base import Document


def show(
    session: Session,
    form: str,
    out: Path | None,
    document: Callable[[], Document] | Sequence[Callable[[], Document]],
    print_tables: Callable[[Any], None],
) -> None:
    """Print the result and write it; a reader that closes the pipe early does not cost the file.

    Args:
        session: How loud this call is.
        form: ``"table"`` or ``"json"``.
        out: File to write, if any.
        document: Makes the document; several make an array of them, unless it is one alone.
        print_tables: Prints the tables to a console.
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.document import write_atomically

    text = _as_json(document) if form == "json" or out is not None else ""
    try:
        if form == "json":
            click.echo(text, nl=False)
        else:
            print_tables(make_console())
    finally:
        if out is not None:
            write_atomically(out, text)
            session.notice(f"saved {out}")


def _as_json(document: Callable[[], Document] | Sequence[Callable[[], Document]]) -> str:
    from gammatorch.results.files import to_json

    texts = [to_json(make()) for make in (document if isinstance(document, Sequence) else [document])]
    return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(map(str.rstrip, texts)) + "\n]\n"
