"""The parsers under inputs that coverage leads to hostile places; longer by ``benchmarks/fuzz.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["safetensors", "zip", "pickle", "dcp", "gguf", "index", "config", "legacy"])
def test_only_our_own_errors_leave_a_parser(target):
    pytest.importorskip("atheris")
    command = [sys.executable, str(FUZZ), "--seconds", "5", "--target", target]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FUZZ.parents[1], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
