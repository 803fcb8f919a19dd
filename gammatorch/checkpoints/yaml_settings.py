"""Settings that a trainer has written as YAML, as plain data."""

from __future__ import annotations

from typing import Any

YAML_CAP = 256_000
"""Longest config.yaml that is read, in bytes."""


def read_yaml(raw: bytes) -> dict[str, Any]:
    """The settings in a YAML file; none where it is no plain mapping. Nothing is made of its tags.

    Aliases are not followed: a few of them can stand for more values than memory holds.

    Args:
        raw: The file.

    Example:
        >>> read_yaml(b"model: {norm_after: true}"), read_yaml(b"!!python/object:os.system x"), read_yaml(b"a: &b [*b]")
        ({'model': {'norm_after': True}}, {}, {})
    """
    import yaml  # type: ignore[import-untyped]  # takes as long as some runs, and few have such a file

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, yaml.SafeLoader)):
            return {}
        told = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
