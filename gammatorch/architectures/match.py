"""From the keys of a checkpoint to its stacks and their norms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from gammatorch.architectures.base import LAYER, PLACES, NormSite, Stack
from gammatorch.architectures.config import ModelConfig, read_config
from gammatorch.architectures.families import FAMILIES, Family
from gammatorch.checkpoints.base import Checkpoint, TensorEntry

_INDEX = re.compile(r"(?:^|(?<=\.))\d+(?=\.)")
_NORM = re.compile(r"norm|(?:^|[._])ln(?:[._]|\d|$)", re.IGNORECASE)
_LEAVES = (".weight", ".gamma", ".scale")
_FINAL_NAMES = frozenset(name for family in FAMILIES.values() for name in family.finals)
_PREDICTION_HEADS = ("eh_proj.", "enorm.", "hnorm.")
_OTHER_TOWERS = re.compile(r"vision|visual|image|audio|speech|(^|\.)encoder(\.|$)", re.IGNORECASE)

_Rows = dict[int, TensorEntry]


def find_stacks(checkpoint: Checkpoint) -> tuple[Stack, ...]:
    """Every stack of the checkpoint that has norms, with what is known of them; the main one first.

    The keys decide: a stack is whatever stands before a key's first whole-number part, a norm is a one- or
    two-dimensional ``weight``, ``gamma`` or ``scale`` with a norm's name. config.json says which family's words
    apply; a type that no family covers is matched by its names alone, if all norms of its blocks are explained.

    Args:
        checkpoint: An open checkpoint.

    Returns:
        Its stacks; none if no key looks like a norm in a numbered block.

    Raises:
        MalformedCheckpoint: config.json contradicts itself.
    """
    config = read_config(checkpoint.config, f"{checkpoint.source.name}/config.json")
    layers, norms = _group(checkpoint.entries)
    names = sorted(norms, key=lambda name: _main_order(name, layers[name], config))
    return tuple(
        _describe(name, position == 0, layers[name], norms[name], checkpoint, config)
        for position, name in enumerate(names)
    )


def _group(entries: Mapping[str, TensorEntry]) -> tuple[dict[str, dict[int, bool]], dict[str, dict[str, _Rows]]]:
    """Blocks of each stack (with whether they are prediction heads), and its norms by name, leaf and layer."""
    layers: dict[str, dict[int, bool]] = defaultdict(dict)
    norms: dict[str, dict[str, _Rows]] = defaultdict(lambda: defaultdict(dict))
    seen: dict[str, tuple[str, int]] = {}
    for key, entry in entries.items():
        index = _INDEX.search(key)
        if index is None:
            continue
        block, rest = key[: index.end()], key[index.end() + 1 :]
        if block not in seen:
            seen[block] = key[: index.start()].rstrip("."), int(index[0])
            layers[seen[block][0]][seen[block][1]] = False
        is_norm, is_head = _kind(rest)
        if is_head:
            layers[seen[block][0]][seen[block][1]] = True
        if is_norm and 1 <= len(entry.shape) <= 2:
            norms[seen[block][0]][rest][seen[block][1]] = entry
    return layers, norms


@lru_cache(maxsize=65_536)  # the blocks of a stack repeat the same few names
def _kind(rest: str) -> tuple[bool, bool]:
    """Whether a name within a block is a norm's, and whether only a multi-token-prediction head has it."""
    return rest.endswith(_LEAVES) and _NORM.search(rest) is not None, rest.startswith(_PREDICTION_HEADS)


def _main_order(name: str, layers: Mapping[int, bool], config: ModelConfig) -> tuple[bool, bool, int, str]:
    """Sort key: text before other towers, the stack as long as config.json says, then the longest."""
    blocks = sum(not head for head in layers.values())
    return _OTHER_TOWERS.search(name) is not None, blocks != config.num_layers, -blocks, name


def _describe(
    name: str,
    main: bool,
    layers: Mapping[int, bool],
    norms: Mapping[str, _Rows],
    checkpoint: Checkpoint,
    config: ModelConfig,
) -> Stack:
    heads = {layer for layer, head in layers.items() if head and layer >= (config.num_layers or 0)}
    notes = [f"multi-token-prediction head {name}.{layer} left out" for layer in sorted(heads)]
    blocks = tuple(sorted(layers.keys() - heads))
    finals = _finals_beside(name, checkpoint.entries)
    typed = [key for key, family in FAMILIES.items() if main and not set(family.types).isdisjoint(config.types)]
    own_names = {_own_name(rest) for rest in norms}
    fitting = [key for key in typed if _fits(FAMILIES[key], own_names, finals, config)]
    if not typed:
        fitting = [key for key in FAMILIES if _explains(FAMILIES[key], own_names, finals)]
    family = FAMILIES[fitting[0]] if fitting else None
    sites: list[NormSite] = []
    for rest, rows in norms.items():
        kept = tuple((layer, rows[layer]) for layer in sorted(rows) if layer not in heads)
        place = family.places.get(_own_name(rest)) if family is not None else None
        if place is None or any(site.place == place for site in sites):
            place = _own_name(rest)
        offset = family.offset if family is not None and typed and place in PLACES else 0.0
        if kept:
            sites.append(NormSite(place, ".".join(filter(None, (name, LAYER, rest))), offset, kept))
    if family is not None:
        offset = family.offset if typed else 0.0
        sites += [
            NormSite("final", entry.key, offset, ((None, entry),))
            for final, entry in finals.items()
            if final in family.finals
        ][:1]
    order = list(PLACES)
    sites.sort(key=lambda site: (order.index(site.place) if site.place in order else len(order), site.place))
    return Stack(
        name=name,
        main=main,
        family=fitting[0] if fitting else None,
        layout=family.layout if family is not None else None,
        layers=blocks,
        sites=tuple(sites),
        offset_known=bool(typed and fitting),
        notes=tuple(notes),
    )


def _own_name(rest: str) -> str:
    return rest.rpartition(".")[0]


def _finals_beside(stack: str, entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """Norms that stand beside a stack under a final norm's name: ``model.norm`` beside ``model.layers``."""
    parent = stack.rpartition(".")[0]
    found = {}
    for name in sorted(_FINAL_NAMES):
        for leaf in _LEAVES:
            entry = entries.get(f"{parent}.{name}{leaf}" if parent else f"{name}{leaf}")
            if entry is not None and len(entry.shape) == 1:
                found[name] = entry
    return found


def _fits(family: Family, names: set[str], finals: Iterable[str], config: ModelConfig) -> bool:
    """Whether a family that config.json points at is the one: it may lack a final norm, but not deny one."""
    settings = all(config.raw.get(name) == value for name, value in family.config.items())
    return settings and not names.isdisjoint(family.places) and (bool(family.finals) or not list(finals))


def _explains(family: Family, names: set[str], finals: Iterable[str]) -> bool:
    """Whether names alone are enough: the block's own norms are all in the family's table, and its final norm is there.

    Norms inside attention or the MLP (a name with a dot) do not say where the block is normalised.
    """
    if names.isdisjoint(family.places) or not {name for name in names if "." not in name} <= set(family.places):
        return False
    return not set(finals).isdisjoint(family.finals) if family.finals else not list(finals)
