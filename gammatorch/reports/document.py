"""A result as a file that is either whole or not there."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gammatorch.errors import OutputError
from gammatorch.reports.overwriting import refuse_overwriting


def check_writable(path: Path, inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse a place that cannot or must not be written to, before any work is done for it.

    Args:
        path: Where the result is to go.
        inputs: What is read for it: paths, or names on the Hub.

    Raises:
        OutputError: The folder is not there, the place is not a file's, or something would be lost: see
            :func:`~gammatorch.reports.overwriting.refuse_overwriting`.
    """
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OutputError("cannot be written, its folder does not exist: create it first", file=str(path))
    if path.is_dir():
        raise OutputError("is a folder: pass the name of a file", file=str(path))
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise OutputError("cannot be written: no permission", file=str(path))
    refuse_overwriting(path, inputs)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that at every moment it is the old one or the new one, whole.

    A link is followed; a device or a pipe is written to as it is.

    Raises:
        OutputError: It could not be written; an existing file is as it was.
    """
    if _is_special(path):
        with telling(path):
            path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, which takes the path's place when the block ends well: flushed and renamed.

    Raises:
        OutputError: It could not be written, or something would be lost; an existing file is as it was.
    """
    refuse_overwriting(path)  # again, since it may have come there meanwhile
    with telling(path):
        target = Path(os.path.realpath(path))
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, _mode(target))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink()
            raise


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """What the system has against writing a file, as one line that names it.

    Raises:
        OutputError: It could not be written.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"could not be written ({error.strerror or error})", file=str(path)) from error


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or those that a new file gets."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
