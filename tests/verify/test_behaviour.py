"""What hooks tell of norms, on blocks written here, where it is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gammatorch.verify.behaviour import draw_norms, fit_gain, observe

WIDTH = 8


class Block(nn.Module):
    """Two sub-layers and the norms around them, in the order that a layout says."""

    def __init__(self, layout: str, embeds: bool):
        super().__init__()
        self.layout = layout
        self.mixer, self.mlp = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm_a, self.norm_b, self.norm_c, self.norm_d = (nn.LayerNorm(WIDTH) for _ in range(4))
        self.embedding_norm = nn.LayerNorm(WIDTH) if embeds else None

    def forward(self, x):
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        if self.layout == "pre-norm":
            x = x + self.mixer(self.norm_a(x))
            return x + self.mlp(self.norm_b(x))
        if self.layout == "post-LN":
            x = self.norm_a(x + self.mixer(x))
            return self.norm_b(x + self.mlp(x))
        if self.layout == "parallel":
            return x + self.mixer(self.norm_a(x)) + self.mlp(self.norm_b(x))
        x = x + self.norm_b(self.mixer(self.norm_a(x)))
        return x + self.norm_d(self.mlp(self.norm_c(x)))


class Model(nn.Module):
    def __init__(self, layout: str, embeds: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(Block(layout, embeds and layer == 0) for layer in range(3))
        self.last = nn.LayerNorm(WIDTH)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def observation(*arguments):
    torch.manual_seed(0)
    model = Model(*arguments)
    draw_norms(model)
    return model, observe(model, lambda: model(torch.randn(4, 6, WIDTH)))


@pytest.mark.parametrize(
    ("layout", "sides", "inputs"),
    [
        ("pre-norm", {"norm_a": "before", "norm_b": "before"}, {"norm_a"}),
        ("post-LN", {"norm_a": "after", "norm_b": "after"}, set()),
        ("sandwich", {"norm_a": "before", "norm_b": "after", "norm_c": "before", "norm_d": "after"}, {"norm_a"}),
        ("parallel", {"norm_a": None, "norm_b": None}, {"norm_a", "norm_b"}),
    ],
)
def test_sides_and_inputs_show_in_the_sums(layout, sides, inputs):
    _, observed = observation(layout)
    assert [block.layer for block in observed.blocks] == [0, 1, 2]
    for block in observed.blocks:
        own = {norm.name.rpartition(".")[2]: norm for norm in block.norms}
        assert {name: norm.side for name, norm in own.items()} == sides
        assert {name for name, norm in own.items() if norm.on_input} == inputs


def test_gains_are_those_that_the_modules_hold():
    model, observed = observation("sandwich")
    for norm in [norm for block in observed.blocks for norm in block.norms]:
        torch.testing.assert_close(norm.gain, model.get_submodule(norm.name).weight.detach().double())
    torch.testing.assert_close(observed.finals["layers"].gain, model.last.weight.detach().double())


def test_a_norm_of_the_embeddings_in_the_first_block_is_not_its_input_norm():
    _, observed = observation("pre-norm", True)
    assert [block.input_norm.name for block in observed.blocks] == [f"layers.{layer}.norm_a" for layer in range(3)]


def test_samples_that_are_all_alike_tell_no_gain():
    norm = nn.LayerNorm(WIDTH)
    fed = torch.randn(1, WIDTH).expand(12, WIDTH)
    assert fit_gain(fed, norm(fed).detach(), norm.weight, norm.eps) is None
    fed = torch.randn(12, WIDTH)
    gain = fit_gain(fed, norm(fed).detach(), norm.weight, norm.eps)
    torch.testing.assert_close(gain, torch.ones(WIDTH, dtype=torch.float64), rtol=1e-4, atol=1e-4)


class Staged(nn.Module):
    """A part of a model that holds blocks of its own in a list, and norms besides."""

    def __init__(self, others: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block("pre-norm", False) for _ in range(2))
        self.others = nn.Sequential(*(nn.LayerNorm(WIDTH) for _ in range(others)))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.others(x)


@pytest.mark.parametrize(
    ("others", "stacks"),
    [(1, ["layers.0.blocks", "layers.1.blocks"]), (9, ["layers"])],
    ids=["stages", "blocks with a list of sub-layers"],
)
def test_stages_are_stacks_where_their_blocks_hold_most_of_their_norms(others, stacks):
    model = Model("pre-norm")
    model.layers = nn.ModuleList(Staged(others) for _ in range(2))
    draw_norms(model)
    observed = observe(model, lambda: model(torch.randn(4, 6, WIDTH)))
    assert list(dict.fromkeys(block.stack for block in observed.blocks)) == stacks
    if len(stacks) == 2:
        names = [block.input_norm.name for block in observed.blocks]
        assert names == [f"layers.{stage}.blocks.{n}.norm_a" for stage in (0, 1) for n in (0, 1)]
