"""Bytes on a local or mounted disk."""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache

from gammatorch.checkpoints.base import Advance, ByteSource, Read, Traffic
from gammatorch.checkpoints.foreign import strange_file
from gammatorch.errors import UnreadableCheckpoint

REMOTE_THREADS = 16
"""Reads in flight at a time where each waits for a server; on a local disk more than one is slower."""

REMOTE_SPECULATION = 16_384
"""Bytes read blindly from the head of a file where each read waits for a server."""

MOST_OPEN = 256
"""Files kept open between the read of their header and that of their tensors."""

_CAN_ADVISE = hasattr(os, "posix_fadvise")  # not on macOS
_Identity = tuple[int, int, int, int]
_REMOTE = re.compile(r"(nfs|lustre|ceph|fuse|smb|cifs|gpfs|beegfs|9p|afs|glusterfs|wekafs).*")


class LocalSource(ByteSource):
    """The regular files of one folder, read by position.

    No memory map: a map pulls in read-ahead around every gain, is slow on network file systems, and kills the
    process when a file shrinks.

    Args:
        folder: The folder.
        names: Plain names of the files to see; None for all regular files in it.
        name: How messages call it; None for the folder itself.
        revision: The commit, if the folder is a snapshot of one.
        within: Names of folders whose files are seen as well, as ``folder/file``; None for no folder.

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
        self.rereads = not is_remote(prefix)
        held = self._list(within) if names is None else self._check(names)
        if not self.rereads and len(held) > 1:
            with _pool() as pool:
                self._files.look_at(held, pool)
        self.files = Sizes(held, self._files)

    def path(self, file: str) -> str:
        """Where a file is on the disk."""
        return self._files.prefix + file

    def speculate(self, file: str) -> int:
        """Nothing on a local disk: another read costs less than bytes nobody needs."""
        return 0 if self.rereads else REMOTE_SPECULATION

    def read(self, reads: Sequence[Read], advance: Advance | None = None) -> None:
        """Fill every buffer from its file: in the order given on a local disk, many at a time on a remote one.

        Raises:
            UnreadableCheckpoint: A file cannot be opened, is shorter than it was, or is not a regular file.
        """
        arriving = self.read_in_turn(reads) if self.rereads or len(reads) < 2 else self._read_at_once(reads)
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


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REMOTE_THREADS, thread_name_prefix="gammatorch-read")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


class OpenFiles:
    """Descriptors of the regular files of a folder.

    A file is known by what it is when it is first opened (device, inode, size, time of change). Descriptors stay open
    from the header to the tensors, so that both come from the same file even if another one takes its name meanwhile,
    and a file that has to be opened again must be the same.
    """

    def __init__(self, prefix: str, name: str) -> None:
        self.prefix = prefix
        self.name = name
        self.descriptors: dict[str, int] = {}
        self._identities: dict[str, _Identity] = {}
        self._finalizer = weakref.finalize(self, _close_all, self.descriptors)

    def descriptor(self, file: str) -> int:
        """The file's descriptor; the file opened longest ago is closed where too many are open."""
        known = self.descriptors.get(file)
        if known is not None:
            return known
        if len(self.descriptors) >= MOST_OPEN:
            os.close(self.descriptors.pop(next(iter(self.descriptors))))
        return self._open(file)

    def open_all(self, files: Sequence[str], pool: Executor) -> None:
        """Open files at once, :data:`MOST_OPEN` at most, and close others where they would be too many."""
        missing = [file for file in files if file not in self.descriptors]
        if len(self.descriptors) + len(missing) > MOST_OPEN:
            self.close()
            missing = list(files)
        list(pool.map(self._open, missing))

    def look_at(self, files: Sequence[str], pool: Executor) -> None:
        """Learn at once what files are, where opening each for its size would take its time."""

        def look(file: str) -> _Identity:
            try:
                return _identity(os.stat(self.prefix + file))
            except OSError as error:
                raise self.unreadable(error, file) from error

        self._identities |= zip(files, pool.map(look, files), strict=True)

    def size(self, file: str) -> int:
        """Size in bytes of a file, which is opened for that: whoever asks goes on to read it."""
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
    """Size of each file by name, asked of the system when it is needed."""

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
