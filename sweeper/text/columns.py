"""Text in columns for terminals and files, shared by the live view and the tables."""

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

Line = list[tuple[str, str]]  # pieces of text, each with a Rich style ("" for none)

# --- text -------------------------------------------------------------------------------------------


def value_text(value: float | None) -> str:
    """Format a loss or score with 4 decimals, or 4 significant digits if it is very small or large; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e5 else f"{value:.4g}"


def duration_text(seconds: float | None) -> str:
    """Format a duration: 0:42, 12:04, 3:10:22, 2d 03h; "-" for none."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h:02}h"
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def clean(text: str) -> str:
    """Remove terminal escapes and control characters, except tabs and newlines."""
    without_escapes = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", without_escapes)


def join(words: Sequence[str], last: str = "and") -> str:
    """Join words as a sentence does: "a", "a and b", "a, b and c"."""
    return f" {last} ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def plain_text(line: Line) -> str:
    """Return the line without its styles."""
    return "".join(text for text, _ in line).rstrip()


def width_of(text: str) -> int:
    """Return the number of terminal cells that the text takes. A wide character takes two."""
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int, unicode: bool = True) -> str:
    """Cut the text to at most `width` cells, with an ellipsis at the end."""
    from rich.cells import set_cell_size

    if width_of(text) <= width:
        return text
    mark = ("…" if unicode else "..")[: max(width, 0)]
    return set_cell_size(text, max(width - len(mark), 0)).rstrip() + mark


def wrap(text: str, width: int | None, style: str = "") -> list[Line]:
    """Break a paragraph into lines of at most `width` cells, by default 100."""
    return [[(line, style)] for line in textwrap.wrap(text, width or 100, break_on_hyphens=False)] or [[("", style)]]


# --- columns ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: The heading.
        cells: One text per row.
        priority: Columns of the lowest priority are dropped first if the width is too small.
        right: Whether cells are aligned right.
        min_width: Cells to which it may be shortened; None if it must not be, as for a number.
    """

    head: str
    cells: Sequence[str]
    priority: int = 0
    right: bool = True
    min_width: int | None = None

    @property
    def width(self) -> int:
        """Cells of the widest entry."""
        return max(map(width_of, (self.head, *self.cells)))

    @property
    def smallest_width(self) -> int:
        """Cells that it takes at least."""
        return self.width if self.min_width is None else min(self.width, self.min_width)


def total_width(columns: Sequence[Column], gap: int = 2) -> int:
    """Return the cells that the columns take side by side, `gap` cells between them."""
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def fit_columns(columns: Sequence[Column], width: int | None, gap: int = 2) -> list[Column]:
    """Return the columns that fit into `width` cells (None: all). Those of the lowest priority are dropped first."""
    fitting = list(columns)
    room = math.inf if width is None else width
    while len(fitting) > 1 and sum(column.smallest_width for column in fitting) + gap * (len(fitting) - 1) > room:
        fitting.remove(min(fitting, key=lambda column: column.priority))
    return fitting


def blocks(columns: Sequence[Column], width: int | None, gap: int = 2) -> list[list[Column]]:
    """Return all columns in blocks that fit into `width` cells (None: one block). Each begins with the first column."""
    names, *others = columns
    found: list[list[Column]] = [[names]]
    for column in others:
        fits = width is None or total_width([*found[-1], column], gap) <= width
        if not fits and len(found[-1]) > 1:
            found.append([names])
        found[-1].append(column)
    return found


def lay_out(
    columns: Sequence[Column],
    width: int | None,
    *,
    styles: Mapping[int, str] | None = None,
    unicode: bool = True,
    gap: int = 2,
) -> list[Line]:
    """Return the headings and one line per row.

    Columns of the lowest priority are dropped until the others fit. Then cells are shortened where they may be.

    Args:
        columns: The columns, all with equally many cells.
        width: Cells of a line at most; None for no limit.
        styles: Rich styles by row, counted from 0.
        unicode: Whether the output can show more than ASCII.
        gap: Cells between columns.
    """
    fitting = fit_columns(columns, width, gap)
    excess = 0.0 if width is None else float(total_width(fitting, gap) - width)
    widths = []
    for column in fitting:
        cut = max(0, min(excess, column.width - column.smallest_width))
        widths.append(int(column.width - cut))
        excess -= cut
    rows = [[column.head for column in fitting], *zip(*(column.cells for column in fitting), strict=True)]
    lines: list[Line] = []
    for number, row in enumerate(rows):
        cells = [_cell(text, column, w, unicode) for text, column, w in zip(row, fitting, widths, strict=True)]
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
    """Whether the stream can only show lines: a pipe, a file, a CI log, a terminal that cannot move its cursor."""
    try:
        is_terminal = out.isatty()
    except ValueError:  # closed
        is_terminal = False
    return not is_terminal or os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def has_unicode(out: TextIO) -> bool:
    """Whether the stream can show the characters of bars and curves, by its encoding and the locale.

    Python writes UTF-8 even in the C locale (PEP 538 and 540; the former sets LC_CTYPE). A user who sets that locale by
    name may have a terminal that cannot show it.
    """
    try:
        "━╸─…▁█".encode(getattr(out, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    is_set_by_python = os.environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    names = ("LC_ALL", "LANG") if is_set_by_python else ("LC_ALL", "LC_CTYPE", "LANG")
    return next(filter(None, map(os.environ.get, names)), "") not in ("C", "POSIX")


def write(draw: Callable[[int | None, bool], list[Line]], out: TextIO | None = None) -> None:
    """Print the lines of `draw(width, unicode)`: styled at a terminal's width, else plain and without a width limit.

    Args:
        draw: Returns the lines. Its width is None if there is no limit.
        out: By default stdout.
    """
    out = sys.stdout if out is None else out
    if is_plain(out):
        for line in draw(None, has_unicode(out)):
            put_line(out, plain_text(line))
        return
    terminal = console(out)
    terminal.print(assemble(draw(terminal.width - 1, has_unicode(out))))


def write_text(paragraphs: Sequence[str]) -> None:
    """Print paragraphs, each from a line of its own, wrapped at a terminal's width."""
    write(lambda width, _: [line for text in paragraphs for line in wrap(text, width)])


def put_line(out: TextIO, text: str) -> None:
    """Write one plain line and flush. Errors are ignored: a closed pipe or terminal must not end a sweep."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        out.write(clean(text).encode(encoding, "replace").decode(encoding) + "\n")
        out.flush()
    except (OSError, ValueError):
        pass
    except RuntimeError:  # a signal handler wrote during a write to the same stream: write after it
        threading.Thread(target=put_line, args=(out, text)).start()


def console(out: TextIO) -> Console:
    """Return a Rich console that treats the stream as a terminal and the text as plain text, without markup."""
    from rich.console import Console

    return Console(file=out, force_terminal=True, force_interactive=True, highlight=False, markup=False, emoji=False)


def assemble(lines: Sequence[Line]) -> Text:
    """Return the lines as Rich prints them: cut at the width, not wrapped."""
    from rich.text import Text

    pieces: list[str | tuple[str, str]] = []
    for number, line in enumerate(lines):
        pieces += ["\n"] if number else []
        pieces += line
    return Text.assemble(*pieces, no_wrap=True, overflow="crop")
