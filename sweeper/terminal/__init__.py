"""The live view of a sweep."""

from sweeper.terminal.frame import LEFT, TO_LOOK, Heading, Window, frame
from sweeper.terminal.live import TerminalView, announce, view
from sweeper.terminal.screen import on_screen
from sweeper.terminal.tally import Past, Tally, Terms

__all__ = [
    "LEFT",
    "TO_LOOK",
    "Heading",
    "Past",
    "Tally",
    "TerminalView",
    "Terms",
    "Window",
    "announce",
    "frame",
    "on_screen",
    "view",
]
