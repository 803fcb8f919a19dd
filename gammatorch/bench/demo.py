"""Checkpoints for the commands that can do without one: the demonstration, and what bench times."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gammatorch.bench.layouts import FULL_SIZE
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source

DEMO_MODEL = "demo (Qwen3-32B's layout, synthetic gains)"


@contextmanager
def demo_checkpoint() -> Iterator[Checkpoint]:
    """An open checkpoint of Qwen3-32B's layout in a temporary folder: 65.5 GB in 17 sparse shards, 2 MB on disk.

    Raises:
        OutputError: The folder for temporary files cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix="gammatorch-demo-") as folder:
        write_checkpoint(folder)
        with open_source(LocalSource(folder, name="demo"), model=DEMO_MODEL) as checkpoint:
            yield checkpoint


@contextmanager
def full_size_checkpoint(name: str) -> Iterator[Callable[[], Checkpoint]]:
    """What opens a layout of :data:`~gammatorch.bench.synthetic.FULL_SIZE`, made in a temporary folder.

    Its files are flushed to the disk, so that they can be dropped from the page cache.

    Args:
        name: Which of them.

    Raises:
        OutputError: The folder for temporary files cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix="gammatorch-bench-") as folder:
        made = write_checkpoint(folder, **FULL_SIZE[name])
        for shard in made.shards:
            with open(made.folder / shard, "rb") as file:
                os.fsync(file.fileno())
        yield lambda: open_source(LocalSource(folder, name=name), model=f"{name}'s layout, synthetic gains")
