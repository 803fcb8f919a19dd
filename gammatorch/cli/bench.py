"""``gammatorch bench``: how fast this machine's storage and device give gains."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

import click

from gammatorch.cli.options import Session, format_option, loudness_options, model_options
from gammatorch.cli.progress import Progress


@click.command()
@model_options
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|mps",
    help="Device that the gains are read to.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=15, show_default=True, help="Timed repeats; medians are shown."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON to this file.")
@format_option
@loudness_options
@click.pass_obj
def bench(
    session: Session,
    model: str | None,
    revision: str | None,
    token: str | None,
    no_cache: bool,
    device: str,
    repeats: int,
    out: Path | None,
    format: str,
) -> None:
    """Time each stage of a run on this machine.

    Warm and cold times are shown beside those of safetensors' safe_open on the same files.

    Without MODEL: on layouts of Qwen3-32B, DeepSeek-V3 and Kimi-K2 in full size, made on the spot as sparse files.
    Cold means that the checkpoint's own files were dropped from the page cache; nothing else of the machine is touched.
    A model on the Hub is timed from the cache of what was read before, and with --no-cache from the Hub.

    \b
    gammatorch bench
    gammatorch bench /mnt/nas/checkpoints/step1000 --device cuda --repeats 5
    """
    if model is None and revision is not None:
        raise click.UsageError("--revision needs a MODEL")
    from gammatorch.reports.document import check_writable

    if out is not None:
        check_writable(out, [model] if model is not None else [])
    from gammatorch.bench.demo import full_size_checkpoint
    from gammatorch.bench.layouts import FULL_SIZE
    from gammatorch.bench.throughput import measure
    from gammatorch.bench.timing import machine
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports.console import make_console
    from gammatorch.reports.document import write_atomically
    from gammatorch.reports.throughput import print_throughput
    from gammatorch.results.documents import BenchDocument
    from gammatorch.results.files import to_json

    measured = []
    with Progress(session) as progress:
        for name in FULL_SIZE if model is None else [model]:
            progress.stage(f"timing {name}")
            with contextlib.ExitStack() as stack:
                if model is None:
                    reopen = stack.enter_context(full_size_checkpoint(name))
                else:
                    reopen = partial(open_checkpoint, model, revision, token=token, cache=not no_cache)
                measured.append(measure(reopen, device=device, repeats=repeats))
    document = to_json(BenchDocument(machine=machine(), checkpoints=measured))
    try:
        if format == "json":
            click.echo(document, nl=False)
        else:
            console = make_console()
            for one in measured:
                print_throughput(one, console)
    finally:
        if out is not None:
            write_atomically(out, document)
            session.notice(f"saved {out}")
