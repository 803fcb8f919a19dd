"""Headers of small checkpoints, made to measure for the tests of selection."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save

from gammatorch.checkpoints.base import Checkpoint
from gammatorch.checkpoints.opening import open_source
from tests.sources import MemorySource


def checkpoint_of(shapes: dict[str, tuple[int, ...]], config: str | None = None) -> Checkpoint:
    contents = {"model.safetensors": save({key: np.ones(shape, np.float32) for key, shape in shapes.items()})}
    if config is not None:
        contents["config.json"] = config.encode()
    return open_source(MemorySource(contents))


LLAMA = '{"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 4}'


PATTERN = "model.layers.{layer}.input_layernorm.weight"


def llama(layers: int = 3, prefix: str = "model.", width: int = 4) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}norm.weight": (width,)}
    for layer in range(layers):
        block = f"{prefix}layers.{layer}"
        shapes[f"{block}.input_layernorm.weight"] = (width,)
        shapes[f"{block}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{block}.mlp.down_proj.weight"] = (width, width)
    return shapes


def blocks_of(names: list[str], stack: str = "model.layers", layers: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{stack}.{layer}.{name}.weight": (4,) for layer in range(layers) for name in names}


def two_stacks() -> dict[str, tuple[int, ...]]:
    tower = {f"vision_tower.encoder.layers.{layer}.input_layernorm.weight": (8,) for layer in range(5)}
    return llama(prefix="language_model.model.") | tower
