"""What config.json says about the layers, whichever words the model uses for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeGuard

from gammatorch.architectures.families import ONE_BLOCK_LESS, STEMMED, is_known
from gammatorch.architectures.parts import down_to_text
from gammatorch.checkpoints.base import Checkpoint, JsonObject
from gammatorch.checkpoints.weights import CONFIG
from gammatorch.errors import MalformedCheckpoint

_DECODER_LAYERS = ("decoder_layers", "num_decoder_layers")
_LAYERS = (*_DECODER_LAYERS, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
_LAYERS_OF_PART = (*_LAYERS, "layers")
"""``layers`` counts those of a part of the model that has a configuration of its own (FastSpeech 2's decoder)."""
_DEPTHS = ("depths", "depth", "blocks_per_stage")
_STAGE_WIDTHS = ("hidden_sizes", "embed_dim", "embed_dims", "embed_dim_per_stage")
_HIDDEN = ("d_latents", "true_hidden_size", "hidden_size", "n_embd", "d_model", "dim", "emb_dim", "model_dim")

_ZERO_CENTRED = ("apply_layernorm_1p", "layernorm_zero_centered_gamma")
"""Settings by which Megatron-LM and NeMo say that norms store w of 1 + w."""

_SAY_ON_OUTPUT, _NORMS_RESIDUALS = ("norm_after", "swin_norm"), "_rpn_"
"""Settings that put norms on what sub-layers give, and what the names of timm's architectures hold that do."""

_NORMED_RESIDUAL = ("apply_residual_connection_post_layernorm", "postnorm")
_NORMED_RESIDUAL_TYPES = frozenset({"minimax"})

_MOST_LAYERS, _MOST_WIDTH, _MOST_STAGES = 1_000_000, 10**12, 32
"""Beyond these a number in config.json is no count of anything, and would take the memory of as many."""


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
        settings: What a trainer has kept of its settings in the weight files, in its own words.
    """

    model_type: str | None
    types: tuple[str, ...]
    num_layers: int | None
    hidden: int | None
    raw: JsonObject
    whole: JsonObject = field(default_factory=dict)
    of_decoder: bool = False
    settings: JsonObject = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether the model's type is there and known, and the text model's."""
        return bool(self.types) and all(map(is_known, self.types))

    @cached_property
    def zero_centred(self) -> bool | None:
        """Whether norms multiply by 1 + w, where a setting of Megatron-LM or NeMo says so; None where none does."""
        said = [self.says(name) for name in _ZERO_CENTRED]
        if any(level.get("normalization") == "layernorm1p" for level in self._levels):
            said.append(True)
        return next((value for value in said if value is not None), None)

    @property
    def norms_outputs(self) -> bool:
        """Whether the norms of the main stack stand on what the sub-layers give."""
        in_name = _NORMS_RESIDUALS in str(self.whole.get("architecture"))
        return in_name or any(self.raw.get(name) is True for name in _SAY_ON_OUTPUT)

    @property
    def norms_residual(self) -> bool:
        """Whether the residual passes through the norms: what they give goes on, not what they are fed with."""
        set_so = any(self.raw.get(name) is True for name in _NORMED_RESIDUAL)
        return set_so or not _NORMED_RESIDUAL_TYPES.isdisjoint(self.types)

    @property
    def divides_norms(self) -> bool:
        """Whether a quantiser has divided norms by scales, which the layers after them multiply by (AWQ)."""
        quantised = self.whole.get("quantization_config")
        return isinstance(quantised, Mapping) and quantised.get("quant_method") == "awq"

    def says(self, name: str) -> bool | None:
        """A setting that is yes or no, wherever in config.json or a trainer's settings it stands; None if it is
        nowhere, or both are said."""
        said = {level[name] for level in self._levels if isinstance(level.get(name), bool)}
        return said.pop() if len(said) == 1 else None

    def kinds_of(self, part: str) -> set[str]:
        """What kinds of a part config.json names, wherever it stands: ``block.name`` in OLMo-core's."""
        found = [level.get("name") for of in (self.whole, self.settings) for key, level in _parts(of) if key == part]
        return {kind for kind in found if isinstance(kind, str)}

    def part_of(self, stack: str) -> tuple[JsonObject, tuple[str, ...]]:
        """The part of config.json that tells of a stack, and its types: the innermost whose name the stack's name
        holds (``qformer_config``), else the text model's."""
        named = self._named(stack)
        if not named:
            return self.raw, self.types
        own = named[-1].get("model_type")
        return named[-1], (own,) if isinstance(own, str) else ()

    @property
    def depths(self) -> tuple[int, ...] | None:
        """Number of blocks in each stage after the stem; None if config.json tells of no stages, or in two ways."""
        found = {
            depths[: _found(("num_encoder_blocks",), level, _MOST_STAGES)]
            for level in self._levels
            for name in _DEPTHS
            if (depths := _counts(level.get(name)))
        }
        counted = found.pop() if len(found) == 1 else None
        return counted[1:] if counted is not None and not STEMMED.isdisjoint(self.types) else counted

    def stage_widths(self, count: int) -> list[set[int]]:
        """Widths that each of so many stages may have, by whichever words config.json uses for it; none where it does
        not tell."""
        widths: list[set[int]] = [set() for _ in range(count)]
        for level in self._levels:
            for listed in (_counts(level.get(name)) for name in _STAGE_WIDTHS):
                for stage, width in enumerate(listed if len(listed) == count else ()):
                    widths[stage].add(width)
            first, growth = level.get("embed_dim"), level.get("embed_dim_multiplier", 2)
            if _is_count(first, _MOST_WIDTH) and growth in (1, 2, 3, 4):
                for stage in range(min(count, _MOST_STAGES)):
                    widths[stage] |= {first, int(first * growth**stage)}
        return widths

    def tells(self, stack: str) -> list[tuple[int | None, int | None]]:
        """Blocks and width that config.json may mean of a stack: those of the text model, of the parts whose names the
        stack's name holds (``vision_config``, ``detr_decoder_config``), of what wraps the text model (a detector)."""
        others = [*self._named(stack), *(level for level, _ in down_to_text(self.whole)[:-1])]
        return [
            (self.num_layers, self.hidden),
            *((_found(_LAYERS_OF_PART, part, _MOST_LAYERS), _found(_HIDDEN, part, _MOST_WIDTH)) for part in others),
        ]

    def _named(self, stack: str) -> list[JsonObject]:
        """Configurations of other parts than the text model whose names a stack's name holds, the outer ones first."""
        return [
            part
            for key, part in _parts(self.whole)
            if part is not self.raw
            and (key.endswith("_config") or "model_type" in part)
            and (name := key.removesuffix("_config"))
            and name in stack
        ]

    @cached_property
    def _levels(self) -> list[JsonObject]:
        return [of for told in (self.whole, self.settings) for of in (told, *(part for _, part in _parts(told)))]


def model_config(checkpoint: Checkpoint) -> ModelConfig:
    """What a checkpoint's config.json and the settings in its files say of the model.

    Args:
        checkpoint: An open checkpoint.

    Raises:
        MalformedCheckpoint: A fact is there, but is not what it must be.
    """
    told = read_config(checkpoint.config, f"{checkpoint.source.name}/{CONFIG}")
    return replace(told, settings=checkpoint.settings) if checkpoint.settings else told


def read_config(config: JsonObject | None, where: str = "config.json") -> ModelConfig:
    """Find the facts in a parsed config.json; those it does not tell are None.

    Raises:
        MalformedCheckpoint: A fact is there, but is not what it must be.

    Example:
        >>> read_config({"model_type": "gpt2", "n_layer": 12, "n_embd": 768}).num_layers
        12
    """
    if config is None:
        return ModelConfig(None, (), None, None, {})
    levels = down_to_text(config)
    text = next(level for level, _ in reversed(levels) if level or level is config)
    types = _types(levels, where)
    num_layers = _count(_LAYERS, text, where, _MOST_LAYERS)
    if num_layers is not None and not ONE_BLOCK_LESS.isdisjoint(types):
        num_layers -= 1
    return ModelConfig(
        model_type=types[0] if types else None,
        types=types,
        num_layers=num_layers,
        hidden=_count(_HIDDEN, text, where, _MOST_WIDTH) if STEMMED.isdisjoint(types) else None,
        raw=text,
        whole=config,
        of_decoder=any(text.get(name) is not None for name in _DECODER_LAYERS),
    )


def _types(levels: Sequence[tuple[JsonObject, str | None]], where: str) -> tuple[str, ...]:
    if any(not isinstance(level.get("model_type", ""), str | None) for level, _ in levels):
        raise MalformedCheckpoint("model_type is not a text", file=where)
    return tuple(dict.fromkeys(model_type for _, model_type in levels if model_type))


def _counts(value: object) -> tuple[int, ...]:
    """A list of two whole numbers or more; none if it is another thing."""
    if not isinstance(value, list) or not 2 <= len(value) <= _MOST_STAGES:
        return ()
    return tuple(value) if all(_is_count(one, _MOST_LAYERS) for one in value) else ()


def _parts(config: JsonObject) -> list[tuple[str, JsonObject]]:
    """The parts of a configuration and of its parts, by their names."""
    parts = [("", config)]
    for _, outer in parts:  # grows as it is gone through
        parts += ((key, part) for key, part in outer.items() if isinstance(part, Mapping))
    return parts[1:]


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= most


def _found(names: tuple[str, ...], config: JsonObject, most: int) -> int | None:
    return next((config[name] for name in names if _is_count(config.get(name), most)), None)


def _count(names: tuple[str, ...], config: JsonObject, where: str, most: int) -> int | None:
    for name in names:
        value = config.get(name)
        if value is not None and not isinstance(value, Mapping):  # LXMERT counts those of three encoders
            if not _is_count(value, most):
                raise MalformedCheckpoint(
                    f"{name} is {value!r}, not a positive whole number up to {most}: write it as one", file=where
                )
            return value
    return None
