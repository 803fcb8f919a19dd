"""``gammatorch run``: read one site's gains, analyse them, print and write the result."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gammatorch.cli.options import (
    DEFAULT_MODEL,
    Session,
    analysis_options,
    check_selection,
    device_options,
    format_option,
    loudness_options,
    model_options,
    out_option,
    selection_options,
)
from gammatorch.cli.output import show
from gammatorch.cli.progress import Progress
from gammatorch.errors import GammatorchError

if TYPE_CHECKING:
    from gammatorch.checkpoints.base import Checkpoint

SMALL_BYTES = 2_000_000
"""Stored bytes up to which a run computes on one thread. Several wait for each other, and on a busy machine for a core:
64 × 5120 was analysed in 29 ms by one thread and in 450 ms by two, on two cores that others used as well."""


@click.command()
@model_options
@click.option(
    "--demo", is_flag=True, help="Run on SmolLM2-135M-Instruct's trained gains, which the package carries: no network."
)
@selection_options
@device_options
@analysis_options
@out_option
@format_option
@loudness_options
@click.pass_obj
def run(
    session: Session,
    model: str | None,
    revision: str | None,
    token: str | None,
    no_cache: bool,
    demo: bool,
    site: str,
    stack: str | None,
    pattern: str | None,
    raw: bool,
    device: str,
    dtype: str,
    method: str,
    dims: int,
    seed: int,
    memory: int,
    phases: str,
    out: Path | None,
    format: str,
) -> None:
    """Read one site's gains and analyse their directions across layers.

    MODEL is a folder, a weight file, a *.index.json, or org/name[@revision] on the Hub; Qwen/Qwen3-32B if left
    out.

    \b
    gammatorch run --demo
    gammatorch run ./checkpoints/step1000 --out step1000.json
    gammatorch run google/gemma-2-2b --site post_mlp --format json
    """
    if demo and (model is not None or revision is not None):
        raise click.UsageError("--demo makes its own checkpoint: leave MODEL and --revision out")
    check_selection(site, stack, pattern)
    from gammatorch.architectures.select import select
    from gammatorch.reports.document import check_writable

    name = model if model is not None else DEFAULT_MODEL
    if out is not None:
        check_writable(out, () if demo else (name,))
    with Progress(session) as progress:
        progress.stage("opening")
        with _open(name, revision, token, not no_cache, demo, device) as checkpoint:
            selection = select(checkpoint, site, stack=stack, pattern=pattern)
            progress.stage("starting torch")
            from gammatorch.analysis.analyze import analyze
            from gammatorch.analysis.reduce import passes
            from gammatorch.gains.accept import open_gains
            from gammatorch.gains.device import has_cuda
            from gammatorch.gains.stack import Gains
            from gammatorch.gains.wide import narrower_when_full
            from gammatorch.sweep.threads import one_thread

            progress.stage("reading gains", total=selection.nbytes)
            chosen = [(checkpoint, selection)]
            with one_thread() if selection.nbytes <= SMALL_BYTES else contextlib.nullcontext():
                (gains,) = open_gains(chosen, device, raw=raw, dtype=dtype, memory=memory, advance=progress.advance)
                if isinstance(gains, Gains):
                    progress.stage("analysing")
                else:
                    progress.stage("reading gains", total=selection.nbytes * passes(method, dtype, *gains.shape))
                work = partial(analyze, gains, phases=phases, method=method, dtype=dtype, dims=dims, seed=seed)
                analysis = narrower_when_full([gains], work)
    if device == "auto" and analysis.device == "cpu" and not has_cuda():
        session.notice("no CUDA device: ran on the CPU")
    from gammatorch.reports.analysis import print_analysis
    from gammatorch.results.run import run_document

    show(session, format, out, partial(run_document, analysis), partial(print_analysis, analysis))


@contextlib.contextmanager
def _open(
    name: str, revision: str | None, token: str | None, cache: bool, demo: bool, device: str
) -> Iterator[Checkpoint]:
    if demo:
        from gammatorch.bench.demo import demo_checkpoint

        with demo_checkpoint() as checkpoint:
            yield checkpoint
        return
    from gammatorch.checkpoints.locate import is_hub_id
    from gammatorch.checkpoints.opening import open_checkpoint

    if is_hub_id(name):  # the Hub's round trips are time in which torch can be imported, and a GPU be made ready
        threading.Thread(target=_start, args=(device,), name="gammatorch-start").start()
    with open_checkpoint(name, revision, token=token, cache=cache) as checkpoint:
        yield checkpoint


def _start(device: str) -> None:
    from gammatorch.gains.device import choose_device

    with contextlib.suppress(GammatorchError):  # what is wrong with it is told where it is needed
        choose_device(device)
