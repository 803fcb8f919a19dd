"""What a tiny model may be called with, from the parameters of its forward and its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BATCH, LENGTH = 3, 16
_TOKENS = (3, 100)
"""Range of the tokens drawn: above the usual special ones, below those of pictures and sound."""

_SOUND = ("input_features", "input_values", "audio_values", "input_audio", "input_audio_embeds", "features")
_SOUND_MASKS = {"input_features_mask", "audio_mel_mask"}
_GRIDS = ("target_sizes", "image_grid_thw", "grid_thw", "image_grid_hws", "grid_hws", "grid_thws", "tgt_sizes")
_CHANNELS = ("num_channels", "in_channels", "in_chans")
_SIDES = ("image_size", "img_size")
_FRAMES = (64, 128, 200, 400, 3000)
_SAMPLES = (4000, 16000)


def possible_inputs(model: Any) -> Iterator[dict[str, Any]]:
    """Arguments that the model may take, the plainest first: tokens, then with a picture or sound, then without tokens.

    Args:
        model: A transformers model.
    """
    generator = torch.Generator().manual_seed(1)
    names = set(inspect.signature(model.forward).parameters) | {getattr(model, "main_input_name", "input_ids")}
    text = _text(names, model.config, generator)
    pictures = list(_pictures(names, model.config, generator))
    others = [*pictures, *_sounds(names, model.config, generator), *_series(names, model.config, generator)]
    if "input_ids" in names:
        yield text
        yield text | {"use_cache": False}
        if "decoder_input_ids" in text:  # a channel per codebook of sound
            channels = _number(model.config, ("num_channels", "num_codebooks"), 2)
            yield text | {"decoder_input_ids": text["decoder_input_ids"][..., None].expand(-1, -1, channels)}
        yield {name: value for name, value in text.items() if name != "decoder_input_ids"}
        for other in others:
            yield text | other
    decoder = {name: value for name, value in text.items() if name == "decoder_input_ids"}
    for other in others:
        yield other | decoder
    yield from _streams(names, model.config, generator)


def _text(names: set[str], config: Any, generator: torch.Generator) -> dict[str, Any]:
    first, last = _TOKENS[0], min(_TOKENS[1], _number(config, ("vocab_size",), _TOKENS[1]))
    tokens = torch.randint(first, last, (BATCH, LENGTH), generator=generator)
    boxes = torch.zeros(BATCH, LENGTH, 4, dtype=torch.long)
    needed = {"input_ids": tokens, "decoder_input_ids": tokens, "qformer_input_ids": tokens, "bbox": boxes}
    needed["image_attention_mask"] = torch.ones(BATCH, LENGTH, 1, dtype=torch.long)
    return {name: value for name, value in needed.items() if name in names}


def _pictures(names: set[str], config: Any, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """One picture, a film, and pictures cut into patches with their grid, each as some families want them."""
    name: str | None = next((name for name in ("pixel_values", "pixel_values_videos") if name in names), None)
    patch = _number(config, ("patch_size",), 8)
    channels = _number(config, _CHANNELS, 3)
    if "flattened_patches" in names:
        patches = torch.rand(BATCH, LENGTH, 2 + channels * patch**2, generator=generator)
        patches[..., :2] = torch.arange(LENGTH)[:, None] + 1
        yield {"flattened_patches": patches}
    if name is None and "hidden_states" in names and names & {*_GRIDS}:
        name = "hidden_states"
    if name is None:
        return
    height, width = _sides(config)
    frames = _number(config, ("num_frames", "frames_per_clip"), 2)
    shapes = [(channels, height, width), (frames, channels, height, width), (channels, frames, height, width)]
    shapes += [(channels, 64, 64), (channels, 224, 224)]
    shapes += [(1, channels, height, width)]
    for shape in shapes:
        yield {name: torch.rand(BATCH, *shape, generator=generator)}
    yield from _patched_pictures(name, names, config, generator)


def _sides(config: Any) -> tuple[int, int]:
    """Height and width of a picture, at most 256 each."""
    said = getattr(config, "image_size", None)
    sides = said if isinstance(said, (list, tuple)) and len(said) == 2 else [_number(config, _SIDES, 32)] * 2
    return min(sides[0], 256), min(sides[1], 256)


def _patched_pictures(
    name: str, names: set[str], config: Any, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Pictures cut into patches, with their grid or their places."""
    patch, channels = _number(config, ("patch_size",), 8), _number(config, _CHANNELS, 3)
    grid_name = next((grid for grid in _GRIDS if grid in names), None)
    depth = _number(config, ("temporal_patch_size", "tubelet_size"), 1)
    merging = {"merge_sizes": torch.ones(1, dtype=torch.long)} if "merge_sizes" in names else {}
    for width in (channels * depth * patch**2, channels * patch**2):
        patches = torch.rand(32, width, generator=generator)
        for grid in ([[1, 4, 8]], [[4, 8]], [[1, 2, 4]]) if grid_name else ():
            in_a_row = patches.reshape(1, 32, -1, patch, patch).permute(0, 2, 3, 1, 4).flatten(3)
            for shaped in (patches, patches[None], patches.reshape(32, -1, patch, patch), in_a_row):
                yield {name: shaped, str(grid_name): torch.tensor(grid), **merging}
    yield from _patches_with_places(name, names, channels * patch**2, generator)


def _patches_with_places(
    name: str, names: set[str], width: int, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    patches = torch.rand(BATCH, 16, width, generator=generator)
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(BATCH, 16, 2)
    ones = torch.ones(BATCH, 16, dtype=torch.long)
    extras = {
        "spatial_shapes": torch.full((BATCH, 2), 4),
        "pixel_attention_mask": ones,
        "attention_mask": ones,
        "pixel_position_ids": places,
    }
    wanted = {extra: value for extra, value in extras.items() if extra in names}
    if wanted:
        yield {name: patches, **wanted}


def _sounds(names: set[str], config: Any, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Spectra, either axis first, of a few lengths, and waves."""
    bins = _number(config, ("num_mel_bins", "n_mels", "feature_size", "input_feat_per_channel", "input_dim"), 80)
    window = _number(config, ("max_source_positions", "n_window"), 32)
    for name in _SOUND:
        if name in names:
            for frames in (*_FRAMES, 2 * window):
                mask = {masked: torch.ones(BATCH, frames, dtype=torch.long) for masked in _SOUND_MASKS & names}
                yield {name: torch.rand(BATCH, bins, frames, generator=generator)} | mask
                yield {name: torch.rand(BATCH, frames, bins, generator=generator)} | mask
            for samples in _SAMPLES:
                yield {name: torch.randn(BATCH, samples, generator=generator)}
                yield {name: torch.randn(BATCH, 1, samples, generator=generator)}


def _series(names: set[str], config: Any, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    if "past_time_features" in names:
        length = _number(config, ("context_length", "prediction_length"), 32) + max(config.lags_sequence)
        yield dict(_past_and_future(config, length, generator))
    if "past_values" in names:
        length, channels = _number(config, ("context_length",), 32), _number(config, ("num_input_channels",), 1)
        yield {"past_values": torch.randn(BATCH, length, channels, generator=generator)}
        alone = {"past_values": torch.randn(BATCH, length, generator=generator)}
        yield alone
        frequency = torch.zeros(BATCH, 1, dtype=torch.long)
        yield alone | {"past_values_padding": torch.zeros(BATCH, length), "freq": frequency}


def _past_and_future(config: Any, length: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """A series as it was observed, and what an encoder-decoder for series is told of its time."""
    lengths = {"past": length, "future": config.prediction_length}
    for when, steps in lengths.items():
        yield f"{when}_values", torch.randn(BATCH, steps, generator=generator)
        yield f"{when}_time_features", torch.randn(BATCH, steps, config.num_time_features, generator=generator)
    yield "past_observed_mask", torch.ones(BATCH, length)


def _streams(names: set[str], config: Any, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """What stands for embedded tokens, for models that are parts of others."""
    width = _number(config, ("hidden_size", "d_model", "embed_dim"), 64)
    for name in ("inputs_embeds", "hidden_states"):
        if name in names:
            yield {name: torch.randn(BATCH, LENGTH, width, generator=generator)}


def _number(config: Any, names: tuple[str, ...], default: int) -> int:
    """A setting, from the configuration or one nested in it; the last where it is a list."""
    for level in [config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))]:
        for name in names:
            value = getattr(level, name, None)
            if isinstance(value, (list, tuple)) and value:
                value = value[-1]
            if type(value) is int and value > 0:
                return value
    return default
