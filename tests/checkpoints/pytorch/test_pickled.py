"""Pickles are data: what torch.save writes is understood, and nothing else does anything."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import os
import pickle
import random
import struct
import tempfile
import time
import zipfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

import gammatorch
from gammatorch import errors
from gammatorch.checkpoints.pytorch import unpickler
from gammatorch.checkpoints.pytorch.pickled import read_pickle
from tests.checkpoints.pytorch.test_archive import repack


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def hostile(target: Path) -> dict[str, bytes]:
    """Pickles that create a file, each in another way, if anything in them is executed."""
    touch = f"touch {target}"
    return {
        "os.system": pickle.dumps(Calls(os.system, touch), 2),
        "eval": pickle.dumps(Calls(eval, f"open({str(target)!r}, 'w')"), 2),
        "nested": pickle.dumps({"a": [Calls(list, Calls(os.system, touch))]}, 2),
        "protocol 0": pickle.dumps(Calls(os.system, touch), 0),
        "protocol 4": pickle.dumps(Calls(os.system, touch), 4),
        "inst": b"\x80\x02(" + text(touch) + b"ios\nsystem\n.",
        "obj": b"\x80\x02(cos\nsystem\n" + text(touch) + b"o.",
        "newobj": b"\x80\x02cos\nsystem\n" + text(touch) + b"\x85\x81.",
        "newobj_ex": b"\x80\x02cos\nsystem\n" + text(touch) + b"\x85}\x92.",
        "stack_global": b"\x80\x02" + text("os") + text("system") + b"\x93" + text(touch) + b"\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "build": b"\x80\x02csubprocess\nPopen\n)\x81}"
        + text("__setstate__")
        + b"cos\nsystem\nsb"
        + text(touch)
        + b"b.",
        "dotted": b"\x80\x02ccollections\nOrderedDict.__class__\n" + text(touch) + b"\x85R.",
        "through torch": b"\x80\x02ctorch\nload\n" + text(str(target)) + b"\x85R.",
        "a type": b"\x80\x02ctorch\nFloatStorage\n" + text(str(target)) + b"\x85R.",
        "a text": b"\x80\x02" + text("os.system") + text(touch) + b"\x85R.",
    }


KINDS = list(hostile(Path("x")))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_hostile_is_executed(kind, tmp_path):
    """The four that pickle.loads runs as they are do create the file then: these tests could fail."""
    target = tmp_path / "created"
    raw = hostile(target)[kind]
    if kind in ("os.system", "eval", "inst", "obj", "stack_global"):
        pickle.loads(raw)
        assert target.exists()
        target.unlink()
    torch.save({"layers.0.norm.weight": torch.ones(4)}, tmp_path / "good.bin")
    repack(tmp_path / "good.bin", tmp_path / "pytorch_model.bin", {"data.pkl": raw})
    (tmp_path / "good.bin").unlink()
    before = set(os.listdir(tmp_path))
    with pytest.raises(errors.CheckpointError, match=r"pytorch_model.bin: .*nothing was executed") as raised:
        gammatorch.open_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02Nr\xff\xff\xff\x3fj\xff\xff\xff",
        b"\x80\x02j\x01\x00\x00\x00.",
        b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        b"\x80\x02X\xff\xff\xff\xff1.",
        b"\x80\x02U\xffabc.",
        b"\x80\x02cnever ends",
        b"\x80\x02)\x86.",
        b"\x80\x02}](u.",
        b"\x80\x02}(Nu.",
        b"\x80\x02)Na.",
        b"\x80\x02NNNs.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02NNb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    ],
)
def test_broken_pickles_are_refused(raw):
    with pytest.raises(errors.MalformedCheckpoint, match=r"^m: pickle is broken.*nothing was executed"):
        read_pickle(raw, "m")


def test_a_memo_index_of_a_thousand_million_takes_no_memory():
    started = time.perf_counter()
    assert read_pickle(b"\x80\x02Nr\xff\xff\xff\x3f.", "m") is None
    assert time.perf_counter() - started < 0.1


def test_deep_nesting_ends_in_an_answer():
    depth = 300_000
    assert isinstance(read_pickle(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".", "m"), list)
    assert isinstance(read_pickle(b"\x80\x02)" + b"\x85" * depth + b".", "m"), tuple)


def test_tuples_that_double_are_never_walked():
    """Forty doublings: hashing or comparing the last one would take 2^40 steps."""
    doubled = b"\x80\x02}N\x85" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(40)) + b"K\x01s."
    assert read_pickle(doubled, "m") == {}


def test_size_and_operations_are_bounded(monkeypatch):
    with pytest.raises(errors.MalformedCheckpoint, match="pickle of 32000001 bytes"):
        read_pickle(bytes(unpickler.PICKLE_CAP + 1), "m")
    monkeypatch.setattr(unpickler.Machine, "most_operations", 100)
    with pytest.raises(errors.MalformedCheckpoint, match="more than 100 operations"):
        read_pickle(b"\x80\x02" + b"]" * 200 + b".", "m")


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [2.5, None, True, False], "c": (1, 2, 3, 4), 5: "é", "n": -7, "m": 70_000, "l": 2**40, "e": ()},
        collections.OrderedDict(a={"b": {}}),
        [[], [[1]], {"x": (1,), "y": (1, 2), "z": (1, 2, 3)}],
    ],
)
def test_plain_values_come_out_as_pickle_gives_them(value):
    assert read_pickle(pickle.dumps(value, 2), "m") == pickle.loads(pickle.dumps(value, 2))


class Settings:
    """A class of a trainer's own."""

    def __init__(self) -> None:
        self.rate = 1e-3


class Kind(enum.Enum):
    ONE = 1


BESIDE = {
    "namespace": argparse.Namespace(rate=1e-3, betas=[0.9, 0.99]),
    "path": Path("/runs/1"),
    "defaultdict": collections.defaultdict(list, {1: [2]}),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2]),
    "numpy": [np.float64(3), np.arange(3), np.random.default_rng(0).bit_generator.state, np.random.get_state()],
    "numpy's others": [
        np.random.default_rng(0),
        np.ma.array([1, 2], mask=[0, 1]),
        np.zeros(2, "f4,i8"),
        np.array([{}]),
    ],
    "own class": Settings(),
    "enum": Kind.ONE,
    "dates": [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "numbers": [Decimal("1.5"), Fraction(1, 2), 1 + 2j, 2**5000, -(2**70), 2**127, 3**500, slice(1, 2), ...],
    "sets": [{1, 2}, frozenset({1}), set()],
    "bytes": [b"abc", b"x" * 300, bytearray(b"y")],
    "types": [
        int,
        float,
        torch.bfloat16,
        torch.qint8,
        torch.uint4,
        torch.strided,
        torch.Size([1, 2]),
        torch.device("cpu"),
        torch.__version__,
    ],
    "random states": [random.getstate(), torch.get_rng_state()],
    "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
    "functions of modules": [
        *(torch.nn.functional.relu, torch.nn.functional.gelu, torch.tanh, torch.special.expit, torch.Tensor.relu),
        *(torch.nn.init.zeros_, functools.partial(torch.nn.functional.gelu, approximate="tanh")),
    ],
    "long text": "é" * 300,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_trainers_keep_beside_the_weights_is_passed_over(beside, protocol, tmp_path):
    weights = {f"net.layers.{layer}.norm.weight": torch.rand(8) for layer in range(3)}
    saved = {"epoch": 3, beside: BESIDE[beside], "state_dict": weights, "again": BESIDE[beside]}
    torch.save(saved, tmp_path / "last.ckpt", pickle_protocol=protocol)
    gains = gammatorch.read_gains(tmp_path / "last.ckpt", device="cpu")
    assert gains.gamma.equal(torch.stack(list(weights.values())).double())


def tagged(tensor: torch.Tensor) -> torch.Tensor:
    tensor.tag = {"sharded": [1]}
    return tensor


@pytest.mark.parametrize(
    "make",
    [
        lambda row: tagged(row),
        lambda row: tagged(torch.nn.Parameter(row)),
        lambda row: torch.nn.Buffer(row),
        lambda row: torch.nn.Parameter(row),
    ],
    ids=["attributes", "parameter with attributes", "buffer", "parameter"],
)
def test_attributes_of_a_tensor_are_passed_over(make, tmp_path):
    torch.save({f"layers.{n}.norm.weight": make(torch.rand(8)) for n in range(3)}, tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt", weights_only=True)
    gains = gammatorch.read_gains(tmp_path / "x.pt", device="cpu")
    assert gains.gamma.equal(torch.stack([tensor.detach().double() for tensor in loaded.values()]))


class Other(torch.Tensor):
    """A class of tensors."""


def distributed(row: torch.Tensor) -> DTensor:
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 1), rank=0, world_size=1)
        try:
            return distribute_tensor(row, init_device_mesh("cpu", (1,)), [Shard(0)])
        finally:
            dist.destroy_process_group()


FORMS = {
    "strided view": (lambda row: torch.stack([row, row], dim=1)[:, 0], "contiguous"),
    "quantised": (lambda row: torch.quantize_per_tensor(row, 0.1, 0, torch.qint8), "quantised weights"),
    "sparse": (lambda row: row.to_sparse(), "to_dense"),
    "meta": (lambda row: row.to("meta"), "no values"),
    "DTensor": (distributed, "full_tensor"),
    "class of its own": (lambda row: row.as_subclass(Other), "plain tensor"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tensor_in_another_form_stands_beside_gains_and_is_none(form, tmp_path):
    make, remedy = FORMS[form]
    weights = {f"layers.{n}.norm.weight": torch.rand(8) for n in range(3)}
    torch.save({**weights, "embed.weight": make(torch.rand(8))}, tmp_path / "x.pt")
    gains = gammatorch.read_gains(tmp_path / "x.pt", device="cpu")
    assert gains.gamma.equal(torch.stack(list(weights.values())).double())
    assert any(f"embed.weight ({form}) cannot be read in place" in note for note in gains.notes)
    torch.save({**weights, "layers.1.norm.weight": make(torch.rand(8))}, tmp_path / "x.pt")
    with pytest.raises(errors.UnsupportedFormat, match=rf"layers.1.norm.weight: is stored as \w+ \({form}\).*{remedy}"):
        gammatorch.read_gains(tmp_path / "x.pt", device="cpu")


def test_an_attribute_that_replaces_the_values_is_refused(tmp_path):
    """``torch.load`` sets it, and then has the other tensor's values."""
    row = torch.rand(8)
    row.dat_ = torch.zeros(8)
    torch.save({"layers.0.norm.weight": row}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        raw = archive.read("x/data.pkl")
    changed = repack(tmp_path / "x.pt", tmp_path / "y.pt", {"data.pkl": raw.replace(b"dat_", b"data")})
    assert not torch.load(changed, weights_only=True)["layers.0.norm.weight"].any()
    with pytest.raises(errors.MalformedCheckpoint, match="an attribute that replaces the values"):
        gammatorch.open_checkpoint(changed)


@pytest.mark.parametrize(
    "raw",
    [
        b"]q\0(" + 100 * b"X\1\0\0\0aN\x86" + b"eccollections\nOrderedDict\nq\1" + 100 * b"h\1h\0\x85R",
        b"(" + 100 * b"K\1" + b"tq\0ctorch\nSize\nq\1" + 100 * b"h\1h\0\x85R",
    ],
    ids=["dict", "size"],
)
def test_a_long_argument_of_many_calls_counts_each_time(raw, monkeypatch):
    """A few megabytes of them would take gigabytes of memory, or hours."""
    monkeypatch.setattr(unpickler.Machine, "most_operations", 5000)
    with pytest.raises(errors.MalformedCheckpoint, match="more than 5000 operations"):
        read_pickle(b"\x80\2" + raw + b".", "m")


def test_a_call_within_a_call_is_not_followed():
    folded = b"ctorch._tensor\n_rebuild_from_type_v2\nq\0ctorch\nTensor\nq\1(h\0h\1)}tq\2"
    with pytest.raises(errors.MalformedCheckpoint, match="nothing was executed"):
        read_pickle(b"\x80\2" + folded + b"".join(b"(h\0h\1h\2}tq\2" for _ in range(10_000)) + b"h\0h\2R.", "m")


@pytest.mark.parametrize(
    ("value", "named"), [(len, "builtin"), (torch.hub.load, "torch.hub.load"), (os.getcwd, "posix")]
)
def test_what_is_not_part_of_a_state_dict_is_named(value, named, tmp_path):
    torch.save({"model": {"w": torch.ones(3)}, "beside": value}, tmp_path / "x.pt")
    with pytest.raises(errors.UnsupportedFormat, match=rf"names \w*{named}.*, which is no part of a state dict"):
        gammatorch.open_checkpoint(tmp_path / "x.pt")


class CallsSoftmax:
    """Pickles to a call of a function on tensors, which would fail if it were made."""

    def __reduce__(self):
        return torch.nn.functional.softmax, (None, None)


def test_a_function_on_tensors_is_a_name_and_never_called(tmp_path):
    weights = {f"net.layers.{layer}.norm.weight": torch.rand(8) for layer in range(3)}
    torch.save({"act": torch.tanh, "called": CallsSoftmax(), "state_dict": weights}, tmp_path / "x.pt")
    with pytest.raises(AttributeError):
        torch.load(tmp_path / "x.pt", weights_only=False)
    assert gammatorch.read_gains(tmp_path / "x.pt", device="cpu").layers == (0, 1, 2)


@pytest.mark.parametrize("name", ["torch.nn.functional os.system", "torch._C._nn __class__.mro", "torch._C _load"])
def test_no_name_leads_out_of_a_module_of_functions(name):
    module, attribute = name.encode().split()
    with pytest.raises(errors.UnsupportedFormat, match="nothing was executed"):
        read_pickle(
            b"\x80\4\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(attribute)]) + attribute + b"\x93.",
            "m",
        )
