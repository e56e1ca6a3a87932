"""The lines below the sentence of a verdict: sizes, limits, and what changes of the configuration do."""

from __future__ import annotations

from sweeper.results import family_words, varied_words, words
from sweeper.results.verdict import Verdict


def lines(verdict: Verdict) -> list[str]:
    """Return them, the most important first."""
    if verdict["level"] == "family":
        return family_words.details(verdict)
    return [*varied_words.lines(verdict), *words.details(verdict)]


def cautions(verdict: Verdict) -> list[str]:
    """Return those of the lines that say why the verdict may not hold, or what would change it."""
    if verdict["level"] == "family":
        return family_words.cautions(verdict)
    return [*varied_words.changing(verdict), *words.cautions(verdict)]
