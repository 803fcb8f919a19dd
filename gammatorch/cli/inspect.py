"""``gammatorch inspect``: what a checkpoint holds, from its headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gammatorch.checkpoints.base import JsonObject
from gammatorch.cli.options import DEFAULT_MODEL, Session, format_option, loudness_options, model_options
from gammatorch.cli.progress import Progress
from gammatorch.errors import CannotTell

if TYPE_CHECKING:
    from gammatorch.architectures.base import Stack
    from gammatorch.verify.oracle import Finding


@click.command()
@model_options
@click.option(
    "--verify", is_flag=True, help="Check places and offsets by running a tiny copy of the model in transformers."
)
@format_option
@loudness_options
@click.pass_obj
def inspect(
    session: Session,
    model: str | None,
    revision: str | None,
    token: str | None,
    no_cache: bool,
    verify: bool,
    format: str,
) -> None:
    """List the norms of a model and the tensors that hold them.

    Norms are listed by stack and site, with what is added to the stored weight.

    Only headers are read. This needs no PyTorch and takes no time to speak of.

    \b
    gammatorch inspect ./checkpoints/step1000
    gammatorch inspect EleutherAI/pythia-160m@step3000 --format json
    gammatorch inspect ./new-model --verify
    """
    from gammatorch.architectures.config import model_config
    from gammatorch.architectures.stacks import find_stacks
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports import inspection
    from gammatorch.reports.console import make_console
    from gammatorch.results.files import to_json

    with Progress(session) as progress:
        progress.stage("reading headers")
        name = model if model is not None else DEFAULT_MODEL
        with open_checkpoint(name, revision, token=token, cache=not no_cache) as checkpoint:
            stacks = find_stacks(checkpoint)
            config = model_config(checkpoint)
        if verify:
            progress.stage("running the model tiny")
            findings, doubt = _verify(checkpoint.config, stacks)
    if format == "json":
        document = inspection.inspection_document(checkpoint, stacks, config)
        if verify:
            from gammatorch.reports.inspection import with_verification

            document = with_verification(document, findings, doubt)
        click.echo(to_json(document), nl=False)
        return
    console = make_console()
    inspection.print_inspection(checkpoint, stacks, config, console)
    if verify:
        from gammatorch.reports.inspection import print_verification

        print_verification(findings, doubt, console)


def _verify(config: JsonObject | None, stacks: Sequence[Stack]) -> tuple[list[Finding], str | None]:
    """What transformers says, or why it has nothing to say."""
    from gammatorch.verify.oracle import verify

    if config is None:
        return [], "there is no config.json that names a class"
    try:
        return verify(config, stacks), None
    except CannotTell as error:
        return [], str(error)
