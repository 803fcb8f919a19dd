"""Bytes on a local or mounted disk."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from gammatorch.checkpoints.base import Advance, Read, Traffic
from gammatorch.checkpoints.mounts import is_remote
from gammatorch.checkpoints.open_files import MOST_OPEN, OpenFiles, Sizes
from gammatorch.errors import UnreadableCheckpoint

REMOTE_THREADS = 16
"""Reads in flight at a time where each waits for a server; on a local disk more than one is slower."""

REMOTE_SPECULATION = 16_384
"""Bytes read blindly from the head of a file where each read waits for a server."""


class LocalSource:
    """The regular files of one folder, read by position.

    No memory map: a map pulls in read-ahead around every gain, is slow on network file systems, and kills the
    process when a file shrinks.

    Args:
        folder: The folder.
        names: Plain names of the files to see; None for all regular files in it.
        name: How messages call it; None for the folder itself.
        revision: The commit, if the folder is a snapshot of one.
        within: Names of folders whose files are seen as well, as ``folder/file``; None for no folder.

    Attributes:
        is_remote: Whether each read waits for a server.

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
        within: re.Pattern[str] | None = None,
    ) -> None:
        path = os.fspath(folder)
        prefix = os.path.join(path, "")
        self.name = name if name is not None else path
        self.revision = revision
        self.traffic = Traffic()
        self._files = OpenFiles(prefix, self.name)
        self.is_remote = is_remote(prefix)
        held = self._list(within) if names is None else self._check(names)
        if self.is_remote and len(held) > 1:
            with _pool() as pool:
                self._files.look_at(held, pool)
        self.files: Mapping[str, int] = Sizes(held, self._files)

    def path(self, file: str) -> str:
        """Where a file is on the disk."""
        return self._files.prefix + file

    def speculate(self, file: str) -> int:
        """Nothing on a local disk: another read costs less than bytes nobody needs."""
        return REMOTE_SPECULATION if self.is_remote else 0

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from its file: in the order given on a local disk, many at a time on a remote one.

        Raises:
            UnreadableCheckpoint: A file cannot be opened, is shorter than it was, or is not a regular file.
        """
        arriving = self._read_at_once(reads) if len(reads) > 1 and self.is_remote else self.read_in_turn(reads)
        if advance is None:
            deque(arriving, maxlen=0)
        else:
            for read in arriving:
                advance(len(read.into))

    def read_in_turn(self, reads: Iterable[Read]) -> Iterator[Read]:
        """Fill one buffer after the other, and hand each on before the next: they may all be the same.

        Raises:
            UnreadableCheckpoint: As :meth:`read`.
        """
        self.traffic.rounds += 1
        descriptors, preadv, requests, bytes_read = self._files.descriptors, os.preadv, 0, 0
        try:
            for read in reads:
                file, start, into = read
                descriptor = descriptors[file] if file in descriptors else self._files.descriptor(file)
                wanted = len(into)
                try:
                    done = preadv(descriptor, (into,), start) == wanted  # nearly always, so it costs no call of ours
                except OSError:
                    done = False
                requests += 1 if done else self._fill(descriptor, read)
                bytes_read += wanted
                yield read
        finally:
            self.traffic.requests += requests
            self.traffic.bytes_read += bytes_read

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self._files.close()

    def _read_at_once(self, reads: Sequence[Read]) -> Iterator[Read]:
        """Open and read with many threads, no more files at a time than may be open: none is closed in their midst."""
        self.traffic.rounds += 1
        files = list(dict.fromkeys(read.file for read in reads))
        descriptors = self._files.descriptors
        with _pool() as pool:
            for first in range(0, len(files), MOST_OPEN):
                batch = files[first : first + MOST_OPEN]
                self._files.open_all(batch, pool)
                wanted = [read for read in reads if read.file in set(batch)]
                filled = pool.map(lambda read: self._fill(descriptors[read.file], read), wanted)
                for read, requests in zip(wanted, filled, strict=True):
                    self.traffic.requests += requests
                    self.traffic.bytes_read += len(read.into)
                    yield read

    def _fill(self, descriptor: int, read: Read) -> int:
        """Fill one buffer; the number of system calls it took."""
        file, start, into = read
        try:
            filled, requests = os.preadv(descriptor, [into], start), 1
            while filled < len(into):
                count = os.preadv(descriptor, [into[filled:]], start + filled)
                if count == 0:
                    raise UnreadableCheckpoint(
                        f"ends at byte {start + filled} where {start + len(into)} were expected: "
                        "it changed while it was read, try again",
                        file=f"{self.name}/{file}",
                    )
                filled, requests = filled + count, requests + 1
        except OSError as error:
            raise self._files.unreadable(error, file) from error
        return requests

    def _list(self, within: re.Pattern[str] | None) -> list[str]:
        """Names of the regular files; a dangling link, say, is of no concern unless it is asked for."""
        names = []
        try:
            with os.scandir(self._files.prefix) as found:
                for entry in found:
                    if _is_file(entry):
                        names.append(entry.name)
                    elif within is not None and within.fullmatch(entry.name) and entry.is_dir():
                        with os.scandir(entry.path) as inner:
                            names += [f"{entry.name}/{file.name}" for file in inner if _is_file(file)]
            return sorted(names)
        except OSError as error:
            raise UnreadableCheckpoint(f"cannot be listed ({error.strerror})", file=self.name) from error

    def _check(self, names: Iterable[str]) -> list[str]:
        checked = list(names)
        for name in checked:
            try:
                mode = os.stat(self.path(name)).st_mode
            except OSError as error:
                raise self._files.unreadable(error, name) from error
            if not stat.S_ISREG(mode):
                raise UnreadableCheckpoint(strange_file(self.path(name)) or "has changed", file=f"{self.name}/{name}")
        return checked


def strange_file(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with what stands at a path, and what to do; None for a regular file, and where there is nothing.

    Args:
        path: Where weights are expected.

    Example:
        >>> strange_file("/dev/null")
        'is a device, not a file: save what comes out of it as a file, and pass that'
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if not os.path.islink(path):
            return None
        where = "itself" if error.errno == errno.ELOOP else "something that does not exist"
        return f"is a link to {where}: put the file there, or download it again"
    if stat.S_ISDIR(mode):
        return "is a folder, though its name is a file's: put the file there, or pass the folder that holds the model"
    what = _STRANGE.get(stat.S_IFMT(mode))
    return f"is {what}, not a file: save what comes out of it as a file, and pass that" if what else None


_STRANGE = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="gammatorch-read")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False
