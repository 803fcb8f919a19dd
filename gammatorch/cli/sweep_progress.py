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
    """A bar on stderr, on terminals only; counts in any case.

    Example:
        with SweepProgress(session) as bar:
            bar.begin(total=154, present=20)
            bar.advance(failed=False)
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wanted = session.progress and not session.quiet and sys.stderr.isatty()
        self._shown = contextlib.ExitStack()
        self._bar: Progress | None = None
        self.total = self.present = self.done = self.failed = 0

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._shown.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            kept = self.present + self.done - self.failed
            self._session.notice(f"{kept} of {self.total} items are kept; the same command does the rest")

    def begin(self, total: int, present: int) -> None:
        """So many items in all, so many of them done before."""
        self.total, self.present = total, present
        if self._wanted and present < total:
            self._show()

    def advance(self, failed: bool) -> None:
        """One item more is done, or has failed."""
        self.done += 1
        self.failed += failed
        if self._bar is not None:
            self._bar.update(self._task, advance=1, failed=f"{self.failed} failed" if self.failed else "")

    def _show(self) -> None:
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
        self._task: TaskID = self._bar.add_task("", total=self.total, completed=self.present, failed="")
