"""Tensors of all layers in one, as Megatron-core saves those of a stack whose layers are alike: a row for each."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from gammatorch.checkpoints.base import TensorEntry

_IN_LAYERS = re.compile(r"(?P<stack>(?:(?!\d+\.)[^.]+\.)*?layers)\.(?P<layer>\d+\.)?(?P<name>.+)", re.DOTALL)
"""A name within the layers of a stack, with the index of one (``decoder.layers.0.mlp.norm.weight``) or without."""

_MOST_ENTRIES = 1_000_000
"""Entries that a stack is taken apart into, at most: a few bytes may tell of any number of layers."""


def take_apart(table: Mapping[str, TensorEntry]) -> tuple[dict[str, TensorEntry], tuple[str, ...]]:
    """A table where each layer's part of a stacked tensor has an entry of its own, with the layer's index in its key.

    A stack is taken apart if all its tensors have the same first dimension, and none of its keys holds an index.

    Args:
        table: Entries by key.

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
