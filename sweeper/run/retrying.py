"""Train the failed trials of a stored sweep again, once their cause is fixed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from sweeper.results.stored import StoredSweep
from sweeper.run import sweeping
from sweeper.run.restoring import restore_spec
from sweeper.run.sweeping import Conclude, Outcome
from sweeper.spec.sweep import KeepSpec, Subject, SweepSpec
from sweeper.training.weights import entries
from sweeper.types import ConfiguredTracker


def retry(
    sweep: StoredSweep, subject: Subject, tracker: ConfiguredTracker | None, conclude: Conclude | None = None
) -> Outcome:
    """Train every trial again that failed and was given up, with its hyperparameters and its seed.

    Queued retries are trained too, and no other trial. If it is interrupted, calling it again or resuming the sweep
    trains what is left, with the same results.

    Args:
        sweep: The stored sweep, with trials `to_retry`.
        subject: Data, model and task of the sweep.
        tracker: Where the sweep is tracked; None for nowhere.
        conclude: As in `sweeping.sweep`.

    Raises:
        InputError: If data, model or code are no longer those of the sweep, or another process is running it. Raised
            before anything is written.
    """
    return sweeping.train(replace(_spec(sweep, subject), tracker=tracker), sweep.home, conclude=conclude)


def _spec(sweep: StoredSweep, subject: Subject) -> SweepSpec:
    """Return the configuration of the studies with trials to retry."""
    norms = has_norms(sweep)
    specs = [restore_spec(sweep, study, subject, norms=norms) for study in sorted(sweep.to_retry)]
    kept = [entry.study for entry in entries(sweep.home.weights)]
    return replace(
        specs[0],
        studies=tuple(replace(spec.studies[0], retries_only=True) for spec in specs),
        keep=KeepSpec(max(map(kept.count, kept), default=0), float("inf")),  # as many as before
    )


def has_norms(sweep: StoredSweep) -> bool:
    """Return whether the sweep's trials log the norms of gradients and updates. Those that failed may have no trace."""
    for record in sweep.records:
        if record.state in ("complete", "pruned"):
            return "grad_norm" in sweep.trace(record.study, record.number)
    return True
