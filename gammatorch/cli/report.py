"""``gammatorch report``: pictures of a result file or of a sweep, as one page."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from pathlib import Path
from typing import cast

import click

from gammatorch.cli.options import Session, loudness_options
from gammatorch.cli.progress import Progress
from gammatorch.errors import InvalidArgument, ResultError


@click.command()
@click.argument("path", metavar="PATH")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="F",
    help="Write the page to this file; else it goes to stdout, if that is no terminal.",
)
@loudness_options
@click.pass_obj
def report(session: Session, path: str, out: Path | None) -> None:
    """Draw a result file, a sweep or a model as one HTML page.

    PATH is what `run --out` or `compare --out` wrote, or the folder of a sweep, of which no model is opened; or a MODEL
    as in `run`, which is run first. The page needs no network and no other file. Pictures need matplotlib: pip install
    'gammatorch[report]'.

    \b
    gammatorch report step1000.json --out step1000.html
    gammatorch report ./pythia --out pythia.html
    gammatorch report Qwen/Qwen3-0.6B --out qwen3.html
    """
    from gammatorch.reports.document import check_writable, write_atomically

    if out is None and sys.stdout.isatty():
        raise click.UsageError("the page is HTML and no text for a terminal: pass --out F, or redirect stdout")
    if out is not None:
        check_writable(out, [path])
    with Progress(session) as progress:
        progress.stage("reading")
        page = _page(path, session, progress)
    if out is not None:
        write_atomically(out, page)
        session.notice(f"saved {out}")
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # the bytes that a file would get
    click.echo(page, nl=False)


def _page(name: str, session: Session, progress: Progress) -> str:
    """The page of whatever stands under a name."""
    from gammatorch.checkpoints.locate import is_hub_id, is_local_model
    from gammatorch.results.files import PASSED
    from gammatorch.sweep.store import is_sweep

    path = Path(name)
    if is_sweep(path):
        return _sweep_page(path, session)
    if is_local_model(name) or (is_hub_id(name) and not name.endswith(".json")):
        return _model_page(name, session, progress)
    if path.is_dir():
        raise ResultError(f"is not the folder of a sweep, and holds no weights: pass {PASSED}", file=name)
    return _result_page(path, session)


def _model_page(name: str, session: Session, progress: Progress) -> str:
    """The page of a model's site `auto`, which is read and analysed for it."""
    _need_matplotlib(session)
    from gammatorch.analysis.analyze import analyze
    from gammatorch.analysis.result import Analysis
    from gammatorch.reports.page.of_result import result_page
    from gammatorch.results.run import run_document

    progress.stage("reading gains")
    return result_page(run_document(cast(Analysis, analyze(name))))


def _result_page(path: Path, session: Session) -> str:
    from gammatorch.results.files import read_result

    document = read_result(path)
    _need_matplotlib(session)
    from gammatorch.reports.page.of_result import result_page

    return result_page(document)


def _sweep_page(path: Path, session: Session) -> str:
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
