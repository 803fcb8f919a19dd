"""What items are called where several have one name, and settings in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from gammatorch.results.sweep import Item, Settings


def label_items(items: Iterable[tuple[Item, Settings]]) -> dict[str, str]:
    """A name of its own for each item, by key.

    Where several items have one name, because a branch moved, a local checkpoint was written again, or the settings
    were others, each says which it is.

    Args:
        items: The items, and what was read of each.
    """
    found = [(item.key, item.name, item.commit, settings_text(settings)) for item, settings in items]
    times = Counter(name for _, name, _, _ in found)
    variants = Counter((name, settings) for _, name, _, settings in found)
    labels = {}
    for key, name, commit, settings in found:
        parts = [settings] if times[name] > 1 and settings else []
        parts += [(commit or key)[:7]] if variants[name, settings] > 1 else []
        labels[key] = f"{name} ({', '.join(parts)})" if parts else name
    return labels


def settings_text(settings: Settings) -> str:
    """What differs from the usual settings; empty where nothing does.

    Args:
        settings: The settings.
    """
    usual = msgspec.structs.asdict(Settings())
    changed = {name: value for name, value in msgspec.structs.asdict(settings).items() if value != usual[name]}
    return ", ".join(f"{name}={value}" for name, value in changed.items())
