"""The audit of a checkpoint: every site of a stack by itself, and layer by layer against a reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.analysis.audit import audit, non_finite
from gammatorch.analysis.findings import Finding, tell, worst_first
from gammatorch.architectures.base import PLACES, NormSite, Selection, Stack
from gammatorch.architectures.select import choose_stack, select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import Advance, Checkpoint, Read
from gammatorch.checkpoints.opening import read_yaml
from gammatorch.errors import CheckpointError, IncompleteCheckpoint, SelectionError
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stream import stored_weights

Stage = Callable[[str, int], Advance | None]
"""Called with the site that is read next and its bytes; gives what is called with the bytes that have arrived."""

_CARD, _CARD_BYTES = "README.md", 256_000
_FRONT_MATTER = re.compile(rb"---\s*\n(.*?)\n---", re.DOTALL)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def _unseen(site: str, nbytes: int) -> None:
    """The :data:`Stage` of those who do not watch."""


@dataclass(frozen=True, eq=False)
class ReadSites:
    """The weights of all sites of one stack.

    Attributes:
        stack: Name of the stack.
        sites: Its weights by site, of the layers that are there.
        findings: What kept a site from being read whole, and what a reader should know of the stack.
    """

    stack: str
    sites: Mapping[str, StoredWeights] = field(repr=False)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class Audited:
    """The result of an audit.

    Attributes:
        model: What was audited.
        stack: Name of the stack whose sites were read.
        sites: The weights of each site that was read.
        findings: What was found, worst first.
        verdicts: What each layer of each site is to the reference's; none without a reference.
    """

    model: str
    stack: str
    sites: tuple[StoredWeights, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    verdicts: tuple[LayerVerdict, ...] = ()


def audit_checkpoint(
    checkpoint: Checkpoint,
    reference: ReadSites | None = None,
    *,
    stack: str | None = None,
    exact: bool = False,
    ignore: Iterable[str] = (),
    stage: Stage = _unseen,
) -> Audited:
    """Audit the gains of every site of a stack, against a reference layer by layer where there is one.

    Args:
        checkpoint: An open checkpoint.
        reference: What :func:`read_sites` read of the checkpoint that it should equal or descend from. Layers are
            matched by site and index, not by the names of tensors, so it may be of another format.
        stack: Name of the stack; the main one if None.
        exact: Whether gains that were trained on are an error.
        ignore: Kinds of findings that do not count, from :data:`~gammatorch.analysis.findings.KINDS`.
        stage: Told which site is read next.

    Raises:
        CheckpointError: It cannot be read.
        SelectionError: It has no such stack.
    """
    own = read_sites(checkpoint, stack, stage)
    findings = [*own.findings, *(found for stored in own.sites.values() for found in audit(stored))]
    verdicts: Sequence[LayerVerdict] = ()
    if reference is not None:
        findings += [found for stored in reference.sites.values() for found in non_finite(stored, "the reference's ")]
        verdicts = hold_against(own.sites, reference.sites)
        told = {found.site for found in own.findings if found.what == "missing"}
        findings += tell([one for one in verdicts if one.verdict != "missing" or one.site not in told], exact)
    elif (base := base_of(checkpoint)) is not None:
        findings.append(
            Finding("note", "base", "all", f"made from {base}: --against {base} tells what became of each layer")
        )
    left = [found for found in findings if found.what not in set(ignore)]
    return Audited(checkpoint.model, own.stack, tuple(own.sites.values()), tuple(worst_first(left)), tuple(verdicts))


def read_sites(checkpoint: Checkpoint, stack: str | None = None, stage: Stage = _unseen) -> ReadSites:
    """Read the weights of every site of a stack as stored; where layers are missing, of those that are there.

    Args:
        checkpoint: An open checkpoint.
        stack: Name of the stack; the main one if None.
        stage: Told which site is read next.

    Raises:
        CheckpointError: It cannot be read.
        SelectionError: It has no such stack.
    """
    stacks = find_stacks(checkpoint)
    chosen, holder = choose_stack(stacks, stack, checkpoint)
    findings = [Finding("note", "stack", "all", note) for note in holder.notes] if holder is not None else []
    sites: dict[str, StoredWeights] = {}
    for site in chosen.sites:
        wanted = {"site": site.place, "stack": chosen.name} if site.place in PLACES else {"pattern": site.pattern}
        selection: Selection | None
        try:
            selection = select(checkpoint, stacks=stacks, **wanted)
        except (SelectionError, IncompleteCheckpoint) as error:
            findings.append(Finding("error", "missing", site.place, str(error)))
            selection = _present(site, chosen) if checkpoint.missing is None else None
        if selection is not None:
            advance = stage(site.place, selection.nbytes)
            sites[site.place] = stored_weights(checkpoint, site.place, selection, advance)
    return ReadSites(chosen.name, sites, tuple(findings))


def _present(site: NormSite, stack: Stack) -> Selection | None:
    """The layers of a site that are there, where they have one width; None if they have several."""
    rows = sorted((layer, entry) for layer, entry in site.rows if layer is not None)
    if len({entry.width for _, entry in rows}) != 1:
        return None
    layers, entries = zip(*rows, strict=True)
    doubt = stack.offset_doubt
    return Selection(site.place, "layers that are there", stack.name, site.pattern, site.offset, doubt, layers, entries)


def base_of(checkpoint: Checkpoint) -> str | None:
    """The checkpoint on the Hub that this one says it was made from, in config.json or in its model card.

    Args:
        checkpoint: An open checkpoint.
    """
    named = [(checkpoint.config or {}).get("_name_or_path"), _of_card(checkpoint)]
    own = checkpoint.model.partition("@")[0]
    return next((name for name in named if isinstance(name, str) and _HUB_NAME.fullmatch(name) and name != own), None)


def _of_card(checkpoint: Checkpoint) -> str | None:
    """``base_model`` of the model card, the first where there are several."""
    size = checkpoint.source.files.get(_CARD, 0)
    if not 0 < size <= _CARD_BYTES:
        return None
    read = Read(_CARD, 0, memoryview(bytearray(size)))
    try:
        checkpoint.source.read([read])
    except CheckpointError:
        return None  # a hint is not worth a failure
    head = _FRONT_MATTER.match(bytes(read.into))
    base = read_yaml(head[1]).get("base_model") if head is not None else None
    first = base[0] if isinstance(base, list) and base else base
    return first if isinstance(first, str) else None
