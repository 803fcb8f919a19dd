"""What pages and figures need beside this package."""

from __future__ import annotations

from importlib.util import find_spec

from gammatorch.errors import InvalidArgument


def need_plotly() -> None:
    """Say how to get plotly where it is missing.

    Raises:
        InvalidArgument: It is not installed.
    """
    if not _is_there("plotly"):
        raise InvalidArgument("figures need plotly: pip install 'gammatorch[report]'")


def need_kaleido() -> None:
    """Say how to get kaleido, with which Plotly draws picture files, where it is missing.

    Raises:
        InvalidArgument: It is not installed.
    """
    if not _is_there("kaleido"):
        raise InvalidArgument("picture files need kaleido: pip install kaleido, and have Chrome or Chromium")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that is None, as tests make it
        return False
