"""A family's space made wider in a living sweep: which trials come along, as what, and that it survives a kill."""

import math
import random
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml

from sweeper.importing import Target, parse_target
from sweeper.schedules import family
from sweeper.search.journal import Journal
from sweeper.search.objective import Objective
from sweeper.search.plan import Terms
from sweeper.search.records import JournalReader
from sweeper.search.study import Studies, StudyPlan
from sweeper.types import Report, TrialId

CONF = Path(__file__).parents[2] / "conf" / "search"
STEPS = (5, 10, 15, 20)
NARROW = {"low": 0.01, "high": 0.1, "log": True}
WIDE = {"low": 0.001, "high": 1.0, "log": True}
SHIFTED = {"low": 0.03, "high": 1.0, "log": True}
SAMPLERS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "grid")
TERMS = Terms(seed=0, report_steps=STEPS, concurrent=3, objective=Objective(), untrained_loss=5.0)


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def plan(name, peak_lr=NARROW, *, warmup=None, n_trials=12, sampler="random", **more):
    node = {"factor": "cosine", "peak_lr": peak_lr, "warmup": warmup or {"choice": [0, 0.1]}, "decay": 0.1}
    sampler = yaml.safe_load((CONF / f"{sampler}.yaml").read_text())["sampler"]
    return StudyPlan(name, family("cosine", node), parse_target(sampler), None, n_trials, **{"formula": "f", **more})


def loss(job, step):
    return abs(math.log10(job.params["peak_lr"]) + 1.3) + 1 / step


def end(study, jobs):
    """Train a trial to its end: the highest LRs diverge at update 7, trial 2 of each study is pruned."""
    id, diverges = jobs[0].id.of, jobs[0].params["peak_lr"] > 0.06
    for step in STEPS[: 2 if id.trial == 2 else 4]:
        if diverges and step > 5:
            study.report([Report(job.id, 7, {}, {}, 0.5, "diverged", "nan") for job in jobs])
            break
        study.report([Report(job.id, step, {}, {"valid/loss": loss(job, step)}, 0.5) for job in jobs])
    study.tell(id, "diverged" if diverges else "pruned" if id.trial == 2 else "complete", "")


def train(path, *plans, trials=math.inf, **changed):
    """Ask for and end so many trials, a round each."""
    study = Studies(path, plans, replace(TERMS, **changed))
    for jobs, _ in study.resume():
        end(study, jobs)
    while trials > 0 and (jobs := study.ask()):
        end(study, jobs)
        study.commit(study.round + 1)
        trials -= 1
    if study.is_pending:
        study.commit(study.round + 1)
    return study


def records(path, study=None):
    return [record for record in JournalReader(path).records() if study in (None, record.study)]


def told(path, study):
    storage = optuna.storages.JournalStorage(Journal(path, read_only=True))
    return optuna.load_study(study_name=study, storage=storage).trials


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_in_the_wider_space_come_along_with_all_that_is_known_of_them(tmp_path, sampler):
    path = tmp_path / "j"
    train(path, plan("narrow", sampler=sampler))
    before = {record.number: record for record in records(path)}
    assert {record.state for record in before.values()} >= {"complete", "diverged"}

    study = train(path, plan("wide", WIDE, sampler=sampler, n_trials=15, extends=True))
    assert study.trials_taken_over == {"wide": [TrialId("narrow", number) for number in range(12)]}
    assert [record.study for record in records(path)] == ["wide"] * 15, "each trial once"
    for record in records(path)[:12]:
        theirs = before[record.number]
        assert record.origin == record.trained_as == TrialId("narrow", record.number)
        for name in ("state", "params", "value", "intermediate", "steps_done", "diverged_step", "seconds", "clock",
                     "seeds", "measures", "started", "ended"):  # fmt: skip
            assert getattr(record, name) == getattr(theirs, name), name
    assert study.progress()[0].counts == {
        state: sum(record.state == state for record in records(path)) for state in ("complete", "pruned", "diverged")
        if any(record.state == state for record in records(path))
    }  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_comes_along_is_told_to_the_sampler_as_its_own_trials_are(tmp_path, sampler):
    """Whatever sampler the narrower study had."""
    path = tmp_path / "j"
    train(path, plan("narrow"))
    train(path, plan("wide", WIDE, sampler=sampler, n_trials=12, extends=True))
    for trial, record in zip(told(path, "wide"), records(path), strict=True):
        complete = record.state == "complete" or (record.state == "diverged" and sampler in ("gp", "cmaes"))
        assert trial.state.name == ("COMPLETE" if complete else "PRUNED")
        assert trial.distributions["peak_lr"] == optuna.distributions.FloatDistribution(0.001, 1.0, log=True)
        left = 1 - 6 / 20
        expected = {"diverged": -1.0} if sampler == "gp" else {}
        if record.state == "diverged":
            expected = {} if sampler == "cmaes" else {"diverged": pytest.approx(left)}
            assert trial.value == pytest.approx(5 + left)
        assert trial.constraints == expected


def test_tpe_searches_the_wide_space_as_a_whole(tmp_path):
    """A distribution that differed between trials would silently leave the sampler's joint space."""
    path = tmp_path / "j"
    train(path, plan("narrow"))
    train(path, plan("wide", WIDE, sampler="tpe", n_trials=14, extends=True))
    study = optuna.create_study()
    study.add_trials(told(path, "wide"))
    joint = optuna.search_space.IntersectionSearchSpace(include_pruned=True).calculate(study)
    assert set(joint) == {"peak_lr", "warmup"}
    assert any(trial.system_attrs for trial in told(path, "wide")[12:]), "sampled together, not one by one"


def test_what_lies_outside_is_shown_and_does_not_count(tmp_path):
    path = tmp_path / "j"
    train(path, plan("narrow"))
    inside = [r.number for r in records(path) if r.params["peak_lr"] >= 0.03]
    train(path, plan("shifted", SHIFTED, n_trials=8, extends=True))
    ours, outside = records(path, "shifted"), records(path, "narrow")
    assert [record.origin.trial for record in ours if record.origin] == inside
    assert len(ours) == 8
    assert {record.prior_of for record in outside} == {"shifted"}
    assert len(outside) == 12 - len(inside)


def test_new_choices_and_numbers_that_are_fixed_now(tmp_path):
    path = tmp_path / "j"
    train(path, plan("two"))
    three = plan("three", warmup={"choice": [0, 0.05, 0.1]}, n_trials=20, extends=True)
    assert len(train(path, three).trials_taken_over["three"]) == 12
    assert {record.params["warmup"] for record in records(path, "three")} == {0, 0.05, 0.1}
    fixed = plan("fixed", warmup=0.1, n_trials=1, extends=True)
    taken = train(path, fixed).trials_taken_over["fixed"]
    assert {record.params["warmup"] for record in records(path, "fixed")} == {0.1}
    assert {origin.study for origin in taken} == {"two", "three"}, "those trained in either, each once"
    assert len(set(taken)) == len(taken)


def test_a_chain_of_spaces_holds_each_trial_once(tmp_path):
    path = tmp_path / "j"
    train(path, plan("narrow"))
    train(path, plan("shifted", SHIFTED, n_trials=16, extends=True))
    trained = {record.trained_as for record in records(path)}
    train(path, plan("wide", WIDE, n_trials=1, extends=True))
    assert {record.trained_as for record in records(path, "wide")} == trained
    assert len(records(path)) == len(trained)
    assert JournalReader(path).trial_counts()["wide"] == len(trained)


def test_the_narrow_space_taken_up_again_is_a_study_of_its_own(tmp_path):
    path = tmp_path / "j"
    train(path, plan("narrow"))
    train(path, plan("wide", WIDE, n_trials=14, extends=True))
    train(path, plan("narrow", n_trials=15))
    again = records(path, "narrow")
    assert [(record.number, record.prior_of) for record in again] == [(12, ""), (13, ""), (14, "")]


def test_a_running_trial_is_trained_in_the_new_study_with_its_numbers(tmp_path):
    path = tmp_path / "j"
    study = Studies(path, [plan("narrow")], TERMS)
    jobs = study.ask()
    study.commit(1)
    wider = Studies(path, [plan("wide", WIDE, extends=True)], TERMS)
    again = wider.ask()
    assert again[0].params == jobs[0].params
    assert [job.seed for job in again] == [job.seed for job in jobs]
    wider.commit(2)
    assert [(r.study, r.state, r.prior_of) for r in JournalReader(path).records()] == [
        ("narrow", "running", "wide"),
        ("wide", "running", ""),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"formula": "another"},
        {"extends": False},
    ],
)
def test_without_extend_or_with_another_formula_the_studies_are_apart(tmp_path, other):
    path = tmp_path / "j"
    train(path, plan("narrow"))
    assert train(path, plan("wide", WIDE, **{"extends": True, **other})).trials_taken_over == {}
    assert len(records(path)) == 24
    assert {(record.prior_of, record.origin) for record in records(path)} == {("", None)}


@pytest.mark.parametrize("sampler", ["GridSampler", "BruteForceSampler"])
def test_a_grid_made_finer_goes_through_its_new_points_alone(tmp_path, sampler):
    path = tmp_path / "j"

    def grid(name, choice, **more):
        made = plan(name, {"choice": choice}, n_trials=99, **more)
        return StudyPlan(**{**vars(made), "sampler": Target(f"optuna.samplers.{sampler}")})

    train(path, grid("coarse", [0.01, 0.05]))
    train(path, grid("fine", [0.01, 0.02, 0.05], extends=True))
    points = [(record.params["peak_lr"], record.params["warmup"]) for record in records(path)]
    assert sorted(points) == sorted({(peak, warmup) for peak in (0.01, 0.02, 0.05) for warmup in (0, 0.1)})


def test_a_family_with_enough_trials_takes_them_over_and_trains_nothing(tmp_path):
    path = tmp_path / "j"
    train(path, plan("narrow"))
    study = Studies(path, [plan("wide", WIDE, extends=True)], TERMS)
    assert study.ask() is None
    assert study.is_pending
    study.commit(study.round + 1)
    assert not study.is_pending
    assert [record.study for record in records(path)] == ["wide"] * 12


@pytest.mark.parametrize("seed", range(6))
def test_killed_in_between_it_ends_the_same(tmp_path, seed):
    rng, path, whole = random.Random(seed), tmp_path / "cut", tmp_path / "whole"
    narrow = plan("narrow", sampler="tpe", n_trials=9)
    wide = plan("wide", SHIFTED, sampler="tpe", n_trials=14, extends=True)
    for journal in (path, whole):
        train(journal, narrow, concurrent=1)
    kept = path.stat().st_size
    train(whole, wide, concurrent=1)
    for _ in range(4):
        train(path, wide, concurrent=1, trials=rng.randrange(4))
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(kept, len(content) + 1)])
    train(path, wide, concurrent=1)

    def without_times(journal):
        return [{**vars(record), "started": None, "ended": None} for record in records(journal)]

    assert without_times(path)[-14:] == without_times(whole)[-14:]
    assert [r.study for r in records(path)] == [r.study for r in records(whole)]
