"""What a trainer's file holds: which of its dicts is the model's, and the settings kept beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.pytorch.unpickler import Held
from gammatorch.errors import UnsupportedFormat

_NAMES = ("state_dict", "model_state_dict", "model", "module", "params", "weights", "app")
"""What trainers call the model's own dict."""

_COPIES = ("teacher", "student")
"""Two models of one shape that are trained on each other (DINO, iBOT): their loaders take the first, which is an
average of the second over time."""

_NOT_THE_MODEL = re.compile(
    r"(chained_\d+|(\w+_)?(optim|optimizer|scheduler|scaler|sampler|loss|criterion|rng)(s|_state|_states|_state_dict)?"
    r"|lr_scheduler\w*|rng_\w+|random_\w+|grad\w*|dataloader\w*|train_state|callbacks|loops|hyper_parameters|args|cfg"
    r"|config|buffer_names|param_shapes|frozen_param_\w+|shared_params|_extra_state)"
)
"""What trainers keep beside the model that may hold tensors."""

_EMA = re.compile(r"(^|_)ema(_|$)|(^|_)(average|averaged|shadow)(_|$)")
"""Names of a second model beside the one that is trained: its average over time."""

_MOST_NESTED = 8

_MOST_MEMBERS = 2_000_000
"""Members that are gone through, at most: one dict may be a member of many."""

_SETTINGS_NAMES = ("args", "cfg", "config", "model_args", "hyper_parameters", "hparams", "opt")
"""What Megatron-LM, fairseq, nanoGPT, Lightning and others call them."""

_DEEPEST_SETTING = 6
_MOST_VALUES = 10_000


class StateDict(NamedTuple):
    """The model's tensors.

    Attributes:
        tensors: What stands for each, by key; the names of dicts within dicts are joined by dots.
        path: The names that lead to the dict.
        beside: Names of other dicts of tensors, which may be models as well, and were left.
    """

    tensors: dict[str, Any]
    path: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def notes(self, file: str) -> Iterator[str]:
        """What a reader of the results should know of the choice."""
        if self.path or self.beside:
            left = f", {', '.join(self.beside)} beside {'it' if self.path else 'them'} left out" if self.beside else ""
            yield f"tensors were read from {'.'.join(self.path) or 'the top'!r} in {file}{left}"


def find_state_dict(described: Any, kind: type, where: str) -> StateDict:
    """The dict that holds the model's tensors, and the names that lead to it.

    Trainers put the state dict under a name of its own, beside the optimizer's; those names go before tensors at the
    top, which then are counters. A model in parts (Megatron-LM's ``language_model``), dicts by module (HQQ) and whole
    modules are taken with the names of what holds them.

    Example:
        >>> find_state_dict({"step": 1, "model": {"norm.weight": 0.5}, "optimizer": {"state": 0.1}}, float, "m")
        StateDict(tensors={'norm.weight': 0.5}, path=('model',), beside=())
    """
    tree = _Tree(kind, where)
    node, path, beside = described, list[str](), list[str]()
    while True:
        branches = tree.branches(node)
        named = [name for name in _NAMES if name in branches]
        if not named and tree.leaves(node):
            break
        if len(named) > 1:
            names = ", ".join(".".join((*path, name)) for name in named)
            raise UnsupportedFormat(
                f"holds several state dicts ({names}): save one of them in its own file", file=where
            )
        chosen = named[0] if named else tree.only(branches)
        if chosen is None:
            break
        beside += [
            ".".join((*path, name)) for name in branches if name != chosen and not _NOT_THE_MODEL.fullmatch(name)
        ]
        path.append(chosen)
        node = branches[chosen]
    tensors = dict(tree.flatten(node))
    if not tensors:
        raise UnsupportedFormat(
            "holds no dict of tensors: save the model's state_dict() with torch.save, or as safetensors", file=where
        )
    return StateDict(tensors, tuple(path), tuple(beside))


class _Tree:
    """Dicts of dicts with tensors at their ends; a circle is gone round once."""

    def __init__(self, kind: type, where: str) -> None:
        self._kind = kind
        self._where = where
        self._holds: dict[int, bool] = {}
        self._entered: set[int] = set()
        self._gone_through = 0

    def leaves(self, node: Any) -> bool:
        """Whether a dict holds a tensor itself, and not just a counter beside what holds the model."""
        return any(isinstance(value, self._kind) for value in _members(node).values())

    def branches(self, node: Any) -> dict[str, Any]:
        """The members of a dict that hold tensors further within, each once, and none that was gone through before."""
        self._entered.add(id(node))
        found: dict[int, tuple[str, Any]] = {}
        for name, value in _members(node).items():
            if isinstance(name, str) and id(value) not in self._entered and self._holds_any(value, 0):
                found.setdefault(id(value), (name, value))
        return dict(found.values())

    def only(self, branches: JsonObject) -> str | None:
        """The one branch that is a state dict; None if there is none, or if all of them together are the model."""
        models = [name for name in branches if not _NOT_THE_MODEL.fullmatch(name)]
        own = [name for name in models if not _EMA.search(name)] or models
        if len(own) == 1 and "." not in own[0] and self.leaves(branches[own[0]]):
            return own[0]
        if set(own) == set(_COPIES) and len({self._shape(branches[name]) for name in own}) == 1:
            return _COPIES[0]
        return None

    def flatten(self, node: Any, prefix: str = "", around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
        """Every tensor of a dict and of the dicts in it, with the names that lead to it."""
        members, around = _members(node), (*around, id(node))
        self._gone_through += len(members)
        if self._gone_through > _MOST_MEMBERS:
            raise UnsupportedFormat(
                "holds dicts within dicts of more members than any model: save its state_dict() alone", file=self._where
            )
        for name, value in members.items():
            if not isinstance(name, str):
                continue
            if isinstance(value, self._kind):
                yield prefix + name, value
            elif (
                len(around) <= _MOST_NESTED
                and id(value) not in around
                and not _NOT_THE_MODEL.fullmatch(name)
                and self._holds_any(value, 0)
            ):
                yield from self.flatten(value, f"{prefix}{name}.", around)

    def _holds_any(self, node: Any, depth: int) -> bool:
        members = _members(node)
        if not members or depth > _MOST_NESTED:
            return False
        if id(node) not in self._holds:
            self._holds[id(node)] = False  # while it is looked into: a circle holds no more than what is in it
            self._holds[id(node)] = any(
                isinstance(value, self._kind) or self._holds_any(value, depth + 1) for value in members.values()
            )
        return self._holds[id(node)]

    def _shape(self, node: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple(sorted((name, tuple(tensor.shape)) for name, tensor in self.flatten(node)))


def _members(node: Any) -> Mapping[Any, Any]:
    """What a dict holds, or an object; of a whole module its parameters and the modules within it."""
    if isinstance(node, dict):
        return node
    if not isinstance(node, Held):
        return {}
    if "_modules" not in node.values:
        return node.values
    parts = (node.values.get(name) for name in ("_parameters", "_buffers", "_modules"))
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}


def find_settings(described: Any) -> JsonObject:
    """The settings in a trainer's file: numbers, texts and truth values, in dicts by the names that lead to them.

    Returns:
        Settings by the name that the trainer keeps them under; empty where there are none.

    Example:
        >>> find_settings({"args": Held({"num_layers": 12, "rng": object()}), "model": {"weight": object()}})
        {'args': {'num_layers': 12}}
    """
    if not isinstance(described, dict):
        return {}
    left = [_MOST_VALUES]
    found = {name: _plain(described[name], left) for name in _SETTINGS_NAMES if name in described}
    return {name: value for name, value in found.items() if isinstance(value, dict) and value}


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """The plain part of a value; None where it has none."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST_SETTING:
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


def setting(settings: JsonObject, name: str) -> Any:
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
