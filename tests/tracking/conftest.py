"""A sweep without training: two families, every kind of ending, as any Tracker sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sweeper.types import Ending, Floats, Job, JobId, Report, State, Summary, Tracker, TrialId

STEPS = 200
REPORT_STEPS = tuple(range(20, STEPS + 1, 20))
ENDS: dict[int, tuple[State, int]] = {1: ("pruned", 60), 2: ("diverged", 47), 3: ("failed", 80)}

Play = Callable[..., Iterator[int]]


def lr_trace(rng: np.random.Generator) -> Floats:
    t = np.arange(STEPS)
    warm = STEPS // 10
    return rng.uniform(0.01, 0.1) * np.where(
        t < warm, (t + 1) / warm, 0.5 * (1 + np.cos(np.pi * (t - warm) / (STEPS - warm)))
    )


def job(study: str, trial: int, member: int = 0) -> Job:
    rng = np.random.default_rng([trial, len(study)])
    lr_S = lr_trace(rng)
    return Job(
        JobId(study, trial, member),
        family=study.split("-")[0],
        params={"peak_lr": float(lr_S.max()), "warmup": 0.1, "decay": 0.0},
        seed=1000 * trial + member,
        lr_S=lr_S,
        report_steps=REPORT_STEPS,
        hparams={"optimizer.weight_decay": 0.01},
    )


def report(of: Job, begin: int, end: int, state: State) -> Report:
    rng = np.random.default_rng([of.seed, begin])
    loss = rng.uniform(0.5, 1.0, end - begin)
    if state == "diverged":
        loss[-1] = np.inf
    return Report(
        of.id,
        end,
        traces={"train/loss": loss, "lr/group0": of.lr_S[begin:end]},
        metrics={} if state in ("diverged", "failed") else {"valid/loss": float(rng.uniform(0.5, 1.0))},
        seconds=0.25,
        state=state,
    )


def play(tracker: Tracker, trials: int = 6, first_round: int = 1, members: int = 1) -> Iterator[int]:
    """Act out a sweep, yielding each round's number after its commit and publish; trials 1, 2, 3 end early."""
    round = first_round
    for study in ("cosine", "wsd"):
        asked = {"objective.metric": "valid/loss", "objective.direction": "minimize", "study.searched": "decay peak_lr"}
        tracker.describe(study, Summary(tags={"schedule.family": study, **asked}))
    for trial in range(trials):
        studies = {study: [job(study, trial, member) for member in range(members)] for study in ("cosine", "wsd")}
        for jobs in studies.values():
            tracker.open(jobs)
        state, last = ENDS.get(trial, ("complete", STEPS))
        for begin in range(0, last, 20):
            end = min(begin + 20, last)
            of_report: State = state if end == last and state != "pruned" else "running"
            tracker.append([report(of, begin, end, of_report) for jobs in studies.values() for of in jobs])
            if end == last:
                for study in studies:
                    value = 0.5 + trial / 100 if state == "complete" else None
                    tracker.close(Ending(TrialId(study, trial), state, end, value))
            tracker.commit(round)
            tracker.publish(round)
            yield round
            round += 1


@pytest.fixture(scope="session")
def played() -> Play:
    return play


@pytest.fixture(scope="session")
def a_job() -> Callable[..., Job]:
    return job


@pytest.fixture(scope="session")
def a_report() -> Callable[..., Report]:
    return report
