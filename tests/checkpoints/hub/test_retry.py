"""Servers that are silent, refuse or want to be left alone: what is said, and when it ends."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import re
import socket
import threading
import time
from contextlib import closing

import pytest

import gammatorch
from benchmarks.hub_server import COMMIT, FakeHub, Handler, Request
from gammatorch import errors
from gammatorch.checkpoints.hub import client
from gammatorch.checkpoints.hub.retry import Clock, Pace, RetryPolicy, Silence
from gammatorch.cli import main
from gammatorch.sweep import workers
from tests.checkpoints.hub.faults import REPO, SHARD, always, by_hand, check, first, kind, refuse
from tests.hub_client import be_patient, run_command

SAID = "does not answer"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(client, "SILENCE", Silence())
    monkeypatch.setattr(client, "PACE", Pace())  # nor any wait that a server of another test has asked for


@pytest.fixture
def closed_port() -> int:
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def nowhere(monkeypatch, closed_port) -> str:
    """The address of a Hub that is not there."""
    from huggingface_hub import constants

    url = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    be_patient(monkeypatch)
    return url


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_library_user_is_told_by_the_logger_once(nowhere, caplog):
    with pytest.raises(errors.UnreadableCheckpoint, match="connection refused"):
        gammatorch.open_checkpoint(REPO)
    (message,) = said(caplog)
    assert re.fullmatch(
        r"127\.0\.0\.1 does not answer \(connection refused\): trying again, up to 3 times within \d+ s; Ctrl-C ends",
        message,
    )


@pytest.mark.parametrize(("options", "count"), [([], 1), (["-q"], 0), (["--no-progress"], 1), (["-v"], 1)])
def test_the_command_line_says_it_once_and_not_where_it_is_to_be_quiet(nowhere, capsys, options, count):
    with pytest.raises(SystemExit):
        main(["run", REPO, "--device", "cpu", *options])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if SAID in line]
    assert len(lines) == count and captured.out == ""
    assert all(line.startswith("gammatorch: 127.0.0.1 does not answer (connection refused): trying") for line in lines)
    assert "gammatorch: error: org/small: the Hub cannot be read (connection refused" in captured.err


def test_a_second_server_that_is_silent_in_one_run_is_not_told_of_again(nowhere, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", REPO, "org/other", "--out", "no/such/folder", "--dry-run"])
    assert capsys.readouterr().err.count(SAID) == 1


def test_a_name_that_nobody_knows_is_told_of(tmp_path):
    environment = {"HF_ENDPOINT": "http://nowhere.invalid", "HF_HOME": str(tmp_path), "GAMMATORCH_CACHE_GB": "0"}
    done = run_command("inspect", REPO, **environment)
    told, error = done.stderr.splitlines()
    assert told.startswith(f"gammatorch: nowhere.invalid {SAID} (") and "up to 3 times within 1" in told
    assert error.startswith("gammatorch: error: org/small: ") and done.returncode == 1


@pytest.mark.parametrize("of", ["listing", "link", "cdn"])
def test_a_server_that_takes_the_request_and_is_silent_is_told_of_before_the_first_try_ends(
    hub, monkeypatch, caplog, of
):
    policy = RetryPolicy(1.0, 5.0, first_pause_seconds=0.01, first_word_seconds=0.05)
    monkeypatch.setattr(client, "RETRY_POLICY", policy)
    hub.fault = always(of, by_hand(silent_for_long))
    with pytest.raises(errors.UnreadableCheckpoint):
        gammatorch.read_gains(REPO, device="cpu")
    (message,) = said(caplog)
    assert message.startswith(f"127.0.0.1 {SAID} (silent for 0 s): waiting for up to ")


def silent_for_long(handler) -> None:
    time.sleep(1.5)
    handler.close_connection = True


def test_a_read_timeout_is_told_of(hub, monkeypatch, caplog):
    be_patient(monkeypatch, deadline_seconds=0.6, silence_seconds=0.1)
    hub.fault = always("listing", by_hand(silent))
    with pytest.raises(errors.UnreadableCheckpoint):
        gammatorch.open_checkpoint(REPO)
    (message,) = said(caplog)
    assert SAID in message


@pytest.mark.parametrize(
    "answer",
    [(503, {}, b"busy"), (429, {"Retry-After": "1"}, b""), (500, {}, b"")],
    ids=["busy", "too many", "broken"],
)
def test_a_server_that_answers_is_not_called_silent(hub, monkeypatch, caplog, answer):
    monkeypatch.setattr(client, "RETRY_POLICY", RetryPolicy(20.0, 5.0, first_pause_seconds=0.4, first_word_seconds=0.1))
    hub.fault = first(1, "listing", answer)
    check(hub)
    assert said(caplog) == []


def test_one_connection_that_breaks_while_others_are_answered_is_no_silence(caplog):
    tries = []

    def attempt():
        tries.append(1)
        if len(tries) == 1:
            client.SILENCE.end()  # what another thread's request does
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")

    client.HubClient(retry=RetryPolicy(first_pause_seconds=0.01)).persist(attempt, Clock(60.0, 1.0), "org/name")
    assert len(tries) == 2 and said(caplog) == []


def test_what_is_silent_again_after_an_answer_is_told_of_again():
    silence = Silence()
    assert [silence.tell_once(), silence.tell_once()] == [True, False]
    silence.end()
    assert silence.tell_once()


def test_the_time_that_a_server_asks_for_is_no_silence():
    silence = Silence()
    before = time.monotonic()
    silence.end(holds_seconds=60.0)
    assert not silence.has_lasted(before) and not silence.has_lasted(time.monotonic() + 59)
    assert silence.has_lasted(time.monotonic() + 61)


def test_a_sweeps_other_processes_leave_the_word_to_the_first(nowhere, capfd, monkeypatch):
    """They would say it without the name of the program, and although they are to be quiet."""
    log = logging.getLogger("gammatorch")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(workers, "work", lambda task, items: iter(log.warning("said") or []))
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    results = []
    workers._worker(None, [], type("Queue", (), {"put": staticmethod(results.append)}))
    assert results == [None] and capfd.readouterr().err == ""


def test_clocks_that_are_not_old_are_not_watched(caplog):
    hub = client.HubClient(retry=RetryPolicy(first_word_seconds=60.0))
    hub.watch(Clock(100.0, 1.0, threading.Event()))
    assert said(caplog) == []


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
        for at in range(0, len(body), 1024):
            handler.wfile.write(body[at : at + 1024])
            handler.wfile.flush()
            time.sleep(0.08)

    be_patient(monkeypatch, deadline_seconds=1.2, silence_seconds=1.0)
    hub.fault = first(1, "cdn", by_hand(slowly))
    check(hub)
    assert len(hub.fault.failed) == 1
    assert sum(seen.file == hub.fault.failed[0].file and seen.bounds[0] == 0 for seen in hub.requests) == 2
