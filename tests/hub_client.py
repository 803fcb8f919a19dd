"""A client for the test server: it knows no other Hub, and is soon out of patience."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hub_server import FakeHub
from gammatorch.checkpoints.hub import client
from gammatorch.checkpoints.hub.retry import RetryPolicy


def point_client_at(server: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    be_patient(monkeypatch)


def be_patient(monkeypatch: pytest.MonkeyPatch, deadline_seconds: float = 20.0, silence_seconds: float = 5.0) -> None:
    """Try again soon, and give up after so long."""
    policy = RetryPolicy(deadline_seconds, silence_seconds, first_pause_seconds=0.01, longest_pause_seconds=0.05)
    monkeypatch.setattr(client, "RETRY_POLICY", policy)


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gammatorch", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
