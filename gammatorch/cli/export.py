"""``gammatorch export``: a sweep as one long table."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from gammatorch.cli.options import Session, loudness_options

FORMATS = ("csv", "jsonl", "parquet", "sqlite")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="csv and jsonl go to stdout unless --out is given.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="Write the table to this file.")
@loudness_options
@click.pass_obj
def export(session: Session, folder: Path, format: str, out: Path | None) -> None:
    """Write a sweep as one long table: item, step, layer, statistic, value.

    \b
    gammatorch export pythia --format csv | head
    gammatorch export pythia --format parquet --out pythia.parquet
    """
    from gammatorch.reports.document import check_writable, replacing
    from gammatorch.sweep.export import FILE_FORMATS, TEXT_FORMATS, long_table

    if out is None:
        if format in FILE_FORMATS:
            raise click.UsageError(f"{format} needs a file: pass --out")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # the bytes that a file would get
        TEXT_FORMATS[format](long_table(folder), sys.stdout)
        return
    check_writable(out, [folder])
    rows = long_table(folder)
    with replacing(out) as temporary:
        if format in FILE_FORMATS:
            FILE_FORMATS[format](rows, temporary)
        else:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                TEXT_FORMATS[format](rows, file)
    session.notice(f"saved {out}")
