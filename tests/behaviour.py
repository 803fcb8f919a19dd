"""What the norms of a model do in a forward pass, found without asking for their names or their stored numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo import TinyModel


@dataclass(frozen=True)
class Norm:
    """One norm module: its name in the block, the gain it applies, and where it stands.

    Attributes:
        name: Name of the module within the block.
        gain: The gain by which it multiplies the normalised input, shape (width).
        places: Every place it stands at, by what flows in and out.
    """

    name: str
    gain: Tensor
    places: frozenset[str]


def observe(model: Any, tiny: TinyModel) -> list[list[Norm]]:
    """For each block, its norms as they act in one forward pass."""
    blocks = next(
        module for name, module in model.named_modules() if name.split(".")[-1] == tiny.blocks and len(module) > 1
    )
    flows: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        fed = args[0] if args else kwargs.get("hidden_states")
        given = output[0] if isinstance(output, tuple) else output
        if isinstance(fed, Tensor) and isinstance(given, Tensor):
            flows[module] = fed.detach().clone(), given.detach().clone()

    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in model.modules()]
    torch.manual_seed(1)
    with torch.no_grad():
        model(input_ids=torch.randint(1, 60, (4, 16)))
    for hook in hooks:
        hook.remove()
    return [_norms_of(block, flows, tiny) for block in blocks]


def _norms_of(block: nn.Module, flows: dict[nn.Module, tuple[Tensor, Tensor]], tiny: TinyModel) -> list[Norm]:
    block_in, block_out = flows[block]
    attention_out = flows[block.get_submodule(tiny.attention)][1]
    mlp_in, mlp_out = flows[block.get_submodule(tiny.mlp[0])][0], flows[block.get_submodule(tiny.mlp[1])][1]
    norms = []
    for name, module in block.named_modules():
        weight = getattr(module, "weight", None)
        if "Norm" not in type(module).__name__ or weight is None:
            continue
        fed, given = flows[module]
        facts = {
            "input": _same(fed, block_in),
            "post_attention": _same(fed, attention_out) or _same(fed, attention_out + block_in),
            "pre_mlp": _same(given, mlp_in),
            "post_mlp": _same(fed, mlp_out) or _same(given, block_out),
            "query": "attn" in name and name.rpartition(".")[2].startswith("q"),
            "key": "attn" in name and name.rpartition(".")[2].startswith("k"),
        }
        norms.append(
            Norm(name, _gain(fed, given, _epsilon(module)), frozenset(place for place, holds in facts.items() if holds))
        )
    return norms


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.allclose(one.reshape(-1), other.reshape(-1), rtol=1e-5, atol=1e-6)


def _epsilon(module: nn.Module) -> float:
    return float(next(getattr(module, name) for name in ("eps", "variance_epsilon") if hasattr(module, name)))


def _gain(fed: Tensor, given: Tensor, epsilon: float) -> Tensor:
    """Slope of each output channel against the normalised input channel, of whichever kind of norm explains more."""
    x, y = (flow.reshape(-1, flow.shape[-1]).double() for flow in (fed, given))
    best, least = torch.zeros(0), float("inf")
    for centre in (x.mean(dim=1, keepdim=True), torch.zeros(len(x), 1, dtype=x.dtype)):
        normal = (x - centre) / ((x - centre).square().mean(dim=1, keepdim=True) + epsilon).sqrt()
        from_mean = normal - normal.mean(dim=0)
        slope = (from_mean * (y - y.mean(dim=0))).sum(dim=0) / from_mean.square().sum(dim=0)
        error = float((y - y.mean(dim=0) - slope * from_mean).square().sum())
        if error < least:
            best, least = slope, error
    return best
