"""In words, whether the leader of a confirmation stays the leader under changes (`confirm.vary`)."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.results import words
from sweeper.results.changes import LEVEL
from sweeper.results.verdict import Reference, Varied, VariedConfiguration, Verdict
from sweeper.text.columns import join


def lines(verdict: Verdict) -> list[str]:
    """Return a line for each change with another leader, and one for all others; nothing without changes."""
    leader, every = verdict["leader"], verdict.get("varied", [])
    if leader is None or not every:
        return []
    staying = [one for one in every if one["leader"] == leader]
    return [*changing(verdict), *([_stays(staying, leader)] if staying else [])]


def changing(verdict: Verdict) -> list[str]:
    """Return a line for each change with another leader."""
    leader = verdict["leader"]
    if leader is None:
        return []
    return [_changed(one, leader, verdict) for one in verdict.get("varied", []) if one["leader"] != leader]


def _stays(several: Sequence[Varied], leader: Reference) -> str:
    seeds = len(several[0]["seeds"])
    each = " each" if len(several) > 1 else ""
    return f"With {_names(several)}: {leader['family']} stays the leader ({seeds} seeds{each})."


def _changed(one: Varied, leader: Reference, verdict: Verdict) -> str:
    """Return what leads instead, and how sure that is."""
    seeds, now = len(one["seeds"]), one["leader"]
    if now is None:
        return f"With {_names([one])}: none leads, since all diverge too often or failed ({seeds} seeds)."
    contrast = next(contrast for contrast in one["contrasts"] if contrast["b"] == leader)
    before = next(row for row in one["configurations"] if _place(row) == _place(leader))
    diverged = f"; {leader['family']} diverged on {before['diverged']}" if before["diverged"] else ""
    gain = words.gain(verdict, contrast)[0]
    if gain is None or gain <= 0:  # the other one is out because it diverges
        return f"With {_names([one])}: {now['family']} leads ({seeds} seeds{diverged})."
    is_better = contrast["p"] < LEVEL
    p = f", p = {contrast['p']:.2g}" if is_better else ""
    return (
        f"With {_names([one])}: {now['family']} {'beats' if is_better else 'leads'} {leader['family']} by "
        f"{words.gain_text(verdict, contrast)}{p}, {seeds} seeds, unadjusted{diverged}."
    )


def _place(one: Reference | VariedConfiguration) -> tuple[str, int]:
    return one["family"], one["trial"]


def _names(several: Sequence[Varied]) -> str:
    """Return the changes: "optimizer.weight_decay x0.5 and x2, and train.steps x2"."""
    by_key: dict[str, list[str]] = {}
    for one in several:
        value = one["value"]
        by_key.setdefault(one["change"], []).append(value if isinstance(value, str) else f"{value:g}")
    *others, last = [f"{key} {join(values)}" for key, values in by_key.items()]
    return f"{', '.join(others)}, and {last}" if others else last
