"""What pip installs: a wheel built of this repository, unpacked far from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
OFFLINE = f"""
import os, sys
def refuse(event, arguments):
    if event in {NETWORK}:
        os.write(2, event.encode())
        os._exit(99)
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a wheel's contents."""
    sources, built, unpacked = (tmp_path_factory.mktemp(name) for name in ("sources", "built", "unpacked"))
    shutil.copytree(ROOT / "gammatorch", sources / "gammatorch", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, sources)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(built)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=sources, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def run(installed, code, **environment):
    """Python code with the unpacked wheel, in a process that has no HOME and may not use the network."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "PYTHONPATH": str(installed), **environment}
    return subprocess.run(
        [sys.executable, "-c", OFFLINE + code], env=surroundings, cwd="/", capture_output=True, text=True, timeout=100
    )


def test_every_file_of_the_package_is_in_the_wheel(installed):
    held = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    here = {path for path in (ROOT / "gammatorch").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in here} == {name for name in held if "dist-info" not in name}
    data = "gammatorch/bench/data/SmolLM2-135M-Instruct"
    assert {f"{data}/norms.safetensors", f"{data}/ORIGIN.md", f"{data}/LICENSE"} <= held


def test_its_demo_needs_no_network_no_home_and_no_repository(installed):
    code = "from gammatorch.cli import main; main(['run', '--demo', '--device', 'cpu', '--format', 'json'])"
    done = run(installed, f"import gammatorch; sys.stderr.write(gammatorch.__file__); {code}")
    assert (done.returncode, done.stderr) == (0, str(installed / "gammatorch" / "__init__.py"))
    assert json.loads(done.stdout)["model"] == "SmolLM2-135M-Instruct (demo, real gains)"


def test_the_network_is_refused_in_these_tests(installed):
    done = run(installed, "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert (done.returncode, done.stderr) == (99, "socket.getaddrinfo")


def test_a_wheel_that_lost_its_data_says_so_in_one_line(installed, tmp_path):
    shutil.copytree(installed, tmp_path / "copy")
    path = tmp_path / "copy" / "gammatorch" / "bench" / "data" / "SmolLM2-135M-Instruct" / "norms.safetensors"
    path.unlink()
    done = run(tmp_path / "copy", "from gammatorch.cli import main; main(['run', '--demo'])")
    message = "the demo's gains cannot be read (No such file or directory): install gammatorch again"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"gammatorch: error: {path}: {message}\n")
