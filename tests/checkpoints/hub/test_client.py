"""What the environment says of the Hub, and what is never said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gammatorch
from benchmarks.hub_server import COMMIT, FakeHub
from gammatorch import errors
from tests.checkpoints.hub.faults import REPO, always, first, refuse
from tests.hub_client import run_command


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


def test_the_token_goes_to_no_other_origin(hub):
    hub.token = "hf_secret"
    checkpoint = gammatorch.open_checkpoint(REPO, token="hf_secret")
    gammatorch.read_gains(checkpoint, device="cpu")
    assert all(seen.token == "Bearer hf_secret" for seen in hub.requests if seen.origin == "hub")
    assert all(seen.token is None for seen in hub.requests if seen.origin == "cdn")
    relative = [seen for seen in hub.requests if "/resolve-cache/" in seen.path]
    assert relative and sum(seen.origin == "cdn" for seen in hub.requests) > 6


def test_a_listing_that_leads_elsewhere_takes_no_token_there(hub):
    hub.fault = first(1, "listing", lambda request: (307, {"Location": f"{hub.cdn_url}{request.path}"}, b""))
    with pytest.raises(errors.GammatorchError):
        gammatorch.open_checkpoint(REPO, token="hf_secret")
    assert all(seen.token is None for seen in hub.requests if seen.origin == "cdn")


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, "no such path here, and no such repository on the Hub (or a private one: pass --token"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not accept the token"),
        (403, {}, "the Hub refuses access (403)"),
        (403, {"X-Error-Code": "GatedRepo"}, "is gated: accept its terms"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "has been disabled on the Hub"),
        (404, {"X-Error-Code": "RepoNotFound"}, "no such path here, and no such repository"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "no such branch, tag or commit"),
    ],
)
def test_a_refusal_is_told_in_words(hub, status, headers, message):
    hub.fault = always("listing", (status, headers, b"https://cdn/secret"))
    assert message in refuse(hub, errors.CheckpointNotFound)


@pytest.mark.parametrize("token", ["hf_a\nb", "hf_é", "hf a"])
def test_a_token_that_is_none_is_not_sent_and_not_shown(hub, token):
    with pytest.raises(errors.InvalidArgument, match="holds characters that no token has") as caught:
        gammatorch.open_checkpoint(REPO, token=token)
    assert token not in str(caught.value) and not hub.requests


@pytest.mark.parametrize("endpoint", ["localhost:1234", "http://[", "file:///etc", ""])
def test_an_endpoint_that_is_no_address_is_named(endpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(errors.InvalidArgument, match="HF_ENDPOINT: is not an http address"):
        gammatorch.open_checkpoint(REPO)


def test_the_command_says_it_in_one_line_and_keeps_secrets_when_verbose(hub, tmp_path):
    hub.fault = always("cdn", (206, {"Content-Range": "bytes 8-15/99"}, b"somewhere"))
    hub.token = "hf_confidential"
    done = run_command("inspect", REPO, "-v", "--token", "hf_confidential", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"gammatorch: error: {REPO}@{COMMIT[:7]}/model-0000")
    assert "Signature" not in done.stderr and "hf_confidential" not in done.stderr


def test_a_port_that_does_not_speak_tls_is_one_line(hub, tmp_path):
    done = run_command("inspect", REPO, HF_ENDPOINT=hub.url.replace("http:", "https:"), HF_HOME=str(tmp_path))
    assert done.returncode == 1
    told, error = done.stderr.splitlines()
    assert told.startswith("gammatorch: 127.0.0.1 does not answer (")
    assert error.startswith(f"gammatorch: error: {REPO}: the Hub cannot be read (")
