"""What an engine is to do, whatever the items."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gammatorch.gains.memory import DEFAULT_MEMORY
from gammatorch.sweep.item import Settings


@dataclass(frozen=True)
class Task:
    """What is done with every item of a sweep.

    Attributes:
        folder: The store's folder.
        settings: What is read of each item, and how it is analysed.
        device: Where it is analysed; on Ray, which chooses a GPU for each worker, the number of a GPU means nothing.
        workers: Processes; None for one on each GPU, or one on the CPU.
        token: Access token for the Hub.
        cache: Whether what comes from the Hub is kept on disk, and what is there is used.
        memory: Bytes that one item with wide tensors may take.
        address: The Ray cluster; None for the one that RAY_ADDRESS names, or one begun on this machine.
        gpus_per_task: GPUs, or the fraction of one, that a worker on Ray gets; None for a fourth, or more where there
            are fewer than four CPUs for each.
    """

    folder: Path
    settings: Settings
    device: str = "auto"
    workers: int | None = None
    token: str | None = field(default=None, repr=False)
    cache: bool = True
    memory: int = DEFAULT_MEMORY
    address: str | None = None
    gpus_per_task: float | None = None
