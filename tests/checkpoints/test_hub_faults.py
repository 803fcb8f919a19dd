"""Servers that fail: each fault is waited out, or ends in one line, and no number is ever wrong."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import gammatorch
from gammatorch import errors
from gammatorch.bench.synthetic import write_checkpoint
from tests.checkpoints.test_hub import be_patient, point_client_at, run_command
from tests.hub_server import COMMIT, FakeHub, Handler, Request, serve

REPO = "org/small"
SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Three shards, whose gains lie too far apart to be read as one range."""
    folder = tmp_path / "repo"
    folder.mkdir()
    write_checkpoint(folder, layers=12, hidden=128, shards=3)
    with serve(REPO, folder) as server:
        point_client_at(server, tmp_path / "downloads", monkeypatch)
        yield server


def check(hub: FakeHub) -> None:
    """The gains are those on the disk, bit by bit."""
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert gains.gamma.equal(gammatorch.read_gains(hub.folder, device="cpu").gamma)


def refuse(hub: FakeHub, error: type[Exception] = errors.UnreadableCheckpoint) -> str:
    """What it says, in one line without secrets."""
    with pytest.raises(error) as caught:
        gammatorch.read_gains(REPO, device="cpu")
    message = str(caught.value)
    assert message.startswith(REPO) and "\n" not in message
    shown = "".join(traceback.format_exception(caught.value))  # what -v shows
    assert "secret" not in shown and "Signature" not in shown and "://" not in message
    return message


def first(count: int, of: str, answer):
    """A fault of the first so many requests to one of: listing, link, cdn."""
    failed: list[Request] = []

    def fault(request: Request):
        if kind(request) != of or len(failed) >= count:
            return None
        failed.append(request)
        return answer(request) if callable(answer) else answer

    fault.failed = failed
    return fault


def always(of: str, answer):
    return first(10**9, of, answer)


def kind(request: Request) -> str:
    if request.origin == "cdn":
        return "cdn"
    return "listing" if request.path.startswith("/api/models/") else "link"


def by_hand(act):
    """An answer that a function of the connection gives."""
    return lambda request: act


# --- what passes ---


@pytest.mark.parametrize("of", ["listing", "link", "cdn"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_troubles_of_the_server_are_waited_out(hub, status, of):
    hub.fault = first(2, of, (status, {}, b"busy"))
    check(hub)
    assert len(hub.fault.failed) == 2


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_the_server_says_how_long_to_wait(hub, as_date):
    """A date has whole seconds, so two seconds from now are one at least."""
    when = datetime.now(UTC) + timedelta(seconds=2)
    header = format_datetime(when, usegmt=True) if as_date else "1"
    hub.fault = first(1, "cdn", (429, {"Retry-After": header}, b""))
    started = time.monotonic()
    check(hub)
    assert time.monotonic() - started > 0.5


def test_a_server_that_wants_to_be_left_alone_for_long_is_told_of(hub):
    hub.fault = always("cdn", (429, {"Retry-After": "3600"}, b""))
    assert "asks to wait for 3600 s (status 429): try again then" in refuse(hub)


def reset(at: int):
    """Send so many bytes of the range that was asked for, then break the connection."""

    def act(handler: Handler) -> None:
        start, stop = handler.seen.bounds
        path = handler.hub.folder / handler.seen.file
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{path.stat().st_size}")
        handler.send_header("Content-Length", str(stop - start))
        handler.end_headers()
        with open(path, "rb") as file:
            file.seek(start)
            handler.wfile.write(file.read(at))
        handler.wfile.flush()
        time.sleep(0.02)  # what has been sent arrives before the reset
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.shutdown(socket.SHUT_RDWR) if at % 2 else handler.connection.close()
        handler.close_connection = True

    return act


@pytest.mark.parametrize("at", [100, 101], ids=["reset", "closed"])
def test_a_broken_body_goes_on_where_it_broke(hub, at):
    hub.fault = first(3, "cdn", by_hand(reset(at)))
    check(hub)
    broken = hub.fault.failed[0]
    continued = [seen for seen in hub.requests if seen.file == broken.file and seen.bounds == (at, broken.bounds[1])]
    assert len(continued) == 1


def test_an_expired_link_is_asked_for_again(hub):
    """Each link is good for one use."""
    used, expired = set(), []

    def expire(request):
        if request.origin == "cdn" and request.path in used:
            expired.append(request)
            return 403, {}, b"Request has expired"
        used.add(request.path)
        return None

    hub.fault = expire
    check(hub)
    assert expired


def test_a_branch_that_moves_meanwhile_does_not_mix_commits(hub, tmp_path):
    """The new commit has the same names, sizes and headers, and other gains."""
    moved = tmp_path / "moved"
    moved.mkdir()
    write_checkpoint(moved, layers=12, hidden=128, shards=3, seed=1)
    hub.folders["b" * 40] = moved

    def move(request):
        if kind(request) != "listing":
            hub.commits["main"] = "b" * 40

    hub.fault = move
    check(hub)
    assert gammatorch.read_gains(REPO, device="cpu").gamma.equal(gammatorch.read_gains(moved, device="cpu").gamma)


@pytest.mark.parametrize("form", ["bin", "gguf"])
@pytest.mark.parametrize(
    "answer", [by_hand(reset(100)), (503, {}, b""), (429, {"Retry-After": "0"}, b"")], ids=["reset", "503", "429"]
)
def test_other_formats_pass_through_the_same_troubles(hub, form, answer):
    other = write_in(form, hub.folder)
    hub.fault = first(3, "cdn", answer)
    gains = gammatorch.read_gains(REPO, device="cpu")
    assert gains.gamma.equal(other) and len(hub.fault.failed) == 3
    assert gains.keys[0].startswith("model" if form == "bin" else "blk")


@pytest.mark.parametrize("form", ["bin", "gguf"])
@pytest.mark.parametrize(
    "answer", [(200, {"Content-Length": str(10**10)}, b""), (206, {"Content-Range": "bytes 0-1/2"}, b"ab")]
)
def test_other_formats_refuse_the_same_answers(hub, form, answer):
    write_in(form, hub.folder)
    hub.fault = always("cdn", answer)
    assert "ignores ranges" in refuse(hub)


def write_in(form: str, folder: Path) -> torch.Tensor:
    """Another checkpoint in place of the safetensors; its gains."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    gains = torch.rand(12, 128) + 0.5
    if form == "bin":
        (folder / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 12, "hidden_size": 128}')
        rows = {f"model.layers.{layer}.input_layernorm.weight": row.clone() for layer, row in enumerate(gains)}
        wide = {f"model.layers.{layer}.mlp.up_proj.weight": torch.zeros(128, 512) for layer in range(12)}
        torch.save(rows | wide, folder / "pytorch_model.bin")
    else:
        (folder / "config.json").unlink()
        writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
        writer.add_block_count(12)
        writer.add_embedding_length(128)
        for layer, row in enumerate(gains.numpy()):
            writer.add_tensor(f"blk.{layer}.attn_norm.weight", row)
            writer.add_tensor(f"blk.{layer}.ffn_up.weight", np.zeros((512, 128), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return gains.double()


# --- what does not pass ---


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"Content-Length": str(4_000_000_000)}, b"whole shard"), "ignores ranges"),
        ((206, {"Content-Range": "bytes 8-15/99"}, b"somewhere"), "ignores ranges"),
        ((206, {}, b"nowhere in particular"), "ignores ranges"),
        ((304, {}, b""), "ignores ranges"),
        ((416, {}, b""), "answered 416"),
    ],
    ids=["range ignored", "another range", "no Content-Range", "not modified", "out of range"],
)
def test_an_answer_to_another_question_is_refused(hub, answer, message):
    hub.fault = always("cdn", answer)
    assert message in refuse(hub)
    assert len(hub.requests) < 20  # and not asked for again and again


def right_range(request: Request, hub: FakeHub) -> dict[str, str]:
    start, stop = request.bounds
    return {"Content-Range": f"bytes {start}-{stop - 1}/{(hub.folder / request.file).stat().st_size}"}


@pytest.mark.parametrize("body", [b"abc", b"x" * 1_000_000], ids=["short", "long"])
def test_a_wrong_length_is_refused(hub, body):
    hub.fault = always("cdn", lambda request: (206, right_range(request, hub), body))
    assert "an answer of another length than was asked for" in refuse(hub)


def test_chunks_beyond_the_range_are_refused(hub):
    """Without a Content-Length only the body tells."""

    def act(handler: Handler) -> None:
        handler.send_response(206)
        for name, value in {**right_range(handler.seen, hub), "Transfer-Encoding": "chunked"}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n0\r\n\r\n")

    hub.fault = always("cdn", by_hand(act))
    assert "more bytes came than were asked for" in refuse(hub)


def test_a_body_packed_on_the_way_is_refused(hub):
    def pack(request):
        start, stop = request.bounds
        packed = gzip.compress(b"x" * (stop - start))
        return 206, {**right_range(request, hub), "Content-Encoding": "gzip"}, packed

    hub.fault = always("cdn", pack)
    assert "sends it as gzip" in refuse(hub)


def test_a_shard_that_is_listed_and_missing_is_named(hub):
    hub.fault = lambda request: (404, {"X-Error-Code": "EntryNotFound"}, b"") if request.file == SHARD else None
    message = refuse(hub, errors.CheckpointNotFound)
    assert message.startswith(f"{REPO}@{COMMIT[:7]}/{SHARD}: is in the listing, but the Hub does not have it (404)")


def test_links_that_never_work_end(hub):
    hub.fault = always("cdn", (403, {}, b"<Error>AccessDenied</Error>"))
    assert "the links that the Hub gives lead nowhere" in refuse(hub)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in</html>",
        b"[]",
        b'{"sha": null, "siblings": []}',
        b'{"sha": "main", "siblings": [{}]}',
        b"\xff",
    ]
    + [
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "a", "size": size}]}).encode() for size in (-1, "9", True)
    ],
)
def test_a_listing_that_is_none_is_told_of(hub, body):
    hub.fault = always("listing", (200, {"Content-Type": "text/html"}, body))
    assert "the answer is no listing of a repository" in refuse(hub)


@pytest.mark.parametrize("of", ["listing", "link"])
def test_a_circle_of_redirects_ends(hub, of):
    hub.fault = always(of, lambda request: (302, {"Location": request.path}, b""))
    assert ("redirects in a circle" if of == "listing" else "lead nowhere") in refuse(hub)
    assert len(hub.requests) < 40


def test_a_circle_between_two_origins_ends(hub):
    hub.fault = always("cdn", lambda request: (302, {"Location": f"{hub.cdn_url}{request.path}"}, b""))
    assert "lead nowhere" in refuse(hub)


# --- what takes for ever ---


def drip(handler: Handler) -> None:
    """One byte at a time, of a body or of the headers, for as long as anybody listens."""
    try:
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def drip_body(handler: Handler) -> None:
    handler.send_response(200 if kind(handler.seen) == "listing" else 206)
    ranged = {} if kind(handler.seen) == "listing" else right_range(handler.seen, handler.hub)
    length = 16_384 if kind(handler.seen) == "listing" else len(range(*handler.seen.bounds))
    for name, value in {"Content-Length": str(length), **ranged}.items():
        handler.send_header(name, value)
    handler.end_headers()
    drip(handler)


def silent(handler: Handler) -> None:
    """Take the request and never answer."""
    handler.connection.recv(1)
    handler.close_connection = True


@pytest.mark.parametrize("of", ["listing", "link", "cdn"])
@pytest.mark.parametrize("act", [drip, drip_body, silent])
def test_a_server_that_never_comes_to_an_end_is_given_up(hub, monkeypatch, act, of):
    be_patient(monkeypatch, deadline_seconds=0.6, silence_seconds=0.2)
    hub.fault = always(of, by_hand(act))
    before = threading.active_count()
    started = time.monotonic()
    assert "the Hub cannot be read" in refuse(hub)
    assert time.monotonic() - started < 10
    assert threading.active_count() < before + 100


def test_a_slow_body_that_makes_progress_is_not_cut_off(hub, monkeypatch):
    """It takes longer than the deadline and any silence, and brings more than the least rate."""

    def slowly(handler: Handler) -> None:
        start, stop = handler.seen.bounds
        handler.send_response(206)
        for name, value in {**right_range(handler.seen, hub), "Content-Length": str(stop - start)}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with open(hub.folder / handler.seen.file, "rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        for at in range(0, len(body), 2048):
            handler.wfile.write(body[at : at + 2048])
            handler.wfile.flush()
            time.sleep(0.1)

    be_patient(monkeypatch, deadline_seconds=0.5, silence_seconds=0.3)
    hub.fault = first(1, "cdn", by_hand(slowly))
    check(hub)
    assert len(hub.fault.failed) == 1
    assert sum(seen.file == hub.fault.failed[0].file and seen.bounds[0] == 0 for seen in hub.requests) == 2


# --- who may know what ---


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
    assert done.stderr.startswith(f"gammatorch: error: {REPO}: the Hub cannot be read (")
    assert done.stderr.count("\n") == 1
