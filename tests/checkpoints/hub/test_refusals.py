"""Answers that are wrong or never come: each ends in one line."""

from __future__ import annotations

import gzip
import json
import threading
import time

import pytest

from gammatorch import errors
from tests.checkpoints.hub.faults import REPO, SHARD, always, by_hand, check, first, kind, refuse
from tests.hub_client import be_patient
from tests.hub_server import COMMIT, FakeHub, Handler, Request


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
