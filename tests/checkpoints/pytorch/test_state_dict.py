"""PyTorch files as trainers write them: what is the model, what stands beside it, and what its settings say."""

from __future__ import annotations

import argparse
import collections
import enum
import functools
import io
import re
import sys
import types
import typing
from pathlib import Path

import pytest
import torch

import gammatorch
from gammatorch import errors
from gammatorch.checkpoints.pytorch import state_dict

ROWS = torch.rand(3, 8, generator=torch.Generator().manual_seed(0)) + 0.5


def weights(prefix: str = "model.layers.{}.", names: tuple[str, ...] = ("input_layernorm",)) -> dict[str, torch.Tensor]:
    return {f"{prefix.format(layer)}{name}.weight": ROWS[layer].clone() for layer in range(3) for name in names}


def assert_reads(path: Path, note: str | None = None) -> gammatorch.Gains:
    gains = gammatorch.read_gains(path, device="cpu")
    torch.testing.assert_close(gains.gamma, ROWS.double(), rtol=0, atol=0)
    if note is not None:
        assert any(re.search(note, one) for one in gains.notes), gains.notes
    return gains


class Colour(enum.Flag):
    RED = enum.auto()
    BLUE = enum.auto()


@functools.cache
def omegaconf() -> object:
    """What OmegaConf pickles to, without OmegaConf: nodes of a module that is not there when the file is read."""
    module = types.ModuleType("conf_of_a_trainer")
    made = {}
    for name in ("DictConfig", "AnyNode", "ContainerMetadata"):
        made[name] = type(name, (), {"__module__": module.__name__})
        setattr(module, name, made[name])
    sys.modules[module.__name__] = module

    def node(kind: str, **state: object) -> object:
        one = made[kind]()
        one.__dict__ = state
        return one

    meta = node(
        "ContainerMetadata", ref_type=typing.Any, object_type=dict, key_type=typing.Any, element_type=typing.Any
    )
    inner = node(
        "DictConfig", _metadata=meta, _content={"dim": node("AnyNode", _val=8), "first": node("AnyNode", _val=True)}
    )
    outer = node("DictConfig", _metadata=meta, _content={"model": inner})
    inner.__dict__["_parent"] = outer  # a circle, as there
    return outer


BESIDE = {
    "byte buffer": lambda: io.BytesIO(b"Transformer Engine's extra state"),
    "text buffer": lambda: io.StringIO("log"),
    "omegaconf": omegaconf,
    "typing": lambda: [typing.Any, typing.Optional[int], typing.List[str], typing.Dict[str, typing.Any]],  # noqa: UP006, UP045
    "enum": lambda: [Colour.RED, Colour.RED | Colour.BLUE],
    "partial": lambda: functools.partial(Colour, 1),
    "counter": lambda: collections.Counter("abc"),
    "scheduler": lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)], 1.0), 1).state_dict(),
    "loss": lambda: torch.nn.CrossEntropyLoss(torch.ones(4)),
    "pattern": lambda: re.compile("a+"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("beside", BESIDE)
def test_data_beside_the_tensors_is_passed_over(beside, protocol, tmp_path):
    saved = {"model": weights() | {"model.layers.0._extra_state": BESIDE[beside]()}, "other": BESIDE[beside]()}
    torch.save(saved, tmp_path / "last.pt", pickle_protocol=protocol)
    assert_reads(tmp_path / "last.pt")


def quantised_by_module() -> dict[str, object]:
    """HQQ's qmodel.pt: a dict for each module."""
    state: dict[str, object] = {key.removesuffix(".weight"): {"weight": row} for key, row in weights().items()}
    return state | {
        "model.layers.0.q_proj": {"W_q": torch.zeros(4, dtype=torch.uint8), "meta": {"scale": torch.ones(1)}}
    }


def legacy_megatron() -> dict[str, object]:
    """Megatron-LM before its core: a part of the model in a dict of its own."""
    encoder = weights("layers.{}.") | {"final_layernorm.weight": torch.ones(8)}
    parts = {"embedding": {"word_embeddings": {"weight": torch.ones(16, 8)}}, "transformer": encoder}
    return {"iteration": 10, "model": {"language_model": parts}}


class Block(torch.nn.Module):
    def __init__(self, row: torch.Tensor) -> None:
        super().__init__()
        self.input_layernorm = torch.nn.LayerNorm(8)
        self.input_layernorm.weight = torch.nn.Parameter(row.clone())


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(map(Block, ROWS))


MODELS = {
    "a dict by module": (quantised_by_module, None),
    "parts in dicts of their own": (legacy_megatron, "tensors were read from 'model'"),
    "a whole module": (Model, None),
    "a whole module beside others": (lambda: {"epoch": 1, "model": Model(), "ema": None}, "read from 'model'"),
    "a teacher and a student": (
        lambda: {"teacher": weights("backbone.blocks.{}."), "student": weights("backbone.blocks.{}.")},
        r"read from 'teacher' .*, student beside it left out",
    ),
    "a teacher alone": (lambda: {"teacher": weights()}, "read from 'teacher'"),
    "a model and its average": (
        lambda: {"model": weights(), "model_ema": {key: row + 1 for key, row in weights().items()}},
        "model_ema beside it left out",
    ),
    "an average alone": (lambda: {"ema_state_dict": weights(), "optimizer": {"a": torch.ones(3)}}, "ema_state_dict"),
    "DeepSpeed": (lambda: {"module": weights(), "optimizer": None, "param_shapes": [{}]}, "read from 'module'"),
    "nested by name": (
        lambda: {"model": {"layers": {str(n): {"input_layernorm": {"weight": ROWS[n]}} for n in range(3)}}},
        None,
    ),
    "a dict of its own class": (lambda: {"state_dict": Attributes(weights())}, "read from 'state_dict'"),
}


class Attributes(dict):
    """As EasyDict, addict and mmengine make of state dicts."""


@pytest.mark.parametrize("kind", MODELS)
def test_the_model_is_found_and_what_is_left_is_named(kind, tmp_path):
    make, note = MODELS[kind]
    torch.save(make(), tmp_path / "checkpoint.pth")
    assert_reads(tmp_path / "checkpoint.pth", note)


def test_two_models_that_nothing_tells_apart_are_both_stacks(tmp_path):
    torch.save({"generator": weights("g.{}."), "critic": weights("c.{}.")}, tmp_path / "gan.pt")
    stacks = gammatorch.find_stacks(tmp_path / "gan.pt")
    assert {stack.name for stack in stacks} == {"generator.g", "critic.c"}
    assert any("may be as well" in note for note in stacks[0].notes)
    torch.save({"model": weights(), "state_dict": weights()}, tmp_path / "two.pt")
    with pytest.raises(errors.UnsupportedFormat, match=r"several state dicts \(state_dict, model\)"):
        gammatorch.read_gains(tmp_path / "two.pt", device="cpu")


def test_of_a_teacher_and_a_student_in_one_dict_the_teacher_is_read(tmp_path):
    both = weights("teacher.blocks.{}.") | {key: row + 1 for key, row in weights("student.blocks.{}.").items()}
    torch.save({"model": both}, tmp_path / "model_final.rank_0.pth")
    gains = assert_reads(tmp_path / "model_final.rank_0.pth", "student.blocks may be as well")
    assert gains.stack == "teacher.blocks"


def test_a_dict_that_many_hold_is_not_gone_through_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(state_dict, "_MOST_MEMBERS", 20_000)
    inner: dict[str, object] = {"a.weight": torch.ones(2)}
    for _ in range(8):
        inner = {f"m{number}": inner for number in range(60)} | {"b": {"x": 1}}
    torch.save(inner, tmp_path / "x.pt")
    with pytest.raises(errors.UnsupportedFormat, match="more members than any model"):
        gammatorch.open_checkpoint(tmp_path / "x.pt")


NORMS = ("self_attn_layer_norm", "final_layer_norm")
SETTINGS = {
    "WavLM": (lambda first: {"cfg": {"layer_norm_first": first}}, "encoder.layers.{}.", "encoder.pos_conv.0.bias"),
    "fairseq with Hydra": (
        lambda first: {"cfg": {"model": argparse.Namespace(layer_norm_first=first)}, "args": None},
        "w2v_encoder.w2v_model.encoder.layers.{}.",
        "w2v_encoder.w2v_model.encoder.pos_conv.0.bias",
    ),
    "fairseq of old": (
        lambda first: {"args": argparse.Namespace(encoder_normalize_before=first, arch="transformer")},
        "encoder.layers.{}.",
        "encoder.embed_positions.bias",
    ),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("who", SETTINGS)
def test_settings_in_the_file_tell_on_which_side_norms_stand(who, first, tmp_path):
    settings, prefix, beside = SETTINGS[who]
    torch.save({**settings(first), "model": weights(prefix, NORMS) | {beside: torch.ones(8)}}, tmp_path / "base.pt")
    assert assert_reads(tmp_path / "base.pt").site == ("input" if first else "post_attention")


def test_speech_models_without_settings_are_refused_with_the_likeliest_first(tmp_path):
    held = weights("encoder.layers.{}.", NORMS) | {
        "encoder.pos_conv.0.bias": torch.ones(8),
        "encoder.layer_norm.weight": ROWS[0],
    }
    torch.save({"model": held}, tmp_path / "base.pt")
    with pytest.raises(
        errors.SiteNotFound, match=r"pass --pattern 'encoder.layers.{layer}.self_attn_layer_norm.weight'"
    ):
        gammatorch.read_gains(tmp_path / "base.pt", device="cpu")


@pytest.mark.parametrize(
    ("settings", "offset"),
    [
        ({"args": argparse.Namespace(apply_layernorm_1p=True)}, 1),
        ({"args": argparse.Namespace(apply_layernorm_1p=False)}, 0),
        ({"args": argparse.Namespace(layernorm_zero_centered_gamma=True)}, 1),
        ({"hyper_parameters": {"cfg": {"normalization": "layernorm1p"}}}, 1),
    ],
)
def test_megatrons_settings_say_whether_norms_are_zero_centred(settings, offset, tmp_path):
    torch.save({**settings, "model": weights("decoder.layers.{}.")}, tmp_path / "model_optim_rng.pt")
    for site in ("input", "final"):
        if site == "input":
            gains = gammatorch.read_gains(tmp_path, site=site, device="cpu")
            assert gains.offset == offset and not any("offset" in note for note in gains.notes)
            torch.testing.assert_close(gains.gamma, ROWS.double() + offset, rtol=0, atol=0)
