"""What a trainer has written of its settings beside the tensors, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gammatorch.checkpoints.pytorch.pickle_machine import Held

_NAMES = ("args", "cfg", "config", "model_args", "hyper_parameters", "hparams", "opt")
"""What Megatron-LM, fairseq, nanoGPT, Lightning and others call them."""

_DEEPEST = 6
_MOST_VALUES = 10_000


def find_settings(described: Any) -> dict[str, Any]:
    """The settings in a trainer's file: numbers, texts and truth values, in dicts by the names that lead to them.

    Args:
        described: What the file holds.

    Returns:
        Settings by the name that the trainer keeps them under; empty where there are none.

    Example:
        >>> find_settings({"args": Held({"num_layers": 12, "rng": object()}), "model": {"weight": object()}})
        {'args': {'num_layers': 12}}
    """
    if not isinstance(described, dict):
        return {}
    left = [_MOST_VALUES]
    found = {name: _plain(described[name], left) for name in _NAMES if name in described}
    return {name: value for name, value in found.items() if isinstance(value, dict) and value}


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """The plain part of a value; None where it has none."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        return None
    if isinstance(value, Held):
        value = value.values
        if "_content" in value:  # OmegaConf: a container, and the nodes in it
            return _plain(value["_content"], left, depth)
        if "_val" in value:
            return _plain(value["_val"], left, depth)
    if isinstance(value, dict):
        within = {name: _plain(member, left, depth + 1) for name, member in value.items() if isinstance(name, str)}
        return {name: member for name, member in within.items() if member is not None}
    if isinstance(value, list):
        members = [_plain(member, left, depth + 1) for member in value]
        return members if all(member is not None for member in members) else None
    return value if isinstance(value, (bool, int, float, str)) else None


def setting(settings: Mapping[str, Any], name: str) -> Any:
    """A setting by its name, wherever among the settings it stands; None if it is nowhere, or has several values.

    Example:
        >>> setting({"args": {"num_layers": 12}, "cfg": {"model": {"dim": 4}}}, "dim")
        4
    """
    found: list[Any] = []
    levels: list[Any] = [settings]
    for level in levels:  # grows as it is gone through
        if name in level and not isinstance(level[name], dict):
            found.append(level[name])
        levels += [member for member in level.values() if isinstance(member, dict)]
    return found[0] if found and all(value == found[0] for value in found) else None
