"""The parts of config.json: which is the text model's, and which tells the type of a stack."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from gammatorch.architectures.families import ODD_PARTS, PARTS, USUAL_PARTS, is_known
from gammatorch.checkpoints.base import JsonObject

_TEXT = ("text_config", "llm_config", "language_config", "thinker_config", "language_model_config", "decoder")
_IS_CONFIG = re.compile(r"(_model)?_(config|cfg)$")
_OF_TEXT = re.compile(r"(^|_)(text|language|llm|lm|vlm)(_model)?_(config|cfg)$")
_OF_ANOTHER = re.compile(
    r"(^|_)(vision|visual|image|video|audio|speech|sound|codec|encoder|backbone|vit|vq\w*|\w*former|projector|connector"
    r"|adapter|quantization)(_|$)"
)
"""Names of parts that are the text model's or hold it, the usual ones and others, and of parts that do not."""

_LAYERS = frozenset({"num_hidden_layers", "num_layers", "n_layers", "n_layer"})

_TEXT_WORDS = ("text", "language", "llm", "lm")
"""What the stacks of a text model are called, whichever name its part has."""

_NAME_ENDS = r"(?=[._]|\d|$)(?!_\w*(?:proj|adapt|connect|merg))"
"""What follows the name of a part: not that of what brings its output to another, ``vision_projector``."""

_PREDICTS = re.compile(r"(^|\.)(mtp|nextn)")
"""Heads that predict further tokens: their blocks are the text model's."""

Part = JsonObject
"""A configuration within config.json, or the whole of it."""


class StackTypes(NamedTuple):
    """The types that tell of a stack.

    Attributes:
        types: From the whole model's to that of the part that the stack is of.
        rest: What is left of the stack's name after the parts that it names.
        names_text: Whether the text model's part is the last that it names.
    """

    types: tuple[str, ...]
    rest: str
    names_text: bool = False


def types_of(config: Part, stack: str, is_beside: Callable[[str], bool], *, text_is_named: bool = False) -> StackTypes:
    """Follow the name of a stack into config.json: from part to part that it names, and where it names none, to the
    text model's, unless the name says that the stack is beside that.

    Example:
        >>> captioner = {
        ...     "model_type": "vision-encoder-decoder",
        ...     "encoder": {"model_type": "vit"},
        ...     "decoder": {"model_type": "gemma2"},
        ... }
        >>> types_of(captioner, "encoder.encoder.layer", lambda name: False).types
        ('vision-encoder-decoder', 'vit')
        >>> types_of(captioner, "decoder.model.layers", lambda name: False).types
        ('vision-encoder-decoder', 'gemma2')
    """
    part, model_type, rest = config, _type_of(config, "", None), stack
    types, names_text = [model_type], False
    while True:
        parts = _parts(part, model_type)
        text = _text_name(part, parts, model_type)
        named = _named_first(parts, text, rest, model_type)
        beside = is_beside(rest) or (text_is_named and rest == stack)
        if named is None and (text is None or (beside and not _PREDICTS.search(rest))):
            return StackTypes(tuple(dict.fromkeys(filter(None, types))), rest, names_text)
        name, end = named or (str(text), 0)
        names_text = named is not None and name == text
        part, model_type, rest = parts[name], _type_of(parts[name], name, model_type), rest[end:].lstrip("._")
        types.append(model_type)


def down_to_text(config: Part) -> list[tuple[Part, str | None]]:
    """A configuration and the text model's within it, level by level, and the type of each.

    Example:
        >>> down_to_text({"model_type": "colpali", "vlm_config": {"text_config": {"num_hidden_layers": 18}}})[-1]
        ({'num_hidden_layers': 18}, 'gemma')
    """
    part, model_type = config, _type_of(config, "", None)
    levels = [(part, model_type)]
    while (name := _text_name(part, parts := _parts(part, model_type), model_type)) is not None:
        part, model_type = parts[name], _type_of(parts[name], name, model_type)
        levels.append((part, model_type))
    return levels


def _parts(part: Part, model_type: str | None) -> dict[str, Part]:
    """The parts of a part by their names, with those that it leaves out though its type has them."""
    has = {**PARTS.get(model_type or "", {}), **USUAL_PARTS.get(model_type or "", {})}
    return {name: {} for name in has} | {
        name: inner
        for name, inner in part.items()
        if isinstance(inner, Mapping) and (name in _TEXT or _IS_CONFIG.search(name) or "model_type" in inner)
    }


def _type_of(part: Part, name: str, of_type: str | None) -> str | None:
    """The type of a part of that name in a type: the one that it always has there, what it says, or what is usual."""
    always = PARTS.get(of_type or "", {}).get(name)
    said = part.get("model_type")
    return always or (said if isinstance(said, str) and said else USUAL_PARTS.get(of_type or "", {}).get(name))


def _text_name(part: Part, parts: Mapping[str, Part], model_type: str | None) -> str | None:
    """Name of the part among these that is the text model's, or that holds it; None if none does."""
    if not parts:
        return None
    usual = next((name for name in _TEXT if name in parts), None)
    if usual is not None:
        return usual
    typed = [name for name, inner in parts.items() if _type_of(inner, name, model_type) is not None]
    candidates = [name for name in typed if _OF_TEXT.search(name)]
    if not candidates and not is_known(model_type or "") and _LAYERS.isdisjoint(part):
        candidates = [name for name in typed if not _OF_ANOTHER.search(name)]
    return candidates[0] if len(candidates) == 1 else None


def _named_first(
    parts: Mapping[str, Part], text: str | None, stack: str, model_type: str | None
) -> tuple[str, int] | None:
    """The part that the name of a stack names first, by the longest of its words, and where that word ends."""
    found = [
        (match.start(), -match.end(), name)
        for name in parts
        for word in filter(None, _words(name, name == text, model_type))
        if (match := re.search(rf"(?:^|(?<=[._])){re.escape(word)}{_NAME_ENDS}", stack)) is not None
    ]
    if not found:
        return None
    _, end, name = min(found)
    return name, -end


def _words(name: str, is_text: bool, model_type: str | None) -> Iterator[str]:
    """What the names of stacks call a part."""
    yield _IS_CONFIG.sub("", name)
    if is_text:
        yield from _TEXT_WORDS
    yield from (word for word, meant in ODD_PARTS.get(model_type or "", {}).items() if meant == name)
