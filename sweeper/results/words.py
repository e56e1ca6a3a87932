"""The verdict in words, from the mapping alone, so that every view says the same."""

from __future__ import annotations

import math
from typing import TypeVar

from sweeper.results.by_seed import better_at
from sweeper.results.paired import seeds_to_decide
from sweeper.results.verdict import TUNED_FAMILY, Configuration, Contrast, Difference, Reference, Verdict
from sweeper.text.columns import join, value_text
from sweeper.text.numbers import share_text

POWER, MANY = 0.8, 1000  # of the number of seeds that would decide; seeds beyond which it is not named
DIGITS = 4  # significant digits of a difference at most
HALF_WIDTH_DIGITS = 2  # digits of half an interval that are shown

T = TypeVar("T")


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one or a few sentences."""
    parts = [_finding(verdict), _folds(verdict), _about_constant(verdict), _why_ended(verdict)]
    if verdict.get("families_added"):
        parts.append(f"{join(verdict['families_added'])} added after a first verdict.")
    return " ".join(part for part in parts if part)


def details(verdict: Verdict) -> list[str]:
    """Return what a user needs beside the sentence, a line each."""
    lines = [
        _gain(verdict),
        _lead(verdict),
        _default_lr(verdict),
        _luck(verdict),
        _seeds_needed(verdict),
        _test_part(verdict),
        _other_rules(verdict),
        _barred(verdict),
        *_failed(verdict),
        _left_out(verdict),
        *_equal_schedules(verdict),
        _skewed(verdict),
        *verdict["notes"],
    ]
    return [line for line in lines if line]


def cautions(verdict: Verdict) -> list[str]:
    """Return those of the details that say why the verdict may not hold, or what would change it."""
    lines = [_seeds_needed(verdict), _test_part(verdict), _other_rules(verdict), *_failed(verdict)]
    return [line for line in lines if line]


def name(reference: Reference) -> str:
    """Return what a configuration, or the one of a row, is called: "wsd trial 12"."""
    return f"{reference['family']} trial {reference['trial']}"


def exit_code(verdict: Verdict) -> int:
    """Return the exit code that tells the verdict (`confirm.exit=verdict`). Where several fit, it is the highest.

    0: a winner that beats the tuned constant. 10: a tie, or equal within the margin. 11: the leader was not shown to be
    better than the constant, also if there is none. 12: the budget ended it. 13: no test, or no verdict. 130: it was
    interrupted.
    """
    fits = {
        10: verdict["status"] in ("tie", "equal"),
        11: verdict["beats_constant"] is not True,
        12: verdict["ended_by"] == "budget",
        13: verdict["status"] in ("void", "no_test"),
        130: verdict["ended_by"] == "interrupted",
    }
    return max((code for code, does_fit in fits.items() if does_fit), default=0)


# --- the sentence -----------------------------------------------------------------------------------


def _finding(verdict: Verdict) -> str:
    leader, n = verdict["leader"], _seeds(verdict)
    confirmed = [one for one in verdict["configurations"] if one["status"] != "not confirmed"]
    if verdict["ended_by"] == "interrupted" and verdict["status"] == "tie":
        return f"No verdict yet at {n} common seeds. The best may be {join(_families(verdict), 'or')}."
    match verdict["status"]:
        case "winner" if verdict["exact"]:
            return (
                f"{name(_known(leader))} is the best of the {len(confirmed)} configurations confirmed. "
                "Training ignores its seed, so the differences are exact."
            )
        case "winner":
            others = [one for one in confirmed if one["status"] not in ("barred", "void")][1:]
            each = "each of the others" if len(others) == len(confirmed) - 1 else f"{len(others)} of the others"
            return (
                f"{name(_known(leader))} is the best of the {len(confirmed)} configurations confirmed: it beats {each} "
                f"({n} common seeds, {share_text(verdict['alpha'])}){_diverged(verdict)}."
            )
        case "equal" if verdict["exact"]:
            return f"{join(_families(verdict))} are exactly equal: training ignores its seed."
        case "equal":
            return f"{join(_families(verdict))} are equal within the margin at {n} seeds. Any of them is a good choice."
        case "tie":
            return (
                f"{join(_families(verdict))} cannot be told apart at {n} seeds; the best is among them "
                f"({share_text(1 - verdict['alpha'])}). Any of them is a good choice; "
                f"{_lowest(verdict)}: {_called(verdict, _known(leader))}."
            )
        case "no_test" if len(confirmed) == 1 and confirmed[0]["same_as"]:
            return f"{_same(confirmed[0])}, so there is nothing to compare."
        case "no_test":
            what = "one configuration" if len(confirmed) == 1 else f"{n} common seed{'' if n == 1 else 's'}"
            best = "" if leader is None else f" {_lowest(verdict).capitalize()} mean: {name(leader)}."
            return f"Nothing was tested ({what}).{best}"
        case "void":
            return "There is no verdict: all configurations but one, or all, diverge too often or failed."


def _folds(verdict: Verdict) -> str:
    return "" if verdict["folds"] == 1 else f"This holds on these {verdict['folds']} folds."


def _about_constant(verdict: Verdict) -> str:
    """Say what was found about the tuned constant, unless a winner beats it."""
    is_open = verdict["status"] in ("no_test", "void") or verdict["ended_by"] == "interrupted"
    if is_open or verdict["beats_constant"] is True:
        return ""
    if verdict["beats_constant"] is None:
        is_there = _constant(verdict) is not None
        problem = "diverges too often or failed" if is_there else "was not confirmed"
        return f"The tuned constant {problem}, so no gain over it can be shown."
    if is_constant(_known(_row(verdict, verdict["leader"]))) and verdict["status"] == "winner":
        return "No schedule beats the tuned constant."
    return "No schedule was shown to beat the tuned constant."


def _why_ended(verdict: Verdict) -> str:
    match verdict["ended_by"]:
        case "budget":
            return "It was ended by the budget."
        case "interrupted":
            return "It was interrupted: the same command resumes it."
        case _:
            return ""


def _diverged(verdict: Verdict) -> str:
    diverged = _known(_row(verdict, verdict["winner"]))["diverged"]
    if diverged["k"] == 0:
        return ""
    low, high = (f"{100 * end:.2g}%" for end in (diverged["low"], diverged["high"]))
    return f"; it diverged on {diverged['k']} of {diverged['n']} seeds ({low} to {high} of trainings do)"


# --- beside it --------------------------------------------------------------------------------------


def _gain(verdict: Verdict) -> str:
    contrast = _contrast(verdict, "constant", verdict["leader"])
    if contrast is None or contrast["mean"] is None or contrast["decision"] in ("barred", "void"):
        return ""
    size = _size(verdict, contrast, with_share=False)
    return f"Gain of {name(contrast['a'])} over the tuned constant: {size}."


def _lead(verdict: Verdict) -> str:
    """Return by how much the leader is ahead of the second."""
    rivals = [one for one in verdict["contrasts"] if one["question"] == "best" and not _is_void(one)]
    if not rivals or not rivals[0]["mean"] or is_constant(_known(_row(verdict, rivals[0]["b"]))):
        return ""
    contrast = rivals[0]
    return f"Lead of {name(contrast['a'])} over {name(contrast['b'])}: {_size(verdict, contrast)}."


def _default_lr(verdict: Verdict) -> str:
    contrast = _contrast(verdict, "default_lr", verdict["leader"])
    if contrast is None or contrast["mean"] is None:
        return ""
    size, seeds = gain_text(verdict, contrast), contrast["n"]
    return f"Gain over the optimizer's default LR: {size} (at {seeds} seeds, not one of the tests)."


def _size(verdict: Verdict, contrast: Contrast, with_share: bool = True) -> str:
    """Return the size of a difference: in the metric, in paired standard deviations, by seeds, as a share of a gain."""
    mean, sd, share = contrast["mean"], contrast["sd"], contrast["gain_share"]
    parts = [f"{gain_text(verdict, contrast)} in {verdict['objective']['metric']}"]
    if mean is not None and sd:
        better, seeds = better_at(verdict, contrast["a"], contrast["b"], contrast["look"])
        parts += [f"{in_sd(contrast)} paired sd", f"better at {better} of {seeds} seeds"]
    if share is not None and with_share:
        parts.append(f"{round(100 * share)}% of the leader's gain over the constant")
    return ", ".join(parts)


def gain(verdict: Verdict, contrast: Difference) -> tuple[float | None, float | None, float | None]:
    """Return by how much a is better than b, and the ends of the interval, the lower first. None if unknown."""
    sign = -1.0 if verdict["objective"]["direction"] == "minimize" else 1.0
    mean, low, high = (None if part is None else sign * part for part in (contrast[k] for k in ("mean", "low", "high")))
    if low is None or high is None:
        return mean, None, None
    return mean, min(low, high), max(low, high)


def gain_text(verdict: Verdict, contrast: Difference) -> str:
    """Return by how much a is better than b, with the interval: "0.0123 (0.0060 to 0.0186)"."""
    mean, low, high = gain(verdict, contrast)
    return difference_text(mean, low, high)


def in_sd(contrast: Contrast) -> str:
    """Return the size of a difference in its standard deviation over seeds; "-" if there is none."""
    mean, sd = contrast["mean"], contrast["sd"]
    return f"{abs(mean) / sd:.1f}" if mean is not None and sd else "-"


def difference_text(mean: float | None, low: float | None = None, high: float | None = None) -> str:
    """Format a difference with its interval: "0.0123 (0.0060 to 0.0186)"; "-" for none.

    Half the interval has two digits, and no number more than four significant ones.
    """
    if mean is None:
        return "-"
    if low is None or high is None:
        return _fixed(mean, _decimals(abs(mean), DIGITS))
    by_width = _decimals((high - low) / 2, HALF_WIDTH_DIGITS) if high > low else math.inf
    largest = _decimals(max(abs(mean), abs(low), abs(high)), DIGITS)
    decimals = min(by_width, largest)
    return f"{_fixed(mean, decimals)} ({_fixed(low, decimals)} to {_fixed(high, decimals)})"


def _decimals(number: float, digits: int) -> float:
    """Return the decimals that show so many significant digits of a positive number."""
    return max(0, digits - 1 - math.floor(math.log10(number))) if number > 0 else DIGITS


def _fixed(number: float, decimals: float) -> str:
    if decimals > 2 * DIGITS:  # a row of zeros
        return f"{number:.{HALF_WIDTH_DIGITS}g}"
    text = f"{number:.{int(decimals)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _luck(verdict: Verdict) -> str:
    row = _row(verdict, verdict["leader"])
    if row is None or row["mean"] is None or row["search_value"] is None:
        return ""
    found, fresh = row["search_value"], row["mean"]
    luck = f": {abs(fresh - found):.{HALF_WIDTH_DIGITS}g} was luck" if _is_better(verdict, found - fresh) else ""
    return f"{name(row)} reached {value_text(found)} in the search, {value_text(fresh)} on fresh seeds{luck}."


def _seeds_needed(verdict: Verdict) -> str:
    among = [name(one) for one in verdict["among_best"]]
    rivals = [one for one in verdict["contrasts"] if one["question"] == "best" and name(one["b"]) in among]
    if verdict["status"] != "tie" or verdict["ended_by"] == "interrupted" or not rivals:
        return ""
    rival = rivals[0]
    needed = seeds_to_decide(rival["mean"] or 0.0, rival["sd"] or 0.0, verdict["alpha"], POWER)
    count = f"about {math.ceil(needed):,} seeds" if needed <= MANY else f"not within {MANY:,} seeds"
    a, b = (_called(verdict, rival[side]) for side in ("a", "b"))
    return f"To tell {a} from {b}: {count} (power {POWER:.0%})."


def _test_part(verdict: Verdict) -> str:
    """Say so if the test part would name another leader."""
    leader, other = verdict["leader"], verdict["test_leader"]
    if leader is None or other is None or name(leader) == name(other):
        return ""
    return (
        f"The test part would put {name(other)} first: its {verdict['test_metric']} is {_better(verdict)} than that of "
        f"{name(leader)} at equal seeds. The verdict rests on {verdict['objective']['metric']}."
    )


def _other_rules(verdict: Verdict) -> str:
    """Say so if another rule of objective.at would change leader or winner."""
    leader, winner, changes = verdict["leader"], verdict["winner"], dict[str, list[str]]()
    if leader is None or verdict["ended_by"] == "interrupted":
        return ""
    for rule, outcome in verdict["other_rules"].items():
        if outcome["winner"] is not None and (winner is None or name(winner) != name(outcome["winner"])):
            changes.setdefault(f"{name(outcome['winner'])} would win", []).append(rule)
        elif name(outcome["leader"]) != name(leader):
            changes.setdefault(f"{name(outcome['leader'])} would lead", []).append(rule)
        elif winner is not None and outcome["winner"] is None:
            changes.setdefault("none would win on these seeds", []).append(rule)
    if not changes:
        return ""
    found = "; ".join(f"with {join(rules, 'or')}, {what}" for what, rules in changes.items())
    return f"The verdict depends on objective.at (now {verdict['objective']['at']}): {found}."


def _barred(verdict: Verdict) -> str:
    """Name the configurations that diverge too often."""
    barred = [
        f"{name(one)} ({one['diverged']['k']} of {one['diverged']['n']} seeds)"
        for one in verdict["configurations"]
        if one["status"] == "barred"
    ]
    return f"Diverged too often to be compared: {join(barred)}." if barred else ""


def _failed(verdict: Verdict) -> list[str]:
    """Name the configurations of which a training failed."""
    return [
        f"{name(one)} failed and is out of the comparison: {one['error'] or 'no reason given'}."
        for one in verdict["configurations"]
        if one["status"] == "void"
    ]


def _left_out(verdict: Verdict) -> str:
    left_out = [one for one in verdict["configurations"] if one["status"] == "not confirmed"]
    confirmed = [one for one in verdict["configurations"] if one["status"] != "not confirmed"]
    kept = {family for one in confirmed if one["family"] != TUNED_FAMILY for family in _families_of(one)}
    # Families that are confirmed only because they are the same as the constant may be anywhere among these.
    others = [one for one in confirmed if one["family"] == TUNED_FAMILY for _ in one["same_as"]] + left_out
    values = [one["search_value"] for one in others if one["search_value"] is not None]
    best_first = sorted(values, reverse=verdict["objective"]["direction"] == "maximize")
    places = [
        f"{one['family']} ({_ordinal(len(kept) + 1 + best_first.index(one['search_value']))} in the search)"
        for one in left_out
        if one["search_value"] is not None
    ]
    return f"Not confirmed, which does not mean worse: {join(places)}." if places else ""


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _equal_schedules(verdict: Verdict) -> list[str]:
    rows = [row for row in verdict["configurations"] if row["same_as"]]
    return [f"{_same(row)}." for row in rows] if len(verdict["configurations"]) > 1 else []


def _same(row: Configuration) -> str:
    """Return which trials are one configuration."""
    return f"{join([name(row), *map(name, row['same_as'])])} are the same schedule"


def _skewed(verdict: Verdict) -> str:
    """Say so if the differences of the leader, or of the constant, are skewed."""
    skewed = [
        sorted(_called(verdict, one[side]) for side in ("a", "b")) for one in verdict["contrasts"] if one["skewed"]
    ]
    pairs = list(dict.fromkeys(" and ".join(pair) for pair in skewed))
    if not pairs:
        return ""
    more = f", and of {len(pairs) - 1} more pairs" if len(pairs) > 2 else f", and of {pairs[1]}" if pairs[1:] else ""
    interval = "the intervals may" if pairs[1:] else "the interval may"
    return f"The differences of {pairs[0]}{more} are skewed: {interval} be too short."


# --- reading the mapping ----------------------------------------------------------------------------


def _families(verdict: Verdict) -> list[str]:
    return [_called(verdict, one) for one in verdict["among_best"]]


def _called(verdict: Verdict, reference: Reference) -> str:
    """Return the family of a configuration; with its trial if several of the family were confirmed (`confirm.also`)."""
    families = [one["family"] for one in verdict["configurations"]]
    return name(reference) if families.count(reference["family"]) > 1 else reference["family"]


def _seeds(verdict: Verdict) -> int:
    row = _row(verdict, verdict["leader"])
    return row["n"] if row is not None else max((one["n"] for one in verdict["configurations"]), default=0)


def _row(verdict: Verdict, reference: Reference | None) -> Configuration | None:
    if reference is None:
        return None
    return next((one for one in verdict["configurations"] if name(one) == name(reference)), None)


def _constant(verdict: Verdict) -> Configuration | None:
    judged = [one for one in verdict["configurations"] if one["status"] != "not confirmed"]
    return next((one for one in judged if is_constant(one)), None)


def is_constant(row: Configuration) -> bool:
    """Return whether it is the tuned constant, also under the name of another family."""
    return TUNED_FAMILY in _families_of(row)


def _families_of(row: Configuration) -> list[str]:
    return [row["family"], *(one["family"] for one in row["same_as"])]


def _is_void(contrast: Contrast) -> bool:
    return contrast["decision"] in ("barred", "void")


def _contrast(verdict: Verdict, question: str, a: Reference | None) -> Contrast | None:
    of_question = [one for one in verdict["contrasts"] if one["question"] == question]
    return next((one for one in of_question if a is not None and name(one["a"]) == name(a)), None)


def _known(value: T | None) -> T:
    assert value is not None
    return value


def _lowest(verdict: Verdict) -> str:
    return "lowest" if verdict["objective"]["direction"] == "minimize" else "highest"


def _better(verdict: Verdict) -> str:
    return "lower" if verdict["objective"]["direction"] == "minimize" else "higher"


def _is_better(verdict: Verdict, difference: float) -> bool:
    return (difference < 0) == (verdict["objective"]["direction"] == "minimize")
