"""An audit of the gains of one checkpoint, perhaps against a reference, as Python has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from gammatorch.analysis.checkup import Audit, audit_checkpoint, read_sites
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.opening import Model, open_checkpoint


def check(
    model: Model,
    against: Model | None = None,
    *,
    stack: str | None = None,
    exact: bool = False,
    ignore: Iterable[str] = (),
) -> Audit:
    """Audit the gains of every site of a stack: missing, dead, non-finite, copied, untouched, in doubtful convention.

    Against a reference every layer is held against the one at its place: the same, rounded, tuned, or shifted by 1,
    scaled, permuted, another layer's or site's, foreign. Where tensor-parallel ranks each hold a copy of the norms, the
    copies are compared bit by bit.

    Args:
        model: A name or path, an open checkpoint, a module or a state dict.
        against: A reference, likewise, which the model should equal or descend from.
        stack: Which stack, where there are several; the main one if None.
        exact: Whether gains that were trained on are an error.
        ignore: Kinds of findings that do not count.

    Returns:
        The findings, worst first.

    Raises:
        CheckpointError: A checkpoint cannot be opened or read.
        StackNotFound: There is no such stack.
        UnsupportedFormat: A gain is stored in a type that holds none.

    Example:
        >>> import torch
        >>> drawn = torch.Generator().manual_seed(0)
        >>> rows = torch.rand(3, 64, generator=drawn)
        >>> gains = {f"layers.{layer}.input_layernorm.weight": row for layer, row in enumerate(rows)}
        >>> converted = {name: gain + 1 for name, gain in gains.items()}
        >>> [finding.what for finding in check(converted, against=gains).errors]
        ['shifted']
    """
    with contextlib.ExitStack() as opened:
        checkpoint = opened.enter_context(_opened(model))
        source = None if against is None else opened.enter_context(_opened(against))
        reference = None if source is None else read_sites(source, stack)
        name = None if source is None else source.model
        return audit_checkpoint(checkpoint, reference, against=name, stack=stack, exact=exact, ignore=ignore)


@contextlib.contextmanager
def _opened(model: Model) -> Iterator[Checkpoint]:
    """An open checkpoint, which is closed at the end if it was opened here."""
    if isinstance(model, Checkpoint):
        yield model
        return
    with open_checkpoint(model) as checkpoint:
        yield checkpoint
