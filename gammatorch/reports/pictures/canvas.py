"""What all pictures have in common: how they look, how names get into them, and how they become SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gammatorch.reports.text import printable

WIDTH, HEIGHT = 4.4, 2.9
"""Inches. Small, so that letters stay legible where a telephone shows the picture at three quarters of its size."""

MARKED = 160
"""Points of a curve up to which each has a dot."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#801f6a", "#b04dff", "#0a2586", "#6a4a12", "#5c5c5c")
"""Okabe and Ito's blue, vermilion and green; the rest of theirs is too pale for a line on white, and is replaced."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""The dots of a curve, one shape for each colour: they tell curves apart where colours do not, as in grey print."""

_DASHES = ("-", "--", ":", "-.")

MOST_LOOKS = len(COLOURS) * len(_DASHES)
"""Curves that can be told apart; those after them begin anew."""

_FONT = "DejaVu Sans"
_STYLE: Mapping[str, str | float | bool] = {
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": _FONT,
    "font.size": 9,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 2.8,
    "svg.fonttype": "path",  # letters as outlines look the same where DejaVu is not installed
    "svg.hashsalt": "gammatorch",  # else names within the file are drawn at random
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}

_UNSTATED = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextmanager
def styled() -> Iterator[None]:
    """The look of the pictures, whatever the caller's or the user's own settings; these are as before afterwards."""
    with style.context(["default", dict(_STYLE)]):
        yield


def canvas(height: float = HEIGHT, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def curve_look(place: int, points: int) -> dict[str, Any]:
    """Colour, dashes and dots of one of several curves.

    Args:
        place: Which of them it is.
        points: How many it has.
    """
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
        "marker": MARKERS[place % len(MARKERS)] if points <= MARKED else "",
    }


def whole_ticks(axis: Axis, most: int) -> None:
    """Ticks at whole numbers alone, even where there is room for one only.

    Args:
        axis: Of layers, steps or whatever else is counted.
        most: Ticks at most, about.
    """
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))


def widen_level(axes: Axes) -> None:
    """Take the y axis of values that differ by rounding alone as that of equal ones: its ticks would be 15 digits long.

    Args:
        axes: With its curves drawn.
    """
    low, high = axes.get_ylim()
    if axes.get_yscale() == "linear" and abs(high - low) < _LEVEL * max(abs(low), abs(high)):
        middle = (low + high) / 2
        axes.set_ylim(middle - 0.05 * abs(middle), middle + 0.05 * abs(middle))


_LEVEL = 1e-8
"""Part of a value below which what differs is not told apart."""


def legend_below(figure: Figure, leave_out: int = 0) -> None:
    """A legend under the axes, where it hides nothing; none where there is nothing to tell.

    Args:
        figure: The figure, drawn.
        leave_out: So many of the first curves are not named.
    """
    handles, names = figure.axes[0].get_legend_handles_labels()
    handles, names = handles[leave_out:], names[leave_out:]
    if names:
        columns = next((count for count in (6, 5, 4, 3, 2) if _fit(names, count)), 1)
        figure.legend(handles, names, loc="outside lower center", ncols=columns, columnspacing=1.4, handlelength=1.6)


def _fit(names: Sequence[str], columns: int) -> bool:
    """Whether names have room in so many columns, the first of which are the longer ones."""
    rows, longer = divmod(len(names), columns)
    ends = list(accumulate(rows + (column < longer) for column in range(columns)))
    longest = [max(map(len, names[start:end]), default=0) for start, end in pairwise([0, *ends])]
    return sum(_POINTS_A_LETTER * letters + _POINTS_A_HANDLE for letters in longest) <= 72 * WIDTH


_POINTS_A_LETTER, _POINTS_A_HANDLE = 4.2, 30
"""Width of a letter in a legend, and of what stands beside a name, about."""


def log_upwards(axes: Axes) -> None:
    """A logarithmic y axis, numbers between the powers of ten where it spans few of them.

    Args:
        axes: With its curves drawn.
    """
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if high < 10 * low else ""))


def power_of_ten(value: float) -> str:
    """A power of ten in a few letters, raised without mathematical typesetting.

    Example:
        >>> power_of_ten(1e-5), power_of_ten(0.01), power_of_ten(100.0)
        ('10⁻⁵', '0.01', '100')
    """
    if 1e-3 < value < 1e4 or value <= 0:  # 0 where a tick would lie below the smallest number there is
        return f"{value:g}"
    return "10" + str(round(math.log10(value))).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def numbers(values: Sequence[float | None]) -> list[float]:
    """A series as it is drawn: where it is undefined, there is a gap."""
    return [math.nan if value is None else float(value) for value in values]


def label(text: str, longest: int = 24) -> str:
    """A name as it may stand in a picture: short, safe, and what the font has no letter for written out.

    Args:
        text: Any text.
        longest: Characters to keep.

    Example:
        >>> label("attn\\u202e"), label("層")
        ('attn\\\\u202e', '\\\\u5c64')
    """
    safe = printable(text, 10 * longest)  # a long name is not looked at letter by letter
    known = "".join(char if _has_letter(char) else char.encode("unicode_escape").decode() for char in safe)
    return printable(known, longest)


@lru_cache(maxsize=4096)
def _has_letter(char: str) -> bool:
    return bool(get_font(findfont(_FONT)).get_char_index(ord(char)))


def to_svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an ``svg`` element that can stand within a page beside others.

    Args:
        figure: The figure; its style is that of :func:`styled`.
        name: Of the picture; ids within it begin with it, so that no two pictures share one. Those that nothing
            refers to are left out: images that are alike have the same.
        alternative: What the picture shows, escaped for HTML.

    Returns:
        SVG without prolog, comments, metadata and styles of its own.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_UNSTATED)
    drawn = buffer.getvalue()
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style\b.*?</style>", "", drawn, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]*)"', drawn)) | set(re.findall(r"url\(#([^)]*)\)", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", drawn)
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"\s*\n\s*", "\n", drawn)
    box = re.search(r'viewBox="([-\d. ]+)"', drawn)
    assert box is not None  # matplotlib writes one
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{alternative}">'
    return head + drawn[drawn.index(">", drawn.index("<svg")) + 1 :].strip()
