"""What `compare` takes beside checkpoints: result files of `run`, and the items of sweeps."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gammatorch.checkpoints.locate import is_hub_id
from gammatorch.errors import NotComparable, OutputError, ResultError

if TYPE_CHECKING:  # what needs PyTorch is imported where it is used: checkpoints are opened without it
    from gammatorch.checkpoints.base import Checkpoint
    from gammatorch.gains.stack import Gains
    from gammatorch.results.run import RunDocument
    from gammatorch.sweep.api import SweepItem

MOST_ITEMS = 32
"""Items of sweeps that are compared at once: 496 pairs."""

_ALIKE = {"float64": 1e-9, "float32": 1e-5}
"""Relative difference of norms from which a checkpoint is not the one that a result file was made from, by the
precision of the result."""

Open = Callable[[str, str | None], "Checkpoint"]


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the things that are compared.

    Attributes:
        checkpoint: An open checkpoint that its gains are to be read from; None where they are there.
        gains: The gains of an item of a sweep.
        result: What a result file says that was made of the checkpoint.
        path: The result file.
    """

    checkpoint: Checkpoint | None = None
    gains: Gains | None = None
    result: RunDocument | None = None
    path: str = ""

    def selection(self, site: str, stack: str | None) -> dict[str, str | None]:
        """What to select: the site that was asked for, or else the one of the result file."""
        if self.result is None or site != "auto":
            return {"site": site, "stack": stack}
        if self.result.keys and self.result.site == "pattern":
            raise NotComparable("was made with --pattern: compare the checkpoints with it", file=self.path)
        return {"site": self.result.site or "auto", "stack": stack or self.result.stack}

    def check(self, gains: Any) -> None:
        """Refuse a checkpoint that has changed since its result was written.

        Raises:
            ResultError: Its norms are not those of the file.
        """
        if self.result is None or gains.site != self.result.site or not hasattr(gains, "gamma"):
            return
        norms = gains.gamma.double().norm(dim=-1).tolist()
        slack = _ALIKE[self.result.provenance.dtype]
        told = [math.nan if norm is None else norm for norm in self.result.norms]
        if gains.offset != self.result.offset or len(norms) != len(told):
            raise ResultError(
                f"{gains.model} is read as {len(norms)} layers with offset {gains.offset:g}, and this was written of "
                f"{len(told)} with {self.result.offset:g}: pass --raw if `run` had it, or make the file again",
                file=self.path,
            )
        for layer, norm, was in zip(gains.layers, norms, told, strict=True):
            if not math.isclose(norm, was, rel_tol=slack):
                raise ResultError(
                    f"{gains.model} has changed since this was written (the norm of layer {layer} was {was:.6g} and is "
                    f"{norm:.6g}): make the file again",
                    file=self.path,
                )


def open_compared(names: Sequence[str], opened: Open) -> tuple[list[Compared], list[str]]:
    """Open all that is compared; a sweep stands for its items, at the steps that all sweeps have.

    Args:
        names: Checkpoints, result files and folders of sweeps.
        opened: Opens a checkpoint, at a revision.

    Returns:
        What they are, in the order given, and what the user should know.

    Raises:
        ResultError: A result file is none, or of a tensor.
        OutputError: A sweep keeps sketches in place of gains.
        CheckpointError: A checkpoint cannot be opened.
    """
    sweeps = {name: _items(name) for name in names if (Path(name) / "items").is_dir()}
    chosen, notes = _chosen(sweeps)
    found: list[Compared] = []
    for name in names:
        if name in sweeps:
            found += [Compared(gains=_gains(item)) for item in chosen[name]]
        elif name.endswith(".json") and not name.endswith(".index.json") and os.path.isfile(name):
            found.append(_of_result(name, opened))
        else:
            found.append(Compared(opened(name, None)))
    return found, notes


def _items(folder: str) -> list[SweepItem]:
    from gammatorch.sweep.api import read_sweep

    return list(read_sweep(folder))


def _of_result(path: str, opened: Open) -> Compared:
    """The checkpoint that a result file was made from: the file itself holds figures, and no gains."""
    from gammatorch.results.files import read_result
    from gammatorch.results.run import RunDocument

    result = read_result(Path(path))
    if not isinstance(result, RunDocument) or result.model is None or result.site is None:
        raise ResultError("is no result of `run` on a checkpoint: pass such a result, or a checkpoint", file=path)
    name, commit = result.model, result.provenance.commit
    if commit is not None and is_hub_id(name):
        name = name.partition("@")[0]
    else:
        commit = None
    return Compared(opened(name, commit), result=result, path=path)


def _chosen(sweeps: dict[str, list[SweepItem]]) -> tuple[dict[str, list[SweepItem]], list[str]]:
    """The items to compare of each sweep: those of common steps, spread evenly where they are too many."""
    notes = []
    steps = [{item.step for item in items if item.step is not None} for items in sweeps.values()]
    common = set.intersection(*steps) if len(steps) > 1 else set()
    if len(steps) > 1 and all(steps) and not common:
        notes.append("the sweeps have no step in common: items of different steps are compared")
    found = {}
    for name, items in sweeps.items():
        shared = [item for item in items if item.step in common] or items
        most = max(1, MOST_ITEMS // len(sweeps))
        kept = shared if len(shared) <= most else [shared[place] for place in _spread(len(shared), most)]
        if len(kept) < len(items):
            why = "at common steps, " if common and len(shared) < len(items) else ""
            notes.append(f"{name}: {len(kept)} of its {len(items)} items are compared, {why}spread evenly")
        found[name] = kept
    return found, notes


def _spread(count: int, most: int) -> list[int]:
    """So many places of a row, the first and the last among them.

    Example:
        >>> _spread(10, 4)
        [0, 3, 6, 9]
    """
    return sorted({round(place * (count - 1) / max(most - 1, 1)) for place in range(most)})


def _gains(item: SweepItem) -> Gains:
    """The gains that a sweep keeps of one item."""
    from gammatorch.gains.stack import Gains

    stored = item.stored()
    if stored.weights is None:
        raise OutputError("keeps a sketch of these wide gains: compare the checkpoints", file=item.name)
    summary, source = stored.analysis, stored.provenance
    return Gains(
        gamma=stored.gamma(),
        layers=stored.layers,
        keys=tuple(summary.keys or ()),
        site=stored.site,
        site_reason=summary.site_reason or "",
        stack=summary.stack,
        pattern=(summary.keys or [""])[0].replace(f".{stored.layers[0]}.", ".{layer}.", 1),
        offset=stored.offset,
        stored_dtype=source.stored_dtype or "",
        model=item.name,
        model_type=source.model_type,
        revision=source.commit,
        bytes_read=0,
        bytes_cached=0,
        checkpoint_bytes=source.checkpoint_bytes or 0,
        shards=source.shards or 0,
        requests=0,
        rounds=0,
        seconds=0.0,
        notes=(),
    )
