"""What the Hub means by an answer that is no success, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.errors import CheckpointNotFound, GammatorchError, UnreadableCheckpoint

NOT_KEPT = "is not in the local cache, and HF_HUB_OFFLINE is set: unset it to read from the Hub"
"""What is wrong where nothing may be asked and nothing was kept."""


def refusal(status: int, headers: Mapping[str, str], where: str, *, file: bool) -> GammatorchError:
    """The error for an answer that no repetition can mend.

    Args:
        status: The HTTP status, 400 and more.
        headers: The answer's headers: the Hub tells its reasons in ``X-Error-Code`` and ``X-Error-Message``.
        where: What was asked for, for messages.
        file: Whether that was a file, and not the repository.
    """
    code, message = headers.get("X-Error-Code"), headers.get("X-Error-Message", "")
    if code == "GatedRepo":
        return CheckpointNotFound(
            "is gated: accept its terms on the Hub, then pass --token or run `hf auth login`", file=where
        )
    if code == "RevisionNotFound":
        return CheckpointNotFound("no such branch, tag or commit in that repository", file=where)
    if message.startswith("Access to this resource is disabled"):
        return CheckpointNotFound("has been disabled on the Hub", file=where)
    if message.startswith("Invalid credentials"):
        return CheckpointNotFound(
            "the Hub does not accept the token (401): pass another --token or run `hf auth login`", file=where
        )
    if code == "RepoNotFound" or (status in (401, 404) and not file):
        return CheckpointNotFound(
            "no such path here, and no such repository on the Hub (or a private one: "
            "pass --token or run `hf auth login`)",
            file=where,
        )
    if status == 404:
        return CheckpointNotFound(
            "is in the listing, but the Hub does not have it (404): try again later, or another revision", file=where
        )
    if status in (401, 403):
        return CheckpointNotFound(f"the Hub refuses access ({status}): check the token and its rights", file=where)
    return UnreadableCheckpoint(f"the Hub answered {status}", file=where)
