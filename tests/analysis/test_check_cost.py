"""What an audit moves of checkpoints on the Hub: headers and gains alone, each in few rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gammatorch
from benchmarks.hub_server import FakeHub, serve
from gammatorch.bench.layouts import FULL_SIZE
from gammatorch.bench.synthetic import write_checkpoint
from tests.hub_client import point_client_at

REPO, TUNED = "org/model", "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Two commits of a repository in the layout of Qwen3-32B, the second with other gains."""
    for name, seed in (("base", 0), ("tuned", 1)):
        (tmp_path / name).mkdir()
        write_checkpoint(tmp_path / name, **FULL_SIZE["Qwen3-32B"], seed=seed)
    monkeypatch.setenv("GAMMATORCH_CACHE", str(tmp_path / "cache"))
    with serve(REPO, tmp_path / "base") as server:
        server.folders[TUNED] = tmp_path / "tuned"
        server.commits["tuned"] = TUNED
        point_client_at(server, tmp_path / "downloads", monkeypatch)
        yield server


def test_a_pair_of_65_gb_is_audited_with_under_5_mb_in_eight_rounds(hub: FakeHub) -> None:
    base, tuned = (gammatorch.open_checkpoint(f"{REPO}@{revision}") for revision in ("main", "tuned"))
    found = gammatorch.check(tuned, against=base)
    assert len(found.verdicts) == 4 * 64 + 1  # a layer's input, pre_mlp, query and key, and the final norm
    assert {one.checkpoint_bytes > 65e9 for one in (base, tuned)} == {True}
    moved = [one.source.traffic for one in (base, tuned)]
    assert [one.rounds for one in moved] == [4, 4]  # listing; links; heads; gains of all sites
    assert sum(one.bytes_read for one in moved) == hub.sent < 5e6
    assert sum(one.requests for one in moved) == len(hub.requests)
