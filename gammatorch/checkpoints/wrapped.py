"""A source of bytes that stands before another one."""

from __future__ import annotations

from collections.abc import Mapping

from gammatorch.checkpoints.base import ByteSource, Traffic


class WrappedSource:
    """All of a source but its reads.

    Args:
        source: The source behind.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """The underlying source's."""
        return self._source.name

    @property
    def revision(self) -> str | None:
        """The underlying source's."""
        return self._source.revision

    @property
    def files(self) -> Mapping[str, int]:
        """The underlying source's."""
        return self._source.files

    @property
    def traffic(self) -> Traffic:
        """The underlying source's."""
        return self._source.traffic

    def speculate(self, file: str) -> int:
        """As the underlying source."""
        return self._source.speculate(file)

    def close(self) -> None:
        """Close the underlying source."""
        self._source.close()
