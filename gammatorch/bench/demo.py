"""The demonstration: Qwen3-32B's layout, made on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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
