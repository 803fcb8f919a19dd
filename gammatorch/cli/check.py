"""``gammatorch check``: a gain audit."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gammatorch.cli.options import DEFAULT_MODEL, Session, format_option, loudness_options, model_options, out_option
from gammatorch.cli.output import show
from gammatorch.cli.progress import Progress
from gammatorch.errors import IncompleteCheckpoint, SelectionError

if TYPE_CHECKING:
    from gammatorch.analysis.audit import Finding
    from gammatorch.checkpoints.base import Checkpoint
    from gammatorch.gains.stack import StoredWeights

EXIT_FOUND = 3


@click.command()
@model_options
@click.option("--against", metavar="REF", help="A checkpoint whose sites and gains MODEL should have.")
@click.option("--stack", metavar="NAME", help="Which stack, where there are several; `inspect` names them.")
@out_option
@format_option
@loudness_options
@click.pass_obj
def check(
    session: Session,
    model: str | None,
    revision: str | None,
    token: str | None,
    no_cache: bool,
    against: str | None,
    stack: str | None,
    out: Path | None,
    format: str,
) -> int:
    """Audit the gains of every site of a stack: convention (w or 1 + w), missing, dead, non-finite, outlier channels.

    Ends with 3 where it found an error. With --against, sites that REF has must be there with its layers and width, and
    gains that stand 1 beside REF's are an error: an offset that was added twice, or lost.

    \b
    gammatorch check ./converted --against google/gemma-2-2b
    gammatorch check ./checkpoints/step1000 --format json
    """
    from gammatorch.checkpoints.opening import open_checkpoint
    from gammatorch.reports.document import check_writable

    name = model if model is not None else DEFAULT_MODEL
    if out is not None:
        check_writable(out, [name, against] if against is not None else [name])
    with Progress(session) as progress, contextlib.ExitStack() as opened:
        progress.stage(f"opening {name}")
        checkpoint = opened.enter_context(open_checkpoint(name, revision, token=token, cache=not no_cache))
        audited, sites, findings = _audit(checkpoint, stack, progress)
        if against is not None:
            progress.stage(f"opening {against}")
            reference = opened.enter_context(open_checkpoint(against, token=token, cache=not no_cache))
            from gammatorch.analysis.audit import hold_against

            findings += hold_against(sites, _audit(reference, stack, progress)[1])
    from gammatorch.reports.audit import print_audit
    from gammatorch.results.audit import check_document

    document = check_document(checkpoint.model, against, audited, list(sites.values()), findings)
    show(session, format, out, lambda: document, partial(print_audit, document))
    return EXIT_FOUND if document.errors else 0


def _audit(
    checkpoint: Checkpoint, stack: str | None, progress: Progress
) -> tuple[str, dict[str, StoredWeights], list[Finding]]:
    """The stack, the stored weights of each of its sites, and what is wrong with them."""
    from gammatorch.analysis.audit import Finding, audit
    from gammatorch.architectures.base import PLACES
    from gammatorch.architectures.select import choose_stack, select
    from gammatorch.architectures.stacks import find_stacks
    from gammatorch.gains.stream import stored_weights

    stacks = find_stacks(checkpoint)
    chosen, holder = choose_stack(stacks, stack, checkpoint)
    sites: dict[str, StoredWeights] = {}
    findings = [Finding("note", "stack", "all", note) for note in holder.notes] if holder is not None else []
    for site in chosen.sites:
        wanted = {"site": site.place, "stack": chosen.name} if site.place in PLACES else {"pattern": site.pattern}
        try:
            selection = select(checkpoint, stacks=stacks, **wanted)
        except (SelectionError, IncompleteCheckpoint) as error:
            findings.append(Finding("error", "missing", site.place, str(error)))
            continue
        progress.stage(f"reading {site.place}", total=selection.nbytes)
        sites[site.place] = stored_weights(checkpoint, site.place, selection, progress.advance)
        findings += audit(sites[site.place])
    return chosen.name, sites, findings
