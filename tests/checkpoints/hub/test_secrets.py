"""Who may know what: the token stays with the Hub, and refusals are told in words without secrets."""

from __future__ import annotations

import pytest

import gammatorch
from gammatorch import errors
from tests.checkpoints.hub.faults import REPO, always, first, refuse
from tests.hub_client import run_command
from tests.hub_server import COMMIT


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
