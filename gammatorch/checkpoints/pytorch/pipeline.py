"""Models whose keys do not tell the layer: cut into a file per layer or a folder per stage, or stacked in one tensor.

The names within such files count from nought again in each stage, or do not say the layer at all; here they get the
layer's index in the whole model. Formats: ``deepspeed/runtime/pipe/module.py`` for a file per layer,
``megatron/training/checkpointing.py`` for a folder per rank, and Megatron-core for a row per layer.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gammatorch.checkpoints.base import ByteSource, Contents, JsonObject, Read, TensorEntry
from gammatorch.checkpoints.pytorch.archive import read_torch
from gammatorch.checkpoints.pytorch.state_dict import setting
from gammatorch.errors import IncompleteCheckpoint, MalformedCheckpoint

Table = dict[str, TensorEntry]
_LAYER_FILE = re.compile(r"layer_(\d+)-")
_SEQUENTIAL = re.compile(r"sequential\.(?P<layer>\d{1,9})\.(?P<name>.+)", re.DOTALL | re.ASCII)

_CHUNK = re.compile(r"model(?P<chunk>\d+)\.(?P<key>.+)", re.DOTALL)
"""A key within one of the chunks of layers that a rank holds of an interleaved pipeline."""

_LAYER = re.compile(r"(?P<stack>(?:.*\.)?layers)\.(?P<layer>\d+)\.(?P<name>.+)", re.DOTALL | re.ASCII)

STAGES, STAGE_LAYERS = "pipeline_model_parallel_size", "num_layers"
"""Megatron-LM's settings: how many stages the model is cut into, and how many layers all of them have together."""

_IN_LAYERS = re.compile(r"(?P<stack>(?:(?!\d+\.)[^.]+\.)*?layers)\.(?P<layer>\d+\.)?(?P<name>.+)", re.DOTALL)
"""A name within the layers of a stack, with the index of one (``decoder.layers.0.mlp.norm.weight``) or without."""

_MOST_ENTRIES = 1_000_000
"""Entries that a stack is taken apart into, at most: a few bytes may tell of any number of layers."""


def read_torch_files(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of PyTorch's files, and whether a trainer's settings in them say that they are a part of the model.

    A list of layers that begins with the embedding, as DeepSpeed's pipeline engine makes it, is numbered from its first
    block on (GPT-NeoX without a pipeline).

    Raises:
        CheckpointError: As :func:`~gammatorch.checkpoints.pytorch.archive.read_torch`.
    """
    contents = read_torch(source, files, extra)
    missing = missing_stages(contents.settings, files[0]) or _missing_layers(contents, files[0])
    contents = replace(contents, missing=missing)
    by_layer = _by_layer(contents.tables[0]) if len(files) == 1 else {}
    return _from_first_block(contents, by_layer, "sequential.{}") if by_layer else contents


def read_layer_files(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of a model whose layers stand in a file each.

    Raises:
        IncompleteCheckpoint: The file of a layer is missing.
        CheckpointError: As :func:`~gammatorch.checkpoints.pytorch.archive.read_torch`.
    """
    contents = read_torch(source, files, extra)
    numbers = (int(match[1]) for file in files if (match := _LAYER_FILE.match(file)))
    return _from_first_block(contents, dict(zip(numbers, contents.tables, strict=True)), "layer_{:02d}")


def _missing_layers(contents: Contents, file: str) -> str | None:
    """What Megatron-LM's settings say of more layers than are there; None if they do not."""
    stages, layers = (setting(contents.settings, name) for name in (STAGES, STAGE_LAYERS))
    held = _layers_held(contents.tables)
    if stages is None or not isinstance(layers, int) or held in (0, layers) or held > layers:
        return None
    return f"{file} holds {held} of {layers} layers ({STAGE_LAYERS} in its settings): pass the whole model"


def _layers_held(tables: Sequence[Table]) -> int:
    """One more than the highest index of a layer."""
    found = (int(match["layer"]) for table in tables for key in table if (match := _LAYER.fullmatch(key)))
    return max(found, default=-1) + 1


def _by_layer(table: Table) -> dict[int, Table]:
    """The tensors of each member of a list of layers; none where a table is more than such a list."""
    found: dict[int, Table] = {}
    for key, entry in table.items():
        match = _SEQUENTIAL.fullmatch(key)
        if match is None:
            return {}
        found.setdefault(int(match["layer"]), {})[match["name"]] = entry
    return dict(sorted(found.items()))


def _from_first_block(contents: Contents, by_layer: Mapping[int, Table], called: str) -> Contents:
    """The tensors of a list of layers, with the layer's index in the names of those of blocks.

    Blocks are the layers with the same names as most others; the first of them is layer 0. What stands before and after
    them keeps its own names, and a lone ``weight`` after the last block is the final norm's.
    """
    common, _ = Counter(frozenset(table) for table in by_layer.values()).most_common(1)[0]
    blocks = [number for number, table in by_layer.items() if 2 * len(common & table.keys()) > len(common)]
    first, last = blocks[0], blocks[-1]
    if missing := sorted(set(range(first, last + 1)) - set(blocks)):
        raise IncompleteCheckpoint(
            f"has no {called.format(missing[0])} between its first block and its last one: copy it again",
            file=contents.source.name,
        )
    tables = []
    for number, table in by_layer.items():
        if first <= number <= last:
            tables.append(_renamed(table, f"layers.{number - first}."))
        elif number > last and "weight" in table and len(table["weight"].shape) == 1:
            tables.append(_renamed(table, "final_layernorm."))
        else:
            tables.append(table)
    note = f"layers.0 stands for {called.format(first)}, layers.{last - first} for {called.format(last)}"
    return replace(contents, tables=_first_of_each(tables), notes=(*contents.notes, note))


def read_rank_folders(source: ByteSource, files: Sequence[str], extra: Sequence[Read] = ()) -> Contents:
    """The tensors of a model whose pipeline stages stand in a folder each.

    Raises:
        IncompleteCheckpoint: A stage is missing, by what the settings in the files say.
        CheckpointError: As :func:`~gammatorch.checkpoints.pytorch.archive.read_torch`.
    """
    contents = read_torch(source, files, extra)
    stages = setting(contents.settings, STAGES)
    if stages == 1 or len(files) == 1:  # the second number in a folder's name is then that of an expert
        return replace(contents, tables=contents.tables[:1], missing=missing_stages(contents.settings, files[0]))
    if isinstance(stages, int) and stages != len(files):
        raise IncompleteCheckpoint(
            f"holds {len(files)} of {stages} pipeline stages ({STAGES} in its settings): copy the checkpoint again",
            file=source.name,
        )
    tables = _numbered_through(contents.tables, source.name)
    held, layers = _layers_held(tables), setting(contents.settings, STAGE_LAYERS)
    if isinstance(layers, int) and layers != held:
        raise IncompleteCheckpoint(
            f"its {len(files)} pipeline stages hold {held} layers, and their settings say {layers} "
            f"({STAGE_LAYERS}): copy the checkpoint again",
            file=source.name,
        )
    note = f"{len(files)} pipeline stages were read, and their layers numbered through"
    return replace(contents, tables=tables, notes=(*contents.notes, note))


def missing_stages(settings: JsonObject, file: str) -> str | None:
    """What the settings in a stage's file say of other stages; None if it is the whole model.

    Example:
        >>> missing_stages({"args": {"pipeline_model_parallel_size": 2, "num_layers": 12}}, "model_optim_rng.pt")
        'model_optim_rng.pt holds one of 2 pipeline stages of a model of 12 layers (pipeline_model_parallel_size in its
            settings): pass the folder that has the folders of all ranks'
    """
    stages, layers = (setting(settings, name) for name in (STAGES, STAGE_LAYERS))
    if not isinstance(stages, int) or stages < 2:
        return None
    return (
        f"{file} holds one of {stages} pipeline stages of a model of {layers} layers ({STAGES} in its settings): "
        "pass the folder that has the folders of all ranks"
    )


def _renamed(table: Table, prefix: str) -> Table:
    return {prefix + key: entry._replace(key=prefix + key) for key, entry in table.items()}


def _first_of_each(tables: Sequence[Table]) -> list[Table]:
    """Tables without the keys that an earlier one has: tied embeddings stand in the first file and the last."""
    seen: set[str] = set()
    kept = []
    for table in tables:
        kept.append({key: entry for key, entry in table.items() if key not in seen})
        seen |= table.keys()
    return kept


def _numbered_through(tables: Sequence[Table], where: str) -> list[Table]:
    """Tables of stages whose layers count from nought in each, with the layers' numbers in the whole model.

    In an interleaved pipeline each rank holds several chunks of layers: first come the first chunks of all ranks, then
    their second ones.
    """
    chunks: dict[int, list[Table]] = {}
    for table in tables:
        for chunk, of_chunk in _by_chunk(table):
            chunks.setdefault(chunk, []).append(of_chunk)
    first: Counter[str] = Counter()
    numbered = []
    for chunk in sorted(chunks):
        for of_chunk in chunks[chunk]:
            counts: Counter[str] = Counter()
            renamed: Table = {}
            for key, entry in of_chunk.items():
                if match := _LAYER.fullmatch(key):
                    layer = int(match["layer"])
                    counts[match["stack"]] = max(counts[match["stack"]], layer + 1)
                    key = f"{match['stack']}.{first[match['stack']] + layer}.{match['name']}"
                if key in renamed:
                    raise MalformedCheckpoint("stands for two tensors of one stage", file=where, tensor=key)
                renamed[key] = entry._replace(key=key)
            first.update(counts)
            numbered.append(renamed)
    return _first_of_each(numbered)


def _by_chunk(table: Table) -> Iterator[tuple[int, Table]]:
    found: dict[int, Table] = {}
    for key, entry in table.items():
        match = _CHUNK.fullmatch(key)
        chunk, own_key = (int(match["chunk"]), match["key"]) if match else (0, key)
        found.setdefault(chunk, {})[own_key] = entry
    yield from sorted(found.items())


def take_apart(table: Mapping[str, TensorEntry]) -> tuple[dict[str, TensorEntry], tuple[str, ...]]:
    """A table where each layer's part of a stacked tensor has an entry of its own, with the layer's index in its key.

    A stack is taken apart if all its tensors have the same first dimension, and none of its keys holds an index.

    Returns:
        The table, and the stacks that were taken apart.

    Example:
        >>> key = "decoder.layers.mlp.linear_fc1.layer_norm_weight"
        >>> table, stacks = take_apart({key: TensorEntry(key, "F32", (2, 8), "__0_0.distcp", 0, 64)})
        >>> table["decoder.layers.1.mlp.linear_fc1.layer_norm_weight"]  # doctest: +NORMALIZE_WHITESPACE
        TensorEntry(key='decoder.layers.1.mlp.linear_fc1.layer_norm_weight', dtype='F32', shape=(8,),
            file='__0_0.distcp', start=32, stop=64)
    """
    counts = _layers_by_stack(table)
    apart: dict[str, TensorEntry] = {}
    for key, entry in table.items():
        match = _IN_LAYERS.fullmatch(key)
        if match is None or match["stack"] not in counts:
            apart[key] = entry
            continue
        count = counts[match["stack"]]
        layer_bytes = entry.nbytes // count
        for layer in range(count):
            own_key, start = f"{match['stack']}.{layer}.{match['name']}", entry.start + layer * layer_bytes
            apart[own_key] = TensorEntry(own_key, entry.dtype, entry.shape[1:], entry.file, start, start + layer_bytes)
    return apart, tuple(counts)


def _layers_by_stack(table: Mapping[str, TensorEntry]) -> dict[str, int]:
    """The number of layers in each stack whose tensors are stacked."""
    firsts: dict[str, Counter[int]] = defaultdict(Counter)
    for key, entry in table.items():
        if (match := _IN_LAYERS.fullmatch(key)) is not None:
            is_stacked = match["layer"] is None and len(entry.shape) > 1
            firsts[match["stack"]][entry.shape[0] if is_stacked else 0] += 1
    alike = {stack: next(iter(of.items())) for stack, of in firsts.items() if len(of) == 1}
    return {stack: count for stack, (count, tensors) in alike.items() if 0 < count * tensors <= _MOST_ENTRIES}
