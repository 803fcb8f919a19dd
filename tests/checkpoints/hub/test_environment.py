"""Settings of the environment, as a user may have them: a read that can succeed does, any other ends in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.checkpoints.hub.faults import REPO
from tests.hub_client import run_command
from tests.hub_server import FakeHub


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


HARMLESS = {
    "a slash": lambda hub, folder: {"HF_ENDPOINT": hub.url + "/"},
    "a mirror in a folder": lambda hub, folder: {"HF_ENDPOINT": hub.url + "/mirror/"},
    "no token": lambda hub, folder: {"HF_TOKEN": ""},
    "a line break": lambda hub, folder: {"HF_TOKEN": "hf_x\n"},
    "a token that is a folder": lambda hub, folder: {"HF_TOKEN_PATH": str(folder)},
    "a token in no alphabet": lambda hub, folder: {"HF_TOKEN_PATH": written(folder / "token", b"\xff\xfe")},
    "a home that is a file": lambda hub, folder: {"HF_HOME": written(folder / "file", b"")},
    "a home within a file": lambda hub, folder: {"HF_HOME": written(folder / "file", b"") + "/hf"},
    "no home": lambda hub, folder: {"HOME": "/proc/none", "GAMMATORCH_CACHE": "", "XDG_CACHE_HOME": ""},
    "a cache in a file": lambda hub, folder: {"GAMMATORCH_CACHE": written(folder / "file", b"")},
    "a cache that cannot be written": lambda hub, folder: {"GAMMATORCH_CACHE": "/proc/self"},
    "no proxy for anything": lambda hub, folder: {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"},
}


@pytest.mark.parametrize("setting", HARMLESS)
def test_a_read_that_can_succeed_does(hub: FakeHub, tmp_path: Path, setting: str) -> None:
    def mirror(request):
        def strip(handler):
            handler.path = handler.path.removeprefix("/mirror")
            handler.do_GET()

        return strip if request.path.startswith("/mirror") else None

    hub.fault = mirror
    world = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **HARMLESS[setting](hub, tmp_path)}
    done = run_command("inspect", REPO, **world)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_blank_token_is_none(hub: FakeHub, tmp_path: Path) -> None:
    done = run_command("inspect", REPO, "--token", " ", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert {request.token for request in hub.requests} == {None}


UNPREPARED = r"no connection can be prepared \(\w+\): look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
UNTAKEN = r"huggingface_hub does not take a setting of the environment \(.*\): look at those that begin with HF_"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "HTTP_PROXY",
            "foo://user:secret@127.0.0.1:9",
            UNPREPARED,
        ),
        ("HTTP_PROXY", "http://user:secret@127.0.0.1:none", UNPREPARED),
        ("SSL_CERT_FILE", "/secret/none.pem", UNPREPARED),
        ("HF_ENDPOINT", "http://localhost:80 ", ".*"),  # what is wrong with it is said by the one release or by us
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", UNTAKEN),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(
    hub: FakeHub, tmp_path: Path, name: str, value: str, message: str
) -> None:
    done = run_command("inspect", REPO, **{"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), name: value})
    assert done.returncode == 1
    assert re.fullmatch(f"gammatorch: error: {message}\n", done.stderr)
    assert "HTTP_PROXY" in done.stderr or "HF_" in done.stderr
    assert "secret" not in done.stderr
