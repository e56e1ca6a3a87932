"""A journal that is read while it grows, and what a study says of its past."""

import json
import os

import numpy as np
import pytest

from sweeper.importing import Target
from sweeper.schedules import family, lr_trace
from sweeper.search import records
from sweeper.search.objective import Objective
from sweeper.search.plan import Terms
from sweeper.search.study import Studies, StudyPlan
from sweeper.types import Report

STEPS = (5, 10)
NODE = {"factor": "cosine", "peak_lr": {"low": 1e-3, "high": 1.0, "log": True}, "decay": 0.1}
TERMS = Terms(seed=0, report_steps=STEPS, concurrent=2, objective=Objective(), untrained_loss=5.0)


def start_studies(journal, trials=4):
    sampler = Target("optuna.samplers.RandomSampler")
    return Studies(journal, [StudyPlan("cosine-1", family("cosine", NODE), sampler, None, trials)], TERMS)


def trial(studies, state="complete", value=1.0):
    """One trial from its beginning to its end, in a round of its own."""
    (job,) = studies.ask()
    bad = state in ("diverged", "failed")
    reports = [Report(job.id, 5, {}, {"valid/loss": value}, 0.1, state if bad else "running", "no reason")]
    reports += [] if bad else [Report(job.id, 10, {}, {"valid/loss": value}, 0.1, "complete")]
    for report in reports:
        studies.report([report])
    studies.tell(job.id.of, state, "no reason")
    studies.commit(studies.round + 1)
    return job


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(tmp_path):
    journal = tmp_path / "journal.log"
    studies = start_studies(journal)
    reading = records.JournalReader(journal)
    assert (reading.records(), reading.refresh()) == ([], False)
    for value in (3.0, 1.0, 2.0):
        trial(studies, value=value)
        assert reading.refresh()
        assert not reading.refresh()
        assert reading.records() == records.read(journal)
        assert reading.plans()["cosine-1"]["report_steps"] == list(STEPS)
    assert [record.value for record in reading.records()] == [3.0, 1.0, 2.0]


def test_every_byte_of_a_round_may_be_the_last_that_is_there_yet(tmp_path):
    journal, growing = tmp_path / "journal.log", tmp_path / "growing.log"
    studies = start_studies(journal)
    trial(studies)
    before = journal.read_bytes()
    trial(studies, value=0.5)
    whole = journal.read_bytes()
    growing.write_bytes(before)
    reading = records.JournalReader(growing)
    for size in range(len(before), len(whole)):
        with growing.open("ab") as file:
            file.write(whole[growing.stat().st_size : size])
        assert not reading.refresh()
    growing.write_bytes(whole)
    assert reading.refresh()
    assert reading.records() == records.read(journal)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("valid/auroc is not finite", "failed"),
        ("valid/loss is not finite", "diverged"),
        ("train/loss of update 3 is nan", "diverged"),
    ],
)
def test_older_journals_call_a_trial_without_a_value_diverged(tmp_path, reason, state):
    journal = tmp_path / "journal.log"
    studies = start_studies(journal)
    (job,) = studies.ask()
    studies.report([Report(job.id, 5, {}, {"valid/loss": 1.0}, 0.1)])
    studies.tell(job.id.of, "diverged", reason)
    studies.commit(1)
    (record,) = records.read(journal)
    assert (record.state, record.has_no_value, record.reason) == (state, state == "failed", reason)
    assert record.intermediate == ((5, 1.0),), "the penalty is no value of the trial"


def test_a_file_that_is_shorter_than_what_was_read_is_another(tmp_path):
    journal = tmp_path / "journal.log"
    trial(start_studies(journal))
    reading = records.JournalReader(journal)
    os.truncate(journal, 10)
    with pytest.raises(OSError, match="shorter"):
        reading.refresh()


def test_a_failed_trial_that_is_tried_again_does_not_count(tmp_path):
    journal = tmp_path / "journal.log"
    studies = start_studies(journal, trials=2)
    reading = records.JournalReader(journal)
    trial(studies, value=1.0)
    counts = []
    for state in ("failed", "failed"):
        trial(studies, state)
        reading.refresh()
        counts.append(reading.trial_counts()["cosine-1"])
    assert counts == [1, 2]
    assert studies.ask() is None


def test_the_past_is_every_end_in_its_order_and_the_lr_of_the_best(tmp_path):
    journal = tmp_path / "journal.log"
    studies = start_studies(journal)
    assert studies.histories() == {}
    jobs = [trial(studies, state, value) for state, value in
            (("diverged", 9.0), ("complete", 3.0), ("complete", 1.0), ("complete", 2.0))]  # fmt: skip
    for now in (studies, start_studies(journal)):
        values, lr_S = now.histories()["cosine-1"]
        assert values == (None, 3.0, 1.0, 2.0)
        assert lr_S.tolist() == jobs[2].lr_S.tolist()
        assert np.array_equal(lr_S, lr_trace(family("cosine", NODE), {"peak_lr": jobs[2].params["peak_lr"]}, 10))
    assert json.loads(journal.read_bytes().splitlines()[-1])["user_attr"] == {"round": 4}
