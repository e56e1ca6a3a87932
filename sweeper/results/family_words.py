"""The verdict on families in words, from the mapping alone."""

from __future__ import annotations

import math

from sweeper.results.paired import seeds_to_decide
from sweeper.results.verdict import TUNED_FAMILY, Contrast, Verdict
from sweeper.results.words import MANY, POWER, gain_text
from sweeper.text.columns import join
from sweeper.text.numbers import share_text


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one or two sentences."""
    return " ".join(part for part in (_finding(verdict), _about_constant(verdict)) if part)


def details(verdict: Verdict) -> list[str]:
    """Return what a user needs beside the sentence, a line each."""
    lines = [_gain(verdict), _lead(verdict), _needed(verdict), *_without_value(verdict), _scope(verdict)]
    return [line for line in lines if line]


def cautions(verdict: Verdict) -> list[str]:
    """Return those of the details that say why the verdict may not hold, or what would change it."""
    return [line for line in (_needed(verdict), *_without_value(verdict)) if line]


def trials_text(verdict: Verdict) -> str:
    """Return the trials of each family in a search: "20 trials", or "10 to 20 trials"."""
    counts = [count for family, count in verdict.get("trials", {}).items() if family in _families(verdict)]
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{high} trial{'' if high == 1 else 's'}" if low == high else f"{low} to {high} trials"


def _finding(verdict: Verdict) -> str:
    searches, at = len(verdict["seeds"].get("search", [])), trials_text(verdict)
    ended = len({row["seed"] for row in verdict["values"]})
    best = join([one["family"] for one in verdict["among_best"]])
    leader = None if verdict["leader"] is None else verdict["leader"]["family"]
    if verdict["ended_by"] == "interrupted":
        return f"{ended} of {searches} searches have ended, so there is no verdict yet: the same command goes on."
    match verdict["status"]:
        case "winner" if verdict["exact"]:
            return f"{leader} is the best of the {len(_families(verdict))} families at {at}, in all searches alike."
        case "winner":
            barred = [one for one in verdict["configurations"] if one["status"] in ("barred", "void")]
            each = f"{len(_families(verdict)) - 1 - len(barred)} of the others" if barred else "each of the others"
            return (
                f"{leader} is the best of the {len(_families(verdict))} families at {at}: it beats {each} "
                f"({searches} searches, {share_text(verdict['alpha'])})."
            )
        case "equal" if verdict["exact"]:
            return f"{best} are exactly equal at {at}: all searches gave the same."
        case "equal":
            return f"{best} are equal within the margin at {at} ({searches} searches)."
        case "tie":
            sense = "lowest" if verdict["objective"]["direction"] == "minimize" else "highest"
            return (
                f"{best} cannot be told apart by {searches} searches at {at}; the best family is among them "
                f"({share_text(1 - verdict['alpha'])}). {sense.capitalize()} mean: {leader}."
            )
        case "no_test":
            return "Nothing was tested: there is one family."
        case "void":
            return "There is no verdict: the families left have searches without a complete trial."


def _about_constant(verdict: Verdict) -> str:
    """Say so if no gain over the tuned constant was found."""
    is_open = verdict["status"] in ("no_test", "void") or verdict["ended_by"] == "interrupted"
    if is_open or verdict["beats_constant"] is not False:
        return ""
    if verdict["winner"] is not None and verdict["winner"]["family"] == TUNED_FAMILY:
        return "No schedule beats the tuned constant."
    return "No family was shown to beat the tuned constant."


def _gain(verdict: Verdict) -> str:
    contrast = _contrast(verdict, "constant")
    if contrast is None or contrast["mean"] is None:
        return ""
    return f"Gain of {contrast['a']['family']} over the tuned constant: {gain_text(verdict, contrast)}."


def _lead(verdict: Verdict) -> str:
    contrast = _contrast(verdict, "best")
    if contrast is None or contrast["mean"] is None or contrast["b"]["family"] == TUNED_FAMILY:
        return ""
    a, b = contrast["a"]["family"], contrast["b"]["family"]
    return f"Lead of {a} over {b}: {gain_text(verdict, contrast)}."


def _needed(verdict: Verdict) -> str:
    """Return how many searches would tell the first two apart."""
    contrast = _contrast(verdict, "best")
    if verdict["status"] != "tie" or verdict["ended_by"] == "interrupted" or contrast is None:
        return ""
    needed = seeds_to_decide(contrast["mean"] or 0.0, contrast["sd"] or 0.0, verdict["alpha"], POWER)
    count = f"about {math.ceil(needed):,} searches" if needed <= MANY else f"not within {MANY:,} searches"
    return f"To tell {contrast['a']['family']} from {contrast['b']['family']}: {count} (power {POWER:.0%})."


def _without_value(verdict: Verdict) -> list[str]:
    counts = {one["family"]: one["diverged"] for one in verdict["configurations"] if one["diverged"]["k"]}
    return [f"{family} has no complete trial in {one['k']} of {one['n']} searches." for family, one in counts.items()]


def _scope(verdict: Verdict) -> str:
    if verdict["ended_by"] == "interrupted":
        return ""
    return f"This holds for searches as this one, with {trials_text(verdict)} a family: more trials may change it."


def _contrast(verdict: Verdict, question: str) -> Contrast | None:
    """Return that of the leader with the constant, or with the next one."""
    leader = verdict["leader"]
    of_leader = (one for one in verdict["contrasts"] if one["question"] == question and one["a"] == leader)
    return next(of_leader, None)


def _families(verdict: Verdict) -> list[str]:
    return [one["family"] for one in verdict["configurations"]]
