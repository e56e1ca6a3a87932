"""The round: who is called, in which order, and what a restart takes up. The rooms here only write down the calls."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from sweeper.run import loop
from sweeper.types import Ending, Job, JobId, Report, TrialId

STEPS = (10, 20, 30, 40)


def job(study, trial, member=0):
    return Job(JobId(study, trial, member), study, {}, 0, np.ones(40), STEPS)


@dataclass
class Rooms:
    """All four rooms in one, and a diary. `bad`: state of a job at a step; `pruned`: trials to stop at a step."""

    trials: list
    bad: dict = field(default_factory=dict)
    pruned: dict = field(default_factory=dict)
    open_before: list = field(default_factory=list)
    saved: dict = field(default_factory=dict)
    round: int = 0
    diary: list = field(default_factory=list)
    at: dict = field(default_factory=dict)

    # search
    def resume(self):
        return self.open_before

    def ask(self):
        return self.trials.pop(0) if self.trials and len(self.at) < 4 else None

    def report(self, reports):
        self.diary.append(("report", [report.id for report in reports]))
        steps = {report.id.of: report.step for report in reports}
        return {trial for trial, step in steps.items() if self.pruned.get(trial) == step}

    def tell(self, trial, state, reason=""):
        self.diary.append(("tell", trial, state, reason))
        return Ending(trial, state, 0)

    # trainer
    def start(self, jobs):
        self.at.update({job.id: 0 for job in jobs})

    def advance(self, ids):
        for id in reversed(list(ids)):  # in any order
            self.at[id] += 10
            state = self.bad.get((id, self.at[id]), "complete" if self.at[id] == 40 else "running")
            yield Report(id, self.at[id], {}, {}, 0.0, state, "why" if (id, self.at[id]) in self.bad else "")

    def stop(self, id):
        self.diary.append(("stop", id))
        del self.at[id]

    def save(self, folder, round):
        self.diary.append(("save", round))

    def restore(self, folder, jobs, last_round):
        self.at.update(self.saved)
        return dict(self.saved)

    # tracker and view
    def open(self, jobs):
        self.diary.append(("open", jobs[0].id.of))

    def arrived(self, report):
        self.diary.append(("arrived", report.id, report.step))

    def append(self, reports):
        self.diary.append(("append", [(report.id, report.step) for report in reports]))

    def close(self, ending):
        self.diary.append(("close", ending.trial, ending.state))

    def publish(self, round):
        self.diary.append(("publish", round))


def run(rooms, stop=lambda: False, due=lambda: False, at_end=None):
    """Run with `rooms` in all four roles, told apart where two have a method of one name."""

    class Search:
        resume, ask, report, tell = rooms.resume, rooms.ask, rooms.report, rooms.tell

        @property
        def round(self):
            return rooms.round

        def commit(self, round):
            rooms.diary.append(("journal", round))
            rooms.round = round

    class Tracker:
        open, append, close, publish = rooms.open, rooms.append, rooms.close, rooms.publish

        def commit(self, round):
            rooms.diary.append(("spool", round))

    class View:
        arrived = rooms.arrived

        def open(self, jobs): ...
        def append(self, reports): ...
        def close(self, ending): ...
        def commit(self, round): ...

    return loop.run(loop.Rooms(Search(), rooms, Tracker(), View()), checkpoint=None, stop=stop, due=due, at_end=at_end)


def said(rooms, *words):
    return [entry for entry in rooms.diary if entry[0] in words]


def test_spool_then_journal_then_publish_then_checkpoint():
    rooms = Rooms([(job("a", 0),)])
    assert run(rooms, due=lambda: True)
    order = [entry[0] for entry in said(rooms, "spool", "journal", "publish", "save")]
    assert order == ["spool", "journal", "publish", "save"] * 4


def test_reports_are_handled_in_the_order_of_study_trial_member():
    rooms = Rooms([(job("a", 0, 0), job("a", 0, 1)), (job("b", 0),)])
    run(rooms)
    for _, ids in said(rooms, "report"):
        assert ids == [JobId("a", 0, 0), JobId("a", 0, 1), JobId("b", 0, 0)]


def test_one_bad_member_ends_the_trial_and_everyone_is_released():
    rooms = Rooms(
        [(job("a", 0, 0), job("a", 0, 1)), (job("b", 0),)],
        bad={(JobId("a", 0, 1), 20): "diverged"},
    )
    seen = []

    def at_end(ending, jobs, trainer):
        seen.append((ending.trial, [job.id for job in jobs], trainer is rooms))

    assert run(rooms, at_end=at_end)
    assert said(rooms, "tell") == [
        ("tell", TrialId("a", 0), "diverged", "why"),
        ("tell", TrialId("b", 0), "complete", ""),
    ]
    assert rooms.at == {}
    assert seen == [(TrialId("b", 0), [JobId("b", 0, 0)], True)]  # only what completed


def test_failed_goes_before_diverged_and_a_pruned_trial_stops():
    rooms = Rooms(
        [(job("a", 0, 0), job("a", 0, 1)), (job("b", 0),)],
        bad={(JobId("a", 0, 0), 20): "diverged", (JobId("a", 0, 1), 20): "failed"},
        pruned={TrialId("b", 0): 30},
    )
    run(rooms)
    assert [(entry[1], entry[2]) for entry in said(rooms, "close")] == [
        (TrialId("a", 0), "failed"),
        (TrialId("b", 0), "pruned"),
    ]


def test_stopped_between_rounds_it_saves_what_is_open():
    rooms = Rooms([(job("a", 0),)])
    assert not run(rooms, stop=lambda: rooms.round == 2)
    assert rooms.diary[-1] == ("save", 2)
    assert rooms.at == {JobId("a", 0, 0): 20}


@pytest.mark.parametrize("saved", [{}, {JobId("a", 0, 0): 10}, {JobId("a", 0, 0): 20, JobId("a", 0, 1): 20}])
def test_a_restart_trains_in_silence_to_the_last_committed_report(saved):
    """Whether the checkpoint holds nothing, one member of two (both are then trained again), or all."""
    rooms = Rooms([], open_before=[((job("a", 0, 0), job("a", 0, 1)), 20)], saved=dict(saved), round=2)
    assert run(rooms)
    appended = [step for _, reports in said(rooms, "append") for _, step in reports]
    assert appended == [30, 30, 40, 40]
    assert said(rooms, "open") == []
    assert said(rooms, "spool")[0] == ("spool", 3)


def test_a_trial_that_cannot_be_trained_again_is_told():
    rooms = Rooms([], open_before=[((job("a", 0),), 20)], bad={(JobId("a", 0, 0), 10): "diverged"}, round=2)
    with pytest.raises(RuntimeError, match="it reached update 20 before"):
        run(rooms)
