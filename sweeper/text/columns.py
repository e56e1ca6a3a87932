"""Text in columns at a width, on a terminal or in a file: what the live view and the tables have in common."""

from __future__ import annotations

import math
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Line = list[tuple[str, str]]  # pieces of text, each with a style of rich ("" for none)

# --- text -------------------------------------------------------------------------------------------


def value_text(value: float | None) -> str:
    """A loss or score: 4 decimals, or 4 significant digits where 4 decimals would say nothing; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e5 else f"{value:.4g}"


def duration_text(seconds: float | None) -> str:
    """0:42, 12:04, 3:10:22, 2d 03h; "-" for none."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h:02}h"
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def clean(text: str) -> str:
    """The text without terminal escapes and control characters; tabs and line ends stay."""
    without_escapes = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", without_escapes)


def plain_text(line: Line) -> str:
    """The line without its styles."""
    return "".join(text for text, _ in line).rstrip()


def width_of(text: str) -> int:
    """Cells that the text takes on a terminal (a wide character takes two)."""
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int, unicode: bool = True) -> str:
    """The text in at most `width` cells, an ellipsis in place of what is cut off."""
    from rich.cells import set_cell_size

    if width_of(text) <= width:
        return text
    mark = ("…" if unicode else "..")[: max(width, 0)]
    return set_cell_size(text, max(width - len(mark), 0)).rstrip() + mark


def wrap(text: str, width: int | None, style: str = "") -> list[Line]:
    """A paragraph as lines no longer than `width`."""
    return [[(line, style)] for line in textwrap.wrap(text, width or 100, break_on_hyphens=False)] or [[("", style)]]


# --- columns ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of a table. priority: the column with the least is the first to go where the width is too small;
    least: cells it may be shorten to, None where a shorten cell would be wrong (a number).
    """  # fmt: skip

    head: str
    cells: Sequence[str]
    priority: int
    right: bool = True
    min_width: int | None = None

    @property
    def width(self) -> int:
        return max(map(width_of, (self.head, *self.cells)))

    @property
    def smallest_width(self) -> int:
        return self.width if self.min_width is None else min(self.width, self.min_width)


def total_width(columns: Sequence[Column], gap: int = 2) -> int:
    """Cells that the columns take side by side."""
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def fit_columns(columns: Sequence[Column], width: int | None, gap: int = 2) -> list[Column]:
    """The columns that have room in `width` cells (None: all): the least important ones go first."""
    kept = list(columns)
    room = math.inf if width is None else width
    while len(kept) > 1 and sum(column.smallest_width for column in kept) + gap * (len(kept) - 1) > room:
        kept.remove(min(kept, key=lambda column: column.priority))
    return kept


def lay_out(
    columns: Sequence[Column],
    width: int | None,
    *,
    styles: Mapping[int, str] | None = None,
    unicode: bool = True,
    gap: int = 2,
) -> list[Line]:
    """The head and one line a row, none longer than `width` (None: as long as they are).

    Columns go, the least important first, until the others fit; then those that may are shorten. styles: of
    rows by their number.
    """
    kept = fit_columns(columns, width, gap)
    over = 0.0 if width is None else float(total_width(kept, gap) - width)
    widths = []
    for column in kept:
        cut = max(0, min(over, column.width - column.smallest_width))
        widths.append(int(column.width - cut))
        over -= cut
    rows = [[column.head for column in kept], *zip(*(column.cells for column in kept), strict=True)]
    lines: list[Line] = []
    for number, row in enumerate(rows):
        cells = [_cell(text, column, w, unicode) for text, column, w in zip(row, kept, widths, strict=True)]
        style = "dim" if number == 0 else (styles or {}).get(number - 1, "")
        text = (" " * gap).join(cells).rstrip()
        lines.append([(text if width is None else shorten(text, width, unicode), style)])
    return lines


def _cell(text: str, column: Column, width: int, unicode: bool) -> str:
    text = shorten(text, width, unicode)
    space = " " * (width - width_of(text))
    return space + text if column.right else text + space


# --- streams ----------------------------------------------------------------------------------------


def is_plain(out: TextIO) -> bool:
    """Whether the stream shows lines alone: piped, a file, a CI log, a terminal that cannot move its cursor."""
    try:
        terminal = out.isatty()
    except ValueError:  # closed
        terminal = False
    return not terminal or os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def has_unicode(out: TextIO) -> bool:
    """Whether the stream has the characters of our bars and curves: its encoding, and the locale that was asked for.

    In the locale C Python writes UTF-8 all the same (PEP 538, 540, the former by setting LC_CTYPE), but who asks for
    it by name has a terminal that is not to be trusted with it.
    """
    try:
        "━╸─…▁█".encode(getattr(out, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    of_python = os.environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    names = ("LC_ALL", "LANG") if of_python else ("LC_ALL", "LC_CTYPE", "LANG")
    return next(filter(None, map(os.environ.get, names)), "") not in ("C", "POSIX")


def write(draw: Callable[[int | None, bool], list[Line]], out: TextIO | None = None) -> None:
    """Print what `draw(width, unicode)` makes: in colour at a terminal's width, else plain and as wide as it is."""
    out = sys.stdout if out is None else out
    if is_plain(out):
        for line in draw(None, has_unicode(out)):
            put_line(out, plain_text(line))
        return
    shown = console(out)
    shown.print(assemble(draw(shown.width - 1, has_unicode(out))))


def put_line(out: TextIO, text: str) -> None:
    """One plain line at once. A pipe that was closed or a terminal that is gone must not end a sweep."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        out.write(clean(text).encode(encoding, "replace").decode(encoding) + "\n")
        out.flush()
    except (OSError, ValueError):
        pass
    except RuntimeError:  # said by a signal's handler while this very stream was being written to: after that, then
        threading.Thread(target=put_line, args=(out, text)).start()


def console(out: TextIO) -> Console:
    """Rich on that stream, taken for a terminal; nothing in the text is read as markup."""
    from rich.console import Console

    return Console(file=out, force_terminal=True, force_interactive=True, highlight=False, markup=False, emoji=False)


def assemble(lines: Sequence[Line]) -> Text:
    """The lines as rich prints them, cut at the width instead of wrap."""
    from rich.text import Text

    pieces: list[str | tuple[str, str]] = []
    for number, line in enumerate(lines):
        pieces += ["\n"] if number else []
        pieces += line
    return Text.assemble(*pieces, no_wrap=True, overflow="crop")
