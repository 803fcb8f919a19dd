"""Selection without the whole table of tensors, for the models that leave no doubt.

A mixture of experts has a hundred thousand tensors, and the norms of one site are sixty of them. Where config.json
names a family and the number of layers, the keys are known but for their prefix, and a search of the raw headers finds
them. Whatever is unusual, an error above all, is left to the full table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields

from gammatorch.architectures.base import LAYER, PLACES, Selection
from gammatorch.architectures.config import ModelConfig, read_config
from gammatorch.architectures.families import FAMILIES, Family
from gammatorch.architectures.match import _OTHER_TOWERS, _PREDICTION_HEADS
from gammatorch.checkpoints.base import Checkpoint, TensorEntry
from gammatorch.checkpoints.search import SearchedEntries

_UNDERSTOOD = frozenset({"types", "layout", "places", "finals", "source", "offset"})
"""Fields of a family that the shortcut reads; a family that sets another one needs the full table."""


def select_by_search(checkpoint: Checkpoint, site: str) -> Selection | None:
    """The selection of a site of the main stack, as the full table would give it; None wherever that is not certain.

    Args:
        checkpoint: An open checkpoint.
        site: A place within the block, or ``"auto"``.

    Raises:
        MalformedCheckpoint: config.json contradicts itself.
    """
    entries = checkpoint.entries
    config = read_config(checkpoint.config, f"{checkpoint.source.name}/config.json")
    family = _family(config)
    place = "input" if site == "auto" else site
    if not isinstance(entries, SearchedEntries) or family is None or config.num_layers is None or place == "final":
        return None
    names = [name for name, known in family.places.items() if known == place]
    if len(names) != 1:
        return None
    found = entries.search(f".{names[0]}.")
    blocks = _blocks(found, names[0]) if found else None
    if blocks is None:
        return None
    stack, rows = blocks
    heads = sorted(layer for layer in rows if layer >= config.num_layers)
    if len(heads) != config.raw.get("num_nextn_predict_layers", 0) or _OTHER_TOWERS.search(stack):
        return None
    if not all(_is_head(entries, stack, layer, rows[layer]) for layer in heads):
        return None
    layers = tuple(range(config.num_layers))
    if sorted(rows) != [*layers, *heads] or not _fit(rows, place, config):
        return None
    return Selection(
        site=place,
        reason=PLACES[place],
        stack=stack,
        pattern=f"{stack}.{LAYER}.{names[0]}.weight",
        offset=family.offset,
        offset_known=True,
        layers=layers,
        entries=tuple(rows[layer] for layer in layers),
        notes=tuple(f"multi-token-prediction head {stack}.{layer} left out" for layer in heads),
    )


def _family(config: ModelConfig) -> Family | None:
    """The only family of the model's type, if nothing but its names has to be asked."""
    typed = [family for family in FAMILIES.values() if not set(family.types).isdisjoint(config.types)]
    if len(typed) != 1 or not typed[0].finals or not _is_simple(typed[0]):
        return None
    return typed[0]


def _is_simple(family: Family) -> bool:
    for known in fields(family):
        if known.name not in _UNDERSTOOD:
            default = known.default_factory() if known.default_factory is not MISSING else known.default
            if getattr(family, known.name) != default:
                return False
    return isinstance(family.offset, float)


def _blocks(found: Mapping[str, TensorEntry], name: str) -> tuple[str, dict[int, TensorEntry]] | None:
    """The one stack that all these keys are of, and its rows by layer."""
    key_of = re.compile(rf"(?P<stack>.+)\.(?P<layer>0|[1-9]\d*)\.{re.escape(name)}\.(?P<leaf>weight|bias)", re.ASCII)
    stacks = set()
    rows = {}
    for key, entry in found.items():
        match = key_of.fullmatch(key)
        if match is None:
            return None
        stacks.add(match["stack"])
        if match["leaf"] == "weight":
            rows[int(match["layer"])] = entry
    stack = stacks.pop()
    if stacks or any(part.isdecimal() for part in stack.split(".")):
        return None
    return stack, rows


def _is_head(entries: SearchedEntries, stack: str, layer: int, norm: TensorEntry) -> bool:
    """Whether a block after the last one is a multi-token-prediction head; its tensors lie near its norm."""
    for name in _PREDICTION_HEADS:
        found = entries.search(f".{layer}.{name}", near=norm.file)
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
