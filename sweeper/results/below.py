"""The lines below the sentence of a verdict: sizes, limits, and what changes of the configuration do."""

from __future__ import annotations

from sweeper.results import varied_words, words
from sweeper.results.verdict import Verdict


def lines(verdict: Verdict) -> list[str]:
    """Return them, the most important first."""
    return [*varied_words.lines(verdict), *words.details(verdict)]
