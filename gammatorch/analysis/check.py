"""An audit of the gains of one checkpoint, site by site, perhaps against a reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from gammatorch.analysis.audit import Finding, audit, hold_against
from gammatorch.architectures.base import PLACES
from gammatorch.architectures.select import choose_stack, select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.opening import Model, open_checkpoint
from gammatorch.errors import IncompleteCheckpoint, SelectionError
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stream import stored_weights
from gammatorch.result import Result, View


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """What is wrong with the gains of a checkpoint, or may be.

    Attributes:
        model: The name the checkpoint was asked for by.
        against: That of the reference, None without one.
        stack: Stack whose sites were read.
        sites: The stored weights of each site that was read.
        findings: What was found: ``level``, ``what``, ``site`` and ``text`` of each.
    """

    model: str
    against: str | None
    stack: str
    sites: tuple[StoredWeights, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors; ``gammatorch check`` ends with 3 where there are any."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def _view(self) -> View:
        from gammatorch.reports.views import audit_view  # a later stage, for the convenience of callers

        return audit_view(self)


def check(model: Model, against: Model | None = None, *, stack: str | None = None) -> Audit:
    """Audit the gains of every site of a stack: convention (w or 1 + w), missing, dead, non-finite, outlier channels.

    Args:
        model: A name or path, an open checkpoint, a module or a state dict.
        against: A reference, likewise, whose sites and gains the model should have.
        stack: Which stack, where there are several; the main one if None.

    Returns:
        The findings.

    Raises:
        CheckpointError: A checkpoint cannot be opened or read.
        StackNotFound: There is no such stack.
        UnsupportedFormat: A gain is stored in a type that holds none.

    Example:
        >>> import torch
        >>> gains = {f"layers.{layer}.input_layernorm.weight": torch.full((8,), 0.5) for layer in range(3)}
        >>> converted = {name: gain + 1 for name, gain in gains.items()}
        >>> [finding.text for finding in check(converted, against=gains).errors]
        ["γ stands 1 above the reference's: an offset was added twice"]
    """
    with _opened(model) as checkpoint:
        name, sites, findings = _audit(checkpoint, stack)
        if against is None:
            return Audit(checkpoint.model, None, name, tuple(sites.values()), tuple(findings))
        with _opened(against) as reference:
            findings += hold_against(sites, _audit(reference, stack)[1])
            return Audit(checkpoint.model, reference.model, name, tuple(sites.values()), tuple(findings))


@contextlib.contextmanager
def _opened(model: Model) -> Iterator[Checkpoint]:
    """An open checkpoint, which is closed at the end if it was opened here."""
    if isinstance(model, Checkpoint):
        yield model
        return
    with open_checkpoint(model) as checkpoint:
        yield checkpoint


def _audit(checkpoint: Checkpoint, stack: str | None) -> tuple[str, dict[str, StoredWeights], list[Finding]]:
    """The stack, the stored weights of each of its sites, and what is wrong with them."""
    stacks = find_stacks(checkpoint)
    chosen, holder = choose_stack(stacks, stack, checkpoint)
    sites: dict[str, StoredWeights] = {}
    findings = [Finding("note", "stack", "all", note) for note in holder.notes] if holder is not None else []
    for site in chosen.sites:
        wanted = {"site": site.place, "stack": chosen.name} if site.place in PLACES else {"pattern": site.pattern}
        try:
            selection = select(checkpoint, stacks=stacks, **wanted)
        except (SelectionError, IncompleteCheckpoint) as error:
            findings.append(Finding("error", "missing", site.place, str(error)))
            continue
        sites[site.place] = stored_weights(checkpoint, site.place, selection)
        findings += audit(sites[site.place])
    return chosen.name, sites, findings
