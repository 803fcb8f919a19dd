"""Requests to the Hub through huggingface_hub's session, tried again until they work or cannot."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily re-exported

from gammatorch.checkpoints.hub.retry import NOT_KEPT, Clock, Pace, RetryPolicy, Silence, TryAgain, unreadable
from gammatorch.errors import InvalidArgument, UnreadableCheckpoint

RETRY_POLICY = RetryPolicy()

CONNECTIONS = 20
"""Requests in flight at once, of all threads: as many connections as huggingface_hub's session keeps for the next."""

LONGEST_REMARK = 65_536
"""Bytes that are read of the body of a redirect or a refusal."""

PACE = Pace()
"""The Hub counts the requests of a user, whichever thread makes them."""

SILENCE = Silence()
"""One for all servers and threads, like the network that they are behind."""


# huggingface_hub 1 speaks httpx and 2 speaks httpx2: the transport's own base class is the one that both derive from
_TRANSPORT_ERROR: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")

_POINTLESS = {
    "UnsupportedProtocol": "a redirect leads to something that is not http",
    "LocalProtocolError": "the request cannot be put in words",
}

_free_connections = threading.BoundedSemaphore(CONNECTIONS)
_Result = TypeVar("_Result")
_log = logging.getLogger("gammatorch")


class HubClient:
    """One Hub, as one user sees it.

    Connections are those of huggingface_hub's session, which all clients of a process share.
    """

    def __init__(self, token: str | None = None, retry: RetryPolicy | None = None) -> None:
        self.endpoint = find_endpoint()
        self.policy = retry if retry is not None else RETRY_POLICY
        self._home = _split(self.endpoint)
        if self._home is None or self._home.scheme not in ("http", "https") or not self._home.hostname:
            raise InvalidArgument("is not an http address: write it like https://huggingface.co", file="HF_ENDPOINT")
        self._headers = headers_for(token)

    @contextmanager
    def ask(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        """An answer whose body is still to come; redirects are not followed.

        Where many checkpoints are read at once, their requests wait for each other: a connection more than the session
        keeps would be closed after a single one. The token goes to the Hub's own origin and to no other.
        """
        seconds = self.policy.silence_seconds
        with (
            _free_connections,
            find_session().stream(
                "GET",
                url,
                headers={**(self._headers if self.is_home(url) else {}), **headers},
                timeout=(
                    seconds,
                    seconds,
                    seconds,
                    self.policy.deadline_seconds,
                ),  # connect, read, write, wait in line
                follow_redirects=False,
            ) as response,
        ):
            SILENCE.end()
            yield response

    def body(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """A body as it arrives, unless it crawls.

        Raises:
            TryAgain: It comes too slowly to be waited for.
        """
        crawl, arrived = Clock(self.policy.silence_seconds, self.policy.least_rate), 0
        for chunk in chunks:
            SILENCE.end()
            yield chunk
            arrived += len(chunk)
            crawl.reach(arrived)
            if crawl.left_seconds < 0:
                raise TryAgain(f"{arrived} bytes came in {crawl.spent_seconds:.0f} s")

    def drain(self, response: Any) -> None:
        """Read the rest of an answer that says all in its headers, so that its connection can be used again.

        Raises:
            TryAgain: It comes too slowly to be waited for.
        """
        arrived = 0
        for chunk in self.body(response.iter_raw()):
            arrived += len(chunk)
            if arrived > LONGEST_REMARK:
                return

    def is_home(self, url: str) -> bool:
        """Whether an address is of the Hub itself; the same host by https counts where it was asked by http."""
        asked = _split(url)
        return asked is not None and self._home is not None and _origin(asked) in _origins(self._home)

    def watch(self, clock: Clock, url: str | None = None) -> None:
        """Say that a server is silent, once it has been for long and no try has ended by then."""
        seconds = self.policy.first_word_seconds
        if clock.spent_seconds > seconds and SILENCE.has_lasted(time.monotonic() - seconds):
            self._tell(url, f"silent for {seconds:.0f} s", f"waiting for up to {clock.left_seconds:.0f} s")

    def _tell(self, url: str | None, reason: str, plan: str) -> None:
        asked = _split(url) if url is not None else self._home
        if asked is not None and SILENCE.tell_once():
            _log.warning("%s does not answer (%s): %s; Ctrl-C ends", asked.hostname, reason, plan)

    def persist(self, attempt: Callable[[], _Result], clock: Clock, where: str) -> _Result:
        """Try until it works, cannot work, or the time is up.

        Raises:
            UnreadableCheckpoint: The Hub failed for longer than it may.
            CheckpointNotFound: It refuses.
            GivenUp: Nobody waits for it any more.
        """
        silent, received = 0, 0
        for pause in self.policy.pauses():
            begun = time.monotonic()
            try:
                if (held := PACE.left_seconds) and held < clock.left_seconds:
                    clock.pause(held)
                return attempt()
            except OfflineModeIsEnabled:
                raise UnreadableCheckpoint(NOT_KEPT, file=where) from None
            except (TryAgain, _TRANSPORT_ERROR, OSError) as error:
                failure = error
            clock.go_on()  # where another request's error ends the program, its connections close under this one
            if clock.received_bytes > received:
                silent, received = 0, clock.received_bytes
            answered = isinstance(failure, TryAgain) and failure.answered
            silent += not answered
            asked = failure.wait if isinstance(failure, TryAgain) else None
            wait = asked if asked is not None else pause
            if isinstance(failure, TryAgain) and failure.limited:
                PACE.hold(wait)
            hopeless = type(failure).__name__ in _POINTLESS or silent >= self.policy.most_silent_tries
            if hopeless or wait > clock.left_seconds:
                raise unreadable(_plain(failure), clock, where, asked)
            if answered:
                SILENCE.end(wait)
            elif SILENCE.has_lasted(begun):
                tries = self.policy.most_silent_tries - silent
                plan = f"trying again, up to {tries} time{'s' * (tries > 1)} within {clock.left_seconds:.0f} s"
                self._tell(_url_of(failure), _plain(failure), plan)
            _log.info("%s: %s, trying again in %.1f s", where, _plain(failure), wait)
            clock.pause(wait)
        raise AssertionError("the pauses never end")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _origins(home: SplitResult) -> set[tuple[str, str | None, int | None]]:
    own = _origin(home)
    return {own, ("https", home.hostname, 443)} if own[2] == 80 else {own}


def _url_of(error: Exception) -> str | None:
    """What was asked for when the transport failed, where it tells."""
    try:
        return str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return None


def _plain(error: BaseException) -> str:
    """What failed in a few words; never a URL, which may carry a signature, nor a header, which may carry a token."""
    if isinstance(error, TryAgain):
        return str(error)
    name = type(error).__name__
    if name in _POINTLESS:
        return _POINTLESS[name]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def find_endpoint() -> str:
    """The Hub's address, without a slash at its end."""
    return constants.ENDPOINT.rstrip("/")


def headers_for(token: str | None) -> dict[str, str]:
    """Who is asking."""
    given = (token or "").strip() or None
    try:
        headers: dict[str, str] = build_hf_headers(token=given)
    except (OSError, UnicodeDecodeError) as error:  # public repositories need none
        _log.info("the token in %s cannot be read (%s), none is sent", constants.HF_TOKEN_PATH, type(error).__name__)
        headers = build_hf_headers(token=False)
    if not re.fullmatch(r"Bearer [!-~]+", headers.get("authorization", "Bearer none")):
        raise InvalidArgument("the access token holds characters that no token has: copy it again")
    return headers


def find_session() -> Any:
    """The session of all requests."""
    try:
        return get_session()
    except Exception as error:  # whatever the transport makes of it: ValueError, ImportError, its own InvalidURL
        reason = "SOCKS needs `pip install socksio`" if "socksio" in str(error) else type(error).__name__
        raise InvalidArgument(
            f"no connection can be prepared ({reason}): look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from None
