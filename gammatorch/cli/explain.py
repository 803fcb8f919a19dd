"""``gammatorch explain``: what a figure, a column, a verdict or a site means."""

from __future__ import annotations

import click

from gammatorch.cli.options import Session, format_option, loudness_options


@click.command()
@click.argument("name", required=False)
@format_option
@loudness_options
@click.pass_obj
def explain(session: Session, name: str | None, format: str) -> None:
    """Explain a figure, column, verdict, site or field: what it is, its formula, how to read it, its source.

    NAME is any name that a table, a sentence or a result file has; without it all names are listed.

    \b
    gammatorch explain
    gammatorch explain 'participation ratio'
    gammatorch explain statistics.depth_contrast --format json
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.explanation import entries_json, find_entries, print_entries, print_names

    entries = find_entries(name)
    if format == "json":
        click.echo(entries_json(entries))
    elif name is None:
        print_names(make_console())
    else:
        print_entries(entries, make_console())
