"""Every family of the table, held against what the modules of transformers do in a forward pass."""

from __future__ import annotations

from importlib.resources import files

import pytest
import torch

import gammatorch
from gammatorch.architectures.base import PLACES
from gammatorch.architectures.families import OFFSETS
from gammatorch.architectures.vocabulary import VOCABULARY
from tests.behaviour import observe
from tests.zoo import TABLE, build_tiny_model


@pytest.mark.parametrize("name", TABLE)
def test_gains_are_those_the_forward_pass_applies_at_that_place(name, tiny):
    blocks = observe(build_tiny_model(TABLE[name]), TABLE[name])
    checkpoint = gammatorch.open_checkpoint(tiny(name))
    for place in TABLE[name].places:
        gains = gammatorch.read_gains(checkpoint, site=place, device="cpu")
        assert gains.layers == tuple(range(len(blocks)))
        for layer, norms in enumerate(blocks):
            there = [
                norm
                for norm in norms
                if place in norm.places and gains.keys[layer].endswith(f".{layer}.{norm.name}.weight")
            ]
            assert len(there) == 1, f"{gains.keys[layer]} is not at {place}: {[(n.name, n.places) for n in norms]}"
            torch.testing.assert_close(gains.gamma[layer], there[0].gain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_auto_takes_the_input_norm_or_says_why_not(name, tiny):
    blocks = observe(build_tiny_model(TABLE[name]), TABLE[name])
    gains = gammatorch.read_gains(tiny(name), device="cpu")
    assert gains.site == TABLE[name].auto
    has_input_norm = any("input" in norm.places for norm in blocks[1])
    assert has_input_norm == (gains.site == "input")
    if not has_input_norm:
        assert "no learned norm stands on the block's input" in gains.site_reason
        with pytest.raises(gammatorch.SiteNotFound, match=r"pass --site with one of post_attention \("):
            gammatorch.read_gains(tiny(name), site="input", device="cpu")


@pytest.mark.parametrize("name", TABLE)
def test_every_norm_of_the_block_is_listed(name, tiny):
    blocks = observe(build_tiny_model(TABLE[name]), TABLE[name])
    (stack,) = gammatorch.find_stacks(gammatorch.open_checkpoint(tiny(name)))
    for norm in blocks[0]:
        sites = [site for site in stack.sites if site.pattern.endswith(f"{{layer}}.{norm.name}.weight")]
        assert len(sites) == 1
        assert sites[0].place in norm.places
    assert stack.main and stack.offset_doubt is None and stack.layers == tuple(range(len(blocks)))


@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name].auto == "input"])
def test_the_final_norm_is_the_one_before_the_head(name, tiny):
    model = build_tiny_model(TABLE[name])
    seen = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    finals = [
        module for key, module in model.named_modules() if key.count(".") in (1, 2) and "Norm" in repr(module)[:24]
    ]
    outputs = {}
    for module in finals:
        module.register_forward_hook(lambda module, args, output: outputs.update({module: output}))
    with torch.no_grad():
        model(input_ids=torch.arange(1, 9)[None])
    hook.remove()
    (final,) = [module for module in finals if outputs[module].equal(seen[0])]
    gains = gammatorch.read_gains(tiny(name), site="final", device="cpu", raw=True)
    torch.testing.assert_close(gains.gamma[0].float(), final.weight.detach(), rtol=0, atol=0)


def test_no_type_is_both_plain_and_zero_centred():
    listed = set((files("gammatorch.architectures") / "known_types.txt").read_text().split())
    assert not listed & set(OFFSETS)


def test_no_name_stands_at_two_places():
    names = [name for words in VOCABULARY.values() for name in words]
    assert len(names) == len(set(names))
    assert set(VOCABULARY) | {"final"} == set(PLACES)
