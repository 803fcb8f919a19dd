"""``gammatorch check``: a gain audit."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gammatorch.cli.options import DEFAULT_MODEL, Session, format_option, loudness_options, model_options, out_option
from gammatorch.cli.output import show
from gammatorch.cli.progress import Progress
from gammatorch.errors import IncompleteCheckpoint, SelectionError

if TYPE_CHECKING:
    from gammatorch.analysis.audit import Finding
    from gammatorch.architectures.base import Selection
    from gammatorch.checkpoints.base import Checkpoint

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

    if out is not None:
        check_writable(out)
    name = model if model is not None else DEFAULT_MODEL
    with Progress(session) as progress, contextlib.ExitStack() as opened:
        progress.stage(f"opening {name}")
        checkpoint = opened.enter_context(open_checkpoint(name, revision, token=token, cache=not no_cache))
        audited, sites, findings, weights = _audit(checkpoint, stack, progress)
        if against is not None:
            progress.stage(f"opening {against}")
            reference = opened.enter_context(open_checkpoint(against, token=token, cache=not no_cache))
            findings += _hold_against(weights, _audit(reference, stack, progress)[3])
    from gammatorch.reports.audit import audit_document, print_audit

    document = audit_document(checkpoint.model, against, audited, sites, findings)
    show(session, format, out, lambda: document, partial(print_audit, document, findings))
    return EXIT_FOUND if document["errors"] else 0


Weights = dict[str, tuple["Selection", Any]]
"""By site: what was selected, and the stored weights, shape (layer, hidden)."""


def _audit(
    checkpoint: Checkpoint, stack: str | None, progress: Progress
) -> tuple[str, list[dict[str, Any]], list[Finding], Weights]:
    """The stack, what each of its sites holds, what is wrong with it, and its stored weights."""
    from gammatorch.analysis.audit import Finding, audit
    from gammatorch.analysis.plain import plain
    from gammatorch.architectures.base import PLACES
    from gammatorch.architectures.match import find_stacks
    from gammatorch.architectures.select import choose_stack, select
    from gammatorch.gains.stream import stored_weights

    chosen, holder = choose_stack(find_stacks(checkpoint), stack, checkpoint)
    sites: list[dict[str, Any]] = []
    findings: list[Finding] = []
    weights: Weights = {}
    if holder is not None:
        findings += [Finding("note", "stack", "all", note) for note in holder.notes]
    for site in chosen.sites:
        wanted = {"site": site.place, "stack": chosen.name} if site.place in PLACES else {"pattern": site.pattern}
        try:
            selection = select(checkpoint, **wanted)
        except (SelectionError, IncompleteCheckpoint) as error:
            findings.append(Finding("error", "missing", site.place, str(error)))
            continue
        progress.stage(f"reading {site.place}", total=sum(entry.nbytes for entry in selection.entries))
        values = stored_weights(checkpoint, selection, progress.advance)
        weights[site.place] = (selection, values)
        findings += audit(values, site.offset, selection.layers, site.place)
        sites.append(
            {
                "site": site.place,
                "layers": len(values),
                "hidden": values.shape[1],
                "offset": site.offset,
                "mean": plain(values.mean().item()),
                "negative": (values < 0).double().mean().item(),
            }
        )
    return chosen.name, sites, findings, weights


def _hold_against(ours: Weights, theirs: Weights) -> list[Finding]:
    """What the reference has and the model has not, and gains that stand 1 beside the reference's."""
    from gammatorch.analysis.audit import Finding, shifted

    findings = []
    for site, (selection, reference) in theirs.items():
        if site not in ours:
            findings.append(Finding("error", "missing", site, "the reference has this site"))
            continue
        own, values = ours[site]
        if own.layers != selection.layers or values.shape != reference.shape:
            sizes = [f"{len(one)} layers × {one.shape[1]}" for one in (values, reference)]
            findings.append(Finding("error", "layout", site, f"{sizes[0]}, where the reference has {sizes[1]}"))
        elif step := shifted(values + own.offset, reference + selection.offset):
            how = "1 above the reference's: an offset was added twice" if step > 0 else "1 below: an offset was lost"
            findings.append(Finding("error", "convention", site, f"γ stands {how}"))
    return findings
