"""The command line: parse, call, render. The only place that knows click."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from gammatorch.cli.bench import bench
from gammatorch.cli.check import check
from gammatorch.cli.compare import compare
from gammatorch.cli.export import export
from gammatorch.cli.help import explain, help
from gammatorch.cli.inspect import inspect
from gammatorch.cli.options import Session
from gammatorch.cli.report import report
from gammatorch.cli.run import run
from gammatorch.cli.sweep import sweep
from gammatorch.errors import GammatorchError
from gammatorch.version import __version__

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Read the norm gains γ of every layer out of a checkpoint, without loading the model, and tell what their
    directions say.

    MODEL is a folder, a weight file, a *.index.json, or org/name[@revision] on the Hugging Face Hub.

    `gammatorch run --demo` shows an example. `gammatorch help` lists the pages of the manual, and
    `gammatorch explain NAME` tells what any name on screen or in a file means. Every option can be set in the
    environment as GAMMATORCH_<COMMAND>_<OPTION>.
    """


cli.add_command(run)
cli.add_command(inspect)
cli.add_command(compare)
cli.add_command(check)
cli.add_command(sweep)
cli.add_command(export)
cli.add_command(report)
cli.add_command(explain)
cli.add_command(help)
cli.add_command(bench)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 4 items of a sweep failed,
    130 interrupted."""
    try:
        session = Session()
        gc.set_threshold(YOUNG_OBJECTS)
        _accept_any_terminal()
        with _notices(session):
            code = _invoke(arguments, session)
    except (KeyboardInterrupt, click.Abort):
        _leave()
    except BrokenPipeError:  # the reader of our output (`| head`) has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


YOUNG_OBJECTS = 200_000
"""Objects between two garbage collections. A large header makes 140,000 that live to the end of the run."""


def _invoke(arguments: Sequence[str] | None, session: Session) -> int:
    try:
        code = cli.main(
            arguments, prog_name="gammatorch", auto_envvar_prefix="GAMMATORCH", standalone_mode=False, obj=session
        )
        sys.stdout.flush()
        return code or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort, BrokenPipeError):
        raise
    except GammatorchError as error:
        if session.verbose:
            _show_traceback()
        _complain(f"error: {error}")
    except OSError as error:
        if session.verbose:
            _show_traceback()
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"error: {where}{error.strerror or error} (-v shows where)")
    except Exception as error:
        if session.verbose:
            _show_traceback()
        _complain(f"error: unexpected {type(error).__name__}: {error} (-v shows where; please report it)")
    return EXIT_FAILED


class _Notices(logging.Handler):
    """Warnings of the library as notices of the command line, each kind of them once."""

    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self._session = session
        self._given: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg not in self._given:
            self._given.add(record.msg)
            with contextlib.suppress(OSError):  # nobody reads them
                self._session.notice(record.getMessage())


@contextlib.contextmanager
def _notices(session: Session) -> Iterator[None]:
    """Let the library's warnings be seen; -v, which shows more, takes their place."""
    log = logging.getLogger("gammatorch")
    handlers, level = log.handlers, log.level
    log.handlers = [*handlers, _Notices(session)]
    try:
        yield
    finally:
        log.handlers = handlers
        log.setLevel(level)


def _leave() -> NoReturn:
    """End after an interrupt, whatever other threads are doing and however often Ctrl-C is pressed meanwhile.

    The interpreter's own way out waits for threads that wait for a server, fails in those that begin another, and shows
    a traceback where it is interrupted.
    """
    with contextlib.suppress(ValueError):  # only the main thread may say so, and only it is interrupted
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        _complain("interrupted")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(EXIT_INTERRUPTED)


def _accept_any_terminal() -> None:
    """One without UTF-8 shows a question mark for γ, and a stream that was closed takes what it is given."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _show_traceback() -> None:
    click.echo(_without_secrets(traceback.format_exc()), err=True, nl=False)


def _complain(message: str) -> None:
    from gammatorch.reports.text import printable

    click.echo(f"gammatorch: {printable(' '.join(_without_secrets(message).split()), 1000)}", err=True)


def _without_secrets(text: str) -> str:
    """The text, its addresses without their queries: these may be signatures that give access."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1?…", text)
