"""Selection without the whole table of tensors, for the models that leave no doubt.

A mixture of experts has a hundred thousand tensors, and the norms of one site are sixty of them. Where config.json
names a family and the number of layers, the keys are known but for their prefix, and a search of the raw headers finds
them. Whatever is unusual, an error above all, is left to the full table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gammatorch.architectures.base import LAYER, PLACES, Selection
from gammatorch.architectures.config import ModelConfig, model_config
from gammatorch.architectures.families import SHARED_BLOCKS, known_types
from gammatorch.architectures.offsets import find_offsets
from gammatorch.architectures.order import is_beside
from gammatorch.architectures.vocabulary import HEAD_ONLY
from gammatorch.checkpoints.base import Checkpoint, JsonObject, Search, TensorEntry

FIRST_WORDS: Mapping[str, str] = {
    "input": "input_layernorm",
    "query": "self_attn.q_norm",
    "key": "self_attn.k_norm",
}
"""The vocabulary's first word at a place: where all blocks have it, no other name can change what it means."""


def select_by_search(checkpoint: Checkpoint, site: str) -> Selection | None:
    """The selection of a site of the main stack, as the full table would give it; None wherever that is not certain."""
    config = model_config(checkpoint)
    place = "input" if site == "auto" else site
    name = FIRST_WORDS.get(place)
    if name is None or not _has_one_stack(checkpoint.config or {}, config):
        return None
    if config.num_layers is None:
        return None
    found = checkpoint.search(f".{name}.", None)
    blocks = _blocks(found, name, config.num_layers) if found else None
    if blocks is None:
        return None
    stack, rows = blocks
    layers, heads = range(config.num_layers), sorted(rows)[config.num_layers :]
    if len(heads) != config.raw.get("num_nextn_predict_layers", 0) or is_beside(stack):
        return None
    if not all(_is_head(checkpoint.search, stack, layer, rows[layer]) for layer in heads):
        return None
    if not _fit(rows, place, config):
        return None
    offsets = find_offsets(checkpoint, config, stack)
    return Selection(
        site=place,
        reason=PLACES[place],
        stack=stack,
        pattern=f"{stack}.{LAYER}.{name}.weight",
        offset=offsets.at(place),
        offset_doubt=offsets.doubt,
        layers=tuple(layers),
        entries=tuple(rows[layer] for layer in layers),
        notes=tuple(f"multi-token-prediction head {stack}.{layer} left out" for layer in heads),
    )


def _has_one_stack(raw: JsonObject, config: ModelConfig) -> bool:
    """Whether config.json tells of a decoder alone, of a known type: no towers, no encoder, one residual stream."""
    plain = not any(isinstance(value, Mapping) and "model_type" in value for value in raw.values())
    known = len(config.types) == 1 and config.types[0] in known_types() and config.types[0] not in SHARED_BLOCKS
    known = known and not config.norms_outputs and not raw.get("num_kv_shared_layers")
    several_streams = any(name.startswith(("hc_", "altup_")) or "attn_res" in name for name in raw)
    plain = plain and not config.divides_norms
    return plain and known and not several_streams and not raw.get("is_encoder_decoder", False)


def _blocks(found: Mapping[str, TensorEntry], name: str, num_layers: int) -> tuple[str, dict[int, TensorEntry]] | None:
    """The one stack that all these keys are of, and its rows by layer: all layers, and whatever comes after them."""
    stack, dot, _ = next(iter(found)).partition(f".{name}.")[0].rpartition(".")
    if not dot or any(part.isdecimal() for part in stack.split(".")) or len(found) < num_layers:
        return None
    keys = [f"{stack}.{layer}.{name}.weight" for layer in range(num_layers)]
    rows = {layer: found[key] for layer, key in enumerate(keys) if key in found}
    if len(rows) < num_layers:
        return None
    if len(found) > num_layers:
        own_key = re.compile(rf"{re.escape(stack)}\.(0|[1-9]\d{{0,8}})\.{re.escape(name)}\.(weight|bias)", re.ASCII)
        for key in found.keys() - keys:
            match = own_key.fullmatch(key)
            if match is None:
                return None
            if match[2] == "weight":
                rows[int(match[1])] = found[key]
    return stack, rows


def _is_head(search: Search, stack: str, layer: int, norm: TensorEntry) -> bool:
    """Whether a block after the last one is a multi-token-prediction head; its tensors lie near its norm."""
    for name in HEAD_ONLY:
        found = search(f".{layer}.{name}", norm.file)
        if found is None:
            return False
        if any(key.startswith(f"{stack}.{layer}.{name}") for key in found):
            return True
    return False


def _fit(rows: Mapping[int, TensorEntry], place: str, config: ModelConfig) -> bool:
    """Whether the rows are vectors of one width, that of the residual stream where the norm stands on it."""
    widths = {entry.shape for entry in rows.values()}
    (width,) = next(iter(widths)) if len(widths) == 1 and len(next(iter(widths))) == 1 else (0,)
    return width > 0 and (place in ("query", "key") or config.hidden in (None, width))
