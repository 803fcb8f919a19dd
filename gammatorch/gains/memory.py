"""How much memory may be used, as people write it."""

from __future__ import annotations

import re

from gammatorch.errors import InvalidArgument

DEFAULT_MEMORY = 2_000_000_000
"""Bytes that wide gains may take on the host and on the device each."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_AMOUNT = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>([KMGT]I?)?)B?", re.ASCII | re.IGNORECASE)


def parse_bytes(amount: str | int) -> int:
    """A number of bytes, from ``500MB``, ``2GB``, ``1.5GiB`` or plain digits.

    Args:
        amount: Decimal (MB) or binary (MiB) units, of any case; an integer is taken as it is.

    Raises:
        InvalidArgument: It is no such amount, or zero.

    Example:
        >>> parse_bytes("500MB"), parse_bytes("2GiB"), parse_bytes("1.5 g")
        (500000000, 2147483648, 1500000000)
    """
    match = _AMOUNT.fullmatch(str(amount).strip())
    size = int(float(match["number"]) * _UNITS[match["unit"].upper()]) if match else 0
    if size < 1:
        raise InvalidArgument(f"{str(amount)!r} is no amount of memory: pass one like 500MB, 2GB or 2GiB")
    return size
