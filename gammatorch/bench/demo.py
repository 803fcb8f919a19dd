"""Checkpoints for the commands that can do without one: what ``run --demo`` reads, and what ``bench`` times."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gammatorch.bench import smollm2
from gammatorch.bench.layouts import FULL_SIZE
from gammatorch.bench.synthetic import write_checkpoint, write_sparse
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.local import LocalSource
from gammatorch.checkpoints.opening import open_source
from gammatorch.errors import OutputError

DEMO_MODEL = f"{smollm2.NAME} (demo, real gains)"


@contextmanager
def demo_checkpoint() -> Iterator[Checkpoint]:
    """SmolLM2-135M-Instruct in full size, open, in a temporary folder: 269 MB of sparse file, 0.4 MB on the disk.

    Its norms are those that were trained; its matrices are holes, which no run reads.

    Raises:
        CheckpointError: The trained gains, which the package carries, are missing or damaged.
        OutputError: The folder for temporary files cannot be written to.
    """
    gains = smollm2.trained_gains()
    tensors = {key: ("BF16", shape) for key, shape in smollm2.tensor_shapes()}
    with _temporary_folder("gammatorch-demo-") as folder:
        write_sparse(folder, smollm2.CONFIG, tensors, gains)
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
    with _temporary_folder("gammatorch-bench-") as folder:
        made = write_checkpoint(folder, **FULL_SIZE[name])
        for shard in made.shards:
            with open(made.folder / shard, "rb") as file:
                os.fsync(file.fileno())
        yield lambda: open_source(LocalSource(folder, name=name), model=f"{name}'s layout, synthetic gains")


@contextmanager
def _temporary_folder(prefix: str) -> Iterator[str]:
    """A folder that is gone afterwards."""
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made ({error.strerror}): set TMPDIR to a folder that can be written to",
            file=error.filename,
        ) from error
    with made as folder:
        yield folder
