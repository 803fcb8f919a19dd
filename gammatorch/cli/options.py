"""What the commands share: options, how loud they are, and where a result goes."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gammatorch.architectures.base import PLACES
from gammatorch.checkpoints.opening import DEFAULT_MODEL
from gammatorch.errors import GammatorchError, InvalidArgument
from gammatorch.gains.memory import parse_bytes

if TYPE_CHECKING:
    from gammatorch.result import Result
    from gammatorch.results.base import Document

_JSON = "gammatorch.json"
"""Where a call keeps that --json was given, until --format is read."""

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """How loud this call is.

    Attributes:
        verbose: Tracebacks on errors, and what goes on below.
        quiet: No progress, no notices.
        progress: Progress bars, where there is a terminal for them.
    """

    verbose: bool = False
    quiet: bool = False
    progress: bool = True

    def notice(self, message: str) -> None:
        """One line on stderr, unless quiet."""
        if not self.quiet:
            click.echo(f"gammatorch: {message}", err=True)


def _be_verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).verbose = True
        log = logging.getLogger("gammatorch")
        log.setLevel(logging.INFO)
        log.handlers = [logging.StreamHandler()]
        log.handlers[0].setFormatter(logging.Formatter("gammatorch: %(message)s"))


def _set(name: str, flipped: bool = False) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.ensure_object(Session), name, not flipped)

    return callback


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _amount(context: click.Context, parameter: click.Parameter, value: str) -> int:
    try:
        return parse_bytes(value)
    except InvalidArgument as error:
        raise click.BadParameter(error.message, context, parameter) from None


def _want_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[_JSON] = value


def _form(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The form asked for, by either option."""
    return "json" if context.meta.get(_JSON) else value


def check_selection(site: str, stack: str | None, pattern: str | None) -> None:
    """Refuse options that contradict each other."""
    if pattern is not None and (stack is not None or site != "auto"):
        raise click.UsageError("--pattern says which tensors to read: leave --site and --stack out")


hub_options = _all(
    click.option(
        "--token", metavar="TOKEN", help="Access token for the Hub; by default the one that `hf auth login` stored."
    ),
    click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache of what was read from the Hub."),
)
model_options = _all(
    click.argument("model", required=False),
    click.option("--revision", metavar="R", help="Branch, tag or commit on the Hub."),
    hub_options,
)
_SITE_HELP = "Which norm of the block; auto: input, or the nearest equivalent where the model has none there"
site_option = click.option(
    "--site", type=click.Choice(["auto", *PLACES]), default="auto", show_default=True, help=f"{_SITE_HELP}."
)
ALL = "all"
"""Stands for every site of a stack."""

compared_site_option = click.option(
    "--site",
    type=click.Choice(["auto", ALL, *PLACES]),
    default="auto",
    show_default=True,
    help=f"{_SITE_HELP}; all: every site that all have.",
)
sites_option = click.option(
    "--site",
    type=click.Choice(["auto", ALL, *PLACES]),
    multiple=True,
    default=("auto",),
    show_default=True,
    help=f"{_SITE_HELP}; all: every site of the stack. May be repeated.",
)
tensor_options = _all(
    click.option("--stack", metavar="NAME", help="Which stack to read, if there are several; `inspect` lists them."),
    click.option(
        "--pattern",
        metavar="KEYS",
        help="Read these tensors instead of a site: 'model.layers.{layer}.input_layernorm.weight'.",
    ),
    click.option(
        "--raw", is_flag=True, help="Use the stored weights as they are, without adding the 1 of zero-centred norms."
    ),
)
selection_options = _all(site_option, tensor_options)
device_options = _all(
    click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute."
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float64", "float32"]),
        default="float64",
        show_default=True,
        help="Precision of the computation.",
    ),
)
memory_option = click.option(
    "--memory",
    callback=_amount,
    default="2GB",
    show_default=True,
    metavar="BYTES",
    help="Gains that do not fit into this much memory are read and analysed in column blocks.",
)
analysis_options = _all(
    click.option(
        "--method",
        type=click.Choice(["auto", "svd", "gram", "project"]),
        default="auto",
        show_default=True,
        help="How the principal axes are found; auto: svd up to a width of 65,536 (sweeps: gram), then gram, "
        "project from 512 layers.",
    ),
    click.option(
        "--dims",
        type=int,
        default=4096,
        show_default=True,
        metavar="K",
        help="Numbers kept of each layer by the method project, and by sweeps of layers too wide to store.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the projection."),
    memory_option,
    click.option(
        "--phases",
        default="auto",
        show_default=True,
        metavar="auto|qwen3-32b|BOUNDS",
        help="Runs of layers to compare: found in the data (auto), a preset, or bounds like 'early=0-9,late=10-'.",
    ),
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result to this file; the suffix tells the format: .json, .html, .png, .svg, .csv, .jsonl, "
    ".parquet, .sqlite.",
)


def _format_options(*forms: str) -> Callable[[Command], Command]:
    """``--format`` with a choice of forms, the first if none is asked for, and ``--json``."""
    return _all(
        click.option(
            "--format",
            type=click.Choice(forms),
            default=forms[0],
            show_default=True,
            callback=_form,
            help="What to print on stdout.",
        ),
        click.option(
            "--json",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_want_json,
            help="The same as --format json.",
        ),
    )


format_option = _format_options("table", "json")
report_format_option = _format_options("table", "json", "junit")
loudness_options = _all(
    click.option(
        "--no-progress", is_flag=True, expose_value=False, callback=_set("progress", True), help="No progress bar."
    ),
    click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set("quiet"), help="Print results only."),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_be_verbose,
        help="Show tracebacks of errors, what is retried, and why something is not cached.",
    ),
)

__all__ = [
    "DEFAULT_MODEL",
    "Session",
    "analysis_options",
    "check_selection",
    "device_options",
    "format_option",
    "hub_options",
    "loudness_options",
    "memory_option",
    "model_options",
    "out_option",
    "selection_options",
    "sites_option",
    "tensor_options",
]


def start_device(models: Sequence[str], device: str) -> None:
    """Import PyTorch and make the device ready beside what comes next, where that is round trips to the Hub.

    Args:
        models: What is opened next.
        device: Name of the device.
    """
    from gammatorch.checkpoints.locate import is_hub_id

    def start() -> None:
        from gammatorch.gains.device import choose_device

        with contextlib.suppress(GammatorchError):  # what is wrong with it is told where it is needed
            choose_device(device)

    if any(map(is_hub_id, models)):
        threading.Thread(target=start, name="gammatorch-start").start()


def show(
    session: Session,
    form: str,
    out: Path | None,
    document: Callable[[], Document] | Sequence[Callable[[], Document]],
    print_tables: Callable[[Any], None],
    results: Sequence[Result] = (),
) -> None:
    """Print the result and write it; a reader that closes the pipe early does not cost the file.

    Args:
        session: How loud this call is.
        form: ``"table"`` or ``"json"``.
        out: File to write, if any.
        document: Makes the document; several make an array of them, unless it is one alone.
        print_tables: Prints the tables to a console.
        results: The results themselves, of which one alone is written in the format that the file's suffix tells.

    Raises:
        UsageError: There are several results, and the format holds one.
    """
    from gammatorch.reports.console import make_console
    from gammatorch.reports.document import write_atomically

    if other := is_other(out):
        text = _as_json(document) if form == "json" else ""
    else:
        text = _as_json(document) if form == "json" or out is not None else ""
    try:
        if form == "json":
            click.echo(text, nl=False)
        else:
            print_tables(make_console())
    finally:
        if out is not None:
            if other:
                results[0].save(out)
            else:
                write_atomically(out, text)
            session.notice(f"saved {out}")


def is_other(out: Path | None) -> bool:
    """Whether the name of a file tells another format than JSON."""
    from gammatorch.reports.document import SUFFIXES

    return out is not None and out.suffix.lower() in SUFFIXES and out.suffix.lower() != ".json"


def check_suffix(out: Path | None, form: str, count: int) -> None:
    """Refuse a name that contradicts the format that was asked for, or that cannot hold what there is to write.

    Args:
        out: File to write, if any.
        form: What --format says.
        count: How many results there are.
    """
    if not is_other(out):
        return
    if form == "json":
        raise click.UsageError(f"--format json does not fit the name {out}: pass a name that ends in .json")
    if count > 1:
        raise click.UsageError(f"{out} holds one result, and there are several: pass a name that ends in .json")


def _as_json(document: Callable[[], Document] | Sequence[Callable[[], Document]]) -> str:
    from gammatorch.results.files import to_json

    texts = [to_json(make()) for make in (document if isinstance(document, Sequence) else [document])]
    return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(map(str.rstrip, texts)) + "\n]\n"
