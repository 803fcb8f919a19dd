"""What a file is that cannot be read as weights, and what to do instead."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from typing import NamedTuple

RENAME = "let its name end in "
"""Begins the remedy for a file in a format that is read; what follows is how the names of such files end."""

_A_PICKLE = ("a pickle, which was not executed", "load it yourself, and save its state dict with torch.save")

_BEGINNINGS = (
    (b"version ", "a Git LFS pointer, not the weights", "run `git lfs pull`"),
    (b"<", "a web page or an error in XML, not the weights", "download it again"),
    (b'{"', "JSON, not the weights", "download it again"),
    (b"PK\3\4", "an archive as torch.save writes it", f"{RENAME}.bin"),
    (b"\x80\2\x8a\n", "a file as torch.save wrote it of old", f"{RENAME}.bin"),
    (b"\x80\4\x95", *_A_PICKLE),
    (b"\x80\5\x95", *_A_PICKLE),
    (b"\x80", *_A_PICKLE),
    (b"GGUF", "GGUF", f"{RENAME}.gguf"),
    (b"\x1f\x8b", "packed with gzip", "unpack it first"),
    (b"\x89HDF", "HDF5, as TensorFlow writes it", "save it again with save_pretrained(..., safe_serialization=True)"),
)

_LENGTH_BYTES = 8

_TOO_LONG = slice(4, _LENGTH_BYTES)
"""Bytes of a safetensors header's length that are zero, since no header has 4 GB."""

_SAVE = "load it with what wrote it, save its weights as safetensors, and pass those"
_EXPORTED = "pass the model that it was made from"
_ARRAYS = "load it with numpy.load, save it with safetensors.numpy.save_file, and pass that file"
_PACKED = "a packed archive", "unpack it, and pass a model's folder"
_STRANGE = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def what_else(head: bytes | bytearray) -> str | None:
    """What a file that is not of its name's format is, and what to do; None if its beginning does not tell.

    Example:
        >>> what_else(b"GGUF\\3\\0\\0\\0")
        'GGUF: let its name end in .gguf'
    """
    if not head:
        return "empty: download it again"
    found = what_is(head)
    return found and ": ".join(found)


def what_is(head: bytes | bytearray) -> tuple[str, str] | None:
    """What a file is, and what to do where weights of another format were expected; None if that cannot be told.

    Args:
        head: Its first bytes, ten at least where it has them.

    Example:
        >>> what_is(b"\\x59\\0\\0\\0\\0\\0\\0\\0" + b'{"__metadata__":')
        ('safetensors', 'let its name end in .safetensors')
        >>> what_is(b"\\x80\\4\\0\\0\\0\\0\\0\\0broken") is None
        True
    """
    is_length = head[_TOO_LONG] == bytes(4)
    if is_length and head[_LENGTH_BYTES : _LENGTH_BYTES + 2] == b'{"':
        return "safetensors", f"{RENAME}.safetensors"
    return next(
        (
            (what, remedy)
            for beginning, what, remedy in _BEGINNINGS
            if head.startswith(beginning) and not (is_length and len(beginning) == 1)
        ),
        None,
    )


class Foreign(NamedTuple):
    """A format that is not read.

    Attributes:
        pattern: How the names of its files end.
        what: What such a file is.
        remedy: What to do.
    """

    pattern: re.Pattern[str]
    what: str
    remedy: str


def _named(endings: str, what: str, remedy: str) -> Foreign:
    """An entry of the table, from how names end after a point: alternatives, as in expressions."""
    return Foreign(re.compile(rf".*\.({endings})", re.IGNORECASE | re.DOTALL), what, remedy)


_PICKLE = _named(
    "pkl|pickle|dill|joblib",
    "a pickle",
    "it is never executed, so load it yourself, save its state dict with torch.save, and pass that",
)

_UNFINISHED = _named("part|partial|incomplete|crdownload|aria2", "an unfinished download", "download it to its end")
_TAR = _named("tar", *_PACKED)

FOREIGN = (
    _UNFINISHED,
    _named("onnx|ort", "an ONNX graph", _EXPORTED),
    _named("tflite", "a TensorFlow Lite graph", _EXPORTED),
    _named("engine|plan|trt", "a TensorRT engine", _EXPORTED),
    _named("mlmodel", "a Core ML model", _EXPORTED),
    _named("pte", "an ExecuTorch program", _EXPORTED),
    _named("nemo", "a tar archive with a NeMo or Megatron checkpoint", "unpack it with tar -xf, and pass the folder"),
    _named("keras", "a Keras archive", _SAVE),
    _named("h5|hdf5", "an HDF5 file, as Keras and TensorFlow write it", _SAVE),
    _named("msgpack", "a MessagePack file, as Flax writes it", _SAVE),
    _named(r"pb|data-\d+-of-\d+|ckpt[-\d]*\.(index|meta)", "a part of a TensorFlow checkpoint", _SAVE),
    _named("pdparams|pdiparams", "a file of Paddle's weights", _SAVE),
    _named("npz", "an archive of NumPy arrays", _ARRAYS),
    _named("npy", "a NumPy array", _ARRAYS),
    _named("ggml|ggjt", "a file in GGML's old format", "convert it to GGUF"),
    _PICKLE,
    _TAR,
    _named(r"tgz|tar\.(gz|bz2|xz|zst)|zip|7z|rar|mar", *_PACKED),
    _named("gz|bz2|xz|zst|lz4", "a compressed file", "unpack it, and pass what comes out"),
)
"""The first that a name fits counts."""


def foreign_file(name: str, head: bytes) -> tuple[str, str] | None:
    """What a file is whose name is no weight file's, and what to do; None where neither name nor beginning tells.

    Example:
        >>> foreign_file("model.onnx", b"\\x08\\x08\\x12\\x07pytorch")
        ('an ONNX graph', 'pass the model that it was made from')
        >>> foreign_file("weights", b"GGUF\\3\\0\\0\\0\\0\\0")
        ('GGUF', 'let its name end in .gguf')
    """
    named = next((one for one in FOREIGN if one.pattern.fullmatch(name)), None)
    told = what_is(head) if not name.endswith(".json") else None
    is_weights = told is not None and told[1].startswith(RENAME) and named is not _UNFINISHED
    if named is None or (is_weights and (named in (_PICKLE, _TAR) or not head.startswith(b"PK"))):
        return told  # of what other formats put into zip archives it would say that torch.save wrote it
    return named.what, named.remedy


def foreign_files(names: Iterable[str]) -> tuple[list[str], str, str] | None:
    """The files among these that are of a format that is not read, what they are, and what to do.

    Example:
        >>> foreign_files(["README.md", "decoder.onnx", "encoder.onnx"])
        (['decoder.onnx', 'encoder.onnx'], 'an ONNX graph', 'pass the model that it was made from')
    """
    ordered = sorted(names)
    for one in FOREIGN:
        if held := [name for name in ordered if one.pattern.fullmatch(name)]:
            return held, one.what, one.remedy
    return None


def strange_file(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with what stands at a path, and what to do; None for a regular file, and where there is nothing.

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
