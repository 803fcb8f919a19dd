"""When to ask the Hub again, how long to wait, and what an answer means that no repetition can mend.

Each piece of work has a clock, on which every byte that arrives buys time.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from gammatorch.errors import CheckpointNotFound, GammatorchError, UnreadableCheckpoint

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
NOT_KEPT = "is not in the local cache, and HF_HUB_OFFLINE is set: unset it to read from the Hub"
"""What is wrong where nothing may be asked and nothing was kept."""


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again, and when to give up.

    Attributes:
        deadline_seconds: Time for one range or listing, all its tries and pauses together.
        silence_seconds: Longest wait for a connection or for the next byte, and longest crawl of one answer.
        least_rate: Bytes per second from which on an answer is progress, which is never cut off.
        first_pause_seconds: Wait before the second try; it doubles from try to try.
        longest_pause_seconds: Longest wait, unless the server asks for more.
        most_silent_tries: Tries in a row that end without an answer or with a broken one, before it gives up.
        first_word_seconds: Silence from which on whoever waits is told of it, if no try has ended by then.
    """

    deadline_seconds: float = 120.0
    silence_seconds: float = 15.0
    least_rate: float = 8192.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 10.0
    most_silent_tries: int = 4
    first_word_seconds: float = 5.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further try: doubling, with jitter so that many readers do not march in step."""
        pause = self.first_pause_seconds
        while True:
            yield pause * random.uniform(0.5, 1.0)
            pause = min(2 * pause, self.longest_pause_seconds)


LONG_RETRIES = RetryPolicy(deadline_seconds=3600.0)
"""For work of hours, which waits for a limit on requests to pass rather than to end."""


class Pace:
    """Requests that a server wants fewer of: when one is told to wait, all wait."""

    def __init__(self) -> None:
        self._until = 0.0

    def hold(self, seconds: float) -> None:
        """Ask for nothing within so many seconds."""
        self._until = max(self._until, time.monotonic() + seconds)

    @property
    def left_seconds(self) -> float:
        """Seconds to wait before the next request, with jitter so that not all come back at once."""
        left = self._until - time.monotonic()
        return left * random.uniform(1.0, 1.1) if left > 0 else 0.0


class Silence:
    """Since when no server has answered, and whether that was said: once, however many requests wait."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._is_told = False
        self._lock = threading.Lock()

    def end(self, holds_seconds: float = 0.0) -> None:
        """A server has answered."""
        self._heard = max(self._heard, time.monotonic() + holds_seconds)
        self._is_told = False

    def has_lasted(self, since: float) -> bool:
        """Whether nothing has been heard since a time of the monotonic clock."""
        return self._heard < since

    def tell_once(self) -> bool:
        """Whether it is to be said now: it has not been said before."""
        with self._lock:
            told, self._is_told = self._is_told, True
        return not told


class GivenUp(Exception):
    """Whoever wanted this work has given up on it."""


class Clock:
    """The time that one piece of work has left."""

    def __init__(self, seconds: float, least_rate: float, stopped: threading.Event | None = None) -> None:
        self._seconds = seconds
        self._least_rate = least_rate
        self._stopped = stopped if stopped is not None else threading.Event()
        self._started = time.monotonic()
        self.received_bytes = 0

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline, which moves on as bytes arrive."""
        return self._seconds + self.received_bytes / self._least_rate - self.spent_seconds

    @property
    def spent_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def reach(self, count: int) -> None:
        """So many bytes are there by now; those that only came again buy nothing.

        Raises:
            GivenUp: Nobody wants them any more.
        """
        self.received_bytes = max(self.received_bytes, count)
        self.go_on()

    def go_on(self) -> None:
        """Nothing, while somebody waits for the work.

        Raises:
            GivenUp: Nobody does any more.
        """
        if self._stopped.is_set():
            raise GivenUp

    def pause(self, seconds: float) -> None:
        """Wait, unless nobody waits for the work any more.

        Raises:
            GivenUp: Nobody does.
        """
        if self._stopped.wait(seconds):
            raise GivenUp


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, None if it does not say.

    ``Retry-After`` in seconds or as a date (RFC 9110), or the Hub's ``RateLimit`` with the seconds to its next window.

    Example:
        >>> asked_wait({"Retry-After": "7"}), asked_wait({"RateLimit": '"api";r=0;t=55'}), asked_wait({})
        (7.0, 55.0, None)
    """
    asked = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", asked):
        return float(asked)
    if asked:
        try:
            when = parsedate_to_datetime(asked)
        except ValueError:
            return None
        return max((when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    window = re.search(r";\s*r=0\s*;\s*t=(\d{1,9})", headers.get("RateLimit", ""))
    return float(window[1]) if window else None


class TryAgain(Exception):
    """Worth another try."""

    def __init__(
        self, message: str, *, wait: float | None = None, answered: bool = False, limited: bool = False
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.answered = answered
        self.limited = limited


def check_status(response: Any) -> None:
    """Ask for another try where the server is in trouble, or wants fewer requests.

    Raises:
        TryAgain: It does.
    """
    if response.status_code in RETRIED:
        raise TryAgain(
            f"status {response.status_code}",
            wait=asked_wait(response.headers),
            answered=True,
            limited=response.status_code == 429,
        )


def unreadable(reason: str, clock: Clock, where: str, asked: float | None = None) -> UnreadableCheckpoint:
    """The error for a server that failed for longer than it may."""
    if asked is not None and asked > clock.left_seconds:
        return UnreadableCheckpoint(f"the Hub asks to wait for {asked:.0f} s ({reason}): try again then", file=where)
    return UnreadableCheckpoint(
        f"the Hub cannot be read ({reason}, for {clock.spent_seconds:.0f} s): check the network, or try again later",
        file=where,
    )


class _Refusal(NamedTuple):
    """An answer of 400 and more; the Hub tells its reasons in ``X-Error-Code`` and ``X-Error-Message``."""

    status: int
    code: str | None
    message: str
    of_file: bool


def refusal(status: int, headers: Mapping[str, str], where: str, *, file: bool) -> GammatorchError:
    """The error for an answer that no repetition can mend, to a question for a file or for the repository."""
    answer = _Refusal(status, headers.get("X-Error-Code"), headers.get("X-Error-Message", ""), file)
    for applies, text in _REFUSALS:
        if applies(answer):
            return CheckpointNotFound(text.format(status=status), file=where)
    return UnreadableCheckpoint(f"the Hub answered {status}", file=where)


_REFUSALS: tuple[tuple[Callable[[_Refusal], bool], str], ...] = (
    (
        lambda answer: answer.code == "GatedRepo",
        "is gated: accept its terms on the Hub, then pass --token or run `hf auth login`",
    ),
    (lambda answer: answer.code == "RevisionNotFound", "no such branch, tag or commit in that repository"),
    (
        lambda answer: answer.message.startswith("Access to this resource is disabled"),
        "has been disabled on the Hub",
    ),
    (
        lambda answer: answer.message.startswith("Invalid credentials"),
        "the Hub does not accept the token (401): pass another --token or run `hf auth login`",
    ),
    (
        lambda answer: answer.code == "RepoNotFound" or (answer.status in (401, 404) and not answer.of_file),
        "no such path here, and no such repository on the Hub (or a private one: pass --token or run `hf auth login`)",
    ),
    (
        lambda answer: answer.status == 404,
        "is in the listing, but the Hub does not have it (404): try again later, or another revision",
    ),
    (
        lambda answer: answer.status in (401, 403),
        "the Hub refuses access ({status}): check the token and its rights",
    ),
)
"""What answers mean and what to do, in order: the first that applies counts."""
