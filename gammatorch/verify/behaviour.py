"""What the norms of a model do in one forward pass, found by what flows in and out of them, never by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gammatorch.verify.residual import Flow, is_residual, same, side_of

_EPSILONS = ("eps", "variance_epsilon", "epsilon", "layer_norm_eps", "norm_eps")
_FIT = 1e-3
"""Largest relative residual of the fit y = γ ⊙ x̂ + b for a module that counts as a norm."""

_ALIKE = 1e-6
"""Largest relative spread of a module's outputs that is rounding."""


@dataclass(frozen=True)
class ObservedNorm:
    """One norm as it acts.

    Attributes:
        name: Name of the module within the model.
        gain: What it multiplies the normalised input by, shape (width) or (head, width).
        on_input: Whether it is fed with the block's input, or with what another norm makes of it before all else
            (RWKV's first block norms the embeddings).
        side: ``"before"`` a sub-layer, past which the residual goes, or ``"after"`` one, on what it gives; None if the
            flows do not tell.
        called: Position in the order of calls.
    """

    name: str
    gain: Tensor
    on_input: bool
    side: str | None
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


@dataclass(frozen=True)
class Observation:
    """What one forward pass showed.

    Attributes:
        blocks: Blocks of every outermost stack that it went through; of stages, each one's.
        finals: By stack, the norm outside it that is fed with what its last block gives, the one called first.
    """

    blocks: tuple[ObservedBlock, ...]
    finals: Mapping[str, ObservedNorm]


def draw_norms(model: nn.Module, seed: int = 0, spread: float = 0.3) -> None:
    """Give every norm weights of its own, around those that it is initialised with, so that none passes for another.

    Biases are drawn as well, so that no sub-layer gives nothing (MRA's attention, for few tokens).

    Args:
        model: The model; its weights are changed in place.
        seed: Seed of the draws.
        spread: Standard deviation of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            kind = type(module).__name__
            is_norm = "norm" in kind.lower() or kind.endswith("LN")
            for name, parameter in module.named_parameters(recurse=False):
                if is_norm or (name == "bias" and isinstance(module, nn.Linear)):
                    parameter.add_(spread * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))


def observe(model: nn.Module, run: Callable[[], object]) -> Observation:
    """Blocks and norms that the forward pass goes through.

    A stack is a ``ModuleList`` whose members are called with a tensor and are not stages: a stage holds most of its
    norms in a list of blocks of its own, which are alike and each fed with what the one before gives. A norm is a
    module with a weight of its own whose output is, channel by channel, a multiple of its normalised input plus a
    constant.

    Args:
        model: The model.
        run: Runs it once.
    """
    flows: dict[nn.Module, Flow] = {}
    hooks = [module.register_forward_hook(_recorder(flows), with_kwargs=True) for module in model.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    stacks = dict(_stacks(model, flows))
    blocks = [
        ObservedBlock(stack, layer, tuple(_norms(f"{stack}.{layer}", block, flows)))
        for stack, members in stacks.items()
        for layer, block in members
    ]
    return Observation(tuple(blocks), dict(_finals(model, stacks, flows)))


def _recorder(flows: dict[nn.Module, Flow]) -> Callable[..., None]:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        fed = next((value for value in [*args, *kwargs.values()] if _is_stream(value)), None)
        given = output if isinstance(output, Tensor) else next(filter(_is_stream, _members(output)), None)
        if fed is not None and given is not None and module not in flows:
            flows[module] = Flow(fed.detach().clone(), given.detach().clone(), len(flows))

    return record


def _members(output: Any) -> Iterator[Any]:
    if isinstance(output, (tuple, list)):
        yield from output
    elif isinstance(output, Mapping):
        yield from output.values()


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


_Members = list[tuple[int, nn.Module]]


def _stacks(model: nn.Module, flows: Mapping[nn.Module, Flow]) -> Iterator[tuple[str, _Members]]:
    outer: list[str] = []
    staged: list[str] = []
    for name, module in model.named_modules():
        within = any(name.startswith(f"{stack}.") for stack in staged)
        is_list = isinstance(module, nn.ModuleList) or (within and isinstance(module, nn.Sequential))
        if not is_list or any(name.startswith(f"{stack}.") for stack in outer):
            continue
        called = [(layer, block) for layer, block in enumerate(module.children()) if block in flows]
        if not any(True for _, block in called for _ in block.children()):
            continue
        if any(_is_stage(block, flows) for _, block in called):
            staged.append(name)
        else:
            outer.append(name)
            yield name, called


def _is_stage(block: nn.Module, flows: Mapping[nn.Module, Flow]) -> bool:
    lists = (module for module in block.modules() if isinstance(module, (nn.ModuleList, nn.Sequential)))
    inner = [modules for modules in lists if _is_chain(modules, flows)]
    if not inner:
        return False
    norms = {module for module in block.modules() if module in flows and _gain_of(module, flows[module]) is not None}
    return 2 * max(len(norms.intersection(chain.modules())) for chain in inner) > len(norms)


def _is_chain(modules: nn.ModuleList | nn.Sequential, flows: Mapping[nn.Module, Flow]) -> bool:
    """Whether the members are blocks of one class, and each is fed with what the one before gives."""
    members = list(modules.children())
    called = [flows[module] for module in members if module in flows]
    one_class = len({type(module) for module in members}) == 1 and any(True for _ in members[0].children())
    return one_class and len(called) > 1 and all(same(two.fed, one.given) for one, two in pairwise(called))


def _norms(name: str, block: nn.Module, flows: Mapping[nn.Module, Flow]) -> Iterator[ObservedNorm]:
    inner = [(module, flows[module]) for module in block.modules() if module is not block and module in flows]
    gains = {module: gain for module, flow in inner if (gain := _gain_of(module, flow)) is not None}
    norms = [flow for module, flow in inner if module in gains]
    others = [flow for module, flow in inner if module not in gains]
    stream = flows[block].fed
    names = {module: f"{name}.{own}" for own, module in block.named_modules()}
    for module, flow in sorted(inner, key=lambda each: each[1].called):
        if module in gains:
            on_input = same(flow.fed, stream)
            if (
                on_input
                and any(same(norm.fed, flow.given) for norm in norms)
                and is_residual(flow, flows[block], norms, others)
            ):
                stream, on_input = flow.given, False
            side = side_of(flow, flows[block], norms, others)
            yield ObservedNorm(names[module], gains[module], on_input, side, flow.called)


def _gain_of(module: nn.Module, flow: Flow) -> Tensor | None:
    """The gain that a module applies, None if it is no norm."""
    weights = [weight for weight in module.parameters(recurse=False) if weight.ndim in (1, 2)]
    if not weights or isinstance(module, (nn.Linear, nn.Embedding)):
        return None
    return fit_gain(flow.fed, flow.given, weights[0], epsilon_of(module))


def _finals(
    model: nn.Module, stacks: Mapping[str, _Members], flows: Mapping[nn.Module, Flow]
) -> Iterator[tuple[str, ObservedNorm]]:
    for stack, members in stacks.items():
        last = flows[max((block for _, block in members), key=lambda block: flows[block].called)]
        for name, module in model.named_modules():
            inside = any(name.startswith(f"{of}.") for of in stacks)
            if module in flows and not inside and same(flows[module].fed, last.given):
                gain = _gain_of(module, flows[module])
                if gain is not None:
                    yield stack, ObservedNorm(name, gain, False, None, flows[module].called)
                    break


def epsilon_of(module: nn.Module) -> float:
    """What a norm adds to the mean square, by the usual names of that; 0 if it has none of them."""
    values = (getattr(module, name, None) for name in _EPSILONS)
    return next((value for value in values if isinstance(value, float)), 0.0)


def fit_gain(fed: Tensor, given: Tensor, weight: Tensor, epsilon: float) -> Tensor | None:
    """The gain γ of y = γ ⊙ x̂ + b, with x̂ = x / rms(x) or (x − mean x) / std x, by least squares; None if neither fits.

    Nor is there a gain to be told where all samples are alike.

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
        if about.norm() <= _ALIKE * y.norm():  # all samples give the same, which tells nothing of what is multiplied
            return None
        gain = (from_mean * about).sum(dim=0) / from_mean.square().sum(dim=0)
        if (about - gain * from_mean).norm() <= _FIT * about.norm():
            return gain
    return None
