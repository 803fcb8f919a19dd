"""Which file systems wait for a server."""

from __future__ import annotations

import os
import re
from functools import lru_cache

_REMOTE = re.compile(r"(nfs|lustre|ceph|fuse|smb|cifs|gpfs|beegfs|9p|afs|glusterfs|wekafs).*")


@lru_cache
def is_remote(folder: str) -> bool:
    """Whether the file system of a folder is a network's, or a program's (FUSE): each read waits, so many go at once.

    What cannot be told (there is no ``/proc/mounts``) is taken as local.

    Args:
        folder: An existing folder.
    """
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as lines:
            return _REMOTE.fullmatch(file_system(os.path.realpath(folder), lines.read())) is not None
    except OSError:
        return False


def file_system(path: str, mounts: str) -> str:
    """Type of the file system that a path is on.

    Args:
        path: An absolute path without links.
        mounts: Contents of ``/proc/mounts``.

    Example:
        >>> file_system("/mnt/nas/model", "/dev/vda / ext4 rw 0 0\\nserver:/x /mnt/nas nfs4 rw 0 0\\n")
        'nfs4'
    """
    longest, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[1]).rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and len(point) >= longest:
            longest, kind = len(point), fields[2]  # the later one of two on the same point covers the other
    return kind
