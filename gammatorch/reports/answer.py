"""The first screen of a run: the verdict, the figures that bear it, a small picture, in at most 20 lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from gammatorch.analysis.result import Analysis
from gammatorch.architectures.base import PLACES
from gammatorch.gains.stack import Origin
from gammatorch.reports.console import NARROWEST, Row, cut, folded_lines, reading_width, table_lines
from gammatorch.reports.says import says_rows
from gammatorch.reports.strips import BLOCKS, DIGITS, has_blocks, has_shades, heat_map, strip
from gammatorch.reports.text import moved, plural, printable, size
from gammatorch.results.run import run_statistics

MOST_LINES = 20
"""Lines of the screen, unless warnings alone are longer."""

_MOST_FIGURES, _FEWEST_FIGURES = 5, 2
_SIDE, _GAP = 12, 2
"""Cells along a side of the map, and spaces before it."""

_ROOM_FOR_MAP = 72
"""Columns from which on the map stands beside the strips."""

_MEAN = "mean rank correlation"
BEARING = {
    "shared-direction": (_MEAN, "shared energy", "misfit of one direction", "loss with depth", "participation ratio"),
    "drift": (_MEAN, "loss with depth", "loss, noise removed", "order of layers", "misfit of one direction"),
    "phases": (_MEAN, "phases found", "order of layers", "loss with depth", "misfit of one direction"),
    "several-directions": (
        *(_MEAN, "shared directions", "misfit of one direction", "order of layers", "participation ratio"),
    ),
    "layer-specific": (_MEAN, "first eigenvalue", "shared directions", "shared energy", "participation ratio"),
    "undecided": (_MEAN, "loss with depth", "order of layers", "misfit of one direction", "shared energy"),
    "degenerate": ("shared energy",),
}
"""The figures that a verdict rests on, by verdict, the most important first."""

_SUSPECT = "suspect"
"""How a note begins that puts the whole result in doubt."""


def print_answer(analysis: Analysis, console: Console) -> None:
    """Print the answer of a run: what was read, the verdict, its figures, a picture, what it cost."""
    width = max(reading_width(console), NARROWEST)
    top = [*_head(analysis, width), *_doubts(analysis, width)]
    if analysis.num_layers == 1:
        table, picture = [], [Text(_one_layer(analysis)), *map(Text, _ending(analysis))]
    else:
        picture = _picture(analysis, console, width, has_map=len(top) + 10 <= MOST_LINES)
        room = MOST_LINES - len(top) - len(picture) - 3
        table = _table(analysis, console, width, max(_FEWEST_FIGURES, min(_MOST_FIGURES, room)))
    for line in top:
        console.print(line)
    if table:
        console.print()
    for row in table:
        console.out(row, highlight=False)
    console.print()
    for line in picture:
        console.print(line)


def print_sites(analyses: Sequence[Analysis], console: Console) -> None:
    """Print one line for each site that was read."""
    rows = [
        (
            printable(analysis.gains.site, 24) if analysis.gains else "-",
            analysis.answer.verdict,
            f"{analysis.answer.support:.2f}",
            _shown(analysis.statistics["mean_rank_correlation"]["value"]),
            f"{analysis.num_layers} × {analysis.hidden}",
        )
        for analysis in analyses
    ]
    columns = ("<site", "<verdict", "support", "mean rank r", "<shape")
    model = f"{printable(gains.model)}: " if (gains := analyses[0].gains) is not None else ""
    width = max(reading_width(console), NARROWEST)
    console.print(Text(cut(f"{model}{plural(len(analyses), 'site')}", width), style="bold"))
    for line in table_lines(console, columns, rows, width, least=("shape", "support"))[0]:
        console.out(line, highlight=False)
    console.print()


def short_cost(analysis: Analysis, gains: Origin) -> str:
    """What was read and how long it took, in a few words."""
    read = moved(gains.bytes_read, gains.bytes_cached)
    seconds = analysis.seconds + gains.seconds
    return f"read {read} of {size(gains.checkpoint_bytes)}, {seconds:.2f} s on {analysis.device}"


def _head(analysis: Analysis, width: int) -> Iterator[Text]:
    """What was read, the verdict, its sentence."""
    shape = f"{plural(analysis.num_layers, 'layer')} × {analysis.hidden}"
    gains = analysis.gains
    if gains is None:
        yield Text(shape, style="bold")
    else:
        commit = f" @ {gains.revision[:7]}" if gains.revision else ""
        facts = f"{commit} · site {printable(gains.site, 24)}{_instead(gains)} · {shape}"
        yield Text(cut(printable(gains.model), width - len(facts)) + facts, style="bold")
    verdict = analysis.answer.verdict
    yield Text(f"Verdict: {verdict}, support {analysis.answer.support:.2f}", style="bold")
    yield from map(Text, folded_lines(printable(analysis.answer.sentence, None), width))


def _instead(gains: Origin) -> str:
    """That a norm at another place is read, where the model has none on the input."""
    return " (no input norm)" if gains.site_reason.startswith("no learned norm") else ""


def _doubts(analysis: Analysis, width: int) -> Iterator[Text]:
    """Why another site was read than one would think, and notes that put the result in doubt."""
    gains = analysis.gains
    if gains is not None and gains.site_reason != PLACES.get(gains.site, "the pattern asked for"):
        yield from map(Text, folded_lines(f"site {gains.site}: {printable(gains.site_reason, None)}", width, "  "))
    for note in analysis.notes:
        if note.startswith(_SUSPECT):
            lines = folded_lines(f"note: {printable(note, None)}", width, "  ")
            yield from (Text(line, style="yellow") for line in lines)


def _table(analysis: Analysis, console: Console, width: int, most: int) -> list[str]:
    """The lines of the figures that bear the verdict."""
    ranked = analysis.statistics["rank_correlation"] is not None
    rows = {row[0]: row for row in says_rows(run_statistics(analysis), analysis.num_layers, ranked=ranked, digits=3)}
    names = (name if ranked or name != _MEAN else "mean pearson" for name in BEARING[analysis.answer.verdict])
    found: list[Row] = [rows[name] for name in names if name in rows and rows[name][1] != "-"][:most]
    if not found:
        return []
    columns = ("<figure", "value", "low", "high", "<reference")
    lines, _ = table_lines(console, columns, found, width, least=("reference",), folded=("reference",))
    return lines


def _picture(analysis: Analysis, console: Console, width: int, has_map: bool) -> list[Text]:
    """Strips over layers, with a map of the correlations beside them where there is room, notes and cost."""
    ranks = analysis.statistics["rank_correlation"]
    name, matrix = ("rank r", ranks) if ranks is not None else ("pearson", analysis.statistics["pearson"])
    coloured = has_shades(console)
    cells: list[list[float]] = matrix.tolist()
    shown = heat_map(cells, _SIDE, coloured=coloured) if has_map and width >= _ROOM_FOR_MAP else []
    side = max((len(line.plain) for line in shown), default=0)
    room = width - side - _GAP if shown else width
    left = list(_strips(analysis, name, cells, room, BLOCKS if has_blocks(console) else DIGITS))
    if shown:
        left.append(f"right: {name} between every two layers, first layer at top left;")
        left.append("blue -1, white 0, orange +1" if coloured else "- is below 0, and . : + * # @ go from 0 to 1")
    left += _ending(analysis)
    beside = [line if len(line) <= room else None for line in left]
    below = [Text(line) for line, fits in zip(left, beside, strict=True) if fits is None]
    lines = zip_longest([line for line in beside if line is not None], shown)
    return [*(_beside(text or "", part, room) for text, part in lines), *below]


def _beside(text: str, part: Text | None, room: int) -> Text:
    line = Text(text) if part is None else Text(text.ljust(room + _GAP)).append_text(part)
    line.rstrip()
    return line


def _strips(analysis: Analysis, name: str, cells: Sequence[Sequence[float]], room: int, levels: str) -> Iterator[str]:
    """RMS γ and the correlation with the next layer, each with its range."""
    rms = [length / math.sqrt(analysis.hidden) for length in analysis.norms.tolist()]
    following = [row[number] for number, row in enumerate(cells[:-1], start=1)]
    labels = ("RMS γ", f"{name} with next layer")
    ranges = (_range(rms, _size), _range(following, "{:.2f}".format))
    label, wide = max(map(len, labels)), max(map(len, ranges))
    long = room - label - wide - _GAP - 1
    drawn = (strip(rms, long, levels=levels), strip(following, long, levels=levels, high=1.0, pick=min))
    for title, between, line in zip(labels, ranges, drawn, strict=True):
        yield f"{title.ljust(label + _GAP)}{between.ljust(wide + 1)}{line}"


def _range(values: Sequence[float], shown: Callable[[float], str]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{shown(min(known))}..{shown(max(known))}" if known else "undefined"


def _ending(analysis: Analysis) -> list[str]:
    """How many notes there are, and what the run cost."""
    others = [note for note in analysis.notes if not note.startswith(_SUSPECT)]
    lines = [f"{plural(len(others), 'note')}: --full shows {'it' if len(others) == 1 else 'them'}"] if others else []
    return lines + ([short_cost(analysis, analysis.gains)] if analysis.gains is not None else [])


def _one_layer(analysis: Analysis) -> str:
    length = float(analysis.norms[0])
    return f"‖γ‖ {length:.4g}, RMS γ {length / math.sqrt(analysis.hidden):.4g}"


def _size(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
