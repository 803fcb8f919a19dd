"""Servers in trouble: what passes is waited out, and no number is ever wrong."""

from __future__ import annotations

import errno
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import gammatorch
from gammatorch.bench.synthetic import write_checkpoint
from gammatorch.checkpoints.hub import source
from gammatorch.checkpoints.hub.client import HubClient
from gammatorch.checkpoints.hub.retry import Clock, GivenUp
from tests.checkpoints.hub.faults import REPO, always, by_hand, check, first, kind, refuse, reset, write_in


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


@pytest.mark.parametrize("at", [100, 101], ids=["reset", "closed"])
def test_a_broken_body_goes_on_where_it_broke(hub, at):
    hub.fault = first(3, "cdn", by_hand(reset(at)))
    check(hub)
    broken = hub.fault.failed[0]
    continued = [seen for seen in hub.requests if seen.file == broken.file and seen.bounds == (at, broken.bounds[1])]
    assert len(continued) == 1


@pytest.mark.parametrize("connections", [1, 20])
def test_an_expired_link_is_asked_for_again(hub, monkeypatch, connections):
    """Each link is good for one use: each range asks for its own, once, whatever its neighbours are given."""
    monkeypatch.setattr(source, "CONNECTIONS", connections)
    used, expired = set(), []

    def expire(request):
        if request.origin == "cdn" and request.path in used:
            expired.append(request)
            return 403, {}, b"Request has expired"
        used.add(request.path)
        return None

    hub.fault = expire
    check(hub)
    assert len(expired) == 12  # the ranges, each with the link that the header came by
    asked = sum(kind(request) == "link" for request in hub.requests)
    assert asked == 3 + 2 + 12  # for the headers, for config.json, which lies elsewhere, for the ranges


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


def test_what_nobody_waits_for_ends_without_a_word_and_without_another_try(caplog):
    stopped, tries = threading.Event(), []

    def attempt():
        tries.append(1)
        stopped.set()  # another request's error ends the program here, which closes the connection under this one
        raise OSError(errno.EBADF, "bad file descriptor")

    caplog.set_level("INFO", "gammatorch")
    with pytest.raises(GivenUp):
        HubClient().persist(attempt, Clock(60.0, 1.0, stopped), "org/name/config.json")
    assert len(tries) == 1 and not caplog.messages
