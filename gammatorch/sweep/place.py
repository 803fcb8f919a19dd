"""Where a sweep may keep its files, and which files are its own."""

from __future__ import annotations

import os
import re

from gammatorch.checkpoints.shards import some
from gammatorch.checkpoints.weights import is_weights
from gammatorch.errors import OutputError

_ITEM = re.compile(r"[0-9a-f]{32}\.safetensors")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{16}\.tmp")


def check_place(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder in which the files of a sweep would mix with others', before any work is done.

    A folder that holds checkpoints in folders of their own, as a trainer's does, may hold the sweep beside them, and
    one that holds a sweep already may come to hold weights.

    Args:
        folder: Where the sweep is to be kept; it need not be there.

    Raises:
        OutputError: It holds weights itself, or items that no sweep wrote.
    """
    held, items = _names(folder), _names(os.path.join(folder, "items"))
    if strange := sorted(name for name in items if is_weights(name) and not _is_ours(name)):
        raise OutputError(f"holds items/{strange[0]}, which no sweep wrote: pass another folder", file=str(folder))
    weights = sorted(filter(is_weights, held))
    if weights and "claims" not in held and not any(map(_is_ours, items)):
        raise OutputError(
            f"holds weights itself ({some(weights)}), and a sweep keeps its files apart from a model's: pass another "
            f"folder, {os.path.join(folder, 'sweep')} say",
            file=str(folder),
        )


def is_items_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder keeps the items of a sweep, which are no checkpoints."""
    names = _names(folder) if os.path.basename(folder) == "items" else []
    return any(map(_is_ours, names)) and all(map(_is_ours, filter(is_weights, names)))


def is_temporary(name: str) -> bool:
    """Whether a file was being written by a sweep."""
    return _TEMPORARY.fullmatch(name) is not None


def _is_ours(name: str) -> bool:
    return _ITEM.fullmatch(name) is not None or is_temporary(name)


def _names(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # no folder, or not to be listed: making it will say why
        return []
