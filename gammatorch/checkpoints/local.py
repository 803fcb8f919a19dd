"""Bytes on a local or mounted disk."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from gammatorch.checkpoints.base import Advance, Read, Traffic
from gammatorch.checkpoints.mounts import is_remote
from gammatorch.errors import UnreadableCheckpoint

MOST_OPEN = 256
"""Files kept open between the read of their header and that of their tensors."""

REMOTE_THREADS = 16
"""Reads in flight at a time where each waits for a server; on a local disk more than one is slower."""


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

    def path(self, file: str) -> str:
        """Where a file is on the disk."""
        return self._prefix + file

    def speculate(self, file: str) -> int:
        """Nothing: another read of a local file costs less than bytes nobody needs."""
        return 0

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from its file: in the order given on a local disk, many at a time on a remote one.

        Raises:
            UnreadableCheckpoint: A file cannot be opened, is shorter than it was, or is not a regular file.
        """
        self.traffic.rounds += 1
        if len(reads) > 1 and is_remote(self._prefix):
            self._read_at_once(reads, advance)
            return
        for read in reads:
            self._arrived(read, self._fill(self._descriptor(read.file), read), advance)

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        _close_all(self._open)

    def _read_at_once(self, reads: Sequence[Read], advance: Advance | None) -> None:
        """Open and read with many threads, no more files at a time than may be open: none is closed in their midst."""
        files = list(dict.fromkeys(read.file for read in reads))
        with ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="gammatorch-read") as pool:
            for first in range(0, len(files), MOST_OPEN):
                batch = files[first : first + MOST_OPEN]
                missing = [file for file in batch if file not in self._open]
                if len(self._open) + len(missing) > MOST_OPEN:
                    self.close()
                    missing = batch
                list(pool.map(self._open_file, missing))
                wanted = [read for read in reads if read.file in set(batch)]
                filled = pool.map(lambda read: self._fill(self._open[read.file], read), wanted)
                for read, requests in zip(wanted, filled, strict=True):
                    self._arrived(read, requests, advance)

    def _arrived(self, read: Read, requests: int, advance: Advance | None) -> None:
        self.traffic.requests += requests
        self.traffic.bytes_read += len(read.into)
        if advance is not None:
            advance(len(read.into))

    def _fill(self, descriptor: int, read: Read) -> int:
        """Fill one buffer; the number of system calls it took."""
        filled = requests = 0
        try:
            while filled < len(read.into):
                count = os.preadv(descriptor, [read.into[filled:]], read.start + filled)
                requests += 1
                if count == 0:
                    raise UnreadableCheckpoint(
                        f"ends at byte {read.start + filled} where {read.start + len(read.into)} were expected: "
                        "it changed while it was read, try again",
                        file=f"{self.name}/{read.file}",
                    )
                filled += count
        except OSError as error:
            raise self._unreadable(error, read.file) from error
        return requests

    def _descriptor(self, file: str) -> int:
        if file not in self._open:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open_file(file)
        return self._open[file]

    def _open_file(self, file: str) -> None:
        """Open a file, if it is still the one that was listed."""
        try:
            # O_NONBLOCK: a FIFO put in the file's place must not hang the open
            descriptor = os.open(self._prefix + file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._unreadable(error, file) from error
        if _identity(os.fstat(descriptor)) != _identity(self._identities[file]):
            os.close(descriptor)
            raise UnreadableCheckpoint("was replaced while it was read, try again", file=f"{self.name}/{file}")
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self._open[file] = descriptor

    def _unreadable(self, error: OSError, file: str) -> UnreadableCheckpoint:
        return UnreadableCheckpoint(f"cannot be read ({error.strerror or error})", file=f"{self.name}/{file}")

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
