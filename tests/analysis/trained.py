"""Tiny transformers with RMSNorms and rotary positions, trained for a second: gains that training made."""

from __future__ import annotations

import copy
import math
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, WIDTH, HEAD, LAYERS, LENGTH, BATCH = 32, 64, 64, 4, 24, 8
SITES = ("input", "query")


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return functional.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input, self.query, self.key = Norm(WIDTH), Norm(HEAD), Norm(HEAD)
        self.project = nn.Linear(WIDTH, 3 * HEAD, bias=False)
        self.out = nn.Linear(HEAD, WIDTH, bias=False)
        self.mlp = nn.Sequential(Norm(WIDTH), nn.Linear(WIDTH, 64, bias=False), nn.SiLU(), nn.Linear(64, WIDTH))
        angles = torch.arange(LENGTH)[:, None] * 10000 ** (-torch.arange(HEAD // 2) * 2 / HEAD)
        self.cos, self.sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def turn(self, x):
        one, other = x.chunk(2, -1)
        return x * self.cos + torch.cat([-other, one], -1) * self.sin

    def forward(self, x):
        query, key, value = self.project(self.input(x)).chunk(3, -1)
        query, key = self.turn(self.query(query)), self.turn(self.key(key))
        x = x + self.out(functional.scaled_dot_product_attention(query, key, value, is_causal=True))
        return x + self.mlp(x)


def network(seed):
    torch.manual_seed(seed)
    blocks = (Block() for _ in range(LAYERS))
    return nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), *blocks, Norm(WIDTH), nn.Linear(WIDTH, VOCABULARY))


def batch(table, generator):
    """Sequences in which each token follows from the one before, or is the one some steps back."""
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
    back = torch.randint(2, 9, (BATCH,), generator=generator)
    choice = torch.randint(4, (BATCH, LENGTH + 1), generator=generator)
    repeated = torch.rand(BATCH, LENGTH + 1, generator=generator) < 0.5
    for place in range(9, LENGTH + 1):
        follows = table[tokens[:, place - 1], choice[:, place]]
        tokens[:, place] = torch.where(repeated[:, place], tokens[torch.arange(BATCH), place - back], follows)
    return tokens


def train(model, seed, steps, rate):
    """Train on a language of its own."""
    generator = torch.Generator().manual_seed(1000 + seed)
    table = torch.randint(VOCABULARY, (VOCABULARY, 4), generator=generator)
    gains = [one for one in model.parameters() if one.ndim == 1]
    rest = [one for one in model.parameters() if one.ndim > 1]
    optimizer = torch.optim.Adam([{"params": rest, "lr": rate}, {"params": gains, "lr": 3 * rate}])
    course = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for _ in range(steps):
        tokens = batch(table, generator)
        logits = model(tokens[:, :-1])
        optimizer.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        course.step()
    return model


@lru_cache(maxsize=1)
def relatives():
    """Gains by site, shape (layer, hidden), of a parent, two fine-tunes of it, and a stranger."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several stand in each other's way in layers this small
    parent = train(network(0), 0, 100, 4e-3)
    models = {
        "parent": parent,
        "child": train(copy.deepcopy(parent), 10, 25, 5e-4),
        "sibling": train(copy.deepcopy(parent), 11, 25, 5e-4),
        "stranger": train(network(1), 1, 100, 4e-3),
    }
    torch.set_num_threads(threads)
    return {
        name: {
            site: torch.stack([getattr(block, site).weight.detach().double() for block in model[1 : LAYERS + 1]])
            for site in SITES
        }
        for name, model in models.items()
    }
