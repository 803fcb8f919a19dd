"""Which of the dicts in a trainer's file is the model's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gammatorch.errors import UnsupportedFormat

_NAMES = ("state_dict", "model_state_dict", "model", "module", "params", "weights", "app")
_MOST_NESTED = 4


def find_state_dict(described: Any, kind: type, where: str) -> tuple[dict[Any, Any], tuple[str, ...]]:
    """The dict that holds the model's tensors, and the names that lead to it.

    Trainers put the state dict under a name of its own, beside the optimizer's; those names go before tensors at the
    top, which then are counters.

    Args:
        described: What the file holds.
        kind: What stands for a tensor in it.
        where: Name of the file, for messages.

    Raises:
        UnsupportedFormat: It holds none, or several.

    Example:
        >>> find_state_dict({"step": 1, "model": {"norm.weight": 0.5}, "optimizer": {"state": 0.1}}, float, "m")
        ({'norm.weight': 0.5}, ('model',))
    """
    candidates = list(_dicts_of_tensors(described, kind, (), set()))
    if not candidates:
        raise UnsupportedFormat(
            "holds no dict of tensors: save the model's state_dict() with torch.save, or as safetensors", file=where
        )
    nested = [(tensors, path) for tensors, path in candidates if path]
    if len(nested) > 1:
        names = ", ".join(".".join(path) for _, path in nested)
        raise UnsupportedFormat(f"holds several state dicts ({names}): save one of them in its own file", file=where)
    return nested[0] if nested else candidates[0]


def _dicts_of_tensors(
    described: Any, kind: type, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[dict[Any, Any], tuple[str, ...]]]:
    """The dict itself if it holds tensors, and those under the names that trainers use; none twice, as in a circle."""
    if not isinstance(described, dict) or len(path) > _MOST_NESTED or id(described) in seen:
        return
    seen.add(id(described))
    if any(isinstance(value, kind) for value in described.values()):
        yield described, path
    for name in _NAMES:
        yield from _dicts_of_tensors(described.get(name), kind, (*path, name), seen)
