"""What a file is whose name says something else, by how it begins."""

from __future__ import annotations

RENAME = "let its name end in "
"""Begins the remedy for a file in a format that is read; what follows is how the names of such files end."""

_PICKLE = ("a pickle, which was not executed", "load it yourself, and save its state dict with torch.save")
_BEGINNINGS = (
    (b"version ", "a Git LFS pointer, not the weights", "run `git lfs pull`"),
    (b"<", "a web page or an error in XML, not the weights", "download it again"),
    (b'{"', "JSON, not the weights", "download it again"),
    (b"PK\3\4", "an archive as torch.save writes it", f"{RENAME}.bin"),
    (b"\x80\2\x8a\n", "a file as torch.save wrote it of old", f"{RENAME}.bin"),
    (b"\x80\4\x95", *_PICKLE),
    (b"\x80\5\x95", *_PICKLE),
    (b"\x80", *_PICKLE),
    (b"GGUF", "GGUF", f"{RENAME}.gguf"),
    (b"\x1f\x8b", "packed with gzip", "unpack it first"),
    (b"\x89HDF", "HDF5, as TensorFlow writes it", "save it again with save_pretrained(..., safe_serialization=True)"),
)
_LENGTH_BYTES = 8
_TOO_LONG = slice(4, _LENGTH_BYTES)
"""Bytes of a safetensors header's length that are zero, since no header has 4 GB."""


def what_else(head: bytes | bytearray) -> str | None:
    """What a file that is not of its name's format is, and what to do; None if its beginning does not tell.

    Args:
        head: Its first bytes, ten at least where it has them.

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
