"""What pages need beside this package."""

from __future__ import annotations

import importlib
import logging

from gammatorch.errors import InvalidArgument


def need_matplotlib() -> None:
    """Import what draws, or say how to get it; what matplotlib tells of fonts and caches is no concern of ours.

    Raises:
        InvalidArgument: It is not installed.
    """
    log = logging.getLogger("matplotlib")
    if log.level == logging.NOTSET:
        log.setLevel(logging.ERROR)
    try:
        importlib.import_module("gammatorch.reports.pictures.canvas")
    except ImportError as error:
        raise InvalidArgument(f"report needs matplotlib ({error}): pip install 'gammatorch[report]'") from None
