"""``gammatorch help``: the pages of the manual."""

from __future__ import annotations

import click

from gammatorch.cli.options import loudness_options


@click.command()
@click.argument("topic", required=False)
@loudness_options
@click.pass_context
def help(context: click.Context, topic: str | None) -> None:
    """Show a page of the manual, or the options of a command.

    Without TOPIC the pages are listed.

    \b
    gammatorch help
    gammatorch help statistics
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.manual import TOPICS, find_topic, print_page, print_topics

    assert context.parent is not None and isinstance(context.parent.command, click.Group)
    commands = context.parent.command.commands
    if topic is None:
        print_topics(make_console())
    elif topic in commands and topic not in TOPICS:
        command = commands[topic]
        click.echo(command.get_help(click.Context(command, info_name=topic, parent=context.parent)))
    else:
        print_page(find_topic(topic, commands), make_console())
