"""``gammatorch sweep``: many checkpoints and revisions, each into one file; resumes."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gammatorch.cli.options import (
    Session,
    analysis_options,
    check_selection,
    device_options,
    format_option,
    hub_options,
    loudness_options,
    selection_options,
)
from gammatorch.cli.progress import Progress

if TYPE_CHECKING:
    from gammatorch.results.sweep import SweepDocument
    from gammatorch.sweep.item import Settings
    from gammatorch.sweep.plan import Plan
    from gammatorch.sweep.shard import Shard

EXIT_ITEMS_FAILED = 4


@click.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder that keeps the items; what is in it is not done again.",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Every Nth of what a pattern matches.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N items.")
@click.option("--dry-run", is_flag=True, help="List the items and the bytes that would be read; reads headers only.")
@click.option("--follow", is_flag=True, help="Stay, and take new checkpoints as they are written; Ctrl-C ends it.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --follow looks.",
)
@click.option(
    "--exec",
    "command",
    metavar="CMD",
    help="With --follow: a command to run on each new anomaly, which gets it as JSON on its standard input.",
)
@click.option("--shard", "shard_text", metavar="I/N", help="Do part I (from 0) of N; inside a Slurm array: the task's.")
@click.option("--engine", default="local", show_default=True, metavar="local|ray", help="Who does the work.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Processes; one for each GPU, or one on the CPU, if left out.",
)
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster: auto, or host:port; left out: begun here.")
@click.option(
    "--gpus-per-task",
    type=click.FloatRange(0),
    metavar="N",
    help="GPUs, or part of one, for each worker on Ray; if left out 0.25, more where there are fewer than four "
    "CPUs for each.",
)
@hub_options
@selection_options
@device_options
@analysis_options
@format_option
@loudness_options
@click.pass_obj
def sweep(
    session: Session,
    /,
    specs: tuple[str, ...],
    out: Path,
    every: int,
    limit: int | None,
    dry_run: bool,
    follow: bool,
    interval: float,
    command: str | None,
    shard_text: str | None,
    engine: str,
    workers: int | None,
    address: str | None,
    gpus_per_task: float | None,
    token: str | None,
    no_cache: bool,
    device: str,
    memory: int,
    format: str,
    **settings: Any,
) -> int:
    """Analyse many checkpoints and keep each in one file of DIR.

    SPEC is a model as in `run`, a folder of checkpoints, a glob over local paths, org/name@PATTERN over branches and
    tags on the Hub, or a list file (.txt, .list: one SPEC a line; .jsonl: {"model": …, "revision": …, other keys are
    kept as tags}). The same command again does only what is missing or failed.

    \b
    gammatorch sweep 'EleutherAI/pythia-160m@step*' --every 10 --out pythia
    gammatorch sweep ./runs/* models.txt --out zoo
    gammatorch sweep './run/checkpoint-*' --out swept --follow --exec 'mail -s anomaly me@example.org'
    """
    from gammatorch.sweep.item import Settings
    from gammatorch.sweep.place import check_place

    check_selection(settings["site"], settings["stack"], settings["pattern"])
    if engine != "ray" and (address is not None or gpus_per_task is not None):
        raise click.UsageError("--address and --gpus-per-task are for --engine ray")
    _check_follow(follow, command, dry_run=dry_run)
    check_place(out)
    chosen = Settings(**settings)
    shard = _shard(shard_text, session)
    if not dry_run:  # planning waits for disks and servers, which is time in which torch can be imported
        threading.Thread(target=__import__, args=("torch",), name="gammatorch-import", daemon=True).start()
    with Progress(session) as progress:
        progress.stage("planning")
        from gammatorch.sweep.plan import make_plan

        look = partial(make_plan, specs, chosen, every=every, limit=limit, token=token, cache=not no_cache)
        plan = look() if not follow else None
        if plan is not None and dry_run:
            progress.stage("reading headers")
            return _show_plan(plan, chosen, shard, out, token, not no_cache, format)
        progress.stage("starting torch")
        from gammatorch.cli.sweep_progress import SweepProgress
        from gammatorch.sweep.run import run_sweep
        from gammatorch.sweep.task import Task
    task = Task(out, chosen, device, workers, token, not no_cache, memory, address, gpus_per_task)
    if plan is None:
        from gammatorch.cli.sweep_follow import follow as follow_sweep

        document = follow_sweep(session, look, task, engine=engine, shard=shard, interval=interval, command=command)
        return _show(document, format)
    if plan.aliases:
        session.notice(f"{len(plan.aliases)} names mean an item that is in the plan already")
    try:
        with SweepProgress(session) as bar:
            summary = run_sweep(
                plan,
                task,
                engine=engine,
                shard=shard,
                begin=bar.begin,
                watch=lambda outcome: bar.advance(outcome.status == "failed"),
            )
    except KeyboardInterrupt:
        from gammatorch.sweep.store import done_keys

        kept = len({item.key for item in plan.items} & done_keys(out))
        session.notice(f"{kept} of {len(plan.items)} items are kept; the same command does the rest")
        raise
    with Progress(session) as progress:
        progress.stage("comparing items")
        from gammatorch.sweep.told import tell

        told = tell(out, [item.key for item in plan.items], summary.failures, plan.aliases)
    return _show(summary.document(told), format)


def _check_follow(follow: bool, command: str | None, *, dry_run: bool) -> None:
    if follow and dry_run:
        raise click.UsageError("--follow does the work and --dry-run does none: leave one of them out")
    if command is not None and not follow:
        raise click.UsageError("--exec is for --follow")


def _shard(text: str | None, session: Session) -> Shard | None:
    from gammatorch.sweep.shard import parse_shard, slurm_shard

    if text is not None:
        return parse_shard(text)
    found = slurm_shard(os.environ)
    if found is not None:
        session.notice(f"shard {found}, as SLURM_ARRAY_TASK_ID says (--shard 0/1 for all)")
    return found


def _show(summary: SweepDocument, form: str) -> int:
    from gammatorch.reports.console import make_console
    from gammatorch.reports.sweep import print_summary, print_timeline
    from gammatorch.results.files import to_json

    if form == "json":
        click.echo(to_json(summary), nl=False)
    else:
        console = make_console()
        print_timeline(summary, console)
        print_summary(summary, console)
    return EXIT_ITEMS_FAILED if summary.failures else 0


def _show_plan(
    plan: Plan, settings: Settings, shard: Shard | None, out: Path, token: str | None, cache: bool, form: str
) -> int:
    from gammatorch.reports.console import make_console
    from gammatorch.reports.sweep import print_failures, print_plan
    from gammatorch.results.files import to_json
    from gammatorch.sweep.survey import survey_document

    part = replace(plan, items=tuple(shard.of(plan.items))) if shard else plan
    document = survey_document(part, settings, out, token, cache)
    if form == "json":
        click.echo(to_json(document), nl=False)
        return 0
    console = make_console()
    print_plan(document, console)
    if document.failures:
        print_failures(document.failures, console)
    return 0
