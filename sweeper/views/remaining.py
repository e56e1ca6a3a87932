"""What is left to do in a sweep: trials to train, failures to mend, a confirmation to end."""

from __future__ import annotations

from sweeper.results.stored import StoredSweep
from sweeper.run import crash
from sweeper.search.records import replicate_study
from sweeper.spec.locking import is_running
from sweeper.text.columns import clean

MOST_NAMED = 5  # trials in a note


def remaining(sweep: StoredSweep) -> list[str]:
    """Return what is left to do, a paragraph each; [] for nothing."""
    return [*_given_up(sweep), *_open_confirmation(sweep), *_unfinished(sweep)]


def _given_up(sweep: StoredSweep) -> list[str]:
    """Return the note on trials that failed and are not trained again."""
    trials = sweep.given_up
    if not trials:
        return []
    more = f" and {len(trials) - MOST_NAMED} more" if len(trials) > MOST_NAMED else ""
    how_many, them = ("1 trial", "it") if len(trials) == 1 else (f"{len(trials)} trials", "them")
    reason = sweep.record(trials[0]).reason or "no reason given"
    again = "sweep.retry(task)" if sweep.is_from_python else f"python -m sweeper retry {sweep.name}"
    return [
        f"{how_many} failed, also when tried again: {', '.join(trials[:MOST_NAMED])}{more} ({clean(reason)}). "
        f"Fix the cause, then train {them} again: {again}"
    ]


def _open_confirmation(sweep: StoredSweep) -> list[str]:
    """Return the note on a confirmation that was begun and has no verdict yet."""
    seed = sweep.open_confirmation
    if seed is None:
        return []
    trained = [record for record in sweep.replicates if record.study.endswith(replicate_study("", seed))]
    ended = sum(record.state != "running" for record in trained)
    going = "is running" if is_running(sweep.home) else "resumes with the same command"
    return [f"A confirmation {going}: {ended} trainings so far, no verdict yet."]


def _unfinished(sweep: StoredSweep) -> list[str]:
    if sweep.finished:
        return []
    wanted = sum(study["trials"] for study in sweep.config["studies"].values())
    ended = sum(record.state not in ("running", "failed") and not record.prior_of for record in sweep.records)
    count = f"{ended} of {wanted} trials have ended"
    if is_running(sweep.home):
        return [f"This sweep is running: {count}."]
    death = crash.last_words(sweep.home)
    how = "" if death is None else f" Its last command was {death}."
    resumes = "call" if sweep.is_from_python else "command"
    return [f"This sweep is not finished: {count}.{how} The same {resumes} resumes it."]
