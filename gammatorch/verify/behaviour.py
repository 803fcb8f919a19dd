"""What the norms of a model do in one forward pass, found by what flows in and out of them, never by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_EPSILONS = ("eps", "variance_epsilon", "epsilon", "layer_norm_eps", "norm_eps")
_FIT = 1e-3
"""Largest relative residual of the fit y = γ ⊙ x̂ + b for a module that counts as a norm."""


@dataclass(frozen=True)
class ObservedNorm:
    """One norm as it acts.

    Attributes:
        name: Name of the module within the model.
        gain: What it multiplies the normalised input by, shape (width) or (head, width).
        on_input: Whether it is fed with the block's input.
        called: Position in the order of calls.
    """

    name: str
    gain: Tensor
    on_input: bool
    called: int


@dataclass(frozen=True)
class ObservedBlock:
    """One block of a stack.

    Attributes:
        stack: Name of the list of blocks within the model.
        layer: Its index.
        norms: Its norms in the order of their calls.
    """

    stack: str
    layer: int
    norms: tuple[ObservedNorm, ...]

    @property
    def input_norm(self) -> ObservedNorm | None:
        """The norm on the block's input: of those that are fed with it, the one called first."""
        return next((norm for norm in self.norms if norm.on_input), None)


def draw_norms(model: nn.Module, seed: int = 0, spread: float = 0.3) -> None:
    """Give every norm weights of its own, around those that it is initialised with, so that none passes for another.

    Args:
        model: The model; its weights are changed in place.
        seed: Seed of the draws.
        spread: Standard deviation of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if "norm" in type(module).__name__.lower() or type(module).__name__.endswith("LN"):
                for parameter in module.parameters(recurse=False):
                    parameter.add_(spread * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))


def observe(model: nn.Module, run: Callable[[], object]) -> list[ObservedBlock]:
    """The blocks of every outermost stack that the forward pass goes through.

    A stack is a ``ModuleList`` whose members are called with a tensor; a norm is a module with a weight of its own
    whose output is, channel by channel, a multiple of its normalised input plus a constant.

    Args:
        model: The model.
        run: Runs it once.
    """
    flows: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}
    hooks = [module.register_forward_hook(_recorder(flows), with_kwargs=True) for module in model.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return [
        ObservedBlock(stack, layer, tuple(_norms(f"{stack}.{layer}", block, flows)))
        for stack, layer, block in _blocks(model, flows)
    ]


def _recorder(flows: dict[nn.Module, tuple[Tensor, Tensor, int]]) -> Callable[..., None]:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        fed = next((value for value in [*args, *kwargs.values()] if _is_stream(value)), None)
        given = output if isinstance(output, Tensor) else next(filter(_is_stream, _members(output)), None)
        if fed is not None and given is not None and module not in flows:
            flows[module] = fed.detach().clone(), given.detach().clone(), len(flows)

    return record


def _members(output: Any) -> Iterator[Any]:
    if isinstance(output, (tuple, list)):
        yield from output
    elif isinstance(output, Mapping):
        yield from output.values()


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def _blocks(
    model: nn.Module, flows: Mapping[nn.Module, tuple[Tensor, Tensor, int]]
) -> Iterator[tuple[str, int, nn.Module]]:
    outer: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{stack}.") for stack in outer):
            called = [(layer, block) for layer, block in enumerate(module) if block in flows]
            if called and any(True for _, block in called for _ in block.children()):
                outer.append(name)
                for layer, block in called:
                    yield name, layer, block


def _norms(
    name: str, block: nn.Module, flows: Mapping[nn.Module, tuple[Tensor, Tensor, int]]
) -> Iterator[ObservedNorm]:
    block_input = flows[block][0]
    found = []
    for inner, module in block.named_modules():
        weights = [weight for weight in module.parameters(recurse=False) if weight.ndim in (1, 2)]
        if module not in flows or not weights or isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        fed, given, called = flows[module]
        gain = fit_gain(fed, given, weights[0], _epsilon(module))
        if gain is not None:
            found.append(ObservedNorm(f"{name}.{inner}", gain, same(fed, block_input), called))
    yield from sorted(found, key=lambda norm: norm.called)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two flows are the same numbers, whatever their shape."""
    return one.numel() == other.numel() and torch.allclose(
        one.reshape(-1).float(), other.reshape(-1).float(), rtol=1e-5, atol=1e-6
    )


def _epsilon(module: nn.Module) -> float:
    values = (getattr(module, name, None) for name in _EPSILONS)
    return next((value for value in values if isinstance(value, float)), 0.0)


def fit_gain(fed: Tensor, given: Tensor, weight: Tensor, epsilon: float) -> Tensor | None:
    """The gain γ of y = γ ⊙ x̂ + b, with x̂ = x / rms(x) or (x − mean x) / std x, by least squares; None if neither fits.

    Args:
        fed: What goes in, x, shape (..., width).
        given: What comes out, y, same shape.
        weight: A parameter of the module, for the shape of the gain: (width) or (head, width).
        epsilon: What is added to the mean square.
    """
    width = weight.shape[-1]
    if fed.shape != given.shape or fed.shape[-1] % width or fed.numel() % weight.numel():
        return None
    if fed.numel() // weight.numel() < 3:  # too few samples to fit
        return None
    x, y = (flow.double().reshape(-1, *weight.shape) for flow in (fed, given))
    for centre in (0.0, x.mean(dim=-1, keepdim=True)):
        normal = (x - centre) * ((x - centre).square().mean(dim=-1, keepdim=True) + epsilon).rsqrt()
        from_mean, about = normal - normal.mean(dim=0), y - y.mean(dim=0)
        gain = (from_mean * about).sum(dim=0) / from_mean.square().sum(dim=0)
        if (about - gain * from_mean).norm() <= _FIT * about.norm():
            return gain
    return None
