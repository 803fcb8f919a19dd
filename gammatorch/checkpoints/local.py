"""Bytes on a local or mounted disk."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Mapping, Sequence

from gammatorch.checkpoints.base import Advance, Read, Traffic
from gammatorch.errors import UnreadableCheckpoint

MOST_OPEN = 256
"""Files kept open between the read of their header and that of their tensors."""


class LocalSource:
    """The regular files of one folder, read by position.

    No memory map: a map pulls in read-ahead around every gain, is slow on network file systems, and kills the
    process when a file shrinks. Descriptors stay open from the header to the tensors, so that both come from the
    same file even if another one takes its name meanwhile, and a network file system is asked once.

    Args:
        folder: The folder.
        names: Plain names of the files to see; None for all regular files in it.
        name: How messages call it; None for the folder itself.
        revision: The commit, if the folder is a snapshot of one.

    Raises:
        UnreadableCheckpoint: The folder cannot be listed, or a named file is not a regular file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        names: Iterable[str] | None = None,
        *,
        name: str | None = None,
        revision: str | None = None,
    ) -> None:
        self._prefix = os.path.join(folder, "")  # joined by hand: pathlib costs more than the system calls
        self.name = name if name is not None else str(folder)
        self.revision = revision
        self.traffic = Traffic()
        self._identities = self._look(names)
        self.files: Mapping[str, int] = {file: status.st_size for file, status in self._identities.items()}
        self._open: dict[str, int] = {}
        self._finalizer = weakref.finalize(self, _close_all, self._open)

    def speculate(self, file: str) -> int:
        """Nothing: another read of a local file costs less than bytes nobody needs."""
        return 0

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from its file, in the order given.

        Raises:
            UnreadableCheckpoint: A file cannot be opened, is shorter than it was, or is not a regular file.
        """
        self.traffic.rounds += 1
        for file, start, into in reads:
            try:
                self._read_one(self._descriptor(file), file, start, into)
            except OSError as error:
                raise UnreadableCheckpoint(
                    f"cannot be read ({error.strerror or error})", file=f"{self.name}/{file}"
                ) from error
            if advance is not None:
                advance(len(into))

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        _close_all(self._open)

    def _read_one(self, descriptor: int, file: str, start: int, into: memoryview) -> None:
        filled = 0
        while filled < len(into):
            count = os.preadv(descriptor, [into[filled:]], start + filled)
            self.traffic.requests += 1
            if count == 0:
                raise UnreadableCheckpoint(
                    f"ends at byte {start + filled} where {start + len(into)} were expected: "
                    "it changed while it was read, try again",
                    file=f"{self.name}/{file}",
                )
            filled += count
            self.traffic.bytes_read += count

    def _descriptor(self, file: str) -> int:
        if file in self._open:
            return self._open[file]
        if len(self._open) >= MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        # O_NONBLOCK: a FIFO put in the file's place must not hang the open
        descriptor = os.open(self._prefix + file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._open[file] = descriptor
        if _identity(os.fstat(descriptor)) != _identity(self._identities[file]):
            raise UnreadableCheckpoint("was replaced while it was read, try again", file=f"{self.name}/{file}")
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return descriptor

    def _look(self, names: Iterable[str] | None) -> dict[str, os.stat_result]:
        found = {}
        try:
            wanted = sorted(os.listdir(self._prefix)) if names is None else names
        except OSError as error:
            raise UnreadableCheckpoint(f"cannot be listed ({error.strerror})", file=self.name) from error
        for name in wanted:
            try:
                status = os.stat(self._prefix + name)
            except OSError as error:
                if names is None:
                    continue  # a dangling link, say: of no concern unless it is asked for
                raise UnreadableCheckpoint(f"cannot be read ({error.strerror})", file=f"{self.name}/{name}") from error
            if stat.S_ISREG(status.st_mode):
                found[name] = status
            elif names is not None:
                raise UnreadableCheckpoint("is not a regular file", file=f"{self.name}/{name}")
        return found


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
