"""What a norm adds to the weight that it stores, found by calling it by itself."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gammatorch.verify.behaviour import epsilon_of, fit_gain
from tests.verify.built import NO_NORMS, draw

SAME = 5e-3
"""Largest difference between two offsets that are the same."""

_OBSERVED: dict[Any, tuple[float | None, nn.Module]] = {}


def acting_offset(module: nn.Module, name: str) -> float | None:
    """What a module adds to its weight of that name before it multiplies by it; None if that cannot be told."""
    if isinstance(module, NO_NORMS):
        return 0.0
    own = [(key, value) for key, value in vars(module).items() if not key.startswith("_")]
    settings = tuple((key, value if isinstance(value, Hashable) else id(value)) for key, value in own)
    alike = (type(module), name, tuple(getattr(module, name).shape), settings)
    if alike not in _OBSERVED:
        alone = copy.deepcopy(module)
        draw(alone, torch.Generator().manual_seed(2), largest=2**40)
        with torch.no_grad():
            _OBSERVED[alike] = _observed(alone, name), module  # which keeps what has an id
    return _OBSERVED[alike][0]


def _observed(module: nn.Module, name: str) -> float | None:
    """By the gain that it applies to what it is fed with, normalised; else by the weight with which it gives nothing."""
    weight = getattr(module, name)
    for inputs in _possible_inputs(module, weight):
        try:
            given = _output(module, inputs)
        except Exception:  # it takes other shapes
            continue
        gain = fit_gain(inputs[0], given, weight, epsilon_of(module)) if len(inputs) == 1 else None
        if gain is not None:
            difference = (gain - weight).flatten()
            offset = float(difference.median())
            return offset if float((difference - offset).abs().max()) <= SAME else None
        silent = [offset for offset in (0.0, 1.0) if _is_silent(module, name, -offset, inputs)]
        if len(silent) == 1:
            return silent[0]
    return None


def _is_silent(module: nn.Module, name: str, value: float, inputs: tuple[Tensor, ...]) -> bool:
    """Whether nothing comes out where all weights are this number, and something does where they are another."""
    alone = copy.deepcopy(module)
    for own, tensor in (*alone.named_parameters(recurse=False), *alone.named_buffers(recurse=False)):
        if own in ("bias", "beta", "running_mean"):
            tensor.zero_()
    getattr(alone, name).fill_(value)
    silence = _output(alone, inputs)
    getattr(alone, name).fill_(value + 1.5)
    return bool(silence.abs().max() <= 1e-6 and _output(alone, inputs).abs().max() > 1e-3)


def _output(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    given = module(*inputs)
    given = given[0] if isinstance(given, tuple) else given
    if not isinstance(given, Tensor) or not given.isfinite().all():
        raise TypeError(f"{type(module).__name__} gives no numbers")
    return given


def _possible_inputs(module: nn.Module, weight: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """What a norm may take: channels last, heads before them, channels before places, a gate beside them."""
    generator = torch.Generator().manual_seed(3)
    width = weight.shape[-1]
    shapes = [(3, 5, width), (3, 5, 2, width), (15, width), (3, width, 5), (3, width, 4, 4), (3, width, 2, 4, 4)]
    if weight.ndim == 2:
        shapes = [(3, 5, *weight.shape), (3, weight.shape[0], 5, width), *shapes]
    for shape in shapes:
        yield (torch.randn(shape, generator=generator),)
    for shape in ((3, 5, width), (15, width)):
        yield torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    for heads in sorted({value for value in vars(module).values() if type(value) is int and 1 < value < width}):
        yield (torch.randn(3, 5, heads, width // heads, generator=generator),)
        yield (torch.randn(3, 5, heads * width, generator=generator),)
