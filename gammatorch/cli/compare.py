"""``gammatorch compare``: the same site in two or more checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gammatorch.cli.options import (
    ALL,
    Session,
    check_selection,
    check_suffix,
    compared_site_option,
    device_options,
    format_option,
    hub_options,
    loudness_options,
    memory_option,
    out_option,
    show,
    start_device,
    tensor_options,
)
from gammatorch.cli.progress import Progress
from gammatorch.errors import SelectionError

if TYPE_CHECKING:
    from gammatorch.analysis.lineage import Comparison
    from gammatorch.checkpoints.base import Checkpoint
    from gammatorch.gains.stack import Gains
    from gammatorch.gains.wide import WideGains
    from gammatorch.sweep.compared import Compared


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="A B [C...]")
@hub_options
@compared_site_option
@tensor_options
@device_options
@memory_option
@out_option
@format_option
@loudness_options
@click.pass_obj
def compare(
    session: Session,
    models: tuple[str, ...],
    token: str | None,
    no_cache: bool,
    site: str,
    stack: str | None,
    pattern: str | None,
    raw: bool,
    device: str,
    dtype: str,
    memory: int,
    out: Path | None,
    format: str,
) -> None:
    """Compare the same site in two or more checkpoints: drift of each layer, and lineage.

    A, B, C are models as in `run`, each with its own @revision; the folder of a sweep stands for its items, a result
    of `run` for the checkpoint it was made from. Layer tables are against A, verdicts are of all pairs: identical,
    permuted, fine-tuned, related, partly, unrelated, undetermined. Layers may differ in number. With --site all there
    is a line for each site that all have, then the first in full; JSON is an array.

    \b
    gammatorch compare Qwen/Qwen3-8B-Base Qwen/Qwen3-8B
    gammatorch compare ./step1000 ./step2000 ./step3000 --site final --out drift.json
    gammatorch compare ./swept-a ./swept-b --format json
    """
    check_selection(site, stack, pattern)
    check_suffix(out, format, 2 if site == ALL else 1)
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports.document import check_writable
    from gammatorch.sweep.compared import open_compared

    if out is not None:
        check_writable(out, models)
    start_device(models, device)
    with Progress(session) as progress, contextlib.ExitStack() as opened:

        def opener(model: str, revision: str | None) -> Checkpoint:
            progress.stage(f"opening {model}")
            return opened.enter_context(open_checkpoint(model, revision, token=token, cache=not no_cache))

        compared, notes = open_compared(models, opener)
        for note in notes:
            session.notice(note)
        if len(compared) < 2:
            raise click.UsageError("name two checkpoints or more, or a sweep of several items")
        sites = _sites(compared, stack, session) if site == ALL else [site]
        progress.stage("starting torch")
        reading = {"raw": raw, "dtype": dtype, "memory": memory}
        found = [_compare(compared, one, stack, pattern, device, reading, progress) for one in sites]
    from gammatorch.reports.comparison import print_comparisons
    from gammatorch.results.comparison import comparison_document

    documents = [partial(comparison_document, one) for one in found]
    show(session, format, out, documents, partial(print_comparisons, found), found)


def _sites(compared: Sequence[Compared], stack: str | None, session: Session) -> list[str]:
    """The sites that all of them have and that can be read."""
    from gammatorch.architectures.select import select, sites_of

    checkpoints = [one.checkpoint for one in compared if one.checkpoint is not None]
    if len(checkpoints) < len(compared):
        raise click.UsageError("a sweep keeps one site: leave --site all out")
    found = []
    for site in sites_of(checkpoints[0], stack):
        try:
            for checkpoint in checkpoints:
                select(checkpoint, site, stack=stack)
        except SelectionError as error:
            session.notice(f"site {site} is left out: {error}")
        else:
            found.append(site)
    if not found:
        raise SelectionError("has no site in common with the others", file=checkpoints[0].name)
    return found


def _compare(
    compared: Sequence[Compared],
    site: str,
    stack: str | None,
    pattern: str | None,
    device: str,
    reading: Mapping[str, Any],
    progress: Progress,
) -> Comparison:
    """Read one site of all of them, and compare them."""
    from gammatorch.analysis.lineage import compare as compare_gains
    from gammatorch.architectures.select import select
    from gammatorch.gains.accept import open_gains
    from gammatorch.gains.wide import narrower_when_full

    selected = []
    for one in compared:
        if one.checkpoint is not None:
            wanted = {"pattern": pattern} if pattern is not None else one.selection(site, stack)
            selected.append((one.checkpoint, select(one.checkpoint, **wanted)))
    progress.stage("reading gains", total=sum(selection.nbytes for _, selection in selected))
    read: Iterator[Gains | WideGains] = iter(open_gains(selected, device, advance=progress.advance, **reading))
    gains = [one.gains if one.gains is not None else next(read) for one in compared]
    for one, rows in zip(compared, gains, strict=True):
        one.check(rows)
    return narrower_when_full(gains, partial(compare_gains, *gains))
