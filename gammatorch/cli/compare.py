"""``gammatorch compare``: the same site in two or more checkpoints."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gammatorch.cli.options import (
    Session,
    check_selection,
    device_options,
    format_option,
    hub_options,
    loudness_options,
    memory_option,
    out_option,
    selection_options,
    show,
)
from gammatorch.cli.progress import Progress

if TYPE_CHECKING:
    from gammatorch.architectures.base import Selection
    from gammatorch.checkpoints.base import Checkpoint


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="A B [C...]")
@hub_options
@selection_options
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

    A, B, C are models as in `run`, each with its own @revision. Layer tables are against A, verdicts are of all pairs:
    identical, permuted, fine-tuned, related, partly, unrelated, undetermined. Layers may differ in number.

    \b
    gammatorch compare Qwen/Qwen3-8B-Base Qwen/Qwen3-8B
    gammatorch compare ./step1000 ./step2000 ./step3000 --site final --out drift.json
    """
    if len(models) < 2:
        raise click.UsageError("name two checkpoints or more")
    check_selection(site, stack, pattern)
    from gammatorch.architectures.select import select
    from gammatorch.checkpoints.locate import is_hub_id
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports.document import check_writable

    if out is not None:
        check_writable(out, models)
    if any(map(is_hub_id, models)):  # the Hub's round trips are time in which torch can be imported
        threading.Thread(target=__import__, args=("torch",), name="gammatorch-import").start()
    with Progress(session) as progress, contextlib.ExitStack() as opened:
        selected: list[tuple[Checkpoint, Selection]] = []
        for model in models:
            progress.stage(f"opening {model}")
            checkpoint = opened.enter_context(open_checkpoint(model, token=token, cache=not no_cache))
            selected.append((checkpoint, select(checkpoint, site, stack=stack, pattern=pattern)))
        progress.stage("starting torch")
        from gammatorch.analysis.lineage import compare as compare_gains
        from gammatorch.gains.accept import open_gains
        from gammatorch.gains.wide import narrower_when_full

        stored = sum(selection.nbytes for _, selection in selected)
        progress.stage("reading gains", total=stored)
        gains = open_gains(selected, device, raw=raw, dtype=dtype, memory=memory, advance=progress.advance)
        found = narrower_when_full(gains, partial(compare_gains, *gains))
    from gammatorch.reports.comparison import print_comparison
    from gammatorch.results.comparison import comparison_document

    show(session, format, out, partial(comparison_document, found), partial(print_comparison, found))
