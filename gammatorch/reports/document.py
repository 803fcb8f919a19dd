"""A result as a file that is whole or not there, and that takes the place of nothing but an earlier result."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gammatorch.checkpoints.foreign import what_is
from gammatorch.checkpoints.hub.cache import is_entry
from gammatorch.checkpoints.weights import CONFIG, FOLDER_SUFFIXES
from gammatorch.errors import OutputError


def check_writable(path: Path, inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse a place that cannot or must not be written to, before any work is done for it.

    Args:
        path: Where the result is to go.
        inputs: What is read for it: paths, or names on the Hub.

    Raises:
        OutputError: The folder is not there, the place is not a file's, or something would be lost: see
            :func:`~gammatorch.reports.document.refuse_overwriting`.
    """
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OutputError("cannot be written, its folder does not exist: create it first", file=str(path))
    if path.is_dir():
        raise OutputError("is a folder: pass the name of a file", file=str(path))
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise OutputError("cannot be written: no permission", file=str(path))
    refuse_overwriting(path, inputs)


SUFFIXES = (".json", ".html", ".png", ".svg", ".pdf", ".csv", ".jsonl", ".parquet", ".sqlite")
"""How the name of a result's file may end, which tells its format."""


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


STORE_FOLDERS = ("items", "failures", "claims")
"""The folders within a sweep's folder."""

_HEAD_BYTES = 4096
_JSON_RESULT = re.compile(rb'\s*\{\s*"schema_version"\s*:')
"""How our JSON begins, and no JSON of a model."""

_SKETCH = b'"gammatorch.sketch"'
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_BINARY_RESULTS = (b"PAR1", b"SQLite format 3\0", b"\x89PNG\r\n")
_RESULT_SUFFIXES = (".html", ".csv", ".jsonl", ".parquet", ".sqlite", ".png", ".svg")
"""How the names of results end that no file of a model bears; JSON is told by how it begins."""

_HUB_CACHE = re.compile(r"/(models|datasets|spaces)--[^/]+/(blobs|snapshots|refs|\.no_exist)/")


def refuse_overwriting(path: Path, inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse a place for a result where a file would be lost, or would be read as a part of the model from then on.

    An earlier result of ours is replaced, and so is other text; weights never are, nor what is read, nor what stands
    beside weights and may belong to them. Files are compared by what they are, whatever path or link leads to them.

    Raises:
        OutputError: It is such a place.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "model.gguf").write_bytes(b"GGUF\\3\\0\\0\\0")
        >>> refuse_overwriting(folder / "result.json")
        >>> refuse_overwriting(folder / "model.gguf")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        gammatorch.errors.OutputError: ...model.gguf: is GGUF, which no result is: pass another name for the result
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        reason = _misplaced(path, inputs, is_new=True)
    except OSError as error:  # a loop of links, say
        raise OutputError(f"cannot be written ({error.strerror})", file=str(path)) from error
    else:
        if not stat.S_ISREG(status.st_mode):
            return
        reason = _misplaced(path, inputs, is_new=not status.st_size) or _kept(path, status, inputs)
    if reason is not None:
        raise OutputError(f"{reason}: pass another name for the result", file=str(path))


def _misplaced(path: Path, inputs: Sequence[str | os.PathLike[str]], *, is_new: bool) -> str | None:
    """Why no file may be written here; a new one is one that is not there yet, or empty."""
    folder = os.path.dirname(os.path.realpath(path))
    for given in map(_folder_of, inputs):
        if any(_is_same(folder, os.path.join(given, name)) for name in STORE_FOLDERS):
            return f"is a place for files of the sweep in {given}"
        if is_new and _is_part(path.name) and _is_same(folder, given):
            return "would be taken for a part of the model that is read"
    return None


def _kept(path: Path, status: os.stat_result, inputs: Sequence[str | os.PathLike[str]]) -> str | None:
    """Why an existing file is kept; None where it may be replaced."""
    if any(_is_same(path, given) for given in inputs):
        return "is read by this run"
    head = _head(path)
    if not head or _JSON_RESULT.match(head) or _SKETCH in head:
        return None
    target = Path(os.path.realpath(path))
    if is_entry(target) or _HUB_CACHE.search(target.as_posix()):
        return "belongs to the cache of what was read from the Hub"
    if not _is_text(head) and not head.startswith(_BINARY_RESULTS):
        what, _ = what_is(head) or ("a binary file", "")
        return f"is {what}, which no result is"
    if any(os.path.samestat(status, other) for given in inputs for other in _parts(_folder_of(given))):
        return "belongs to the model or the sweep that is read"
    beside = [*_names(path.parent), *_names(target.parent)]
    if any(name.endswith(FOLDER_SUFFIXES) for name in beside) and not path.name.endswith(_RESULT_SUFFIXES):
        return "stands beside weights and is no result, so it may belong to them"
    return None


def _folder_of(given: str | os.PathLike[str]) -> str:
    """The folder that is read, or that a weight file or index is read with; a path that is none for all others."""
    name = os.fspath(given)
    is_file = _is_part(os.path.basename(name)) and not os.path.isdir(name)
    return os.path.dirname(name) or os.curdir if is_file else name


def _is_part(name: str) -> bool:
    """Whether a file of this name is read as a part of the model whose folder it is in."""
    return name.endswith((*FOLDER_SUFFIXES, ".index.json")) or name in (CONFIG, "adapter_config.json")


def _parts(folder: str) -> Iterator[os.stat_result]:
    """What the files in a folder are that may belong to a model or a sweep, links followed."""
    for above in (os.path.join(folder, os.pardir), os.path.join(folder, os.pardir, os.pardir)):
        with contextlib.suppress(OSError):  # its config.json is read where there is none beside the weights
            yield os.stat(os.path.join(above, CONFIG))
    for place in (folder, *(os.path.join(folder, name) for name in STORE_FOLDERS)):
        for name in _names(place):
            if not name.endswith(_RESULT_SUFFIXES):
                with contextlib.suppress(OSError):  # a link to nothing
                    yield os.stat(os.path.join(place, name))


def _names(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # no folder, or not to be listed
        return []


def _is_same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is not there, or cannot be the name of a file
        return False


def _head(path: Path) -> bytes:
    """How a file begins.

    Raises:
        OutputError: It cannot be read, so that nobody knows what would be lost.
    """
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise OutputError(
            f"is there and cannot be looked at ({error.strerror}): pass another name", file=str(path)
        ) from error


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, as far as it goes, without the control characters that no text has."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(head) is None
