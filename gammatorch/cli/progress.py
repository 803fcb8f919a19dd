"""A progress bar for whatever takes more than a second, on terminals only."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from gammatorch.cli.options import Session

PATIENCE_SECONDS = 1.0


class Progress:
    """Shows what is going on, once it has been going on for a second.

    Example:
        with Progress(session) as progress:
            progress.stage("reading gains", total=655_360)
            progress.advance(10_240)
    """

    def __init__(self, session: Session) -> None:
        self._wanted = session.progress and not session.quiet and sys.stderr.isatty()
        self._description = ""
        self._total: int | None = None
        self._stage = self._done = 0
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._wanted:
            self._thread = threading.Thread(target=self._show, name="gammatorch-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._finished.set()
        if self._thread is not None:
            self._thread.join()

    def stage(self, description: str, total: int | None = None) -> None:
        """Begin a stage; ``total`` in bytes, None if it is not known."""
        with self._lock:
            self._description, self._total, self._done = description, total, 0
            self._stage += 1

    def advance(self, count: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += count

    def _show(self) -> None:
        if self._finished.wait(PATIENCE_SECONDS):
            return
        from rich.console import Console
        from rich.filesize import decimal
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            shown, task = -1, bar.add_task("", amount="")
            while not self._finished.wait(0.1):
                with self._lock:
                    stage, description, total, done = self._stage, self._description, self._total, self._done
                if stage != shown:  # a task of its own, since one that has had a total never pulses again
                    bar.remove_task(task)
                    shown, task = stage, bar.add_task(description, total=total, amount="")
                amount = f"{decimal(done)} of {decimal(total)}" if total is not None else ""
                bar.update(task, completed=done, amount=amount)
