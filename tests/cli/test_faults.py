"""Faults of a checkpoint on disk: one line that says what is wrong, exit code 1, nothing written, nothing executed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.errors import GammatorchError

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
RENAMED = {FIRST: "first.safetensors", SECOND: "second.safetensors"}
"""Names that only the index tells."""


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    write_checkpoint(path, layers=3, hidden=8, shards=2)
    return path


class Executed:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def replace(folder: Path, make: Callable[[Path], object]) -> None:
    (folder / SECOND).unlink()
    make(folder / SECOND)


def edit_header(folder: Path, change: Callable[[bytes], bytes]) -> None:
    content = (folder / FIRST).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length])
    (folder / FIRST).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def edit_index(folder: Path, shard: str) -> None:
    (folder / FIRST).rename(folder / "first.safetensors")
    (folder / SECOND).rename(folder / "second.safetensors")
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], shard)
    (folder / INDEX).write_text(json.dumps(index))


def only_distributed(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / ".metadata").write_bytes(pickle.dumps(Executed(folder / "executed")))
    (folder / "__0_0.distcp").write_bytes(b"x")


def only_torch(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Executed(folder / "executed")))


NORM = b'"model.layers.0.input_layernorm.weight":'
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda folder: os.truncate(folder / SECOND, 700), "is cut short"),
    "truncated within the header": (lambda folder: os.truncate(folder / SECOND, 100), "cut short within its header"),
    "truncated within the length": (lambda folder: os.truncate(folder / SECOND, 5), "too short for safetensors"),
    "emptied": (lambda folder: os.truncate(folder / SECOND, 0), "too short for safetensors"),
    "grown": (lambda folder: os.truncate(folder / SECOND, 10**9), "has bytes that no tensor owns"),
    "removed": (lambda folder: (folder / SECOND).unlink(), "1 of 2 shards missing"),
    "a folder": (lambda folder: replace(folder, os.mkdir), "1 of 2 shards missing"),
    "a pipe": (lambda folder: replace(folder, os.mkfifo), "1 of 2 shards missing"),
    "a loop of links": (lambda folder: replace(folder, lambda path: os.symlink(path, path)), "1 of 2 shards missing"),
    "a link to nothing": (lambda folder: replace(folder, lambda path: os.symlink("no", path)), "1 of 2 shards missing"),
    "a pointer": (lambda folder: replace(folder, lambda path: path.write_text("version https://git-lfs")), "Git LFS"),
    "a page": (lambda folder: replace(folder, lambda path: path.write_text("<html>" * 99)), "is a web page"),
    "no JSON": (lambda folder: edit_header(folder, lambda raw: raw.replace(b":", b";", 1)), "header is not valid JSON"),
    "no UTF-8": (lambda folder: edit_header(folder, lambda raw: raw.replace(b"mlp", b"\xff\xff\xff")), "not valid JSON"),
    "a key twice": (
        lambda folder: edit_header(folder, lambda raw: raw.replace(b".0.post_attention_", b".0.input_")),
        "'model.layers.0.input_layernorm.weight' is there twice",
    ),
    "a key gone": (lambda folder: edit_header(folder, lambda raw: raw.replace(NORM, NORM[::-1])), "not valid JSON"),
    "a wrong width": (
        lambda folder: edit_header(folder, lambda raw: raw.replace(NORM + b'{"dtype":"BF16","shape":[8]', NORM + b'{"dtype":"BF16","shape":[9]')),
        "BF16 [9] does not take 16 bytes",
    ),
    "another type": (
        lambda folder: edit_header(folder, lambda raw: raw.replace(NORM + b'{"dtype":"BF16"', NORM + b'{"dtype":"I16"')),
        "is stored as I16",
    ),
    "a name with escapes": (
        lambda folder: edit_header(folder, lambda raw: raw.replace(NORM, NORM.replace(b".0.", b".0\x1b]."))),
        "header is not valid JSON",
    ),
    "an index that points outside": (lambda folder: edit_index(folder, "../evil.safetensors"), "not a plain"),
    "an index that points to the root": (lambda folder: edit_index(folder, "/etc/passwd.safetensors"), "not a plain"),
    "a config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
    "a config without end": (lambda folder: (folder / "config.json").write_text("[" * 10**6), "is not valid JSON"),
    "a hostile table of a distributed checkpoint": (only_distributed, "nothing was executed"),
    "a hostile pickle": (only_torch, "pytorch_model.bin: "),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_exit_1(call, folder, tmp_path, fault):
    make, message = FAULTS[fault]
    make(folder)
    before = sorted(path.name for path in folder.iterdir())
    done = call("run", folder, "--device", "cpu", "--out", tmp_path / "result.json")
    assert done.code == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gammatorch: error: {folder}") and message in line
    assert len(line) < 1000 and line.isprintable()
    assert not (tmp_path / "result.json").exists()
    assert sorted(path.name for path in folder.iterdir()) == before  # nothing was executed


def test_a_file_that_may_not_be_read_is_named(call, folder, monkeypatch):
    opened = os.open

    def refuse(path, *arguments, **named):
        if str(path).endswith(SECOND):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    done = call("run", folder, "--device", "cpu")
    assert (done.code, done.stderr) == (
        1,
        f"gammatorch: error: {folder}/{SECOND}: cannot be read (Permission denied)\n",
    )


def test_code_of_a_repository_is_never_executed(folder):
    ours = gammatorch.read_gains(folder, device="cpu")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(folder / 'executed')!r})\nclass Evil: pass\n")
    assert gammatorch.read_gains(folder, device="cpu").gamma.equal(ours.gamma)
    assert not (folder / "executed").exists()


def write_single(path: Path, layers: int, extra: dict[str, int]) -> np.ndarray:
    """One shard with norms of width 4, and other tensors of these sizes."""
    gains = np.arange(4 * layers, dtype="<f4").reshape(layers, 4) + 1
    header, data = {}, b""
    for layer in range(layers):
        stop = len(data) + 16
        header[f"model.layers.{layer}.input_layernorm.weight"] = ("F32", [4], [len(data), stop])
        data += gains[layer].tobytes()
    for key, size in extra.items():
        header[key] = ("U8", [size], [len(data), len(data) + size])
        data += bytes(size)
    described = {
        key: dict(zip(("dtype", "shape", "data_offsets"), tensor, strict=True)) for key, tensor in header.items()
    }
    raw = json.dumps(described, separators=(",", ":")).encode()
    (path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    config = {"model_type": "llama", "num_hidden_layers": layers, "hidden_size": 4}
    (path / "config.json").write_text(json.dumps(config))
    return gains


@pytest.mark.parametrize(
    "extra",
    [
        {f"model.layers.0.mlp.experts.{number}.up_proj.weight": 1 for number in range(100_000)},
        {"n" * 10_000: 1},
        {"model.layers.0.mlp.\x1b]0;evil\x07\u202e.weight": 1, 'quote".input_layernorm."': 1},
    ],
    ids=["100,000 tensors", "a name of 10 kB", "names with escapes"],
)
def test_unusual_neighbours_change_nothing(call, tmp_path, extra):
    gains = write_single(tmp_path, 3, extra)
    assert gammatorch.read_gains(tmp_path, device="cpu").gamma.numpy().tolist() == gains.tolist()
    for command in ("run", "inspect"):
        done = call(command, tmp_path, *(["--device", "cpu"] if command == "run" else []))
        assert done.code == 0 and done.stderr == ""
        assert (done.stdout.replace("\n", "")).isprintable()


@pytest.mark.parametrize("name", ["config.json", INDEX, FIRST])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_gives_the_same_gains_or_an_error(folder, name, data):
    """Damage to the gains' own bytes aside: the format has no checksum."""
    whole = gammatorch.read_gains(folder, site="input", device="cpu")
    with tempfile.TemporaryDirectory() as made:
        damaged = Path(made)
        for path in folder.iterdir():
            (damaged / RENAMED.get(path.name, path.name)).write_bytes(path.read_bytes())
        index = (damaged / INDEX).read_text()
        for old, new in RENAMED.items():
            index = index.replace(old, new)
        (damaged / INDEX).write_text(index)
        path = damaged / RENAMED.get(name, name)
        content = bytearray(path.read_bytes())
        end = 8 + int.from_bytes(content[:8], "little") if name == FIRST else len(content)
        for place in data.draw(st.lists(st.integers(0, end - 1), max_size=3)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
        try:
            found = gammatorch.read_gains(damaged, site="input", device="cpu")
        except GammatorchError:
            return
    for key, row in zip(found.keys, found.gamma, strict=True):
        assert key not in whole.keys or row.equal(whole.gamma[whole.keys.index(key)])
