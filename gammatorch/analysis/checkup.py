"""The audit of a checkpoint: every site of a stack by itself, and layer by layer against a reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gammatorch.analysis.against import LayerVerdict, hold_against
from gammatorch.analysis.audit import audit, non_finite
from gammatorch.analysis.findings import Finding, tell, worst_first
from gammatorch.analysis.ranks import rank_findings
from gammatorch.architectures.base import PLACES, NormSite, Selection, Stack
from gammatorch.architectures.select import choose_stack, select
from gammatorch.architectures.stacks import find_stacks
from gammatorch.checkpoints.base import Advance, Checkpoint, Read
from gammatorch.checkpoints.opening import read_yaml
from gammatorch.errors import CheckpointError, IncompleteCheckpoint, SelectionError
from gammatorch.gains.stack import StoredWeights
from gammatorch.gains.stored import STORED_DTYPES
from gammatorch.gains.stream import stored_sites
from gammatorch.result import Result, View

Stage = Callable[[str, int], Advance | None]
"""Called with what is read next and its bytes; gives what is called with the bytes that have arrived."""

_BIASES = {"gamma": "beta"}
"""Name of a norm's bias by that of its gain, where it is not ``bias``."""

ALL = "all"
"""Stands for every stack where one is named."""

_CARD, _CARD_BYTES = "README.md", 256_000
_FRONT_MATTER = re.compile(rb"---\s*\n(.*?)\n---", re.DOTALL)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def _unseen(what: str, nbytes: int) -> None:
    """The :data:`Stage` of those who do not watch."""


@dataclass(frozen=True, eq=False)
class ReadSites:
    """The weights of all sites of one stack.

    Attributes:
        stack: Name of the stack.
        main: Whether it is the main one of those that were read.
        sites: Its weights by site, of the layers that are there.
        biases: The biases β of layer norms, by the site's name and ``bias``, where every layer that is there has one.
        findings: What kept a site from being read whole, and what a reader should know of the stack.
    """

    stack: str
    main: bool
    sites: Mapping[str, StoredWeights] = field(repr=False)
    biases: Mapping[str, StoredWeights] = field(default_factory=dict, repr=False)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """What is wrong with the gains of a checkpoint, or may be: what ``gammatorch check`` tells.

    Attributes:
        model: What was audited.
        stack: Name of the stack whose sites were read; several are joined by commas.
        sites: The weights of each site that was read; sites of other stacks than the main one have its name before
            their own.
        findings: What was found, worst first.
        verdicts: What each layer of each site is to the reference's; none without a reference.
        against: Name of the reference, None without one.
    """

    model: str
    stack: str
    sites: tuple[StoredWeights, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    verdicts: tuple[LayerVerdict, ...] = ()
    against: str | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors; ``gammatorch check`` ends with 3 where there are any."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def _view(self) -> View:
        from gammatorch.reports.views import audit_view  # a later stage, for the convenience of callers

        return audit_view(self)


def audit_checkpoint(
    checkpoint: Checkpoint,
    reference: Sequence[ReadSites] | None = None,
    *,
    against: str | None = None,
    stack: str | None = None,
    exact: bool = False,
    ignore: Iterable[str] = (),
    stage: Stage = _unseen,
) -> Audit:
    """Audit the gains of every site of a stack, against a reference layer by layer where there is one.

    Args:
        checkpoint: An open checkpoint.
        reference: What :func:`read_sites` read of the checkpoint that it should equal or descend from. Layers are
            matched by stack, site and index, not by the names of tensors, so it may be of another format.
        against: Name of the reference.
        stack: Name of the stack, or ``"all"``; the main one if None.
        exact: Whether gains that were trained on are an error.
        ignore: Kinds of findings that do not count, from :data:`~gammatorch.analysis.findings.KINDS`.
        stage: Told what is read next.

    Raises:
        CheckpointError: It cannot be read.
        SelectionError: It has no such stack.
    """
    parts = read_sites(checkpoint, stack, stage, biases=reference is not None or bool(checkpoint.ranks))
    audits = [_audit_stack(part, _counterpart(part, reference), exact, checkpoint) for part in parts]
    findings = [finding for _, found, _ in audits for finding in found]
    if reference is not None:
        findings += _missing_stacks(parts, reference)
    elif (base := base_of(checkpoint)) is not None:
        text = f"made from {base}: --against {base} tells what became of each layer"
        findings.append(Finding("note", "base", "all", text))
    ignored = set(ignore)
    return Audit(
        model=checkpoint.model,
        stack=", ".join(part.stack for part in parts),
        sites=tuple(stored for sites, _, _ in audits for stored in sites),
        findings=tuple(worst_first([found for found in findings if found.what not in ignored])),
        verdicts=tuple(one for _, _, verdicts in audits for one in verdicts),
        against=against,
    )


def _audit_stack(
    own: ReadSites, reference: ReadSites | None, exact: bool, checkpoint: Checkpoint
) -> tuple[list[StoredWeights], list[Finding], list[LayerVerdict]]:
    """The weights, findings and verdicts of one stack, its name before those of sites where it is not the main one."""
    findings = [*own.findings, *(found for stored in own.sites.values() for found in audit(stored))]
    findings += rank_findings(checkpoint, {**own.sites, **own.biases})
    verdicts: list[LayerVerdict] = []
    if reference is not None:
        findings += [found for stored in own.biases.values() for found in non_finite(stored)]
        for kind in (reference.sites, reference.biases):
            findings += [found for stored in kind.values() for found in non_finite(stored, "the reference's ")]
        names = _other_names(own.sites, reference.sites)
        findings += [
            Finding("note", "stack", name, f"{site}, the one norm with the same layers and width, is held against it")
            for site, name in names.items()
        ]
        renamed = {names.get(site, site): stored for site, stored in own.sites.items()}
        verdicts = hold_against(renamed, reference.sites) + hold_against(own.biases, reference.biases)
        told = {(names.get(found.site, found.site), found.what) for found in findings}
        findings += tell([one for one in verdicts if (one.site, one.verdict) not in told], exact)
    if own.main:
        return list(own.sites.values()), findings, verdicts

    def named(sites: str) -> str:
        return ", ".join(f"{own.stack}: {site}" for site in sites.split(", "))

    return (
        [replace(stored, site=named(stored.site)) for stored in own.sites.values()],
        [replace(found, site=named(found.site)) for found in findings],
        [replace(one, site=named(one.site)) for one in verdicts],
    )


def _other_names(own: Mapping[str, StoredWeights], reference: Mapping[str, StoredWeights]) -> dict[str, str]:
    """Sites at no known place, which each format names in its own way, with the reference's name where one fits."""

    def unmatched(sites: Mapping[str, StoredWeights], others: Mapping[str, StoredWeights]) -> dict[str, object]:
        alone = [site for site in sites if site not in others and site not in PLACES]
        return {site: (sites[site].layers, sites[site].weights.shape[1]) for site in alone}

    ours, theirs = unmatched(own, reference), unmatched(reference, own)
    return {
        site: name
        for site, form in ours.items()
        for name, other in theirs.items()
        if form == other and [*ours.values()].count(form) == [*theirs.values()].count(form) == 1
    }


def _counterpart(part: ReadSites, of: Sequence[ReadSites] | None) -> ReadSites | None:
    """The same stack of a reference: the main one of the main one, whatever they are called, else that of its name."""
    return next((one for one in of or () if (one.main and part.main) or one.stack == part.stack), None)


def _missing_stacks(parts: Sequence[ReadSites], reference: Sequence[ReadSites]) -> list[Finding]:
    return [
        Finding("error", "missing", "all", f"the reference has a stack {one.stack}, with {len(one.sites)} sites")
        for one in reference
        if _counterpart(one, parts) is None
    ]


def read_sites(
    checkpoint: Checkpoint, stack: str | None = None, stage: Stage = _unseen, *, biases: bool = True
) -> list[ReadSites]:
    """Read the weights of every site of a stack as stored; where layers are missing, of those that are there.

    Args:
        checkpoint: An open checkpoint.
        stack: Name of the stack, or ``"all"`` for every one; the main one if None.
        stage: Told what is read next.
        biases: Whether to read the biases of layer norms as well, which only a comparison needs.

    Returns:
        One entry for each stack, the main one first.

    Raises:
        CheckpointError: It cannot be read.
        SelectionError: It has no such stack.
    """
    stacks = find_stacks(checkpoint)
    chosen, holder = choose_stack(stacks, None if stack == ALL else stack, checkpoint)
    notes = [Finding("note", "stack", "all", note) for note in holder.notes] if holder is not None else []
    parts = [_read_stack(checkpoint, stacks, chosen, notes, stage, biases)]
    if stack == ALL:
        others = [one for one in stacks if one.name != chosen.name and one.sites and not one.stages]
        parts += [_read_stack(checkpoint, stacks, one, None, stage, biases) for one in others]
    return parts


def _read_stack(
    checkpoint: Checkpoint,
    stacks: Sequence[Stack],
    chosen: Stack,
    notes: list[Finding] | None,
    stage: Stage,
    with_biases: bool,
) -> ReadSites:
    """One stack, all of its sites in one round; without notes it is not the main one."""
    gains, lacking = _select_sites(checkpoint, stacks, chosen)
    biases = {f"{site} bias": _bias(checkpoint, one) for site, one in gains.items()} if with_biases else {}
    wanted = {**gains, **{site: bias for site, bias in biases.items() if bias is not None}}
    advance = stage("gains", sum(one.nbytes for one in wanted.values()))
    read = stored_sites(checkpoint, wanted, advance)
    return ReadSites(
        stack=chosen.name,
        main=notes is not None,
        sites={site: one for site, one in read.items() if site in gains},
        biases={site: one for site, one in read.items() if site in biases},
        findings=(*(notes or ()), *lacking),
    )


def _select_sites(
    checkpoint: Checkpoint, stacks: Sequence[Stack], chosen: Stack
) -> tuple[dict[str, Selection], list[Finding]]:
    """What to read of each site, and which sites are not whole."""
    selections: dict[str, Selection] = {}
    findings = []
    for site in chosen.sites:
        wanted = {"site": site.place, "stack": chosen.name} if site.place in PLACES else {"pattern": site.pattern}
        selection: Selection | None
        try:
            selection = select(checkpoint, stacks=stacks, **wanted)
        except (SelectionError, IncompleteCheckpoint) as error:
            findings.append(Finding("error", "missing", site.place, str(error)))
            selection = _present(site, chosen) if checkpoint.missing is None else None
        if selection is not None:
            selections[site.place] = selection
    return selections, findings


def _bias(checkpoint: Checkpoint, selection: Selection) -> Selection | None:
    """The biases beside the gains of a site; None where a layer has none, or one of another width or unread type."""
    keys = [_bias_key(entry.key) for entry in selection.entries]
    entries = tuple(checkpoint.entries[key] for key in keys if key in checkpoint.entries)
    width = selection.entries[0].width
    if len(entries) < len(keys) or any(one.width != width or one.dtype not in STORED_DTYPES for one in entries):
        return None
    return replace(selection, entries=entries, offset=0.0, offset_doubt=None)


def _bias_key(key: str) -> str:
    module, _, name = key.rpartition(".")
    return f"{module}.{_BIASES.get(name, 'bias')}"


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
