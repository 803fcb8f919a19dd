"""Selection by search, held against selection from the full table."""

from __future__ import annotations

import dataclasses
import json

import pytest

import gammatorch
from gammatorch import errors
from gammatorch.architectures import shortcut
from gammatorch.architectures.base import PLACES
from gammatorch.architectures.select import select
from gammatorch.architectures.vocabulary import VOCABULARY
from gammatorch.bench.layouts import LAYOUTS
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.base import unsearchable
from tests.zoo import TABLE

SITES = ["auto", *PLACES]


def by_table(checkpoint, site):
    """The selection where there is no header to search."""
    return select(dataclasses.replace(checkpoint, search=unsearchable), site)


def assert_same(folder) -> int:
    """How many sites were found by search; each is as the table has it."""
    with gammatorch.open_checkpoint(folder) as checkpoint:
        found = {site: shortcut.select_by_search(checkpoint, site) for site in SITES}
        for site, selection in found.items():
            if selection is not None:
                assert selection == by_table(checkpoint, site)
        return sum(selection is not None for selection in found.values())


@pytest.mark.parametrize("name", TABLE)
def test_what_is_found_by_search_is_what_the_table_has(name, tiny):
    assert_same(tiny(name))


@pytest.mark.parametrize(("name", "found"), [("llama", 2), ("qwen3", 4), ("gemma2", 2), ("gemma3", 4), ("gpt_neox", 2)])
def test_the_usual_models_are_found_by_search(name, found, tiny):
    assert assert_same(tiny(name)) == found


@pytest.mark.parametrize("family", [family for family in LAYOUTS if family != "gpt2"])
def test_layouts_of_any_size_are_found_by_search(tmp_path, family):
    write_checkpoint(tmp_path, family, layers=5, hidden=16, shards=4)
    assert assert_same(tmp_path) >= 2


def test_the_table_is_not_parsed_for_a_mixture_of_experts(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, "deepseek_v3", layers=5, hidden=16, shards=4)
    monkeypatch.setattr("gammatorch.checkpoints.safetensors.headers.parse_header", None)
    gains = gammatorch.read_gains(tmp_path, device="cpu")
    assert gains.layers == tuple(range(5))
    assert gains.notes == ("multi-token-prediction head model.layers.5 left out",)


def rewrite(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


@pytest.mark.parametrize(
    ("family", "config", "error"),
    [
        ("qwen3", {"num_hidden_layers": 6}, errors.IncompleteCheckpoint),
        ("qwen3", {"num_hidden_layers": 4}, errors.IncompleteCheckpoint),
        ("qwen3", {"hidden_size": 17}, errors.WidthMismatch),
        ("qwen3", {"model_type": 7}, errors.MalformedCheckpoint),
        ("deepseek_v3", {"num_hidden_layers": 4, "num_nextn_predict_layers": 2}, errors.IncompleteCheckpoint),
    ],
)
def test_what_does_not_fit_is_left_to_the_table_which_says_why(tmp_path, family, config, error):
    write_checkpoint(tmp_path, family, layers=5, hidden=16, shards=2)
    rewrite(tmp_path, **config)
    with gammatorch.open_checkpoint(tmp_path) as checkpoint, pytest.raises(error):
        select(checkpoint)


@pytest.mark.parametrize(
    "config", [{"model_type": "novel"}, {"num_hidden_layers": None}, {"num_nextn_predict_layers": 1}]
)
def test_what_config_leaves_open_is_left_to_the_table(tmp_path, config):
    write_checkpoint(tmp_path, layers=5, hidden=16, shards=2)
    rewrite(tmp_path, **config)
    with gammatorch.open_checkpoint(tmp_path) as checkpoint:
        assert shortcut.select_by_search(checkpoint, "input") is None
        assert select(checkpoint, "input").layers == tuple(range(5))


def test_what_may_have_several_stacks_is_left_to_the_table(tmp_path):
    write_checkpoint(tmp_path, layers=5, hidden=16, shards=2)
    for settings in ({"vision_config": {"model_type": "clip_vision_model"}}, {"is_encoder_decoder": True}):
        rewrite(tmp_path, **settings)
        with gammatorch.open_checkpoint(tmp_path) as checkpoint:
            assert shortcut.select_by_search(checkpoint, "input") is None


def test_only_the_first_word_of_a_place_is_searched_for():
    for place, word in shortcut.FIRST_WORDS.items():
        assert VOCABULARY[place][0] == word
