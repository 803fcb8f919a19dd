"""Text that is safe and short enough to show: names from a checkpoint are strangers' input."""

from __future__ import annotations

import html
import unicodedata

LONGEST_NAME = 200

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories shown escaped: controls, formats (bidi marks among them), surrogates, line separators."""

_SIZES = ((1e12, 1e12, "TB"), (1e9, 1e9, "GB"), (1e5, 1e6, "MB"), (1e3, 1e3, "kB"))
"""From how many bytes on a unit is used, the unit, its name; gains are tenths of MB, headers kB."""


def printable(text: str, longest: int | None = LONGEST_NAME) -> str:
    """The text with control characters, escapes and bidi marks written out, and its middle cut if it is long.

    Args:
        text: Any text.
        longest: Characters to keep; None for all.

    Example:
        >>> printable("norm\\x1b[2J.weight")
        'norm\\\\x1b[2J.weight'
        >>> printable("a" * 30, longest=11)
        'aaaaa…aaaaa'
    """
    safe = "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE else char for char in text
    )
    if longest is None or len(safe) <= longest:
        return safe
    half = (longest - 1) // 2
    return f"{safe[:half]}…{safe[-half:]}"


def in_html(text: str, longest: int | None = LONGEST_NAME) -> str:
    """The text as :func:`printable` shows it, escaped for HTML and its attributes.

    Example:
        >>> in_html('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(printable(text, longest))


def size(count: int) -> str:
    """A number of bytes in decimal units.

    Example:
        >>> size(65_536_000_000), size(737_408), size(999)
        ('65.5 GB', '0.7 MB', '999 B')
    """
    for least, unit, name in _SIZES:
        if count >= least:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def moved(read: int, cached: int) -> str:
    """Bytes that were read, and those that did not have to be.

    Example:
        >>> moved(10_500, 1_937_408), moved(1_937_408, 0)
        ('10.5 kB (and 1.9 MB from the cache)', '1.9 MB')
    """
    return size(read) + (f" (and {size(cached)} from the cache)" if cached else "")


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "shard"), plural(17, "shard")
        ('1 shard', '17 shards')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
