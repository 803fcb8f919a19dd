"""The pipeline where there is no GPU: on a device that is not the CPU, for all it can tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_pipeline_stays_on_a_device_that_is_not_the_cpu():
    cases = Path(__file__).with_name("on_another_device.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
