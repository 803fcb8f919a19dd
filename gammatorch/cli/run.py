"""``gammatorch run``: read one site's gains, analyse them, print and write the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gammatorch.cli.options import (
    DEFAULT_MODEL,
    Session,
    analysis_options,
    check_selection,
    check_suffix,
    device_options,
    format_option,
    loudness_options,
    model_options,
    out_option,
    show,
    sites_option,
    start_device,
    tensor_options,
)
from gammatorch.cli.progress import Progress
from gammatorch.errors import SelectionError

if TYPE_CHECKING:
    from gammatorch.analysis.result import Analysis
    from gammatorch.architectures.base import Selection
    from gammatorch.checkpoints.base import Checkpoint
    from gammatorch.gains.stack import Gains
    from gammatorch.gains.wide import WideGains

GPU_BYTES = 100_000_000
"""Stored bytes from which on a GPU would have been worth having: less is analysed by a CPU while a GPU gets ready."""


@click.command()
@model_options
@click.option(
    "--demo",
    is_flag=True,
    help="Run on the trained gains of SmolLM2-135M-Instruct, which come with the package; needs no network.",
)
@sites_option
@tensor_options
@device_options
@analysis_options
@click.option("--full", is_flag=True, help="Print every table and note, the answer last.")
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
    site: tuple[str, ...],
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
    full: bool,
    out: Path | None,
    format: str,
) -> None:
    """Read one site's gains and analyse their directions across layers.

    MODEL is a folder, a weight file, a *.index.json, or org/name[@revision] on the Hub; Qwen/Qwen3-32B if left
    out. With several sites, one line is printed for each, then the answer for the first; JSON is an array of results.

    \b
    gammatorch run --demo
    gammatorch run ./checkpoints/step1000 --site all
    gammatorch run ./checkpoints/step1000 --out step1000.json
    gammatorch run google/gemma-2-2b --site post_mlp --format json
    """
    if demo and (model is not None or revision is not None):
        raise click.UsageError("--demo makes its own checkpoint: leave MODEL and --revision out")
    check_selection("auto" if site == ("auto",) else site[0], stack, pattern)
    check_suffix(out, format, 2 if "all" in site else len(site))
    from gammatorch.reports.document import check_writable

    name = model if model is not None else DEFAULT_MODEL
    if out is not None:
        check_writable(out, () if demo else (name,))
    with Progress(session) as progress:
        progress.stage("opening")
        with _open(name, revision, token, not no_cache, demo, device) as checkpoint:
            selections = _selections(checkpoint, site, stack, pattern, session)
            progress.stage("starting torch")
            from gammatorch.analysis.analyze import analyze
            from gammatorch.analysis.reduce import passes
            from gammatorch.gains.accept import open_gains

            read = partial(open_gains, device=device, raw=raw, dtype=dtype, memory=memory, advance=progress.advance)
            work = partial(analyze, phases=phases, method=method, dtype=dtype, dims=dims, seed=seed)
            times = partial(passes, method, dtype)
            analyses = [_analyse((checkpoint, one), read, work, times, progress) for one in selections]
    _tell_of_gpu(session, device, selections, analyses[0])
    from gammatorch.results.run import run_document

    documents = [partial(run_document, one) for one in analyses]
    show(session, format, out, documents, partial(_print, analyses, full), analyses)


def _selections(
    checkpoint: Checkpoint, sites: Sequence[str], stack: str | None, pattern: str | None, session: Session
) -> list[Selection]:
    """What to read, each site once; of ``all`` those that can be read."""
    from gammatorch.architectures.select import select, sites_of

    found: dict[str, Selection] = {}
    if "all" in sites:
        problem = None
        for site in sites_of(checkpoint, stack):
            try:
                found[site] = select(checkpoint, site, stack=stack)
            except SelectionError as error:
                problem = error
                session.notice(f"site {site} is left out: {error}")
        if not found:
            raise problem or SelectionError("has no norm at any known site", file=checkpoint.name)
        return list(found.values())
    for site in sites:
        selection = select(checkpoint, site, stack=stack, pattern=pattern)
        found.setdefault(selection.site, selection)
    return list(found.values())


def _analyse(
    chosen: tuple[Checkpoint, Selection],
    read: Callable[[Sequence[tuple[Checkpoint, Selection]]], Sequence[Gains | WideGains]],
    work: Callable[[Gains | WideGains], Analysis],
    passes: Callable[[int, int], int],
    progress: Progress,
) -> Analysis:
    """Read one site, and analyse it."""
    from gammatorch.gains.stack import Gains
    from gammatorch.gains.wide import narrower_when_full

    nbytes = chosen[1].nbytes
    progress.stage("reading gains", total=nbytes)
    (gains,) = read([chosen])
    if isinstance(gains, Gains):
        progress.stage("analysing")
    else:
        progress.stage("reading gains", total=nbytes * passes(*gains.shape))
    return narrower_when_full([gains], partial(work, gains))


def _tell_of_gpu(session: Session, device: str, selections: Sequence[Selection], analysis: Analysis) -> None:
    """Say that there is no GPU, where one would have mattered."""
    from gammatorch.gains.device import has_cuda

    large = sum(selection.nbytes for selection in selections) >= GPU_BYTES
    if large and device == "auto" and analysis.device == "cpu" and not has_cuda():
        session.notice("no CUDA device: ran on the CPU")


def _print(analyses: Sequence[Analysis], full: bool, console: Any) -> None:
    if len(analyses) > 1:
        from gammatorch.reports.answer import print_sites

        print_sites(analyses, console)
    if full and analyses[0].num_layers > 1:
        from gammatorch.reports.analysis import print_analysis

        print_analysis(analyses[0], console)
    else:
        from gammatorch.reports.answer import print_answer

        print_answer(analyses[0], console)


@contextlib.contextmanager
def _open(
    name: str, revision: str | None, token: str | None, cache: bool, demo: bool, device: str
) -> Iterator[Checkpoint]:
    if demo:
        from gammatorch.bench.demo import demo_checkpoint

        with demo_checkpoint() as checkpoint:
            yield checkpoint
        return
    from gammatorch.checkpoints.opening import open_checkpoint

    start_device([name], device)
    with open_checkpoint(name, revision, token=token, cache=cache) as checkpoint:
        yield checkpoint
