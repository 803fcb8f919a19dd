"""What became of an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gammatorch.errors import GammatorchError


@dataclass(frozen=True)
class Failure:
    """An item that could not be read, analysed or even planned.

    Attributes:
        key: Of the item; of what was asked for where there is none.
        name: The name it goes by.
        kind: Class of the error.
        message: What is wrong and what to do.
    """

    key: str
    name: str
    kind: str
    message: str

    @classmethod
    def of(cls, key: str, name: str, error: BaseException) -> Failure:
        """The failure that an error makes.

        Args:
            key: Key of the item.
            name: Its name.
            error: What was raised.
        """
        message = str(error) if isinstance(error, GammatorchError) else f"unexpected {type(error).__name__}: {error}"
        return cls(key, name, type(error).__name__, message)


@dataclass(frozen=True)
class Outcome:
    """What became of one item in this run; what it holds is in the store.

    Attributes:
        key: Of the item.
        status: ``"done"``; ``"present"``: another process had done it; ``"failed"``.
        bytes_read: Bytes moved for it.
        failure: Why it failed.
    """

    key: str
    status: Literal["done", "present", "failed"]
    bytes_read: int = 0
    failure: Failure | None = None
