"""Which sub-layers a block has, by the names of its tensors: a norm is rightly missing where what it belongs to is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gammatorch.architectures.config import ModelConfig
from gammatorch.architectures.keys import Rows, is_norm

_MLP = re.compile(
    r"(^|[._])(mlps?|ffn|ff|feed_?forward|moe|experts?|shared_expert|fc\d|dense_h_to_4h|dense_4h_to_h|intermediate"
    r"|wi|wo|w[123]|linear_?[12]|channel_mix|pwconv\d|output\.dense)([._\d]|$)"
)
_QUERY = re.compile(
    r"(^|[._])(q|wq|query|q_[ab]|w?qkv|c_attn|query_key_value|in_proj|linear_q\w*)([._]|$)", re.IGNORECASE
)
_KEY = re.compile(
    r"(^|[._])(k|wk|key|kv|kv_[ab]|w?qkv|c_attn|query_key_value|in_proj|linear_kv\w*)([._]|$)", re.IGNORECASE
)

BELONGS_TO: Mapping[str, str] = {
    "input": "mixer",
    "post_attention": "mixer",
    "pre_mlp": "MLP",
    "post_mlp": "MLP",
    "query": "queries",
    "key": "keys",
}
"""What the norm at a place belongs to."""


def has_part(names: Collection[str], part: str) -> bool:
    """Whether a block has what a norm belongs to.

    Example:
        >>> pruned = ["post_attention_layernorm.weight", "mlp.up_proj.weight"]
        >>> has_part(pruned, "mixer"), has_part(pruned, "MLP")
        (False, True)
    """
    others = [name for name in names if not _is_of_norm(name)]
    if part == "mixer":  # it has many names: whatever is neither a norm nor the MLP's
        return any(_MLP.search(name) is None for name in others)
    pattern = {"MLP": _MLP, "queries": _QUERY, "keys": _KEY}[part]
    return any(pattern.search(name) for name in others)


def removed_parts(config: ModelConfig) -> Mapping[str, frozenset[int]] | None:
    """The layers whose mixer and whose MLP config.json says were removed; None where it says nothing of the kind.

    Said so by the models of neural architecture search and pruning: ``block_configs`` with ``no_op`` (Nemotron-NAS,
    Puzzle), ``drop_attn_list`` and ``drop_mlp_list`` (LLM-Drop).

    Example:
        >>> from gammatorch.architectures.config import read_config
        >>> removed_parts(read_config({"model_type": "x", "drop_attn_list": [3, 5]}))
        {'mixer': frozenset({3, 5}), 'MLP': frozenset()}
    """
    blocks = config.raw.get("block_configs")
    if isinstance(blocks, list):
        return {
            part: frozenset(layer for layer, block in enumerate(blocks) if _is_no_op(block, name))
            for part, name in (("mixer", "attention"), ("MLP", "ffn"))
        }
    lists = {part: config.raw.get(name) for part, name in (("mixer", "drop_attn_list"), ("MLP", "drop_mlp_list"))}
    if not any(isinstance(listed, list) for listed in lists.values()):
        return None
    return {part: frozenset(_listed(listed)) for part, listed in lists.items()}


def places_of_slots(name: str, rows: Rows, blocks: Mapping[int, Collection[str]]) -> dict[str, Rows]:
    """Where a norm stands in a stack whose blocks are single sub-layers, by what each is (x-transformers).

    Returns:
        Rows by place; those before cross-attention, which is the second mixer in succession, under the norm's name.
    """
    found: dict[str, Rows] = {}
    of_mixer, of_mlp = ("input", "pre_mlp") if name.startswith("pre_") else ("post_attention", "post_mlp")
    for layer, entry in rows.items():
        if not has_part(blocks[layer], "mixer"):
            place = of_mlp
        else:
            place = name if has_part(blocks.get(layer - 1, ()), "mixer") else of_mixer
        found.setdefault(place, {})[layer] = entry
    return found


def _is_no_op(block: Any, name: str) -> bool:
    part = block.get(name) if isinstance(block, dict) else None
    return isinstance(part, dict) and part.get("no_op") is True


def _listed(listed: Any) -> list[int]:
    """Layers of a list that names them, or says of each layer whether it is meant."""
    if not isinstance(listed, list):
        return []
    if all(isinstance(one, bool) for one in listed):
        return [layer for layer, is_meant in enumerate(listed) if is_meant]
    return [layer for layer in listed if type(layer) is int]


def _is_of_norm(name: str) -> bool:
    """Whether a name is a norm's weight, or its bias."""
    module, _, leaf = name.rpartition(".")
    return is_norm(name, 1) or (leaf in ("bias", "beta") and is_norm(f"{module}.weight", 1))
