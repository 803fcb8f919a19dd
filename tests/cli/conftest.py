"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from gammatorch.cli import main


class Done(NamedTuple):
    """What a call printed and how it ended."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def call(capsys) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run
