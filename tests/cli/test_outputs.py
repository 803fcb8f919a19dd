"""Nothing of the user's is ever overwritten: where a result must not go, and where it may."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.cli import cli
from gammatorch.errors import OutputError
from gammatorch.reports.document import replacing, write_atomically

SHARD, INDEX = "model-00001-of-00002.safetensors", "model.safetensors.index.json"
OTHERS = {
    "tokenizer.json": b'{"version": "1.0"}',
    "adapter_config.json": b'{"r": 8}',
    "merges.txt": b"#version: 0.2\n",
    "README.md": b"# A model\n",
    ".metadata": b"\x80\x02}.",
    "__0_0.distcp": b"PK\3\4",
    "pytorch_model.bin": b"PK\3\4 and so on",
    "q4.gguf": b"GGUF\3\0\0\0",
    "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
}
"""Files of a model's folder beside its shards, their index and config.json."""

COMMANDS = {
    "run": ("run", "MODEL"),
    "run one file": ("run", "MODEL/" + SHARD),
    "run the index": ("run", "MODEL/" + INDEX),
    "compare, the first": ("compare", "MODEL", "OTHER"),
    "compare, the last": ("compare", "OTHER", "OTHER", "MODEL"),
    "check": ("check", "MODEL"),
    "check against it": ("check", "OTHER", "--against", "MODEL"),
    "bench": ("bench", "MODEL"),
    "report": ("report", "RESULT"),
    "report of a sweep": ("report", "STORE"),
    "export": ("export", "STORE"),
}


def test_every_command_that_writes_is_in_the_table():
    """A sweep's --out is a folder, which has tests of its own below."""
    writing = {name for name, command in cli.commands.items() if any(one.name == "out" for one in command.params)}
    assert writing == {arguments[0] for arguments in COMMANDS.values()} | {"sweep"}


OPENED: list[tuple[str, int]] | None = None


def _note_opened(event: str, arguments: tuple) -> None:
    if OPENED is not None and event == "open" and isinstance(arguments[0], str):
        OPENED.append((os.path.realpath(arguments[0]), arguments[2] & os.O_ACCMODE))


sys.addaudithook(_note_opened)  # for good: such a hook cannot be taken away


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A model, another one, a result, and a sweep that has an item and a failure."""
    top = tmp_path_factory.mktemp("outputs")
    for name in ("model", "other"):
        (top / name).mkdir()
        write_checkpoint(top / name, layers=3, hidden=8, shards=2)
    for name, content in OTHERS.items():
        (top / "model" / name).write_bytes(content)
    analysis = gammatorch.analyze(gammatorch.read_gains(top / "other", device="cpu"))
    write_atomically(top / "result.json", json.dumps(analysis.to_dict()))
    for name, content in {
        "items/" + "a" * 32 + ".safetensors": b"\x10\0\0\0\0\0\0\0{}",
        "failures/" + "b" * 32 + ".json": b'{"key": "b"}',
        "claims/" + "c" * 32: b"host 1",
    }.items():
        (top / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (top / "store" / name).write_bytes(content)
    return top


PLACES = {
    "MODEL": ["model/" + name for name in (SHARD, INDEX, "config.json", *OTHERS)],
    "MODEL/" + SHARD: ["model/" + name for name in (SHARD, "config.json", "tokenizer.json")],
    "MODEL/" + INDEX: ["model/" + name for name in (SHARD, INDEX, "config.json")],
    "RESULT": ["result.json"],
    "STORE": [f"store/items/{'a' * 32}.safetensors", f"store/failures/{'b' * 32}.json", f"store/claims/{'c' * 32}"],
}
"""The files that must stay, by what is read."""


def ways(target: Path) -> dict[str, Path]:
    """Paths that lead to one file."""
    beside = target.parent.parent / "ways"
    beside.mkdir(exist_ok=True)
    for name in ("link", "second", "hard", "folder"):
        (beside / name).unlink(missing_ok=True)
    (beside / "link").symlink_to(target)
    (beside / "second").symlink_to("link")
    (beside / "hard").hardlink_to(target)
    (beside / "folder").symlink_to(target.parent, target_is_directory=True)
    return {
        "the same": target,
        "relative": Path(os.path.relpath(target)),
        "dots": target.parent / ".." / target.parent.name / "." / target.name,
        "a link": beside / "link",
        "a link to a link": beside / "second",
        "a hard link": beside / "hard",
        "a linked folder": beside / "folder" / target.name,
    }


def files(top: Path) -> dict[str, tuple[str, int, int]]:
    """Every file there: its contents, which file it is, and when it was changed."""
    found = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in found
    }


def fill_in(argument: str, top: Path) -> str:
    places = {"MODEL": "model", "OTHER": "other", "RESULT": "result.json", "STORE": "store"}
    name, slash, rest = argument.partition("/")
    return f"{top / places[name]}{slash}{rest}" if name in places else argument


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_read_is_never_written_whatever_leads_to_it(call, made, monkeypatch, command):
    global OPENED
    monkeypatch.chdir(made)
    arguments = [fill_in(argument, made) for argument in COMMANDS[command]]
    for place in PLACES[next(argument for argument in COMMANDS[command] if argument in PLACES)]:
        target = made / place
        for way, path in ways(target).items():
            before = files(made)
            OPENED = []
            done = call(*arguments, "--out", path)
            opened, OPENED = OPENED, None
            (line,) = done.stderr.splitlines()
            assert (done.code, done.stdout) == (1, ""), (place, way)
            assert line.startswith(f"gammatorch: error: {path}: ") and line.endswith(
                ": pass another name for the result"
            )
            assert files(made) == before
            touched = [(name, mode) for name, mode in opened if name.startswith(str(made))]
            assert {name for name, _ in touched} <= {str(target), os.path.realpath(path)}, (place, way)
            assert {mode for _, mode in touched} <= {os.O_RDONLY}, (place, way)


@pytest.mark.parametrize("model", ["a linked folder", "a relative path", "a linked file"])
def test_it_does_not_matter_either_how_the_model_is_named(call, made, tmp_path, monkeypatch, model):
    monkeypatch.chdir(made)
    (tmp_path / "link").symlink_to(made / "model")
    (tmp_path / "one.safetensors").symlink_to(made / "model" / SHARD)
    named = {
        "a linked folder": tmp_path / "link",
        "a relative path": "model",
        "a linked file": tmp_path / "one.safetensors",
    }
    before = files(made)
    for name in (SHARD, "config.json"):
        done = call("run", named[model], "--out", made / "model" / name)
        assert done.code == 1 and "pass another name" in done.stderr and done.stdout == ""
    assert files(made) == before


@pytest.mark.parametrize(
    "name", ["config.json", "new.safetensors", "other.safetensors.index.json", "adapter_config.json"]
)
def test_a_new_file_that_would_be_read_as_a_part_of_the_model_is_refused(call, tmp_path, name):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    (tmp_path / "config.json").unlink()
    for given in (tmp_path, tmp_path / "model.safetensors"):
        done = call("run", given, "--device", "cpu", "--out", tmp_path / name)
        assert done.code == 1 and "would be taken for a part of the model that is read" in done.stderr
    (tmp_path / name).touch()
    assert "would be taken for a part" in call("run", tmp_path, "--out", tmp_path / name).stderr
    assert {path.name: path.stat().st_size > 0 for path in tmp_path.iterdir()} == {
        "model.safetensors": True,
        name: False,
    }


FORMATS = {
    "safetensors": (b"\x02\0\0\0\0\0\0\0{}", "a binary file"),
    "safetensors with tensors": (b'\x40\0\0\0\0\0\0\0{"norm.weight": {', "safetensors"),
    "GGUF": (b"GGUF\3\0\0\0", "GGUF"),
    "an archive": (b"PK\3\4", "an archive as torch.save writes it"),
    "a pickle": (pickle.dumps({}), "a pickle"),
    "an old PyTorch file": (b"\x80\2\x8a\nl\xfc", "a file as torch.save wrote it of old"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "gzip": (b"\x1f\x8b\x08\0", "packed with gzip"),
    "NumPy": (b"\x93NUMPY\1\0", "a binary file"),
    "zeros": (bytes(9), "a binary file"),
}


@pytest.mark.parametrize("command", ["run", "report", "export"])
@pytest.mark.parametrize("kind", FORMATS)
def test_weights_that_are_no_input_are_kept_too_whatever_their_name(call, made, tmp_path, command, kind):
    content, what = FORMATS[kind]
    out = tmp_path / "result.json"
    out.write_bytes(content)
    given = {"run": "other", "report": "result.json", "export": "store"}[command]
    done = call(command, made / given, "--out", out)
    assert done.code == 1 and f"{out}: is {what}" in done.stderr and "which no result is" in done.stderr
    assert out.read_bytes() == content and [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_file_that_came_there_during_the_run_is_kept_too(tmp_path):
    out = tmp_path / "result.json"
    with pytest.raises(OutputError, match="is GGUF, which no result is"):
        out.write_bytes(b"GGUF\3\0\0\0")
        write_atomically(out, "{}\n")
    with pytest.raises(OutputError, match="is GGUF"), replacing(out):
        pytest.fail("nothing is to be written")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


WRITING = {
    "run": ("run", "other", "--device", "cpu"),
    "compare": ("compare", "other", "other", "--device", "cpu"),
    "check": ("check", "other"),
    "bench": ("bench", "other", "--device", "cpu", "--repeats", "1"),
    "report": ("report", "result.json"),
}


@pytest.mark.parametrize("command", WRITING)
def test_an_earlier_result_is_replaced_even_in_the_models_own_folder(call, made, monkeypatch, command):
    monkeypatch.chdir(made)
    out = made / "other" / ("page.html" if command == "report" else "found.json")
    before = files(made / "other")
    for _ in range(2):
        assert call(*WRITING[command], "--out", out, "-q").code == 0
        assert len(out.read_bytes()) > 100
    out.unlink()
    assert files(made / "other") == before


@pytest.mark.parametrize("name", ["table.csv", "table.jsonl", "table.parquet", "table.sqlite"])
def test_an_earlier_table_is_replaced_beside_weights_too(call, tmp_path, name):
    (tmp_path / "run" / "step1").mkdir(parents=True)
    write_checkpoint(tmp_path / "run" / "step1", layers=3, hidden=8, shards=1)
    assert call("sweep", tmp_path / "run", "--out", tmp_path / "store", "--device", "cpu", "-q").code == 0
    out = tmp_path / "run" / "step1" / name
    for _ in range(2):
        done = call("export", tmp_path / "store", "--format", name.partition(".")[2], "--out", out)
        assert (done.code, done.stderr) == (0, f"gammatorch: saved {out}\n")
    assert zipfile.is_zipfile(out) is False and out.stat().st_size > 1000


@pytest.mark.parametrize("content", [b"", b"old", b'{"schema_version": 1}', "Größe".encode(), b'{"some": "JSON"}'])
def test_text_and_an_empty_file_are_replaced(call, made, tmp_path, content):
    out = tmp_path / "result.json"
    out.write_bytes(content)
    assert call("check", made / "other", "--out", out, "-q").code == 0
    assert json.loads(out.read_text())["findings"] == []


def test_a_sketch_replaces_a_sketch_and_no_weights(tmp_path):
    write_checkpoint(tmp_path, layers=3, hidden=8, shards=1)
    sketch = gammatorch.sketch(gammatorch.read_gains(tmp_path, device="cpu").gamma, dims=32)
    for _ in range(2):
        gammatorch.save_sketch(tmp_path / "gains.sketch", sketch)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="is safetensors, which no result is"):
        gammatorch.save_sketch(tmp_path / "model.safetensors", sketch)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_link_that_leads_to_itself_is_one_line(call, made, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    done = call("check", made / "other", "--out", tmp_path / "loop")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert (tmp_path / "loop").is_symlink()


# --- the caches of what was read from the Hub ---


@pytest.fixture
def hub_cache(tmp_path) -> Path:
    """A snapshot as huggingface_hub keeps it: links to blobs without suffixes."""
    repository = tmp_path / "hub" / "models--org--name"
    snapshot, blobs = repository / "snapshots" / ("9" * 40), repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    write_checkpoint(snapshot, layers=3, hidden=8, shards=1)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / (str(number) * 20))
        path.symlink_to(f"../../blobs/{str(number) * 20}")
    (repository / "refs" / "main").write_text("9" * 40)
    return repository


@pytest.mark.parametrize("place", ["blobs/" + "0" * 20, "blobs/" + "1" * 20, "refs/main", "CONFIG", "WEIGHTS"])
@pytest.mark.parametrize("model", ["org/name", "SNAPSHOT"])
def test_files_of_the_hubs_cache_are_kept(call, hub_cache, monkeypatch, place, model):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    snapshot = hub_cache / "snapshots" / ("9" * 40)
    names = {"CONFIG": f"snapshots/{'9' * 40}/config.json", "WEIGHTS": f"snapshots/{'9' * 40}/model.safetensors"}
    before = files(hub_cache)
    done = call("run", snapshot if model == "SNAPSHOT" else model, "--out", hub_cache / names.get(place, place))
    assert done.code == 1 and "pass another name for the result" in done.stderr and done.stdout == ""
    assert files(hub_cache) == before


def test_entries_of_our_own_cache_are_kept(call, tmp_path):
    entry = tmp_path / "hub-1" / ("ab" * 20)
    entry.parent.mkdir()
    entry.write_bytes(b"all text, as a digest never is")
    done = call("run", "org/name", "--out", entry)
    assert done.code == 1 and "belongs to the cache of what was read from the Hub" in done.stderr


# --- the folder of a sweep ---


def train(top: Path, *steps: int) -> Path:
    for step in steps:
        (top / "run" / f"checkpoint-{step}").mkdir(parents=True)
        write_checkpoint(top / "run" / f"checkpoint-{step}", layers=3, hidden=8, shards=1, seed=step)
    return top / "run"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("through", ["the same", "a link", "dots"])
def test_a_sweep_is_not_kept_in_a_models_own_folder(call, tmp_path, through, dry):
    model = train(tmp_path, 1) / "checkpoint-1"
    (tmp_path / "link").symlink_to(model)
    out = {"the same": model, "a link": tmp_path / "link", "dots": model / ".." / "checkpoint-1"}[through]
    before = files(tmp_path)
    done = call("sweep", tmp_path / "run", "--out", out, *dry)
    (line,) = done.stderr.splitlines()
    assert (done.code, done.stdout) == (1, "")
    assert "holds weights itself (model.safetensors)" in line and line.endswith(f"pass another folder, {out}/sweep say")
    assert files(tmp_path) == before and not (model / "items").exists()


@pytest.mark.parametrize("out", ["run", "run/sweep", "run/checkpoint-1/sweep", "elsewhere"])
def test_a_sweep_may_be_kept_beside_the_checkpoints_and_is_none_itself(call, tmp_path, out):
    run = train(tmp_path, 1, 2)
    (run / "training_args.bin").write_bytes(b"PK\3\4")
    for specs in ([run], [str(run / "*")]):
        for _ in range(2):
            done = call("sweep", *specs, "--out", tmp_path / out, "--device", "cpu", "--format", "json")
            summary = json.loads(done.stdout)
            assert (done.code, summary["planned"], summary["failures"]) == (0, 2, [])
    assert len(list((tmp_path / out / "items").iterdir())) == 2


def test_a_sweep_goes_on_where_the_training_has_written_its_last_weights_beside_it(call, tmp_path):
    run = train(tmp_path, 1)
    command = ("sweep", run / "checkpoint-1", "--out", run, "--device", "cpu", "-q")
    assert call(*command).code == 0
    write_checkpoint(run, layers=3, hidden=8, shards=1)
    assert "1 were there" in call(*command).stdout


def test_a_sweep_leaves_folders_that_only_have_its_names_alone(call, tmp_path):
    run = train(tmp_path, 1)
    (tmp_path / "out" / "items").mkdir(parents=True)
    (tmp_path / "out" / "items" / "sword.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    before = files(tmp_path)
    done = call("sweep", run, "--out", tmp_path / "out")
    assert done.code == 1 and "holds items/sword.safetensors, which no sweep wrote: pass another folder" in done.stderr
    assert files(tmp_path) == before


def test_a_sweep_removes_old_temporary_files_of_its_own_only(call, tmp_path):
    run = train(tmp_path, 1)
    items = tmp_path / "out" / "items"
    items.mkdir(parents=True)
    ours, theirs = items / f".{'a' * 32}.{'b' * 16}.tmp", items / ".notes.tmp"
    for path in (ours, theirs):
        path.write_text("left")
        os.utime(path, (0, 0))
    assert call("sweep", run, "--out", tmp_path / "out", "--device", "cpu", "-q").code == 0
    assert theirs.exists() and not ours.exists()


TABLES = [".csv", ".jsonl", ".parquet", ".sqlite"]


@pytest.mark.parametrize("suffix", TABLES)
def test_the_suffix_of_out_makes_a_table_of_the_result(call, tmp_path, suffix):
    write_checkpoint(tmp_path, layers=6, hidden=64, shards=1)
    done = call("run", tmp_path, "--out", tmp_path / f"out{suffix}", "--format", "table")
    assert done.code == 0, done.stderr
    truth = gammatorch.analyze(str(tmp_path)).to_dataframe()
    path = tmp_path / f"out{suffix}"
    read = {
        ".csv": pandas.read_csv,
        ".jsonl": lambda path: pandas.read_json(path, lines=True),
        ".parquet": pandas.read_parquet,
        ".sqlite": lambda path: pandas.read_sql("select * from figures", sqlite3.connect(path)),
    }[suffix](path)
    assert list(read.columns) == ["layer", "statistic", "value"]
    assert list(read["statistic"]) == list(truth["statistic"])
    np.testing.assert_allclose(read["value"].astype(float), truth["value"].astype(float), rtol=1e-12)
    assert read.loc[read["statistic"] == "norms", "layer"].tolist() == list(range(6))


@pytest.mark.parametrize("command", ["run", "compare", "check"])
def test_the_suffix_html_makes_the_page(call, tmp_path, command):
    write_checkpoint(tmp_path, layers=6, hidden=64, shards=1)
    models = [tmp_path, tmp_path] if command == "compare" else [tmp_path]
    assert call(command, *models, "--out", tmp_path / "out.html").code == 0
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--format", "json", "--out", "x.csv"),
        ("run", "--site", "all", "--out", "x.html"),
        ("compare", ".", "--json", "--out", "x.svg"),
        ("report", "--out", "x.json"),
        ("report", "--out", "x.png"),
    ],
)
def test_a_suffix_that_contradicts_is_wrong_usage(call, tmp_path, monkeypatch, arguments):
    write_checkpoint(tmp_path, layers=6, hidden=64, shards=1)
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments
    done = call(command, ".", *rest)
    assert done.code == 2 and rest[-1] in done.stderr
    assert not (tmp_path / rest[-1]).exists()


def test_a_picture_without_what_draws_it_is_one_line(call, tmp_path, monkeypatch):
    write_checkpoint(tmp_path, layers=6, hidden=64, shards=1)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    done = call("run", tmp_path, "--out", tmp_path / "x.svg")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "kaleido" in done.stderr
    assert not (tmp_path / "x.svg").exists()
