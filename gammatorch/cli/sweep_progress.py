"""The one progress display of a sweep: how many of how many, how fast, how long still, how many failed."""

from __future__ import annotations

import contextlib
import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gammatorch.cli.options import Session


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second lately."""
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


class SweepProgress:
    """A bar on stderr, on terminals only.

    Example:
        with SweepProgress(session) as bar:
            bar.begin(total=154, present=20)
            bar.advance(failed=False)
    """

    def __init__(self, session: Session) -> None:
        self._wanted = session.progress and not session.quiet and sys.stderr.isatty()
        self._shown = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._failed = 0

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._shown.close()

    def begin(self, total: int, present: int) -> None:
        """So many items in all, so many of them done before."""
        if self._wanted and present < total:
            self._show(total, present)

    def advance(self, failed: bool) -> None:
        """One item more is done, or has failed."""
        self._failed += failed
        if self._bar is not None:
            self._bar.update(self._task, advance=1, failed=f"{self._failed} failed" if self._failed else "")

    def _show(self, total: int, present: int) -> None:
        self._bar = Progress(
            TextColumn("sweep"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}", style="red", markup=False),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._shown.enter_context(self._bar)
        self._task: TaskID = self._bar.add_task("", total=total, completed=present, failed="")
