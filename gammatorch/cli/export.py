"""``gammatorch export``: a sweep as a table."""

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
    help="By default the suffix of --out decides, or csv. csv and jsonl go to stdout unless --out is given.",
)
@click.option("--wide", is_flag=True, help="One row for each item instead of one for each figure.")
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="Write the table to this file.")
@loudness_options
@click.pass_obj
def export(session: Session, folder: Path, format: str | None, wide: bool, out: Path | None) -> None:
    """Write a sweep as one table.

    Its columns are item, step, layer, statistic, value, text, run.

    There is one row for each figure of each item, for its verdict, and for the anomalies and notes that name it. With
    --wide there is one row for each item, with the figures that concern all its layers.

    \b
    gammatorch export pythia | head
    gammatorch export pythia --out pythia.parquet
    gammatorch export pythia --wide --out pythia.csv
    """
    from gammatorch.reports.document import check_writable
    from gammatorch.reports.table_files import FILE_FORMATS, TEXT_FORMATS, write_table
    from gammatorch.sweep.export import long_table, wide_table

    if out is not None:
        check_writable(out, [folder])
    form = _format(format, out)
    make = wide_table if wide else long_table
    if out is None:
        if form in FILE_FORMATS:
            raise click.UsageError(f"{form} needs a file: pass --out")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # the bytes that a file would get
        TEXT_FORMATS[form](make(folder), sys.stdout)
        return
    write_table(make(folder), out, form)
    session.notice(f"saved {out}")


def _format(asked: str | None, out: Path | None) -> str:
    """The format that was asked for, or that the name of the file tells; csv where it tells none."""
    suffix = out.suffix.lower().removeprefix(".") if out is not None else ""
    if asked is not None and suffix in FORMATS and suffix != asked:
        raise click.UsageError(
            f"--format {asked} does not fit the name {out}: leave --format out, or pass another name"
        )
    if asked is not None:
        return asked
    if suffix and suffix not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise click.UsageError(f"no table is written as .{suffix}: pass a name that ends in {known}, or --format")
    return suffix or "csv"
