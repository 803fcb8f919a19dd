"""``gammatorch report``: a result file, a sweep or a model as one page."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from gammatorch.cli.options import Session, loudness_options
from gammatorch.cli.progress import Progress


@click.command()
@click.argument("path", metavar="PATH")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="F",
    help="Write the page to this file; by default it goes to stdout, unless that is a terminal.",
)
@click.option("--figure", "name", metavar="NAME", help="Write this figure alone to F, a .png, .svg or .pdf.")
@loudness_options
@click.pass_obj
def report(session: Session, path: str, out: Path | None, name: str | None) -> None:
    """Draw a result file, a sweep or a model as one HTML page.

    PATH is a file that `run --out`, `compare --out` or `check --out` wrote, or the folder of a sweep; their models are
    not needed any more. PATH can also be a MODEL as in `run`, which is then analysed first, and shows γ itself as well.
    The page needs no network and no other file. Figures need plotly: pip install 'gammatorch[report]'. With --figure, F
    is one figure as .png, .svg or .pdf, which needs kaleido as well.

    \b
    gammatorch report step1000.json --out step1000.html
    gammatorch report ./pythia --out pythia.html
    gammatorch report Qwen/Qwen3-0.6B --out qwen3.html
    gammatorch report step1000.json --figure rank_correlation --out step1000.svg
    """
    if name is not None:
        _save_figure(session, path, out, name)
        return
    from gammatorch.pages import page_of
    from gammatorch.reports.document import SUFFIXES, check_writable, write_atomically

    if out is None and sys.stdout.isatty():
        raise click.UsageError(
            "the page is HTML, which a terminal cannot show: pass --out page.html, or redirect stdout to a file"
        )
    if out is not None:
        check_writable(out, [path])
    if out is not None and out.suffix.lower() in SUFFIXES and out.suffix.lower() != ".html":
        raise click.UsageError(
            f"a page is HTML, which does not fit the name {out}: pass a name that ends in .html, or --figure NAME for "
            f"a picture ({', '.join(_IMAGES)})"
        )
    with Progress(session) as progress:
        progress.stage("reading")
        page = page_of(path)
    if out is not None:
        write_atomically(out, page)
        session.notice(f"saved {out}")
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # the bytes that a file would get
    click.echo(page, nl=False)


_IMAGES = (".png", ".svg", ".pdf")


def _save_figure(session: Session, path: str, out: Path | None, name: str) -> None:
    """One figure as a picture file, by Plotly's own export."""
    from gammatorch.pages import figure_of
    from gammatorch.reports.document import check_writable
    from gammatorch.reports.figures.table import save_image

    if out is None or out.suffix not in _IMAGES:
        raise click.UsageError(
            f"a figure is written to a file: pass --out with a name that ends in {', '.join(_IMAGES)}"
        )
    check_writable(out, [path])
    save_image(figure_of(path, name), out)
    session.notice(f"saved {out}")
