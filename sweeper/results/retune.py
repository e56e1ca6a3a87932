"""Is it worth tuning again? The winner of an earlier sweep against that of a new one: retune.json, and its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np

from sweeper.results import words
from sweeper.results.verdict import Configuration, Contrast, Reference, Verdict
from sweeper.text.columns import join, value_text
from sweeper.types import Floats, Record, Value

SCHEMA = 1

Status = Literal["better", "tie", "kept", "void", "no_test"]
Curve = tuple[Sequence[int], Floats]  # updates, and the mean objective after them


class Earlier(TypedDict):
    """The earlier sweep, the trial that was taken from it and why, and what is different now."""

    sweep: str
    name: str
    why: str
    params: dict[str, Value]
    changed: list[str]


class Updates(TypedDict):
    """When the faster one of the two reaches the last mean objective of the other.

    Attributes:
        total: Updates of a training.
        level: That objective.
        reached: After so many updates, between reports by interpolation.
        saved: total - reached if the new one is the faster; its negative, the updates lost, if the old one is.
    """

    total: int
    level: float
    reached: float
    saved: float


class Retune(TypedDict):
    """retune.json. Keys are only added; `schema` changes if a meaning does.

    `old` and `new` are trials of the new sweep, `new` the winner of its confirmation, or else the leader. `contrast` is
    the one of confirm.json, new - old. `status`: the new one is better, not told apart (tie), or none: the old one is
    the winner or the leader itself (kept).
    """

    schema: int
    sweep: str
    confirm_seed: int
    earlier: Earlier
    old: Reference
    new: Reference | None
    status: Status
    contrast: Contrast | None
    updates: Updates | None
    sentence: str


def compare(verdict: Verdict, earlier: Earlier, old: Reference, replicates: Sequence[Record]) -> Retune:
    """Return what a confirmation says of the earlier winner.

    Args:
        verdict: The confirmation of the new sweep, which judged it.
        earlier: The earlier sweep.
        old: Its winner as a trial of the new sweep.
        replicates: The trainings of that confirmation.
    """
    row = _row_of(verdict, old)
    new = verdict["winner"] or verdict["leader"]
    contrast = None if new is None else _contrast(verdict, new, row)
    found = Retune(
        schema=SCHEMA,
        sweep=verdict["sweep"],
        confirm_seed=verdict["confirm_seed"],
        earlier=earlier,
        old=old,
        new=new,
        status=_status(verdict, row, new, contrast),
        contrast=contrast,
        updates=None if new is None or contrast is None else _updates(verdict, row, new, replicates),
        sentence="",
    )
    return {**found, "sentence": sentence(found, verdict)}


def exit_code(found: Retune, verdict: Verdict) -> int:
    """Return the exit code that tells the result (`confirm.exit=verdict`). Where several fit, it is the highest.

    0: the new winner is better. 10: the two cannot be told apart. 11: the old one is the winner or the leader.
    12: ended by the budget. 13: no test, or no verdict. 130: interrupted.
    """
    fits = {
        10: found["status"] == "tie",
        11: found["status"] == "kept",
        12: verdict["ended_by"] == "budget",
        13: found["status"] in ("void", "no_test") or verdict["status"] == "no_test",
        130: verdict["ended_by"] == "interrupted",
    }
    return max((code for code, does_fit in fits.items() if does_fit), default=0)


def sentence(found: Retune, verdict: Verdict) -> str:
    """Return what was found, in a few sentences."""
    new, old, earlier = found["new"], found["old"], found["earlier"]
    question = f"With {join(_sections(earlier['changed']))} changed"
    the_old = f"the old settings ({earlier['name']} of {earlier['sweep']}, here {words.name(old)})"
    match found["status"]:
        case "void":
            return f"{question}, there is no verdict on {the_old}: trainings failed or diverged too often."
        case "no_test":
            return f"{question}, nothing was tested, so it is not known whether {the_old} are still good."
        case "kept" if len(verdict["configurations"]) == 1:
            return f"{question}, a new search came to {the_old} again, so there was nothing to compare."
        case "kept" if verdict["winner"] is not None:
            return f"{question}, {the_old} are the best again: a new search found nothing better."
        case "kept":
            return f"{question}, {the_old} lead: a new search found nothing that was shown to be better. Keep them."
    assert new is not None
    seeds = f"{found['contrast']['n']} common seeds" if found["contrast"] is not None else ""
    if found["status"] == "better" and (found["contrast"] is None or found["contrast"]["mean"] is None):
        return f"{question}, {words.name(new)} beats {the_old}, which diverge too often."
    assert found["contrast"] is not None
    size = f"{words.gain_text(verdict, found['contrast'])} in {verdict['objective']['metric']}"
    if found["status"] == "better":
        head = f"{question}, {words.name(new)} beats {the_old} by {size} ({seeds})."
    else:
        head = (
            f"{question}, {words.name(new)} was not shown to be better than {the_old}: {size} ({seeds}). "
            "There is no need to change."
        )
    return " ".join(part for part in (head, _updates_text(found["updates"], verdict)) if part)


def mean_curve(records: Sequence[Record]) -> Curve | None:
    """Return the mean objective of complete trainings at each report; None if there are none."""
    if not records:
        return None
    steps = [step for step, _ in records[0].intermediate]
    return steps, np.array([[value for _, value in record.intermediate] for record in records]).mean(0)


def reached(curve: Curve, level: float, sign: float) -> float | None:
    """Return after how many updates a curve first is at a level, by interpolation between reports; None if never.

    Args:
        curve: Updates and values. The value before the first report is not known.
        level: The value.
        sign: 1 if lower values are better, -1 if higher ones are.
    """
    steps, value_S = curve
    value_S, level = sign * value_S, sign * level
    there = np.flatnonzero(value_S <= level)
    if not len(there):
        return None
    first = int(there[0])
    if first == 0:
        return float(steps[0])
    above, below = value_S[first - 1], value_S[first]
    return float(steps[first - 1] + (steps[first] - steps[first - 1]) * (above - level) / (above - below))


def _updates(verdict: Verdict, old: Configuration, new: Reference, replicates: Sequence[Record]) -> Updates | None:
    sign = 1.0 if verdict["objective"]["direction"] == "minimize" else -1.0
    by_seed = [_judged(one["family"], one["trial"], replicates) for one in (old, new)]
    common = by_seed[0].keys() & by_seed[1].keys()
    of_old, of_new = (mean_curve([records[seed] for seed in sorted(common)]) for records in by_seed)
    if of_old is None or of_new is None:
        return None
    is_new_better = sign * of_new[1][-1] <= sign * of_old[1][-1]
    faster, slower = (of_new, of_old) if is_new_better else (of_old, of_new)
    level, total = float(slower[1][-1]), slower[0][-1]
    at = reached(faster, level, sign)
    if at is None or not math.isfinite(level):
        return None
    return Updates(total=total, level=level, reached=at, saved=(total - at) * (1 if is_new_better else -1))


def _judged(family: str, trial: int, replicates: Sequence[Record]) -> dict[int, Record]:
    """Return the complete trainings by which a configuration was judged, by seed."""
    return {
        one.replicate.seed: one
        for one in replicates
        if one.replicate is not None
        and (one.family, one.replicate.trial, one.replicate.stage) == (family, trial, "judge")
        and one.state == "complete"
    }


def _updates_text(updates: Updates | None, verdict: Verdict) -> str:
    if updates is None or round(abs(updates["saved"])) == 0:
        return ""
    faster, slower = ("It reaches", "old one's") if updates["saved"] > 0 else ("The old settings reach", "new one's")
    share = abs(updates["saved"]) / updates["total"]
    what = "saved" if updates["saved"] > 0 else "lost"
    return (
        f"{faster} the {slower} last {verdict['objective']['metric']}, {value_text(updates['level'])}, after about "
        f"{updates['reached']:,.0f} of {updates['total']:,} updates: {abs(updates['saved']):,.0f} ({share:.0%}) {what}."
    )


def _row_of(verdict: Verdict, reference: Reference) -> Configuration:
    """Return the row of a trial, also if it is one configuration with another family's."""
    name = words.name(reference)
    return next(
        row
        for row in verdict["configurations"]
        if name in [words.name(row), *(words.name(one) for one in row["same_as"])]
    )


def _contrast(verdict: Verdict, new: Reference, old: Configuration) -> Contrast | None:
    of_best = [
        one for one in verdict["contrasts"] if one["question"] == "best" and words.name(one["a"]) == words.name(new)
    ]
    return next((one for one in of_best if words.name(one["b"]) == words.name(old)), None)


def _status(verdict: Verdict, old: Configuration, new: Reference | None, contrast: Contrast | None) -> Status:
    if verdict["ended_by"] == "interrupted":
        return "no_test"
    if new is None or verdict["status"] == "void" or old["status"] == "void":
        return "void"
    if verdict["status"] == "no_test" and len(verdict["configurations"]) > 1:
        return "no_test"
    if words.name(new) == words.name(old):
        return "kept"
    if old["barred"]:
        return "better"
    is_shown = contrast is not None and contrast["decision"] in ("better", "out", "exact") and contrast["mean"] != 0
    return "better" if is_shown else "tie"


def changes(changed: Sequence[str]) -> list[str]:
    """Return what is different, for a user: the fingerprint of the data only as "the data", and if nothing else is."""
    told = [line for line in changed if not line.startswith("fingerprint:")]
    return told or ["the data"]


def _sections(changed: Sequence[str]) -> list[str]:
    """Return what is different, in the words of the configuration: data, model, train.steps."""
    keys = [line.partition(":")[0] for line in changed]
    parts = [
        key if key.partition(".")[0] in ("train", "search", "objective") else key.partition(".")[0] for key in keys
    ]
    return [part for part in dict.fromkeys(parts) if part != "fingerprint"] or ["the data"]
