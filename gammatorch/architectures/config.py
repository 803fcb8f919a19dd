"""What config.json says about the layers, whichever words the model uses for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gammatorch.architectures.families import ONE_BLOCK_LESS
from gammatorch.errors import MalformedCheckpoint

_TEXT = ("text_config", "llm_config", "language_config", "thinker_config", "language_model_config", "decoder")
_DECODER_LAYERS = ("decoder_layers", "num_decoder_layers")
_LAYERS = (*_DECODER_LAYERS, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("d_latents", "hidden_size", "n_embd", "d_model", "dim", "emb_dim", "model_dim")


@dataclass(frozen=True)
class ModelConfig:
    """The few facts of config.json that the headers are held against.

    Attributes:
        model_type: The model's own type, ``"gemma3"``.
        types: That type, and the text model's where one is nested, ``("gemma3", "gemma3_text")``.
        num_layers: Blocks of the main stack.
        of_decoder: Whether that is what config.json says of a decoder.
        hidden: Width of its residual stream.
        raw: The text model's own configuration.
        whole: All of config.json.
    """

    model_type: str | None
    types: tuple[str, ...]
    num_layers: int | None
    hidden: int | None
    raw: Mapping[str, Any]
    whole: Mapping[str, Any] = field(default_factory=dict)
    of_decoder: bool = False

    def says(self, name: str) -> bool | None:
        """A setting that is yes or no, wherever in config.json it stands; None if it is nowhere, or both are said."""
        said = set(_switches(self.whole, name))
        return said.pop() if len(said) == 1 else None


def read_config(config: Mapping[str, Any] | None, where: str = "config.json") -> ModelConfig:
    """Find the facts in a parsed config.json; those it does not tell are None.

    Args:
        config: The parsed file, None if there is none.
        where: Its name, for messages.

    Raises:
        MalformedCheckpoint: A fact is there, but is not what it must be.

    Example:
        >>> read_config({"model_type": "gpt2", "n_layer": 12, "n_embd": 768}).num_layers
        12
    """
    if config is None:
        return ModelConfig(None, (), None, None, {})
    levels = [config]
    while inner := next((levels[-1][name] for name in _TEXT if isinstance(levels[-1].get(name), Mapping)), None):
        levels.append(inner)
    text = levels[-1]
    types = tuple(dict.fromkeys(_types(levels, where)))
    num_layers = _count(_LAYERS, text, where)
    if num_layers is not None and not ONE_BLOCK_LESS.isdisjoint(types):
        num_layers -= 1
    return ModelConfig(
        model_type=types[0] if types else None,
        types=types,
        num_layers=num_layers,
        hidden=_count(_HIDDEN, text, where),
        raw=text,
        whole=config,
        of_decoder=any(text.get(name) is not None for name in _DECODER_LAYERS),
    )


def _switches(config: Mapping[str, Any], name: str) -> Iterator[bool]:
    levels = [config]
    for level in levels:  # grows as it is gone through
        if isinstance(level.get(name), bool):
            yield level[name]
        levels += (inner for inner in level.values() if isinstance(inner, Mapping))


def _types(levels: Sequence[Mapping[str, Any]], where: str) -> Iterator[str]:
    for level in levels:
        named = level.get("model_type")
        if named is not None and not isinstance(named, str):
            raise MalformedCheckpoint("model_type is not a text", file=where)
        if named:
            yield named


def _count(names: tuple[str, ...], config: Mapping[str, Any], where: str) -> int | None:
    for name in names:
        value = config.get(name)
        if value is not None:
            if type(value) is not int or value < 1:
                raise MalformedCheckpoint(f"{name} is {value!r}, not a positive whole number", file=where)
            return value
    return None
