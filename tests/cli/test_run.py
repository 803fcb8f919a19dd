"""``gammatorch run`` as a user sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gammatorch
from gammatorch.bench import reference
from gammatorch.bench.synthetic import write_checkpoint

COMMAND = [sys.executable, "-m", "gammatorch"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model", layers=12, hidden=64, shards=3)
    return tmp_path / "model"


def test_the_demo_prints_the_four_tables_between_what_and_how_much(call):
    done = call("run", "--demo", "--full")
    lines = done.stdout.splitlines()
    assert done.code == 0
    assert lines[0].startswith("SmolLM2-135M-Instruct (demo, real gains) · site input: on the block's input")
    assert lines[-1].startswith("read 65.6 kB of 269.1 MB in 1 shard")
    for title in ("Layers: length ‖γ‖", "Principal axes of the unit γ", "Directions by phase", "Neighbouring layers"):
        assert sum(line.startswith(title) for line in lines) == 1
    assert done.stderr == ""


def test_a_missing_gpu_is_told_of_where_it_would_have_mattered(call, folder, monkeypatch):
    monkeypatch.setattr("gammatorch.gains.device.has_cuda", lambda: False)
    monkeypatch.setattr(sys.modules["gammatorch.cli.run"], "GPU_BYTES", 12 * 64 * 2)
    said = "gammatorch: no CUDA device: ran on the CPU\n"
    assert call("run", folder).stderr == said
    assert call("run", folder, "--device", "cpu").stderr == ""
    monkeypatch.setattr(sys.modules["gammatorch.cli.run"], "GPU_BYTES", 12 * 64 * 2 + 1)
    assert call("run", folder).stderr == ""


def test_a_site_that_the_demo_has_not_is_one_line(call):
    done = call("run", "--demo", "--site", "query")
    assert (done.code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "no learned norm at site 'query'" in done.stderr and "pass --site with one of input" in done.stderr


def test_the_tables_hold_the_references_numbers(call, folder):
    truth = reference.analyze(gammatorch.read_gains(folder, device="cpu").gamma.numpy())
    lines = [line.split() for line in call("run", folder, "--full", "-q").stdout.splitlines()]
    start = next(n for n, line in enumerate(lines) if line[:2] == ["layer", "phase"]) + 1
    for layer, line in enumerate(lines[start : start + 12]):
        assert int(line[0]) == layer
        printed = [float(cell) for cell in line[2:]]
        expected = [truth[name][layer] for name in ("norms", "proj_top1", "residual_top1", "shared_projection")]
        np.testing.assert_allclose(printed, expected, atol=5.1e-4)
    axes = [line for line in lines if line and line[0].startswith("PC") and line[0] != "PCA"]
    assert len(axes) == 10
    for axis, line in enumerate(axes):
        assert float(line[1]) == pytest.approx(truth["explained_var"][axis], abs=5.1e-5)
        assert float(line[2]) == pytest.approx(truth["singular_values"][axis], abs=5.1e-5)
    neighbours = [line for line in lines if line and "→" in line[0]]
    assert [float(line[2]) for line in neighbours] == pytest.approx(list(truth["cos_adjacent"]), abs=5.1e-5)


def test_a_dead_layer_is_null_with_a_note_and_the_others_are_analysed(call, folder):
    replace_layer(folder, 0.0)
    document = json.loads(call("run", folder, "--format", "json", "-q").stdout)
    assert document["notes"] == ["zero gain in layer 1: no direction, and left out of all figures but the lengths"]
    assert document["norms"][1] == 0 and document["cosine"][1] == [None] * 12
    for name in ("proj_top1", "residual_top1"):
        assert [layer for layer, value in enumerate(document[name]) if value is None] == [1]
    table = call("run", folder, "--full", "-q").stdout.splitlines()
    assert next(line for line in table if line.startswith("    1 ")).split()[2:] == ["0.000", "-", "-", "-"]


def test_json_is_one_document_and_nothing_else(call, folder, tmp_path):
    out = tmp_path / "result.json"
    done = call("run", folder, "--format", "json", "--out", out)
    printed = json.loads(done.stdout)
    assert printed == json.loads(out.read_text())
    gains = gammatorch.read_gains(folder, device="cpu")
    ours = gammatorch.analyze(gains).to_dict()
    for document in (printed, ours):
        del document["provenance"]["seconds"]
    assert printed == ours


def test_every_setting_can_come_from_the_environment(call, folder, monkeypatch):
    monkeypatch.setenv("GAMMATORCH_RUN_FORMAT", "json")
    monkeypatch.setenv("GAMMATORCH_RUN_SITE", "pre_mlp")
    assert json.loads(call("run", folder).stdout)["site"] == "pre_mlp"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--demo", "model"],
        ["--site", "middle"],
        ["--method", "x"],
        ["--nope"],
        ["--pattern", "{layer}", "--site", "input"],
    ],
)
def test_wrong_usage_ends_with_2(call, arguments):
    done = call("run", *arguments)
    assert done.code == 2 and done.stdout == "" and "Usage: gammatorch run" in done.stderr


def test_raw_pattern_and_site_reach_the_reader(call, tmp_path):
    write_checkpoint(tmp_path, "gemma2", layers=6, hidden=16, shards=1)
    stored = json.loads(call("run", tmp_path, "--raw", "--format", "json").stdout)
    effective = json.loads(call("run", tmp_path, "--format", "json").stdout)
    by_pattern = json.loads(
        call("run", tmp_path, "--pattern", "model.layers.{layer}.input_layernorm.weight", "--format", "json").stdout
    )
    assert (stored["offset"], effective["offset"]) == (0, 1)
    assert by_pattern["norms"] == effective["norms"] != stored["norms"]
    assert json.loads(call("run", tmp_path, "--site", "post_mlp", "--format", "json").stdout)["site"] == "post_mlp"


BROKEN = {
    "missing folder": (lambda folder: folder.rename(folder.parent / "gone"), r"no such file or folder"),
    "no safetensors": (lambda folder: [path.unlink() for path in folder.glob("*.safetensors*")], "holds no weights"),
    "broken header": (lambda folder: overwrite(folder, 8, b"?"), "model-00001-of-00003.safetensors: header is not valid JSON"),
    "truncated header": (lambda folder: os.truncate(shard(folder), 100), "is cut short within its header"),
    "truncated data": (lambda folder: os.truncate(shard(folder), shard(folder).stat().st_size - 1), "is cut short (header"),
    "missing shard": (lambda folder: shard(folder).unlink(), "1 of 3 shards missing (model-00001-of-00003.safetensors)"),
    "LFS pointer": (lambda folder: shard(folder).write_text("version https://git-lfs.github.com/spec/v1\n"), "LFS pointer"),
    "not a number": (lambda folder: replace_layer(folder, float("nan")), "layers.1.input_layernorm.weight: holds nan at"),
    "missing layer": (lambda folder: replace_layer(folder, None), "layers.1.input_layernorm.weight: layer 1 has no tensor"),
    "differing widths": (lambda folder: replace_layer(folder, 1.0, 65), "holds 65 values where"),
    "binary garbage": (lambda folder: (folder / "config.json").write_bytes(b"\0\1"), "config.json: is not valid JSON"),
}  # fmt: skip


def shard(folder):
    return folder / "model-00001-of-00003.safetensors"


def overwrite(folder, position, data):
    with open(shard(folder), "r+b") as file:
        file.seek(position)
        file.write(data)


def replace_layer(folder, value, width=64):
    """A single small file in place of the shards, with one bad layer."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    seeded = torch.Generator().manual_seed(0)
    rows = {n: torch.rand(64, generator=seeded) + 0.5 for n in range(12)}
    if value is not None:
        rows[1] = torch.full((width,), value)
    else:
        del rows[1]
    tensors = {f"model.layers.{n}.input_layernorm.weight": row for n, row in rows.items()}
    tensors |= {f"model.layers.{n}.post_attention_layernorm.weight": torch.ones(64) for n in range(12)}
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_input_is_one_line_and_leaves_the_old_result_alone(call, folder, tmp_path, kind):
    spoil, message = BROKEN[kind]
    spoil(folder)
    out = tmp_path / "result.json"
    out.write_text("old")
    done = call("run", folder, "--out", out, "--device", "cpu")
    assert done.code == 1 and done.stdout == ""
    assert done.stderr.startswith("gammatorch: error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"result.json", "model", "gone"}


def test_an_unknown_site_of_the_model_is_one_line(call, folder):
    done = call("run", folder, "--site", "post_mlp")
    assert done.code == 1 and "no learned norm at site 'post_mlp'" in done.stderr and done.stderr.count("\n") == 1


def test_verbose_shows_where(call, tmp_path):
    assert "Traceback" in call("run", tmp_path / "none", "-v").stderr


@pytest.mark.parametrize("place", ["no/such/folder/result.json", "."])
def test_an_impossible_out_is_refused_before_anything_is_read(call, tmp_path, place):
    done = call("run", tmp_path / "none", "--out", tmp_path / place)
    assert (done.code == 1 and "cannot be written" in done.stderr) or "is a folder" in done.stderr


def test_out_is_replaced_whole_with_its_permissions(call, folder, tmp_path):
    out = tmp_path / "result.json"
    out.write_text("old")
    out.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(out)
    assert call("run", folder, "--out", link, "-q").stderr == ""
    assert json.loads(out.read_text())["num_layers"] == 12
    assert link.is_symlink() and stat.S_IMODE(out.stat().st_mode) == 0o640
    new = tmp_path / "new.json"
    call("run", folder, "--out", new)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask
    assert {path.name for path in tmp_path.iterdir()} == {"model", "result.json", "link.json", "new.json"}


def test_a_device_takes_the_result_as_it_is(call, folder):
    assert call("run", folder, "--out", "/dev/null").code == 0
    assert os.path.exists("/dev/null") and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_hostile_names_reach_the_terminal_escaped(call, tmp_path):
    name = "model.layers.{layer}.\x1b[2J\u202einput_layernorm" + "n" * 10_000 + ".weight"
    save_file({name.replace("{layer}", str(n)): torch.rand(8) + 0.5 for n in range(3)}, tmp_path / "model.safetensors")
    for done in (call("run", tmp_path), call("inspect", tmp_path), call("run", tmp_path, "--pattern", name)):
        for text in (done.stdout, done.stderr):
            assert "\x1b" not in text and "\u202e" not in text
            assert max(map(len, text.splitlines()), default=0) < 2500
    assert done.code == 0


def test_no_figure_is_cut_in_a_narrow_terminal(call, folder, monkeypatch):
    wide = call("run", folder, "--full", "-q").stdout
    monkeypatch.setenv("COLUMNS", "20")
    assert [line.split()[:5] for line in call("run", folder, "--full", "-q").stdout.splitlines()][:-1] == [
        line.split()[:5] for line in wide.splitlines()
    ][:-1]


def test_output_is_plain_where_colour_is_unwanted(call, folder, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call("run", folder).stdout


def test_a_reader_that_leaves_early_costs_nothing(folder, tmp_path):
    out = tmp_path / "result.json"
    process = subprocess.Popen(
        [*COMMAND, "run", str(folder), "--out", str(out), "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""
    assert json.loads(out.read_text())["num_layers"] == 12


def test_interruption_ends_with_130(tmp_path):
    """Stopped while it waits for a server that never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = subprocess.Popen(
            [*COMMAND, "inspect", "org/name"],
            env={**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        held = server.accept()  # let go of, it would be closed, which is told of
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().strip() == "gammatorch: interrupted"
        held[0].close()


def test_a_local_run_needs_no_home_and_no_network(folder):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [*COMMAND, "run", str(folder), "-q"], env=environment, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def with_a_terminal_for_stderr(*arguments: str, **environment: str) -> tuple[str, str]:
    """Output, and what a terminal on stderr shows."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, **environment}
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal that way
        while chunk := os.read(ours, 65_536):
            shown += chunk
    os.close(ours)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, shown
    return output, shown.decode()


def test_a_bar_shows_what_takes_over_a_second_and_leaves_the_output_alone(folder, tmp_path):
    from benchmarks.hub_server import serve

    with serve("org/slow", folder) as hub:
        hub.fault = lambda request: time.sleep(0.5)
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "TERM": "xterm"}
        output, shown = with_a_terminal_for_stderr("run", "org/slow", "--format", "json", **home)
        assert json.loads(output)["num_layers"] == 12
        assert "reading gains" in shown and "of 1.5 kB" in shown
        assert "reading gains" not in with_a_terminal_for_stderr("run", "org/slow", "--no-progress", **home)[1]


def test_no_bar_for_what_is_quick(folder):
    output, shown = with_a_terminal_for_stderr("inspect", str(folder), TERM="xterm")
    assert output.startswith(str(folder)) and shown == ""


@pytest.fixture
def wide(tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": (torch.rand(300, 700) + n).bfloat16() for n in range(8)}
    save_file(tensors, folder / "model.safetensors")
    return folder


UP = "model.layers.{layer}.mlp.up_proj.weight"


def test_gains_wider_than_memory_are_read_in_blocks(call, wide, tmp_path):
    held = json.loads(call("run", wide, "--pattern", UP, "--format", "json").stdout)
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": (torch.rand(2000, 1000) + n).bfloat16() for n in range(8)}
    save_file(tensors, wide / "model.safetensors")
    done = call("run", wide, "--pattern", UP, "--memory", "150MB", "--format", "json", "--out", tmp_path / "out.json")
    streamed = json.loads(done.stdout)
    assert (tmp_path / "out.json").read_text() == done.stdout and streamed.keys() == held.keys()
    assert streamed["hidden"] == 2_000_000 and streamed["method"] == "gram" and streamed["error_estimate"] < 1e-10
    assert len(call("run", wide, "--pattern", UP, "--memory", "150MB", "--full", "-q").stdout) > 1000


@pytest.mark.parametrize("amount", ["lots", "0", "-2GB", "2PB"])
def test_what_is_no_amount_of_memory_is_wrong_usage(call, wide, amount):
    done = call("run", wide, "--pattern", UP, "--memory", amount)
    assert done.code == 2 and f"'{amount}' is no amount of memory: pass one like 500MB" in done.stderr


def test_too_little_memory_is_one_line(call, wide):
    done = call("run", wide, "--pattern", UP, "--memory", "1MB")
    assert done.code == 1 and done.stderr.count("\n") == 1 and "pass --memory 129MB or more" in done.stderr
