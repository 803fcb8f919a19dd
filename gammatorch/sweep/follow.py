"""A sweep that goes on: checkpoints of a training run are taken as they appear, once they are whole."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

from gammatorch.architectures.select import select
from gammatorch.checkpoints.locate import locate
from gammatorch.checkpoints.opening import open_source
from gammatorch.errors import CheckpointError, CheckpointNotFound, GammatorchError, UnreadableCheckpoint
from gammatorch.reports.text import printable
from gammatorch.results.files import encode
from gammatorch.results.sweep import Failure, Noticed, SweepDocument, TimelineDocument
from gammatorch.sweep.item import Item
from gammatorch.sweep.outcome import Outcome
from gammatorch.sweep.plan import Plan
from gammatorch.sweep.run import Summary, run_sweep
from gammatorch.sweep.shard import Shard
from gammatorch.sweep.store import done_keys
from gammatorch.sweep.task import Task
from gammatorch.sweep.told import tell

_log = logging.getLogger(__name__)


class Follower:
    """Looks again and again at what specs mean, and does what is new.

    A local checkpoint is whole when its headers can be read and none of its files has changed since the look before;
    until then it waits. What fails for another reason is not tried again until its files change.

    Args:
        look: Makes the plan anew.
        task: What to do with each item, and where to keep it.
        engine: Who does it.
        shard: Do this part only.
        watch: Called with every outcome.
    """

    def __init__(
        self,
        look: Callable[[], Plan],
        task: Task,
        *,
        engine: str = "local",
        shard: Shard | None = None,
        watch: Callable[[Outcome], object] = lambda outcome: None,
    ) -> None:
        self._look, self._task, self._engine, self._shard, self._watch = look, task, engine, shard, watch
        self._seen: dict[str, str] = {}
        self._tried: dict[tuple[str, str | None], Item] = {}
        self._keys: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._warned: set[str] = set()
        self._told: set[tuple[str, tuple[str, ...], tuple[int, ...]]] = set()
        self._totals = {"present": 0, "done": 0, "bytes_read": 0, "seconds": 0.0}

    def step(self) -> list[Noticed]:
        """Look once, do what is new and whole, and give the anomalies that were not given before.

        Raises:
            InvalidArgument: The specs or the settings make no sense.
            OutputError: The store cannot be written to.
            DeviceError: The device is not there, cannot be used, or has failed.
        """
        plan = self._plan()
        new = [item for item in self._whole(plan.items) if item.key not in self._keys]
        if not new:
            return []
        self._note(run_sweep(
            Plan(tuple(new), plan.failures), self._task, engine=self._engine, shard=self._shard, watch=self._watch
        ), new)  # fmt: skip
        return [one for one in self.timeline().anomalies if self._is_news(one)]

    def timeline(self) -> TimelineDocument:
        """What the items tell that have been done so far; those whose checkpoints were deleted since are among them."""
        keys = [item.key for item in self._tried.values()]
        return tell(self._task.folder, keys, list(self._failures.values()))

    def document(self) -> SweepDocument:
        """What has been done so far, as the sweep's result."""
        summary = Summary(
            folder=self._task.folder,
            planned=len(self._tried) + sum(name not in self._names() for name in self._failures),
            shard=self._shard,
            present=int(self._totals["present"]),
            done=int(self._totals["done"]),
            failures=tuple(self._failures.values()),
            bytes_read=int(self._totals["bytes_read"]),
            seconds=self._totals["seconds"],
        )
        return summary.document(self.timeline())

    def _names(self) -> set[str]:
        return {item.name for item in self._tried.values()}

    def _plan(self) -> Plan:
        """What there is now; nothing where there is nothing yet, or a server does not answer."""
        try:
            return self._look()
        except (CheckpointNotFound, UnreadableCheckpoint) as error:
            self._warn(f"waiting: {error}")
            return Plan(())

    def _whole(self, items: Iterable[Item]) -> list[Item]:
        """Items that are done already, are on the Hub, or have stood still since the look before and can be opened."""
        there, whole = done_keys(self._task.folder), []
        for item in items:
            stands = item.commit is not None or self._seen.get(item.source) == item.identity
            self._seen[item.source] = item.identity
            if item.key in there or item.key in self._keys:
                whole.append(item)
            elif stands:
                wrong = self._unreadable(item) if item.commit is None else None
                if wrong is None:
                    whole.append(item)
                else:
                    self._warn(f"waiting until it is whole: {wrong}")
        return whole

    def _unreadable(self, item: Item) -> str | None:
        """Why a checkpoint cannot be opened; None where it can, or where waiting would not help."""
        settings = self._task.settings
        try:
            location = locate(item.source)
            with open_source(location.source, model=item.name, target=location.target) as checkpoint:
                select(checkpoint, settings.site, stack=settings.stack, pattern=settings.pattern)
        except CheckpointError as error:
            return str(error)
        except GammatorchError:  # the sweep will tell it
            return None
        return None

    def _note(self, summary: Summary, new: Sequence[Item]) -> None:
        """Remember what was done; of a checkpoint that was written again, what it is now."""
        for item in new:
            self._tried[item.source, item.revision] = item
            self._keys.add(item.key)
            self._failures.pop(item.name, None)
        self._failures |= {failure.name: failure for failure in summary.failures}
        for name in self._totals:
            self._totals[name] += getattr(summary, name)

    def _is_news(self, finding: Noticed) -> bool:
        known = (finding.kind, tuple(sorted(finding.items)), tuple(finding.layers))
        is_new = known not in self._told
        self._told.add(known)
        return is_new

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("%s", printable(message, None))


def execute(command: str, finding: Noticed) -> int:
    """Run a command of the user's in a shell, with a finding as one line of JSON on its standard input.

    Args:
        command: As it would be typed. What it prints goes to the standard error.
        finding: ``kind``, ``severity``, ``items``, ``text``, ``layers``.

    Returns:
        How it ended.
    """
    given = (encode(finding) + "\n").encode("ascii")
    return subprocess.run(command, shell=True, input=given, stdout=sys.stderr.fileno(), check=False).returncode
