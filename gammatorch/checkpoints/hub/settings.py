"""The settings that huggingface_hub reads when it is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gammatorch.errors import InvalidArgument


@contextmanager
def importing_hub() -> Iterator[None]:
    """Imports that bring huggingface_hub along, and nothing else: it takes numbers from the environment.

    Raises:
        InvalidArgument: One of them is none.
    """
    try:
        yield
    except ValueError as error:
        raise InvalidArgument(
            f"huggingface_hub does not take a setting of the environment ({error}): look at those that begin with HF_"
        ) from None
