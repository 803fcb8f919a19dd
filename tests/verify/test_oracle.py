"""``inspect --verify``: transformers as the oracle, agreeing, differing, and unable to tell."""

from __future__ import annotations

import json

import pytest
import torch

from gammatorch import errors
from gammatorch.architectures import families, vocabulary
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.verify.oracle import _check_size, verify
from tests.cli.conftest import call  # noqa: F401  # a fixture

GEMMA = {"model_type": "gemma2", "num_hidden_layers": 3, "hidden_size": 64, "architectures": ["Gemma2ForCausalLM"]}


def test_it_agrees_with_the_table():
    findings = verify(GEMMA)
    assert [(found.place, found.offset, found.observed_offset) for found in findings] == [
        (place, 1, 1) for place in ("input", "post_attention", "pre_mlp", "post_mlp", "final")
    ]
    assert {found.verdict for found in findings} == {"agree"}
    assert [found.on_input for found in findings] == [True, False, False, False, False]
    assert [found.side for found in findings] == ["before", "after", "before", "after", None]


def test_it_differs_from_a_wrong_offset(monkeypatch):
    monkeypatch.delitem(families.OFFSETS, "gemma2")
    assert {(found.verdict, found.offset, found.observed_offset) for found in verify(GEMMA)} == {("differ", 0, 1)}


def test_it_differs_from_a_wrong_place(monkeypatch):
    words = dict(vocabulary.VOCABULARY)
    words["pre_mlp"] = ("input_layernorm",)
    words["input"] = ("pre_feedforward_layernorm",)
    monkeypatch.setattr("gammatorch.architectures.vocabulary.VOCABULARY", words)
    verdicts = {found.name: found.verdict for found in verify(GEMMA)}
    assert verdicts["input_layernorm"] == "differ"


def test_it_differs_where_a_norm_stands_on_the_other_side_of_the_mlp(monkeypatch):
    words = dict(vocabulary.VOCABULARY)
    words |= {"pre_mlp": ("post_feedforward_layernorm",), "post_mlp": ("pre_feedforward_layernorm",)}
    monkeypatch.setattr("gammatorch.architectures.vocabulary.VOCABULARY", words)
    differing = {found.name: found.side for found in verify(GEMMA) if found.verdict == "differ"}
    assert differing == {"pre_feedforward_layernorm": "before", "post_feedforward_layernorm": "after"}


def test_what_no_rule_makes_small_is_refused_before_memory_is_taken():
    _check_size(lambda config: torch.nn.Linear(10, 10), None)
    with pytest.raises(errors.CannotTell, match="parameters are left after shrinking"):
        _check_size(lambda config: torch.nn.Linear(10_000, 10_000), None)


def test_hyper_connections_are_beyond_what_it_can_tell():
    verdicts = {found.name: found.verdict for found in verify({"model_type": "deepseek_v4"})}
    assert verdicts["attn_norm"] == "cannot tell"


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "novel"}, {"model_type": "novel", "auto_map": {"AutoModel": "evil.Evil"}}]
)
def test_what_transformers_does_not_hold_it_cannot_tell(config):
    with pytest.raises(errors.CannotTell, match="and code in a repository is not executed"):
        verify(config)


def test_the_command_prints_the_verdicts(call, tmp_path):  # noqa: F811
    write_checkpoint(tmp_path, "gemma2", layers=3, hidden=64, shards=1)
    done = call("inspect", tmp_path, "--verify")
    assert done.code == 0 and done.stdout.endswith("5 norms agree, 0 differ, 0 cannot tell\n")
    document = json.loads(call("inspect", tmp_path, "--verify", "--format", "json").stdout)
    assert [found["verdict"] for found in document["verification"]] == ["agree"] * 5
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "novel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = call("inspect", tmp_path, "--verify")
    assert done.code == 0 and "Verification cannot tell: transformers" in done.stdout
