"""The files of one folder, each opened when it is first needed and kept open."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor

from gammatorch.errors import UnreadableCheckpoint

MOST_OPEN = 256
"""Files kept open between the read of their header and that of their tensors."""

_CAN_ADVISE = hasattr(os, "posix_fadvise")  # not on macOS

_Identity = tuple[int, int, int, int]


class OpenFiles:
    """Descriptors of the regular files of a folder.

    A file is known by what it is when it is first opened (device, inode, size, time of change). Descriptors stay open
    from the header to the tensors, so that both come from the same file even if another one takes its name meanwhile,
    and a file that has to be opened again must be the same.

    Args:
        prefix: The folder, with a separator at its end: joined by hand, since pathlib costs more than the system call.
        name: How messages call the folder.
    """

    def __init__(self, prefix: str, name: str) -> None:
        self.prefix = prefix
        self.name = name
        self.descriptors: dict[str, int] = {}
        self._identities: dict[str, _Identity] = {}
        self._finalizer = weakref.finalize(self, _close_all, self.descriptors)

    def descriptor(self, file: str) -> int:
        """The file's descriptor; the file opened longest ago is closed where too many are open.

        Raises:
            UnreadableCheckpoint: It cannot be opened, is not a regular file, or not the one it was.
        """
        known = self.descriptors.get(file)
        if known is not None:
            return known
        if len(self.descriptors) >= MOST_OPEN:
            os.close(self.descriptors.pop(next(iter(self.descriptors))))
        return self._open(file)

    def open_all(self, files: Sequence[str], pool: Executor) -> None:
        """Open files at once, :data:`MOST_OPEN` at most, and close others where they would be too many.

        Raises:
            UnreadableCheckpoint: As :meth:`descriptor`.
        """
        missing = [file for file in files if file not in self.descriptors]
        if len(self.descriptors) + len(missing) > MOST_OPEN:
            self.close()
            missing = list(files)
        list(pool.map(self._open, missing))

    def look_at(self, files: Sequence[str], pool: Executor) -> None:
        """Learn at once what files are, where opening each for its size would take its time.

        Raises:
            UnreadableCheckpoint: One of them is not there any more.
        """

        def look(file: str) -> _Identity:
            try:
                return _identity(os.stat(self.prefix + file))
            except OSError as error:
                raise self.unreadable(error, file) from error

        self._identities |= zip(files, pool.map(look, files), strict=True)

    def size(self, file: str) -> int:
        """Size in bytes of a file, which is opened for that: whoever asks goes on to read it.

        Raises:
            UnreadableCheckpoint: As :meth:`descriptor`.
        """
        if file not in self._identities:
            self.descriptor(file)
        return self._identities[file][2]

    def close(self) -> None:
        """Close all files; they are opened again when they are needed."""
        _close_all(self.descriptors)

    def unreadable(self, error: OSError, file: str) -> UnreadableCheckpoint:
        """What to raise where the system refuses a file."""
        return UnreadableCheckpoint(f"cannot be read ({error.strerror or error})", file=f"{self.name}/{file}")

    def _open(self, file: str) -> int:
        try:
            # O_NONBLOCK: a FIFO must not hang the open
            descriptor = os.open(self.prefix + file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self.unreadable(error, file) from error
        status = os.fstat(descriptor)
        identity = _identity(status)
        wrong = None
        if self._identities.setdefault(file, identity) != identity:
            wrong = "was replaced while it was read, try again"
        elif not stat.S_ISREG(status.st_mode):
            wrong = "is not a regular file"
        if wrong is not None:
            os.close(descriptor)
            raise UnreadableCheckpoint(wrong, file=f"{self.name}/{file}")
        if _CAN_ADVISE:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self.descriptors[file] = descriptor
        return descriptor


class Sizes(Mapping[str, int]):
    """Size of each file by name, asked of the system when it is needed.

    Args:
        names: Names of regular files.
        files: The files.
    """

    def __init__(self, names: Sequence[str], files: OpenFiles) -> None:
        self._names = dict.fromkeys(names)
        self._files = files

    def __getitem__(self, name: str) -> int:
        if name not in self._names:
            raise KeyError(name)
        return self._files.size(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
