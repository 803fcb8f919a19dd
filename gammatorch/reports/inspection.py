"""What a checkpoint holds, and what transformers says of it, for people and for programs. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from gammatorch.architectures.base import PLACES, NormSite, Stack
from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.expected import expected_layers
from gammatorch.architectures.select import base_model, is_lora
from gammatorch.architectures.stages import outer_of_main, stages_of
from gammatorch.checkpoints.base import Checkpoint
from gammatorch.reports.console import Row, cut, print_table
from gammatorch.reports.text import moved, plural, printable, size
from gammatorch.results.documents import (
    InspectedSite,
    InspectedStack,
    InspectedTensor,
    InspectionDocument,
    VerifiedNorm,
)

if TYPE_CHECKING:
    from gammatorch.verify.oracle import Finding

_INDENT = 8
"""Columns that the lines of a tree take before a key."""


def inspection_document(checkpoint: Checkpoint, stacks: Sequence[Stack], config: ModelConfig) -> InspectionDocument:
    """The inspection as a document, without a verification."""
    return InspectionDocument(
        model=checkpoint.model,
        revision=checkpoint.revision,
        model_type=config.model_type,
        num_layers=len(stacks[0].layers) if outer_of_main(stacks) is not None else config.num_layers,
        checkpoint_bytes=checkpoint.checkpoint_bytes,
        stacks=[
            InspectedStack(stack.name, stack.main, stack.layout, [_site_document(site) for site in stack.sites])
            for stack in stacks
        ],
        notes=inspection_notes(checkpoint, stacks, config),
    )


def inspection_notes(checkpoint: Checkpoint, stacks: Sequence[Stack], config: ModelConfig) -> list[str]:
    """What a reader should know: what is missing, what was taken for granted."""
    notes = list(checkpoint.notes)
    if checkpoint.config is None:
        notes.append("no config.json beside the weights: layer count and offsets are not checked against it")
    for stack in stacks:
        notes += stack.notes
        promised = expected_layers(stack, stacks, config)
        if promised is not None and list(promised) != list(stack.layers):
            notes.append(f"config.json says {len(promised)} layers, stack {stack.name!r} has {len(stack.layers)}")
        if stack.main and stack.offset_doubt is not None:
            taken = " and ".join(f"{offset:g}" for offset in sorted({site.offset for site in stack.sites}))
            notes.append(f"{stack.offset_doubt}: offsets of stack {stack.name!r} are taken as {taken}")
    if not stacks and is_lora(checkpoint):
        base = base_model(checkpoint)
        named = f"{base} (adapter_config.json)" if base is not None else "which nothing here names"
        notes = [f"this is an adapter without norms of its own: inspect its base model, {named}"]
    elif not stacks:
        notes.append("no norm in any numbered block; norms without weights, like OLMo 1's, have no gain")
    return notes


def print_inspection(checkpoint: Checkpoint, stacks: Sequence[Stack], config: ModelConfig, console: Console) -> None:
    """Print the checkpoint as a tree: stack, site, keys."""
    commit = f" @ {checkpoint.revision[:7]}" if checkpoint.revision else ""
    facts = [
        config.model_type and f"model type {printable(config.model_type)}",
        _layers_line(stacks, config),
        config.hidden and f"hidden size {config.hidden}",
        f"{plural(len(checkpoint.entries), 'tensor')} in {plural(len(checkpoint.files), 'shard')}",
        size(checkpoint.checkpoint_bytes),
    ]
    console.print(Text(cut(printable(checkpoint.model), console.width - len(commit)) + commit, style="bold"))
    console.print(" · ".join(fact for fact in facts if fact))
    for note in inspection_notes(checkpoint, stacks, config):
        console.print(Text(f"note: {printable(note, None)}", style="yellow"))
    for stack in stacks:
        tree = Tree(Text(_stack_line(stack), style="bold"))
        for site in stack.sites:
            branch = tree.add(Text(_site_line(site)))
            branch.add(Text(cut(printable(site.pattern), console.width - _INDENT), style="dim"))
        console.print(tree)
    traffic = checkpoint.source.traffic
    read = moved(traffic.bytes_read, traffic.bytes_cached)
    console.print(f"read {read} of {size(checkpoint.checkpoint_bytes)}, headers only")


def _layers_line(stacks: Sequence[Stack], config: ModelConfig) -> str | None:
    outer = outer_of_main(stacks)
    if outer is None:
        return plural(config.num_layers, "layer") if config.num_layers else None
    depths = " + ".join(str(len(stage.layers)) for stage in stages_of(outer, stacks))
    return f"{plural(len(outer.stages), 'stage')}, {depths} layers"


def _stack_line(stack: Stack) -> str:
    name = printable(stack.name) or "(top)"
    if stack.stages:
        return f"{name}: {plural(len(stack.stages), 'stage')}{', main stack, places unknown' if stack.main else ''}"
    main = "main stack" if stack.main else f"--stack {printable(stack.name)}"
    layout = f", {stack.layout}" if stack.layout else ", places unknown"
    return f"{name}: {plural(len(stack.layers), 'layer')}, {main}{layout}"


def _site_line(site: NormSite) -> str:
    entries = [entry for _, entry in site.rows]
    shapes = sorted({" × ".join(map(str, entry.shape)) for entry in entries})
    dtypes = sorted({entry.dtype for entry in entries})
    formula = f"γ = {site.offset:g} + w" if site.offset else "γ = w"
    count = "" if site.place == "final" else f"{len(entries)} × "
    return f"{printable(site.place)}: {count}{'|'.join(dtypes)} ({' | '.join(shapes)}), {formula}, {size(site.nbytes)}"


def _site_document(site: NormSite) -> InspectedSite:
    tensors = [
        InspectedTensor(layer, entry.key, entry.file, entry.dtype, list(entry.shape)) for layer, entry in site.rows
    ]
    return InspectedSite(site.place, site.offset, site.nbytes, tensors)


_WIDTH = 80
_NAME_WIDTH = 26
_COLUMNS = ("<verdict", "<place", "offset", "observed", "<input", "<norm")


def with_verification(
    document: InspectionDocument, findings: Sequence[Finding], doubt: str | None
) -> InspectionDocument:
    """An inspection's document with what transformers says."""
    norms = msgspec.convert(findings, list[VerifiedNorm], from_attributes=True)
    return msgspec.structs.replace(document, verification=norms, verification_doubt=doubt)


def print_verification(findings: Sequence[Finding], doubt: str | None, console: Console) -> None:
    """Print a line per norm and, where the table is wrong, what to change in it."""
    if doubt is not None:
        console.print(f"\nVerification cannot tell: {printable(doubt, None)}")
        return
    console.print("\nVerified on a tiny model built by transformers")
    for stack in dict.fromkeys(finding.stack for finding in findings):
        rows = finding_rows([finding for finding in findings if finding.stack == stack])
        print_table(console, printable(stack, _WIDTH) or "(top)", _COLUMNS, rows, least=("input", "offset"))
    for finding in findings:
        if finding.verdict == "differ":
            said = (
                f"{printable(finding.name)}: the table says {finding.place} with offset {finding.offset:g}; it acts "
                f"with offset {finding.observed_offset:g}{' on the block input' if finding.on_input else ''}: "
                "gammatorch/architectures/families.py needs an entry"
            )
            console.print("\n".join(wrap(said, min(_WIDTH, console.width))))
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("agree", "differ")}
    unsure = len(findings) - sum(counts.values())
    agree = f"{plural(counts['agree'], 'norm')} agree{'s' if counts['agree'] == 1 else ''}"
    console.print(f"{agree}, {counts['differ']} differ, {unsure} cannot tell")


def finding_rows(findings: Sequence[Finding]) -> Iterator[Row]:
    """Rows of a table that is 80 columns wide: a long name goes on in rows that hold nothing else."""
    for finding in findings:
        first, *others = _pieces(printable(finding.name))
        yield (
            finding.verdict,
            finding.place if finding.place in PLACES else "-",
            f"{finding.offset:.4g}",
            "-" if finding.observed_offset is None else f"{finding.observed_offset:.4g}",
            "yes" if finding.on_input else "no",
            first,
        )
        for piece in others:
            yield ("", "", "", "", "", piece)


def _pieces(name: str) -> list[str]:
    """A name in lines that fit the last column, broken after a dot where there is one."""
    pieces = [""]
    for part in re.findall(rf"[^.]{{1,{_NAME_WIDTH - 1}}}\.?|\.", name):
        if len(pieces[-1]) + len(part) > _NAME_WIDTH:
            pieces.append("")
        pieces[-1] += part
    return pieces
