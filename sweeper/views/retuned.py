"""Tuning again, as a user sees it: the search, the confirmation, and what the old settings are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from sweeper.results import retune
from sweeper.results.retune import Retune
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import Verdict
from sweeper.run import confirm_plan, retuning, sweeping
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.confirming import confirm
from sweeper.run.retuning import Retuning
from sweeper.run.sweeping import Outcome
from sweeper.spec.question import Home
from sweeper.spec.sweep import Subject
from sweeper.text.columns import clean, wrap, write
from sweeper.tracking.mlflow.tracker import MLflow
from sweeper.types import InputError
from sweeper.views import conclusion, confirmed

SHOWN = 4  # differences from the earlier sweep


def plan_lines(planned: Retuning) -> list[str]:
    """Return what is tuned again, for the terminal."""
    earlier = planned.earlier
    changes = retune.changes(earlier["changed"])
    more = len(changes) - SHOWN
    changed = "; ".join(changes[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return [
        f"Retuning {clean(earlier['sweep'])} as {clean(planned.spec.name)}. Changed: {clean(changed)}.",
        f"The first trial of {clean(planned.old.record.family)} has the old settings: {clean(earlier['name'])}, "
        f"{earlier['why']}.",
    ]


def train(planned: Retuning, subject: Subject, asked: ConfirmSpec, *, root: Path) -> Outcome:
    """Search, then confirm. Called again, it continues with what is left.

    Args:
        planned: The new sweep.
        subject: Its data, model and task.
        asked: The options of the confirmation.
        root: The folder of the sweeps.

    Returns:
        How the confirmation ended, or the search if that was stopped.

    Raises:
        InputError: If the old settings were not tried, or nothing can be confirmed.
    """
    outcome = sweeping.sweep(planned.spec, root=root, conclude=conclusion.conclude)
    if outcome.stopped is not None:
        return outcome
    sweep = StoredSweep(outcome.home)
    spec = retuning.asked_for(sweep, planned, asked)
    plan = confirm_plan.plan(sweep, spec)
    lines = confirmed.cost_lines(confirm_plan.cost(sweep, plan, spec), sorted(plan.candidates))
    print("\n".join(lines), flush=True)
    return confirm(sweep, subject, MLflow.stored(sweep.home.spool), spec, conclusion.conclude)


def conclude(home: Home, planned: Retuning, asked: ConfirmSpec) -> tuple[StoredSweep, Retune]:
    """Write retune.json, and rewrite the report. Returns the new sweep and what was found.

    Raises:
        InputError: If there is no verdict.
    """
    sweep = StoredSweep(home)
    found = retuning.conclude(sweep, planned, asked.seed)
    if found is None:
        raise InputError("sweep", home.name, "it has no verdict", "Repeat this command")
    conclusion.write_report(sweep.refresh())
    return sweep, found


def verdict_of(sweep: StoredSweep, found: Retune) -> Verdict:
    """Return the verdict from which that was found."""
    verdict = sweep.verdict_of(found["confirm_seed"])
    assert verdict is not None
    return verdict


def show(found: Retune, sweep: StoredSweep, *, out: TextIO | None = None) -> None:
    """Print the verdict of the confirmation, and then what the old settings are worth."""
    confirmed.show(verdict_of(sweep, found), out=out)
    print(file=out)
    write(lambda width, unicode: wrap(clean(found["sentence"]), width, "bold"), out)
