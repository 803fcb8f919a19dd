"""What the Hub says of one commit of a repository: its files, their sizes, and what identifies their contents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gammatorch.checkpoints.base import JsonObject
from gammatorch.checkpoints.weights import FOLDER_SUFFIXES
from gammatorch.errors import UnreadableCheckpoint

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NESTED_WEIGHTS = re.compile(rf"/[^/]*({'|'.join(map(re.escape, FOLDER_SUFFIXES))})$")


@dataclass(frozen=True)
class Listing:
    """The files of one commit.

    Attributes:
        commit: The commit, 40 hexadecimal digits.
        files: Size in bytes of each file at the top of the repository, by name.
        hashes: The SHA-256 of a large file's contents, the Git hash of a small one's, where they were given.
        nested: A weight file of each folder in the repository that holds any, by its path.
    """

    commit: str
    files: Mapping[str, int]
    hashes: Mapping[str, str]
    nested: tuple[str, ...] = ()

    @property
    def folders_with_weights(self) -> list[str]:
        """The folders in the repository that hold weights, where it holds none at its top: a pipeline's."""
        if any(name.endswith(FOLDER_SUFFIXES) for name in self.files):
            return []
        return sorted(name.rpartition("/")[0] for name in self.nested)

    def identity(self, file: str) -> str:
        """What tells a file's contents from all others that had its name: their hash, or else the commit."""
        return self.hashes.get(file, self.commit)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which means the same for ever."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def parse_listing(raw: bytes, where: str) -> Listing:
    """The Hub's answer to ``/api/models/{repo}/revision/{revision}?blobs=true``."""
    try:
        described = json.loads(raw)
        siblings = [_sibling(sibling) for sibling in described["siblings"]]
        commit = described["sha"]
        if not is_commit(commit):
            raise ValueError("no commit")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnreadableCheckpoint(
            "the answer is no listing of a repository: a login page or proxy may stand in between, or HF_ENDPOINT is "
            "not a Hub",
            file=where,
        ) from None
    top = [sibling for sibling in siblings if "/" not in sibling[0]]
    return Listing(
        commit,
        {name: size for name, size, _ in top if size is not None},
        {name: digest for name, _, digest in top if digest is not None},
        tuple({name.rpartition("/")[0]: name for name, _, _ in siblings if _NESTED_WEIGHTS.search(name)}.values()),
    )


def dump_listing(listing: Listing) -> bytes:
    """The listing in the Hub's own words, as far as they are read."""
    siblings = [
        {"rfilename": name, "size": size, "blobId": listing.hashes.get(name)} for name, size in listing.files.items()
    ]
    nested = [{"rfilename": name} for name in listing.nested]
    return json.dumps({"sha": listing.commit, "siblings": siblings + nested}).encode()


def _sibling(sibling: JsonObject) -> tuple[str, int | None, str | None]:
    name, size = sibling["rfilename"], sibling.get("size")
    if not isinstance(name, str) or not (size is None or (type(size) is int and size >= 0)):
        raise ValueError("no file")
    stored = (sibling.get("lfs") or {}).get("sha256"), sibling.get("blobId")
    digests = [digest for digest in stored if isinstance(digest, str) and _DIGEST.fullmatch(digest)]
    return name, size, digests[0] if digests else None
