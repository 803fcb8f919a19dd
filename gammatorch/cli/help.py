"""``gammatorch help`` and ``gammatorch explain``: the manual, and what one name means."""

from __future__ import annotations

import click

from gammatorch.cli.options import Session, format_option, loudness_options


@click.command()
@click.argument("topic", required=False)
@loudness_options
@click.pass_context
def help(context: click.Context, topic: str | None) -> None:
    """Show a page of the manual, or the options of a command.

    TOPIC is a page or a command; without TOPIC the pages are listed.

    \b
    gammatorch help
    gammatorch help statistics
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.help import TOPICS, find_topic, print_page, print_topics

    assert context.parent is not None and isinstance(context.parent.command, click.Group)
    commands = context.parent.command.commands
    if topic is None:
        print_topics(make_console())
    elif topic in commands and topic not in TOPICS:
        command = commands[topic]
        click.echo(command.get_help(click.Context(command, info_name=topic, parent=context.parent)))
    else:
        print_page(find_topic(topic, commands), make_console())


@click.command()
@click.argument("name", required=False)
@format_option
@loudness_options
@click.pass_obj
def explain(session: Session, name: str | None, format: str) -> None:
    """Explain any name on screen or in a file.

    Tells what it is, its formula, how to read it, the papers behind it, and where files hold it.

    NAME is a figure, a column, a verdict, a note, a site or a key of a file; without NAME all are listed.

    \b
    gammatorch explain
    gammatorch explain 'participation ratio'
    gammatorch explain statistics.depth_contrast --format json
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.help import entries_json, find_entries, print_entries, print_names

    entries = find_entries(name)
    if format == "json":
        click.echo(entries_json(entries))
    elif name is None:
        print_names(make_console())
    else:
        print_entries(entries, make_console())
