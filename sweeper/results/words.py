"""The verdict in words, from the mapping alone, so that every view says the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.results.paired import seeds_to_decide
from sweeper.results.verdict import Configuration, Contrast, Reference, Verdict
from sweeper.text.columns import value_text

POWER, MANY = 0.8, 1000  # of the number of seeds that would decide; seeds beyond which it is not named


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one or two sentences."""
    parts = [_finding(verdict), _no_gain(verdict), _why_ended(verdict)]
    if verdict.get("families_added"):
        parts.append(f"{_join(verdict['families_added'])} added after a first verdict.")
    return " ".join(part for part in parts if part)


def details(verdict: Verdict) -> list[str]:
    """Return what a user needs beside the sentence, a line each."""
    lines = [_gain(verdict), _luck(verdict), _seeds_needed(verdict), *_same(verdict), *_skewed(verdict)]
    return [line for line in [*lines, *verdict["notes"]] if line]


def scope(verdict: Verdict, trials: int) -> str:
    """Return what the verdict is not about.

    Args:
        verdict: The verdict.
        trials: Trials of each family in the search.
    """
    if verdict["level"] == "family":
        return ""
    return (
        f"Another search of {trials} trials would have found other configurations; "
        "for a claim about families: confirm.searches=8."
    )


def name(reference: Reference) -> str:
    """Return what a configuration is called: "wsd trial 12"."""
    return f"{reference['family']} trial {reference['trial']}"


# --- the sentence -----------------------------------------------------------------------------------


def _finding(verdict: Verdict) -> str:
    leader, n = verdict["leader"], _seeds(verdict)
    count = sum(one["status"] != "not confirmed" for one in verdict["configurations"])
    match verdict["status"]:
        case "winner" if verdict["exact"]:
            return (
                f"{name(_known(leader))} is the best of the {count} configurations confirmed. Training ignores its "
                "seed, so the differences are exact."
            )
        case "winner":
            diverged = _diverged(verdict)
            return (
                f"{name(_known(leader))} is the best of the {count} configurations confirmed: it beats each of the "
                f"others ({n} common seeds, {verdict['alpha']:.0%}){diverged}."
            )
        case "equal" if verdict["exact"]:
            return f"{_among(verdict)} are exactly equal: training ignores its seed."
        case "equal":
            return f"{_among(verdict)} are equal within the margin at {n} seeds. Any of them is a good choice."
        case "tie":
            return (
                f"{_among(verdict)} cannot be told apart at {n} seeds; the best is among them "
                f"({1 - verdict['alpha']:.0%}). Any of them is a good choice; lowest: {_known(leader)['family']}."
            )
        case "no_test":
            lowest = "" if leader is None else f" Lowest mean: {name(leader)}."
            return f"Nothing was tested: {'one configuration' if count == 1 else f'{n} seeds'}.{lowest}"
        case "void":
            return "There is no verdict: the configurations left diverge too often, or failed."


def _no_gain(verdict: Verdict) -> str:
    if verdict["status"] in ("no_test", "void") or verdict["beats_constant"] is not False:
        return ""
    if _known(verdict["leader"])["family"] == "constant" and verdict["status"] == "winner":
        return "No schedule beats the tuned constant."
    return "No schedule was shown to beat the tuned constant."


def _why_ended(verdict: Verdict) -> str:
    match verdict["ended_by"]:
        case "budget":
            return "It was ended by the budget."
        case "interrupted":
            return "It was interrupted: the same command goes on."
        case _:
            return ""


def _diverged(verdict: Verdict) -> str:
    row = _row(verdict, verdict["winner"])
    diverged = None if row is None else row["diverged"]
    if diverged is None or diverged["k"] == 0:
        return ""
    return (
        f"; it diverged on {diverged['k']} of {diverged['n']} seeds "
        f"({diverged['low']:.1%} to {diverged['high']:.0%} of trainings do)"
    )


def _among(verdict: Verdict) -> str:
    return _join([one["family"] for one in verdict["among_best"]])


# --- beside it --------------------------------------------------------------------------------------


def _gain(verdict: Verdict) -> str:
    contrast = _contrast(verdict, "constant", verdict["leader"])
    if contrast is None or contrast["mean"] is None:
        return ""
    return f"Gain of {name(contrast['a'])} over the tuned constant: {gain_text(verdict, contrast)}{_in_sd(contrast)}."


def gain(verdict: Verdict, contrast: Contrast) -> tuple[float | None, float | None, float | None]:
    """Return by how much a is better than b, and the ends of the interval, the lower first. None if unknown."""
    sign = -1.0 if verdict["objective"]["direction"] == "minimize" else 1.0
    mean, low, high = (None if part is None else sign * part for part in (contrast[k] for k in ("mean", "low", "high")))
    if low is None or high is None:
        return mean, None, None
    return mean, min(low, high), max(low, high)


def gain_text(verdict: Verdict, contrast: Contrast) -> str:
    """Return by how much a is better than b, with the interval: "0.0123 (0.0060 to 0.0186)"."""
    mean, low, high = gain(verdict, contrast)
    return value_text(mean) if low is None else f"{value_text(mean)} ({value_text(low)} to {value_text(high)})"


def _in_sd(contrast: Contrast) -> str:
    mean, sd = contrast["mean"], contrast["sd"]
    return f", {abs(mean) / sd:.1f} standard deviations of a difference at equal seeds" if mean and sd else ""


def _luck(verdict: Verdict) -> str:
    row = _row(verdict, verdict["leader"])
    if row is None or row["mean"] is None or row["search_value"] is None:
        return ""
    found, fresh = row["search_value"], row["mean"]
    luck = f": {value_text(abs(fresh - found))} was luck" if _is_better(verdict, found - fresh) else ""
    return f"In the search it reached {value_text(found)}, on fresh seeds {value_text(fresh)} on average{luck}."


def _seeds_needed(verdict: Verdict) -> str:
    rivals = [one for one in verdict["contrasts"] if one["question"] == "best" and one["b"] in verdict["among_best"]]
    if verdict["status"] != "tie" or not rivals:
        return ""
    rival = rivals[0]
    needed = seeds_to_decide(rival["mean"] or 0.0, rival["sd"] or 0.0, verdict["alpha"], POWER)
    count = f"about {math.ceil(needed)} seeds" if needed <= MANY else f"not within {MANY:,} seeds"
    return f"To tell {rival['a']['family']} from {rival['b']['family']}: {count} (power {POWER:.0%})."


def _same(verdict: Verdict) -> list[str]:
    rows = [row for row in verdict["configurations"] if row["same_as"]]
    return [f"{_join([name(one) for one in (_of(row), *row['same_as'])])} are the same schedule." for row in rows]


def _skewed(verdict: Verdict) -> list[str]:
    pairs = [f"{one['a']['family']} and {one['b']['family']}" for one in verdict["contrasts"] if one["skewed"]]
    return [f"The differences of {pair} are skewed: the interval may be too short." for pair in dict.fromkeys(pairs)]


# --- reading the mapping ----------------------------------------------------------------------------


def _seeds(verdict: Verdict) -> int:
    row = _row(verdict, verdict["leader"])
    return row["n"] if row is not None else max((one["n"] for one in verdict["configurations"]), default=0)


def _row(verdict: Verdict, reference: Reference | None) -> Configuration | None:
    if reference is None:
        return None
    return next((one for one in verdict["configurations"] if name(_of(one)) == name(reference)), None)


def _of(row: Configuration) -> Reference:
    return Reference(family=row["family"], trial=row["trial"])


def _contrast(verdict: Verdict, question: str, a: Reference | None) -> Contrast | None:
    of_question = [one for one in verdict["contrasts"] if one["question"] == question]
    return next((one for one in of_question if a is not None and name(one["a"]) == name(a)), None)


def _known(reference: Reference | None) -> Reference:
    assert reference is not None
    return reference


def _is_better(verdict: Verdict, difference: float) -> bool:
    return (difference < 0) == (verdict["objective"]["direction"] == "minimize")


def _join(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
