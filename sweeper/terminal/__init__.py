"""The live view of a sweep."""

from sweeper.terminal.frame import Heading, Window, frame
from sweeper.terminal.live import TerminalView, announce, view
from sweeper.terminal.screen import on_screen
from sweeper.terminal.tally import Past, Tally

__all__ = ["Heading", "Past", "Tally", "TerminalView", "Window", "announce", "frame", "on_screen", "view"]
