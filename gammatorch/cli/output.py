"""Where a result goes: to stdout as tables or JSON, and to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from gammatorch.cli.options import Session


def show(
    session: Session,
    form: str,
    out: Path | None,
    document: Callable[[], Mapping[str, Any]],
    print_tables: Callable[[Any], None],
) -> None:
    """Print the result and write it; a reader that closes the pipe early does not cost the file.

    Args:
        session: How loud this call is.
        form: ``"table"`` or ``"json"``.
        out: File to write, if any.
        document: Makes the document.
        print_tables: Prints the tables to a console.
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.document import to_json, write_atomically

    text = to_json(document()) if form == "json" or out is not None else ""
    try:
        if form == "json":
            click.echo(text, nl=False)
        else:
            print_tables(make_console())
    finally:
        if out is not None:
            write_atomically(out, text)
            session.notice(f"saved {out}")
