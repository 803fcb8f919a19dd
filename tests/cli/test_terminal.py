"""Terminals and pipes of every kind: what is printed arrives, or one line says why not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "gammatorch"]


def called(*arguments: object, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A call whose stdout a shell redirects."""
    line = ["sh", "-c", f'exec "$@" {shell}', "sh", *COMMAND, *map(str, arguments)]
    return subprocess.run(line, env={**os.environ, **environment}, capture_output=True, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_greek_letters_gets_every_figure(trained, encoding):
    plain, other = (called("inspect", trained, PYTHONIOENCODING=form) for form in ("utf-8", encoding))
    assert other.returncode == 0 and not other.stderr
    figures = re.compile(r"\d+(?:\.\d+)?")
    assert figures.findall(other.stdout.decode(encoding)) == figures.findall(plain.stdout.decode())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is full")
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_full_disk_behind_stdout_is_one_line(trained, form):
    done = called("inspect", trained, "--format", form, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.decode() == "gammatorch: error: No space left on device (-v shows where)\n"


def test_a_closed_stdout_costs_neither_the_file_nor_an_error(trained, tmp_path):
    done = called("run", trained, "-q", "--device", "cpu", "--out", tmp_path / "found.json", shell=">&-")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.json").exists()


def test_a_reader_that_has_had_enough_ends_it_quietly(trained):
    done = called("inspect", trained, shell="| head -n 1")
    assert done.returncode == 0 and not done.stderr and done.stdout.count(b"\n") == 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_has_the_same_bytes_on_every_terminal(call, trained, tmp_path, form):
    named = tmp_path / "Größe γ"
    named.symlink_to(trained)
    assert call("sweep", named, "--out", tmp_path / "kept", "--device", "cpu").code == 0
    assert call("export", tmp_path / "kept", "--format", form, "--out", tmp_path / "table").code == 0
    done = called("export", tmp_path / "kept", "--format", form, PYTHONIOENCODING="ascii")
    assert done.stdout == (tmp_path / "table").read_bytes()
