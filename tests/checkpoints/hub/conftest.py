"""The repository that every fault strikes."""

from __future__ import annotations

import pytest

from benchmarks.hub_server import serve
from gammatorch.bench.synthetic import write_checkpoint
from tests.checkpoints.hub.faults import REPO
from tests.hub_client import point_client_at


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Three shards, whose gains lie too far apart to be read as one range."""
    folder = tmp_path / "repo"
    folder.mkdir()
    write_checkpoint(folder, layers=12, hidden=128, shards=3)
    with serve(REPO, folder) as server:
        point_client_at(server, tmp_path / "downloads", monkeypatch)
        yield server
