"""The reading half of a sweep: from an item to its gains as stored, in one of many threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gammatorch.analysis.pca import SVD_MAX_WIDTH
from gammatorch.architectures.select import select
from gammatorch.checkpoints.base import ByteSource, Checkpoint
from gammatorch.checkpoints.hub.retry import LONG_RETRIES
from gammatorch.checkpoints.locate import locate
from gammatorch.checkpoints.opening import open_source
from gammatorch.errors import UnreadableCheckpoint
from gammatorch.gains.accept import open_gains
from gammatorch.gains.stack import Gains
from gammatorch.gains.wide import WideGains
from gammatorch.results.sweep import WeightFile
from gammatorch.sweep.item import Item
from gammatorch.sweep.plan import local_identity
from gammatorch.sweep.task import Task


@dataclass(frozen=True, eq=False)
class Loaded:
    """An item that has been read and not been analysed.

    Attributes:
        item: The item.
        gains: Its gains, ``gamma`` as stored, without the offset, on the CPU. Wide ones are still to be read, in column
            blocks while they are analysed.
        files: Size and content hash of each weight file.
    """

    item: Item
    gains: Gains | WideGains
    files: Mapping[str, WeightFile]


def load(item: Item, task: Task) -> Loaded:
    """Read the gains of an item, or get ready to where they are wide.

    Args:
        item: What to read.
        task: What of it, and how.

    Raises:
        CheckpointError: It cannot be opened or read, or has changed since it was planned.
        SelectionError: It has no such site, or its rows do not fit together.
        NonFiniteGain: A gain holds NaN or infinity.
    """
    if item.commit is None and local_identity(item.source) != item.identity:
        raise UnreadableCheckpoint("has changed since the sweep was planned: run it again", file=item.name)
    location = locate(item.source, item.commit, task.token, cache=task.cache, retry=LONG_RETRIES)
    settings = task.settings
    with open_source(location.source, model=item.name, target=location.target) as checkpoint:
        files = _files(checkpoint, location.source)
        selection = select(checkpoint, settings.site, stack=settings.stack, pattern=settings.pattern)
        (gains,) = open_gains(
            [(checkpoint, selection)],
            task.device,
            raw=settings.raw,
            dtype=settings.dtype,
            memory=task.memory,
            widest=SVD_MAX_WIDTH,
        )
    if isinstance(gains, Gains):
        gains = replace(gains, notes=(*location.notes, *gains.notes))
    return Loaded(item, gains, files)


def _files(checkpoint: Checkpoint, source: ByteSource) -> dict[str, WeightFile]:
    return {file: WeightFile(source.files[file], source.hashes.get(file)) for file in checkpoint.files}
