"""``gammatorch inspect``: what a checkpoint holds, from its headers."""

from __future__ import annotations

import click

from gammatorch.cli.options import DEFAULT_MODEL, Session, format_option, loudness_options, model_options
from gammatorch.cli.progress import Progress


@click.command()
@model_options
@format_option
@loudness_options
@click.pass_obj
def inspect(session: Session, model: str | None, revision: str | None, token: str | None, format: str) -> None:
    """List the stacks, the norm sites in them, their keys and offsets.

    Reads headers only, loads no tensor and needs no torch.

    \b
    gammatorch inspect ./checkpoints/step1000
    gammatorch inspect EleutherAI/pythia-160m@step3000 --format json
    """
    from gammatorch.architectures.config import read_config
    from gammatorch.architectures.match import find_stacks
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports import inspection
    from gammatorch.reports.console import make_console
    from gammatorch.reports.document import to_json

    with Progress(session) as progress:
        progress.stage("reading headers")
        with open_checkpoint(model if model is not None else DEFAULT_MODEL, revision, token=token) as checkpoint:
            stacks = find_stacks(checkpoint)
            config = read_config(checkpoint.config)
    if format == "json":
        click.echo(to_json(inspection.inspection_document(checkpoint, stacks, config)), nl=False)
    else:
        inspection.print_inspection(checkpoint, stacks, config, make_console())
