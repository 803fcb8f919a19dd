"""Sweeps from Python: run one, and read what one has kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from gammatorch.gains.memory import parse_bytes
from gammatorch.reports.text import plural, printable
from gammatorch.result import Result, View
from gammatorch.results.sweep import Entry, Failure, Noticed, TimelineDocument
from gammatorch.results.tidy import COLUMNS, figure_rows
from gammatorch.sweep.curves import sweep_document
from gammatorch.sweep.item import Settings, natural, run_of
from gammatorch.sweep.labels import label_items
from gammatorch.sweep.place import check_place
from gammatorch.sweep.plan import make_plan
from gammatorch.sweep.run import run_sweep
from gammatorch.sweep.store import SUFFIX, StoredItem, kept_failures, read_item, read_items
from gammatorch.sweep.task import Task
from gammatorch.sweep.told import tell


@dataclass(frozen=True, eq=False)
class SweepItem:
    """One checkpoint of a sweep. Its tensors are read from the store whenever they are asked for.

    Attributes:
        name: What it is called, made unique where several items have one name.
        run: The training run that it is a step of, None without a step.
        step: Its training step, None where its name tells none.
        site: Place of the norm that was read.
        verdict: What its directions say.
        folder: The sweep's folder.
        key: Under which it is stored.
    """

    name: str
    run: str | None
    step: int | None
    site: str
    verdict: str
    folder: Path = field(repr=False)
    key: str = field(repr=False)

    def stored(self) -> StoredItem:
        """All that is kept of it.

        Raises:
            MalformedCheckpoint: Its file is not what a sweep wrote.
        """
        return read_item(self.folder / "items" / f"{self.key}{SUFFIX}")

    @property
    def document(self) -> dict[str, Any]:
        """Its result as ``gammatorch run --out`` writes it."""
        return self.stored().document()

    @property
    def gamma(self) -> Tensor:
        """Its gains γ, shape (layer, hidden), float64.

        Raises:
            OutputError: They are wide, and the sweep keeps a sketch of them.
        """
        return self.stored().gamma()

    @property
    def gram(self) -> Tensor:
        """Its products γ γᵀ, shape (layer, layer), float64."""
        gram = self.stored().gram
        assert gram is not None  # every item keeps them
        return gram


class Sweep(Sequence[SweepItem], Result):
    """The items of a sweep: runs one after the other, each in the order of its steps, then those without a step.

    Attributes:
        folder: The sweep's folder.
        failures: What could not be done, by the records that are kept.
    """

    def __init__(self, folder: Path, keys: frozenset[str] | None = None) -> None:
        self.folder = folder
        self.failures: tuple[Failure, ...] = tuple(kept_failures(folder))
        stored = (one for one in read_items(folder, tensors=False) if keys is None or one.item.key in keys)
        found = {one.item.key: one for one in stored}
        labels = label_items((one.item, one.settings) for one in found.values())
        self._items = sorted((_item(one, labels[key], folder) for key, one in found.items()), key=_place)

    @overload
    def __getitem__(self, place: int) -> SweepItem: ...
    @overload
    def __getitem__(self, place: slice) -> list[SweepItem]: ...
    def __getitem__(self, place: int | slice) -> SweepItem | list[SweepItem]:
        return self._items[place]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def timeline(self) -> list[Entry]:
        """The figures of each item, those that hold it against its neighbours among them; reads all gains once."""
        return self._document().timeline

    @property
    def anomalies(self) -> list[Noticed]:
        """What honest training does not do: copies, mixtures, exchanged steps, jumps; reads all gains once."""
        return self._document().anomalies

    @property
    def notes(self) -> list[Noticed]:
        """What honest training may do; reads all gains once."""
        return self._document().notes

    def _document(self) -> TimelineDocument:
        return self._told

    @cached_property
    def _told(self) -> TimelineDocument:
        return tell(self.folder, [one.key for one in self._items], self.failures)

    def _view(self) -> View:
        runs = len({one.run for one in self._items if one.run is not None})
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return View(
            summary=f"Sweep {printable(str(self.folder))}: {plural(len(self), 'item')} of "
            f"{plural(runs, 'training run')}{failed}",
            columns=("<item", "step", "<site", "<verdict"),
            rows=lambda: [
                (one.name, "-" if one.step is None else str(one.step), one.site, one.verdict) for one in self._items
            ],
            document=self._document,
            names=("item", "step", *COLUMNS),
            figures=self._figures,
            page=self._page,
            drawn=lambda: sweep_document(self.folder),
        )

    def _figures(self) -> Iterator[Sequence[Any]]:
        for one in self._items:
            stored = read_item(self.folder / "items" / f"{one.key}{SUFFIX}", tensors=False)
            for figure in figure_rows(stored.analysis):
                yield (one.name, one.step, *figure)

    def _page(self) -> str:
        from gammatorch.pages import sweep_folder_page

        return sweep_folder_page(self.folder)


def _item(stored: StoredItem, name: str, folder: Path) -> SweepItem:
    item = stored.item
    return SweepItem(name, run_of(item), item.step, stored.site, stored.analysis.answer.verdict, folder, item.key)


def _place(item: SweepItem) -> tuple[Any, ...]:
    return item.run is None, natural(item.run or ""), item.step or 0, natural(item.name)


def read_sweep(folder: str | os.PathLike[str]) -> Sweep:
    """What a sweep has kept: its items in the order of their steps, each with its result and its gains.

    Args:
        folder: What was given to ``--out`` of ``gammatorch sweep``.

    Raises:
        OutputError: It is no sweep's folder.
        MalformedCheckpoint: A file in it is not what a sweep wrote.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> runs = Path(tempfile.mkdtemp())
        >>> for step in (20, 100):
        ...     (runs / f"step{step}").mkdir()
        ...     gains = {f"layers.{layer}.input_layernorm.weight": torch.rand(16) + step for layer in range(3)}
        ...     save_file(gains, runs / f"step{step}" / "model.safetensors")
        >>> swept = sweep(runs, runs / "swept", device="cpu")
        >>> [(item.step, item.gamma.shape) for item in read_sweep(runs / "swept")]
        [(20, torch.Size([3, 16])), (100, torch.Size([3, 16]))]
    """
    return Sweep(Path(folder))


def sweep(
    specs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    every: int = 1,
    limit: int | None = None,
    engine: str = "local",
    workers: int | None = 1,
    device: str = "auto",
    memory: str | int = "2GB",
    token: str | None = None,
    cache: bool = True,
    **settings: Any,
) -> Sweep:
    """Analyse many checkpoints and keep each in one file, as ``gammatorch sweep`` does; what is there stays.

    Args:
        specs: One or several of what the command takes: a name or path, a folder of checkpoints, a pattern over local
            paths, ``org/name@PATTERN`` over branches and tags, a list file.
        out: Folder that keeps the items.
        every: Every Nth of what a pattern matches.
        limit: At most so many items.
        engine: ``"local"`` or ``"ray"``.
        workers: Processes; 1 works in this one, None starts one for each GPU.
        device: Where to analyse.
        memory: Bytes that one item with wide tensors may take.
        token: Access token for the Hub.
        cache: Whether what comes from the Hub is kept on disk, and what is there is used.
        settings: ``site``, ``stack``, ``pattern``, ``raw``, ``dtype``, ``method``, ``dims``, ``seed``, ``phases``, as
            for :func:`~gammatorch.read_gains` and :func:`~gammatorch.analyze`.

    Returns:
        The items that were asked for and are done, and what failed, in ``failures``.

    Raises:
        CheckpointNotFound: Something that was asked for does not exist.
        OutputError: The folder cannot be written to, or would mix with a model's files.
        InvalidArgument: A setting makes no sense.
    """
    chosen, folder = _settings(settings), Path(out)
    check_place(folder)
    given = [specs] if isinstance(specs, str | os.PathLike) else specs
    plan = make_plan([os.fspath(one) for one in given], chosen, every=every, limit=limit, token=token, cache=cache)
    task = Task(folder, chosen, device, workers, token, cache, parse_bytes(memory))
    summary = run_sweep(plan, task, engine=engine)
    swept = Sweep(folder, frozenset(item.key for item in plan.items))
    swept.failures = summary.failures
    return swept


def _settings(given: dict[str, Any]) -> Settings:
    """Settings by name; one that is none is refused as any wrong argument is."""
    known = Settings.__struct_fields__
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"sweep() got an unexpected keyword argument {unknown[0]!r}; settings are {', '.join(known)}")
    return Settings(**given)
