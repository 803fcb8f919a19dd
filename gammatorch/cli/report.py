"""``gammatorch report``: pictures of a result file or of a sweep, as one page."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from pathlib import Path

import click

from gammatorch.cli.options import Session, loudness_options
from gammatorch.cli.progress import Progress
from gammatorch.errors import InvalidArgument, ResultError


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="F", help="Write the page to this file; else it goes to stdout."
)
@loudness_options
@click.pass_obj
def report(session: Session, path: Path, out: Path | None) -> None:
    """Draw a result file or a sweep as one HTML page; opens no model.

    PATH is what `run --out` or `compare --out` wrote, or the folder of a sweep. The page needs no network and no other
    file. Pictures need matplotlib: pip install 'gammatorch[report]'.

    \b
    gammatorch report step1000.json --out step1000.html
    gammatorch report ./pythia --out pythia.html
    """
    from gammatorch.reports.document import check_writable, write_atomically

    if out is not None:
        check_writable(out, [path])
    with Progress(session) as progress:
        progress.stage("reading")
        page = _sweep_page(path, session) if path.is_dir() else _result_page(path, session)
    if out is not None:
        write_atomically(out, page)
        session.notice(f"saved {out}")
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # the bytes that a file would get
    click.echo(page, nl=False)


def _result_page(path: Path, session: Session) -> str:
    from gammatorch.results.files import read_result

    document = read_result(path)
    _need_matplotlib(session)
    from gammatorch.reports.page.of_result import result_page

    return result_page(document)


def _sweep_page(path: Path, session: Session) -> str:
    from gammatorch.results.files import PASSED
    from gammatorch.sweep.store import is_sweep

    if not is_sweep(path):
        raise ResultError(f"is not the folder of a sweep: pass {PASSED}", file=str(path))
    _need_matplotlib(session)
    from gammatorch.reports.page.of_sweep import sweep_page
    from gammatorch.sweep.curves import sweep_document

    return sweep_page(sweep_document(path))


def _need_matplotlib(session: Session) -> None:
    """Import what draws, or say how to get it.

    Raises:
        InvalidArgument: It is not installed.
    """
    if not session.verbose:  # it tells of fonts and folders for its cache, which are no concern of ours
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        importlib.import_module("gammatorch.reports.pictures.canvas")
    except ImportError as error:
        raise InvalidArgument(f"report needs matplotlib ({error}): pip install 'gammatorch[report]'") from None
