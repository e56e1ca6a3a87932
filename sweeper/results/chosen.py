"""Which trial is taken where none is named: the same one for every command that uses a single trial of a sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sweeper.types import InputError, Record

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep
    from sweeper.results.verdict import Reference, Verdict

Reason = Literal["named", "winner", "leader", "search"]


@dataclass(frozen=True)
class Chosen:
    """A trial, and why it was taken.

    Attributes:
        record: The trial.
        name: What it is called, such as "cosine:17"; with the study's name if several studies have its family.
        reason: Whether it was named, or is the verdict's winner, the confirmation's leader, or the search's best.
        words: The reason as the end of a sentence, such as "the winner on fresh seeds".
    """

    record: Record
    name: str
    reason: Reason
    words: str


def chosen(sweep: StoredSweep, trial: str | None = None) -> Chosen:
    """Return the named trial, else the verdict's winner, else the confirmation's leader, else the search's best.

    Args:
        sweep: The sweep.
        trial: Such as "cosine:17"; None to choose.

    Raises:
        InputError: If there is no such trial, or none is named and none is complete.
    """
    if trial is not None:
        return _named(sweep, sweep.record(trial), "named", "as named")
    verdict = sweep.verdict
    if verdict is not None and verdict["winner"] is not None:
        return _named(sweep, judged_record(sweep, verdict, verdict["winner"]), "winner", "the winner on fresh seeds")
    if verdict is not None and verdict["leader"] is not None:
        words = "the leader on fresh seeds, where no winner was found"
        return _named(sweep, judged_record(sweep, verdict, verdict["leader"]), "leader", words)
    checked = "not confirmed on fresh seeds" if verdict is None else "without a leader on fresh seeds"
    words = f"the {sweep.criterion.extreme} of the search, {checked}"
    return _named(sweep, sweep.record(*sweep.best_trial), "search", words)


def _named(sweep: StoredSweep, record: Record, reason: Reason, words: str) -> Chosen:
    studies = {other.study for other in sweep.records if other.family == record.family}
    first = record.family if len(studies) == 1 else record.study
    return Chosen(record, f"{first}:{record.number}", reason, words)


def judged_record(sweep: StoredSweep, verdict: Verdict, reference: Reference) -> Record:
    """Return the trial that a verdict speaks of.

    Its values decide, because several studies of a family may have its number, and a wider study renumbers it.
    """
    family, number = reference["family"], reference["trial"]
    rows = verdict["configurations"]
    params = next(row["params"] for row in rows if (row["family"], row["trial"]) == (family, number))
    matches = [
        record
        for record in sweep.records
        if record.family == family and json.loads(json.dumps(dict(record.params))) == params
    ]
    if not matches:
        problem = "the verdict's trial is not in this sweep"
        raise InputError("trial", f"{family}:{number}", problem, "Name another one, or confirm again")
    return min(matches, key=lambda record: record.number != number)
