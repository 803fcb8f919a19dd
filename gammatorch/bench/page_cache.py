"""What of a file is in the page cache, and what the system had to fetch from the disk."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence


def drop_from_cache(paths: Sequence[str]) -> None:
    """Drop files from the page cache; nothing but these files is touched.

    Args:
        paths: The files.
    """
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def can_drop(paths: Sequence[str]) -> bool:
    """Whether files leave the page cache when they are dropped: not on every system and file system.

    Asked once and not before every cold run, since the question itself may fetch the page that it is about.

    Args:
        paths: The files.
    """
    if not paths or not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        return False
    drop_from_cache(paths)
    return not all(is_cached(path) for path in paths)  # a fast disk may fetch a page within the question


def is_cached(path: str) -> bool:
    """Whether a file's first byte is to be had without waiting; yes where that cannot be told."""
    with open(path, "rb", buffering=0) as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def page_bytes(ranges: Iterable[tuple[str, int, int]], page: int = mmap.PAGESIZE) -> int:
    """Bytes of the pages that ranges of files stand on: the least that comes from a disk for them.

    Args:
        ranges: File, first byte, and one past the last.
        page: Bytes of a page.

    Example:
        >>> page_bytes([("a", 4000, 5536), ("a", 8000, 8192), ("b", 0, 0)], page=4096)
        8192
    """
    held = {(file, number) for file, start, stop in ranges for number in range(start // page, -(-stop // page))}
    return page * len(held)


def disk_bytes() -> int | None:
    """Bytes that this process has made the system fetch from a disk; None where it does not tell."""
    try:
        with open("/proc/self/io", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
    except (OSError, StopIteration):  # not Linux, or not allowed
        return None
