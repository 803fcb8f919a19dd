"""The norm gains of a model in training, beside its loss in the trainer's logs."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import TrainerCallback

from gammatorch.analysis.analyze import analyze
from gammatorch.architectures.select import select
from gammatorch.checkpoints.opening import open_checkpoint
from gammatorch.errors import GammatorchError, InvalidArgument
from gammatorch.gains.stream import stored_gains, stream_gains
from gammatorch.results.run import Summary, run_summary
from gammatorch.results.sweep import Settings
from gammatorch.sweep.analysing import stored_item
from gammatorch.sweep.item import Item, item_key
from gammatorch.sweep.place import check_place
from gammatorch.sweep.reading import Loaded
from gammatorch.sweep.store import Store, StoredItem

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

_log = logging.getLogger(__name__)


class GainsCallback(TrainerCallback):
    """Reads the norm gains of the model every few steps of a ``transformers.Trainer``, and logs what they say.

    The gains are read and analysed on the device that they are on. The figures go through the trainer's own ``log``,
    and so to W&B, TensorBoard and whatever else it reports to: ``gamma/rms`` (RMS γ), ``gamma/mean_rank_correlation``,
    ``gamma/participation_ratio``, ``gamma/shared_energy``, ``gamma/loss_with_depth``, ``gamma/support`` (of the
    verdict); one that is undefined is left out. Steps are those of the optimizer; the last one is always among them.
    What goes wrong is told once in a warning: training goes on.

    In distributed training the first process reads its own copy of the gains; parameters that are cut into shards
    (FSDP, DeepSpeed stage 3) are not gathered, and a warning tells that they cannot be read.

    Args:
        every: Steps from one reading to the next.
        site: Place of the norm, as for :func:`~gammatorch.read_gains`.
        store: Folder in which each reading is kept as an item of a sweep, for ``gammatorch report``, ``export`` and
            :func:`~gammatorch.read_sweep`; made if it is not there. Items are named after the trainer's
            ``output_dir``; one more training in the same folder takes the place of the earlier one step by step.

    Raises:
        InvalidArgument: ``every`` is below 1.
        OutputError: The store cannot be written to, or would mix with a model's files.

    Example:
        >>> GainsCallback(every=100).every  # Trainer(model, args, callbacks=[GainsCallback(every=100)], …)
        100
    """

    def __init__(self, every: int = 100, site: str = "auto", store: str | os.PathLike[str] | None = None) -> None:
        if every < 1:
            raise InvalidArgument(f"gains are read every 1 step or more, not every {every}")
        self.every = every
        self._settings = Settings(site=site)
        self._trainer: weakref.ref[Trainer] | None = None
        self._warned = set[str]()
        self._last_step = -1
        self._store: Store | None = None
        if store is not None:
            check_place(store)
            self._store = Store(Path(store))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Find the trainer whose log the figures go to."""
        found = _calling_trainer()
        self._trainer = weakref.ref(found) if found is not None else None
        self._last_step = -1

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Read the gains where it is time."""
        if state.global_step % self.every == 0:
            self._read(args, state, model)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Read those of the last step, if they have not been read."""
        if state.global_step != self._last_step:
            self._read(args, state, model)

    def _read(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        self._last_step = state.global_step
        try:
            result = self._measure(args, state.global_step, model)
        except GammatorchError as error:
            self._warn(str(error))
            return
        trainer = self._trainer() if self._trainer is not None else None
        if trainer is None:
            self._warn("no Trainer is calling, so the figures of the gains reach no log")
        else:
            trainer.log(summary_figures(result))

    def _measure(self, args: TrainingArguments, step: int, model: Any) -> Summary:
        """Read and analyse the gains, and keep them if there is a store."""
        checkpoint = open_checkpoint(model)
        selection = select(checkpoint, self._settings.site)
        on_mps = getattr(next(model.parameters(), None), "is_mps", False)  # which has no float64
        dtype = "float32" if on_mps else self._settings.dtype
        gains = stream_gains(checkpoint, selection, dtype=dtype)
        analysis = analyze(gains, method="gram", dtype=dtype)
        if self._store is None:
            return run_summary(analysis)
        item = _item(args, step, self._settings)
        stored = replace(stored_gains(checkpoint, selection), model=item.name)
        analysis = replace(analysis, gains=replace(gains, model=item.name))
        kept: StoredItem = stored_item(Loaded(item, stored, {}), stored.gamma, analysis, self._settings)
        self._store.put(kept)
        return kept.analysis

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("gains of the model in training: %s", message)


def summary_figures(result: Summary) -> dict[str, float]:
    """The figures that are logged, by the names that they are logged under; those that are undefined are left out.

    Args:
        result: An analysis.
    """
    found = result.statistics
    sizes = [norm for norm in result.norms if norm is not None]
    figures = {
        "gamma/rms": sum(sizes) / len(sizes) / result.hidden**0.5 if sizes else None,
        "gamma/mean_rank_correlation": found.mean_rank_correlation.value,
        "gamma/participation_ratio": found.effective_dimension.value,
        "gamma/shared_energy": found.shared_energy.value,
        "gamma/loss_with_depth": found.depth_contrast.value,
        "gamma/support": result.answer.support,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _item(args: TrainingArguments, step: int, settings: Settings) -> Item:
    """The item of a step: its source is a place that a checkpoint of it might have, which tells run and step."""
    name = os.path.join(str(args.output_dir), f"step-{step}")
    source = os.path.abspath(name)
    identity = "read from memory"
    return Item(name, source, identity, step=step, key=item_key(source, identity, settings))


def _calling_trainer() -> Trainer | None:
    """The trainer that has sent the event: events carry its model and its state, but neither it nor its log."""
    from transformers import Trainer

    frame = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back  # type: ignore[assignment]
    return None
