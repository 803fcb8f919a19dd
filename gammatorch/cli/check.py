"""``gammatorch check``: a gain audit."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gammatorch.cli.options import (
    DEFAULT_MODEL,
    Session,
    check_suffix,
    hub_options,
    loudness_options,
    out_option,
    report_format_option,
    show,
)
from gammatorch.cli.progress import Progress

if TYPE_CHECKING:
    from gammatorch.analysis.checkup import Audit
    from gammatorch.checkpoints.base import Advance
    from gammatorch.results.audit import CheckDocument

EXIT_FOUND = 3


def _kinds(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """Kinds of findings, each option with one or several separated by commas."""
    kinds = tuple(kind.strip() for one in value for kind in one.split(",") if kind.strip())
    if kinds:
        from gammatorch.analysis.findings import KINDS

        for kind in kinds:
            if kind not in KINDS:
                raise click.BadParameter(
                    f"{kind!r} is not a kind of finding; the kinds are {', '.join(KINDS)}", context, parameter
                )
    return kinds


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--revision", metavar="R", help="Branch, tag or commit on the Hub, of one MODEL.")
@hub_options
@click.option("--against", metavar="REF", help="A checkpoint that MODEL should be equal to, or descend from.")
@click.option("--exact", is_flag=True, help="With --against: gains that differ as after training are errors too.")
@click.option(
    "--ignore",
    multiple=True,
    callback=_kinds,
    metavar="KIND",
    help="Leave out findings of this kind, or of several kinds separated by commas.",
)
@click.option(
    "--stack", metavar="NAME", help="Which stack to check, if there are several, or all; `inspect` lists them."
)
@out_option
@report_format_option
@loudness_options
@click.pass_obj
def check(
    session: Session,
    models: tuple[str, ...],
    revision: str | None,
    token: str | None,
    no_cache: bool,
    against: str | None,
    exact: bool,
    ignore: tuple[str, ...],
    stack: str | None,
    out: Path | None,
    format: str,
) -> int:
    """Check the norms of a checkpoint, alone or against a reference.

    Alone: is any gain missing, dead, not finite, copied or never trained?

    With --against REF, every layer is compared with the same layer of REF, whatever the two formats and names of
    tensors are: the same, rounded or fine-tuned, or else shifted by 1, scaled, permuted, taken from another layer or
    site, or from another model. Where tensor-parallel ranks each hold a copy, the copies are compared bit by bit. The
    folder of a training run stands for all its steps. The exit code is 3 if there is an error.

    \b
    gammatorch check ./converted --against google/gemma-2-2b
    gammatorch check ./merged-a ./merged-b --against ./base --format junit
    gammatorch check ./megatron-run
    """
    from gammatorch.checkpoints.locate import steps_within

    names = [step for name in models or (DEFAULT_MODEL,) for step in steps_within(name) or [name]]
    if revision is not None and len(names) > 1:
        raise click.UsageError("--revision applies to one model: for several, write org/name@revision")
    if exact and against is None:
        raise click.UsageError("--exact needs --against")
    check_suffix(out, "table" if format == "junit" else format, len(names))
    from gammatorch.reports.document import check_writable

    if out is not None:
        check_writable(out, [*names, *([against] if against is not None else [])])
    audits = _audit(session, names, revision, token, not no_cache, against, stack, exact, ignore)
    from gammatorch.results.audit import check_document

    documents = [check_document(audited) for audited in audits]
    _show(session, format, out, documents, audits, against)
    return EXIT_FOUND if any(document.errors for document in documents) else 0


def _audit(
    session: Session,
    names: Sequence[str],
    revision: str | None,
    token: str | None,
    cache: bool,
    against: str | None,
    stack: str | None,
    exact: bool,
    ignore: Sequence[str],
) -> list[Audit]:
    """Audit one model after the other against the reference, which is read once."""
    from gammatorch.analysis.checkup import audit_checkpoint, read_sites
    from gammatorch.analysis.ranks import since
    from gammatorch.checkpoints.opening import open_checkpoint

    audit = partial(audit_checkpoint, against=against, stack=stack, exact=exact, ignore=ignore)
    reference, audits = None, []
    with Progress(session) as progress, contextlib.ExitStack() as opened:

        def stage(what: str, nbytes: int) -> Advance:
            progress.stage(f"reading {what}", total=nbytes)
            return progress.advance

        if against is not None:
            progress.stage(f"opening {against}")
            source = opened.enter_context(open_checkpoint(against, token=token, cache=cache))
            reference = read_sites(source, stack, stage)
        for name in names:
            progress.stage(f"opening {name}")
            with open_checkpoint(name, revision, token=token, cache=cache) as checkpoint:
                audits.append(audit(checkpoint, reference, stage=stage))
    told = since([(one.model, one.findings) for one in audits])
    return [replace(one, findings=tuple(findings)) for one, findings in zip(audits, told, strict=True)]


def _show(
    session: Session,
    form: str,
    out: Path | None,
    documents: Sequence[CheckDocument],
    audits: Sequence[Audit],
    against: str | None,
) -> None:
    """Print and write the result of one audit, or of several as one."""
    from gammatorch.reports.audit import print_audit, print_audits
    from gammatorch.reports.junit import to_junit
    from gammatorch.results.audit import checks_document

    several = checks_document(documents, against)
    whole = documents[0] if len(documents) == 1 else several
    if form == "junit":
        show(session, form, out, lambda: whole, lambda _: click.echo(to_junit(documents), nl=False), audits)
    elif len(documents) == 1:
        show(session, form, out, lambda: whole, partial(print_audit, documents[0]), audits)
    else:
        show(session, form, out, lambda: whole, partial(print_audits, several))
