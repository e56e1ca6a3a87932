"""Text in columns: what is cut, what goes, and what stays at each width."""

import io
import math
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.text import columns


class Terminal(io.StringIO):
    """A stream that says what a test wants it to say."""

    def __init__(self, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.named = tty, encoding

    def isatty(self) -> bool:
        return self.tty

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only in StringIO too
        return self.named


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (math.inf, "-"), (0, "0:00"), (41.6, "0:42"), (59.7, "1:00"), (724, "12:04"), (11422, "3:10:22"),
     (183600, "2d 03h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert columns.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (math.nan, "-"), (0, "0.0000"), (1.83421, "1.8342"), (-0.5, "-0.5000"), (0.000123456, "0.0001235"),
     (1234567.0, "1.235e+06")],
)  # fmt: skip
def test_values(value, text):
    assert columns.value_text(value) == text


def test_clean_takes_escapes_and_control_characters_and_nothing_else():
    assert columns.clean("\x1b[31mré\x1b[0md\x07\tnext\n\x1b]0;title\x07line\r") == "réd\tnext\nline"


@given(
    st.lists(st.text("abcé漢 ", min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(1, 60),
    st.booleans(),
)
def test_no_line_is_longer_than_the_width(names, width, unicode):
    shown = [
        columns.Column("family", names, 9, right=False, min_width=4),
        columns.Column("best", ["1.2345"] * len(names), 5),
        columns.Column("漢字", names, 1),
    ]
    lines = columns.lay_out(shown, width, unicode=unicode)
    assert len(lines) == len(names) + 1
    assert all(columns.width_of(columns.plain_text(line)) <= width for line in lines)


def test_the_least_important_column_goes_first_and_numbers_are_never_cut():
    shown = [
        columns.Column("name", ["a long name"], 9, right=False, min_width=4),
        columns.Column("x", ["123456"], 1),
        columns.Column("y", ["7.8901"], 5),
    ]

    def at(width):
        return [columns.plain_text(line) for line in columns.lay_out(shown, width)]

    assert at(None)[1] == "a long name  123456  7.8901"
    assert at(20)[1] == "a l…  123456  7.8901"
    assert at(19)[1] == "a long name  7.8901"
    assert at(12)[1] == "a l…  7.8901"
    assert at(5)[1] == "a lo…"


@pytest.mark.parametrize(
    ("locale", "unicode"),
    [
        ({}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # as Python leaves LANG=C
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, False),
        ({"LC_ALL": "", "LANG": "en_US.UTF-8"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, True),  # a container that says nothing
    ],
)
def test_who_asks_for_the_locale_c_gets_ascii(locale, unicode, monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert columns.has_unicode(Terminal()) == unicode


def test_an_encoding_without_our_characters_is_known(monkeypatch):
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    assert not columns.has_unicode(Terminal(encoding="ascii"))
    assert not columns.has_unicode(Terminal(encoding="latin-1"))
    assert columns.has_unicode(Terminal())


class Interrupted(Terminal):
    """A stream in the midst of whose first write a signal's handler writes too, as Python then refuses."""

    def write(self, text):
        if not self.getvalue() and not text.startswith("first"):
            super().write("first\n")
            raise RuntimeError("reentrant call")
        return super().write(text)


def test_a_line_said_by_a_signals_handler_while_the_stream_is_written_to_comes_after_it():
    out, before = Interrupted(), threading.enumerate()
    columns.put_line(out, "second")
    for thread in set(threading.enumerate()) - set(before):
        thread.join(10)
    assert out.getvalue() == "first\nsecond\n"


def test_write_is_plain_where_it_is_piped_and_fits_a_terminal(monkeypatch):
    asked = []

    def draw(width, unicode):
        asked.append((width, unicode))
        return [[("a", "bold"), ("b ", "red")], [("c", "")]]

    piped, tty = Terminal(encoding="ascii"), Terminal(tty=True)
    columns.write(draw, piped)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    columns.write(draw, tty)
    assert piped.getvalue() == "ab\nc\n"
    assert asked == [(None, False), (59, True)]
    assert re.sub(r"\x1b\[[\d;]*m", "", tty.getvalue()) == "ab \nc\n"
