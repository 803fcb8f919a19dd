"""``gammatorch sweep --follow``: stay, take new checkpoints as they appear, tell of each new anomaly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gammatorch.cli.options import Session
from gammatorch.reports.text import printable

if TYPE_CHECKING:
    from gammatorch.results.sweep import Noticed, SweepDocument
    from gammatorch.sweep.outcome import Outcome
    from gammatorch.sweep.plan import Plan
    from gammatorch.sweep.shard import Shard
    from gammatorch.sweep.task import Task


def follow(
    session: Session,
    look: Callable[[], Plan],
    task: Task,
    *,
    engine: str,
    shard: Shard | None,
    interval: float,
    command: str | None,
) -> SweepDocument:
    """Follow what the specs mean until Ctrl-C, which ends it as it should end.

    Args:
        session: How loud this call is.
        look: Makes the plan anew.
        task: What to do with each item.
        engine: Who does it.
        shard: Do this part only.
        interval: Seconds between two looks.
        command: Run on every new anomaly.

    Returns:
        What was done, and what all of it tells.
    """
    from gammatorch.sweep.follow import Follower

    def tell(outcome: Outcome) -> None:
        if outcome.failure is not None:
            session.notice(printable(f"{outcome.failure.name} failed: {outcome.failure.message}", None))

    follower = Follower(look, task, engine=engine, shard=shard, watch=tell)
    session.notice(f"looking every {interval:g} s; Ctrl-C ends it, and all that is done is kept")
    try:
        while True:
            for finding in follower.step():
                _report(session, finding, command)
            time.sleep(interval)
    except KeyboardInterrupt:
        session.notice("ended")
    return follower.document()


def _report(session: Session, finding: Noticed, command: str | None) -> None:
    """Tell of an anomaly, and run the command on it."""
    session.notice(printable(f"{finding.kind}: {finding.text}", None))
    if command is not None:
        from gammatorch.sweep.follow import execute

        code = execute(command, finding)
        if code:
            session.notice(f"--exec ended with {code}: {command}")
