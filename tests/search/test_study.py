"""The studies of a sweep, driven by the real loop with a trainer that reckons losses from each job's LR trace."""

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.importing import parse_target
from sweeper.run import loop
from sweeper.search.journal import Journal
from sweeper.search.objective import Objective
from sweeper.search.plan import Terms
from sweeper.search.records import JournalReader, read, read_round
from sweeper.search.stopping import EarlyStopping
from sweeper.search.study import AllTrialsFailedError, Studies, StudyPlan
from sweeper.types import Choice, Family, InputError, JobId, Range, Record, Report, TrialId, seed_of

CONF = Path(__file__).parents[2] / "conf"
REPORT_STEPS = (3, 6, 9, 12)
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 4, "multivariate": True}
RANDOM = {"_target_": "optuna.samplers.RandomSampler"}
GRID = {"_target_": "optuna.samplers.GridSampler"}
BRUTE_FORCE = {"_target_": "optuna.samplers.BruteForceSampler"}
QMC = {"_target_": "optuna.samplers.QMCSampler", "scramble": True}
CMAES = {"_target_": "optuna.samplers.CmaEsSampler", "warn_independent_sampling": False}
GP = {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 2, "deterministic_objective": True}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 2}
HALVING = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2}
PERCENTILE = {"_target_": "optuna.pruners.PercentilePruner", "percentile": 50.0, "n_startup_trials": 2}
PATIENT = {"_target_": "optuna.pruners.PatientPruner", "patience": 0, "wrapped_pruner": MEDIAN}
THRESHOLD = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 0.9, "n_warmup_steps": 2}
HYPERBAND = {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "reduction_factor": 2}


# --- a sweep to try things on -----------------------------------------------------------------------


def fall(tau_LS, decay_steps_L, *, decay=0.0):
    """A factor: from 1 to `decay` in a straight line."""
    return 1 - (1 - decay) * tau_LS / decay_steps_L


LOOSE = {
    "peak_lr": Range(1e-3, 3.0, log=True),
    "decay": Range(0.0, 0.5),
    "warmup": Choice((0, 0.1, 0.3)),
}
STEPPED = {"peak_lr": Choice((0.01, 0.1, 1.0, 2.0)), "decay": Range(0.0, 0.5, step=0.25), "warmup": 0.1}


def plan(name="fall", *, space=LOOSE, sampler=TPE, pruner=MEDIAN, n_trials=12, **more):
    named = parse_target(sampler), None if pruner is None else parse_target(pruner)
    return StudyPlan(f"{name}-0", Family(name, fall, "prefix", space), *named, n_trials, **more)


def studies(path, plans, **changed):
    terms = Terms(seed=7, report_steps=REPORT_STEPS, concurrent=3, objective=Objective(), untrained_loss=2.3)
    members = changed.pop("members", None)
    if members is not None:
        changed["partitions"] = (0,) * members
    if isinstance(changed.get("objective"), dict):
        changed["objective"] = Objective(**changed["objective"])
    return Studies(path, plans, replace(terms, **changed))


def loss(job, step):
    """Falls with the LR's sum and rises with an LR too high; of each member a little different."""
    done = float(np.sum(job.lr_S[:step]))
    return 2.3 / (1 + done) + 0.3 * float(job.lr_S.max()) + 1e-3 * (job.seed % 7) + job.hparams.get("model.dropout", 0)


def healthy(job, step):
    return Report(job.id, step, {}, {"valid/loss": loss(job, step), "valid/accuracy": 1 / (1 + loss(job, step))}, 0.5)


def bursting(job, step):
    """Diverges above a peak of 1, the earlier the higher it is."""
    if job.lr_S.max() > 1 and step >= (first := max(1, int(16 / job.lr_S.max()) - 4)):
        return Report(job.id, first, {}, {}, 0.5, "diverged", "the loss is nan")
    return healthy(job, step)


def rough(job, step):
    """Diverges too, and some trials fail at their second report, at first."""
    if job.id.trial in (2, 5) and step >= 6:
        return Report(job.id, 5, {}, {}, 0.5, "failed", "out of memory")
    return bursting(job, step)


def slowly(job, step):
    """Rough, and slow enough to be killed in between."""
    time.sleep(0.01)
    return rough(job, step)


class Stub:
    """A trainer whose reports are `curve(job, step)`."""

    def __init__(self, curve):
        self.curve, self.jobs, self.done = curve, {}, {}

    def start(self, jobs):
        self.jobs |= {job.id: job for job in jobs}
        self.done |= {job.id: 0 for job in jobs}

    def advance(self, ids):
        for id in reversed(ids):
            job = self.jobs[id]
            self.done[id] += 1
            step = job.report_steps[self.done[id] - 1]
            report = self.curve(job, step)
            ended = report.state == "running" and step == job.steps
            yield Report(*[getattr(report, f.name) for f in fields(Report)][:5], "complete") if ended else report

    def stop(self, id):
        del self.jobs[id]

    def save(self, folder, round): ...

    def restore(self, folder, jobs, last_round):
        return {}


class Noted:
    """A tracker and view that notes what is opened and how it ends."""

    def __init__(self):
        self.opened, self.endings = [], []

    def open(self, jobs):
        self.opened.append(jobs)

    def close(self, ending):
        self.endings.append(ending)

    def __getattr__(self, name):
        return lambda *_: None


def train(search, curve=bursting, rounds=math.inf):
    """Run the loop, for so many rounds at most. What the tracker saw."""
    noted, last = Noted(), search.round + rounds
    rooms = loop.Rooms(search, Stub(curve), noted, SimpleNamespace(**dict.fromkeys(
        ("open", "arrived", "append", "close", "commit"), lambda *_: None)))  # fmt: skip
    loop.run(rooms, checkpoint=None, stop=lambda: search.round >= last, due=lambda: False)
    return noted


def table(path, family=None):
    """The records without what no two runs share."""
    records = [record for record in read(path) if family in (None, record.family)]
    own = [field.name for field in fields(Record) if field.name not in ("seconds", "clock", "started", "ended")]
    return [{name: getattr(record, name) for name in own} for record in records]


def swept(path, plans, curve=bursting, **changed):
    train(studies(path, plans, **changed), curve)
    return table(path)


class Counting(optuna.samplers.RandomSampler):
    """A sampler of one's own that looks at the study through what is public."""

    def sample_independent(self, study, trial, name, distribution):
        for _ in study.get_trials(deepcopy=False):
            super().sample_independent(study, trial, name, distribution)
        return super().sample_independent(study, trial, name, distribution)


COUNTING = {"_target_": f"{__name__}.Counting"}


# --- a sweep is a function of its commands ----------------------------------------------------------

METHODS = {
    "tpe, median": (TPE, MEDIAN, LOOSE),
    "tpe, hyperband": (TPE, HYPERBAND, LOOSE),
    "a sampler of one's own, hyperband": (COUNTING, HYPERBAND, LOOSE),
    "random, halving": (RANDOM, HALVING, LOOSE),
    "grid, median": (GRID, MEDIAN, STEPPED),
    "brute force": (BRUTE_FORCE, None, STEPPED),
    "qmc": (QMC, None, LOOSE),
    "qmc, percentile": (QMC, PERCENTILE, LOOSE),
    "random, patient": (RANDOM, PATIENT, LOOSE),
    "tpe, threshold": (TPE, THRESHOLD, LOOSE),
    "cma-es": (CMAES, MEDIAN, LOOSE),
    "gp": (GP, MEDIAN, LOOSE),
    "tpe, few points": (TPE, MEDIAN, STEPPED),
    "random, few points": (RANDOM, MEDIAN, STEPPED),
}
EACH = [pytest.param(method, marks=[pytest.mark.slow] if method == "gp" else []) for method in METHODS]


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_cut_at_random_bytes_and_gone_on_it_ends_the_same(tmp_path, method, seed):
    sampler, pruner, space = METHODS[method]
    names, n_trials = (("fall",), 8) if sampler is GP else (("fall", "other"), 12)  # an ask of GP takes long
    plans = [plan(name, sampler=sampler, pruner=pruner, space=space, n_trials=n_trials) for name in names]
    whole = swept(tmp_path / "whole.log", plans, rough)
    assert {row["state"] for row in whole} >= {"complete", "diverged", "failed"}

    rng, path = random.Random(f"{method} {seed}"), tmp_path / "cut.log"
    for _ in range(5):
        train(studies(path, plans), rough, rounds=rng.randrange(1, 9))
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content) // 3, len(content) + 1)])
    train(studies(path, plans), rough)
    assert table(path) == whole


SAMPLERS = {"tpe": TPE, "random": RANDOM, "grid": GRID, "qmc": QMC, "cma-es": CMAES, "gp": GP}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_in_earnest_it_ends_the_same(tmp_path, sampler):
    space, n_trials = (STEPPED, 12) if sampler == "grid" else (LOOSE, 12 if sampler == "gp" else 30)
    planned = [plan(sampler=SAMPLERS[sampler], space=space, n_trials=n_trials)]
    whole = swept(tmp_path / "whole.log", planned, rough)
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_study as t\n"
        f"planned = [t.plan(sampler=t.SAMPLERS[{sampler!r}], space=t.{'STEPPED' if sampler == 'grid' else 'LOOSE'},"
        f" n_trials={n_trials})]\n"
        f"t.train(t.studies(t.Path({str(tmp_path / 'killed.log')!r}), planned), t.slowly)"
    )
    moments, path, kills = random.Random(sampler), tmp_path / "killed.log", 0
    for _ in range(3):
        size = path.stat().st_size if path.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", program])
        while process.poll() is None and (path.stat().st_size if path.exists() else 0) <= size:
            time.sleep(0.002)  # until this process has committed something
        time.sleep(moments.uniform(0, 0.1))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 2, "the study was over too soon to be killed"
    train(studies(path, planned), rough)
    assert table(path) == whole


ALIKE = {name: method for name, method in METHODS.items() if "hyperband" not in name}  # draws brackets from the name
EACH_ALIKE = [pytest.param(method, marks=[pytest.mark.slow] if method == "gp" else []) for method in ALIKE]


@pytest.mark.parametrize("method", EACH_ALIKE)
def test_families_of_equal_formula_and_space_have_equal_trials_together_and_alone(tmp_path, method):
    sampler, pruner, space = ALIKE[method]
    names = ("cosine", "fall", "wsd")
    spaces = {"cosine": {**space, "decay": 0.25}, "fall": space, "wsd": space}
    plans = [
        plan(name, sampler=sampler, pruner=pruner, space=spaces[name], n_trials=8 if sampler is GP else 20)
        for name in names
    ]
    swept(tmp_path / "all.log", plans, rough)
    for one in plans:
        alone = swept(tmp_path / f"{one.name}.log", [one], rough)
        assert table(tmp_path / "all.log", one.family.name) == alone
    own = ("study", "family")
    fall, wsd = (
        [{key: value for key, value in row.items() if key not in own} for row in table(tmp_path / "all.log", name)]
        for name in ("fall", "wsd")
    )
    assert fall == wsd, "bit for bit"


@pytest.mark.parametrize("sampler", [TPE, GP, CMAES, RANDOM, QMC], ids=["tpe", "gp", "cma-es", "random", "qmc"])
def test_families_of_other_spaces_begin_with_the_same_peak_lrs_and_warmups(tmp_path, sampler):
    """Also after start points, which do not count."""
    start = [{"peak_lr": 0.5, "warmup": 0.3, "decay": 0.25}]
    few = {name: LOOSE[name] for name in ("peak_lr", "warmup")}
    plans = [
        plan("fall", sampler=sampler, pruner=None, n_trials=16, start=start),
        plan("other", sampler=sampler, pruner=None, n_trials=16, space=few),
    ]
    search = studies(tmp_path / "j", plans, concurrent=9)
    params = {"fall": [], "other": []}
    while (jobs := search.ask()) is not None:
        params[jobs[0].family].append(jobs[0].params)
    fall, other = ([(one["peak_lr"], one["warmup"]) for one in of] for of in params.values())
    assert fall[1:9] == other[:8]
    assert len(set(other[:8])) == 8


def test_at_default_size_most_trials_are_guided(tmp_path, monkeypatch):
    """A trial is guided if TPE had the ended trials that it waits for, and drew from its model."""
    guided = []
    sample = optuna.samplers.TPESampler._sample  # private: where TPE draws from its model

    def counting(sampler, study, trial, space, **options):
        guided.append(trial.number)
        return sample(sampler, study, trial, space, **options)

    monkeypatch.setattr(optuna.samplers.TPESampler, "_sample", counting)
    config = yaml.safe_load((CONF / "config.yaml").read_text())["search"]
    node = yaml.safe_load((CONF / "search" / "tpe.yaml").read_text())["sampler"]
    one = plan(sampler=node, pruner=None, n_trials=config["n_trials"])
    swept(tmp_path / "j", [one], healthy, concurrent=config["concurrent_trials"])
    assert (config["n_trials"], config["concurrent_trials"]) == (20, 8)
    assert sorted(guided) == list(range(8, 20))


def test_a_family_may_join_later_and_leave(tmp_path):
    both = swept(tmp_path / "both.log", [plan("fall"), plan("other")])
    path = tmp_path / "joined.log"
    swept(path, [plan("other")])
    swept(path, [plan("fall")])
    assert table(path) == both


def test_more_trials_continue_and_the_same_number_asks_nothing(tmp_path):
    path = tmp_path / "j"
    first = swept(path, [plan(n_trials=6)])
    search = studies(path, [plan(n_trials=6)])
    assert search.ask() is None
    assert search.resume() == []
    more = swept(path, [plan(n_trials=10)])
    assert len(more) == 10
    assert more[:6] == first


@pytest.mark.parametrize("method", EACH)
def test_no_point_is_asked_twice_however_often_it_is_interrupted(tmp_path, method):
    sampler, pruner, space = METHODS[method]
    path = tmp_path / "j"
    for _ in range(20):  # in rounds of three trials and four reports all twelve are asked by then
        train(studies(path, [plan(sampler=sampler, pruner=pruner, space=space)]), rounds=1)
    points = [tuple(row["params"].items()) for row in table(path)]
    assert len(set(points)) == len(points) == 12


@pytest.mark.parametrize("concurrent", [1, 5])
@pytest.mark.parametrize(
    "sampler", [TPE, RANDOM, GRID, BRUTE_FORCE, QMC, CMAES, pytest.param(GP, marks=pytest.mark.slow)],
    ids=["tpe", "random", "grid", "brute force", "qmc", "cma-es", "gp"],
)  # fmt: skip
def test_a_space_of_few_points_is_tried_once_and_ends(tmp_path, sampler, concurrent):
    path = tmp_path / "j"
    few = plan(space=STEPPED, sampler=sampler, pruner=None, n_trials=99)
    train(studies(path, [replace(few, n_trials=11)], concurrent=concurrent))
    assert JournalReader(path).exhausted() == {}, "one is left"
    rows = swept(path, [few], concurrent=concurrent)
    points = {(row["params"]["peak_lr"], row["params"]["decay"]) for row in rows}
    assert points == {(peak, decay) for peak in (0.01, 0.1, 1.0, 2.0) for decay in (0.0, 0.25, 0.5)}
    assert len(rows) == 12
    again = studies(path, [few])
    assert (again.ask(), again.progress()[0].trials) == (None, 12)
    assert JournalReader(path).exhausted() == {"fall-0": 12}


@pytest.mark.parametrize("sampler", [TPE, GRID], ids=["tpe", "grid"])
def test_what_is_queued_is_trained_even_if_it_was_tried(tmp_path, sampler):
    point = {"peak_lr": 0.1, "decay": 0.25}
    queued = plan(space=STEPPED, sampler=sampler, n_trials=99, start=[point] * 3, start_seeds=(7, 7, 8))
    rows = swept(tmp_path / "j", [queued], rough)
    started = [row for row in rows if row["retry_of"] is None]
    assert [{name: row["params"][name] for name in point} for row in started[:3]] == [point] * 3
    others = [(row["params"]["peak_lr"], row["params"]["decay"]) for row in started[3:]]
    assert len(set(others)) == len(others) == 11
    assert (0.1, 0.25) not in others


def test_points_that_are_queued_in_part_keep_no_space_from_ending(tmp_path):
    """A point that is queued in part may turn out as one that was tried; the sweep ends all the same."""
    space = {"peak_lr": Choice((0.1, 1.0)), "decay": 0.0, "warmup": Choice((0, 0.1))}
    partly = plan(space=space, n_trials=99, pruner=None, start=[{"peak_lr": 0.1}, {"peak_lr": 0.1}, {"peak_lr": 0.1}])
    rows = swept(tmp_path / "j", [partly])
    points = [tuple(row["params"].values()) for row in rows]
    assert len(set(points)) == 4
    assert len(set(points[3:])) == len(points[3:])
    assert JournalReader(tmp_path / "j").exhausted() == {"fall-0": 4}


def test_another_run_seed_asks_other_points(tmp_path):
    one, other = (swept(tmp_path / str(seed), [plan()], seed=seed) for seed in (0, 1))
    assert one[0]["params"] != other[0]["params"]
    assert one[0]["seeds"] != other[0]["seeds"]


# --- asking -----------------------------------------------------------------------------------------


def test_open_trials_are_counted_by_family_in_alphabetical_order(tmp_path):
    search = studies(tmp_path / "j", [plan("wsd"), plan("cosine", n_trials=2)], concurrent=4)
    asked = []
    while jobs := search.ask():
        asked.append(jobs[0].id[:2])
    assert asked == [*[("cosine-0", n) for n in range(2)], *[("wsd-0", n) for n in range(4)]]
    assert search.ask() is None
    search.tell(TrialId("cosine-0", 1), "pruned")
    assert search.ask() is None, "cosine has asked for its two"
    search.tell(TrialId("wsd-0", 1), "pruned")
    assert search.ask()[0].id == JobId("wsd-0", 4, 0)


def test_jobs_say_all_there_is_to_train(tmp_path):
    hparams = {"optimizer.momentum": Range(0.8, 0.99), "optimizer.betas": Choice(((0.9, 0.99), (0.9, 0.95)))}
    search = studies(
        tmp_path / "j", [plan(hparams={**hparams, "model.dropout": 0.25})], partitions=(0, 3), parts=("train", "test")
    )
    first, second = search.ask()
    assert [first.id, second.id] == [JobId("fall-0", 0, 0), JobId("fall-0", 0, 1)]
    assert [job.seed for job in (first, second)] == [seed_of(7, "member", 0), seed_of(7, "member", 1)]
    assert [job.partition for job in (first, second)] == [0, 3]
    assert first.parts == ("train", "test")
    assert first.report_steps == REPORT_STEPS
    assert first.params.keys() == {"peak_lr", "decay", "warmup"}
    assert first.hparams.keys() == {"optimizer.momentum", "optimizer.betas", "model.dropout"}
    assert first.hparams["optimizer.betas"] in ((0.9, 0.99), (0.9, 0.95))
    assert first.hparams["model.dropout"] == 0.25
    assert first.lr_S.shape == (12,)
    assert first.lr_S.max() <= first.params["peak_lr"]
    assert first.momentum_S is None


def test_all_trials_share_initialisation_and_batch_order(tmp_path):
    search = studies(tmp_path / "j", [plan("fall"), plan("other")], members=2)
    jobs = [jobs for _ in range(6) if (jobs := search.ask())]
    assert {tuple(job.seed for job in of_trial) for of_trial in jobs} == {
        (seed_of(7, "member", 0), seed_of(7, "member", 1))
    }


def test_a_family_with_nothing_searched_is_one_trial(tmp_path):
    fixed = {"peak_lr": 0.1, "decay": Range(0.2, 0.2), "warmup": Choice((0.1,))}
    rows = swept(tmp_path / "j", [plan(space=fixed, sampler=GRID, n_trials=20)])
    assert [row["params"] for row in rows] == [{"peak_lr": 0.1, "decay": 0.2, "warmup": 0.1}]
    assert rows[0]["searched"] == ()
    assert studies(tmp_path / "j", [plan(space=fixed, sampler=GRID)]).progress()[0].trials == 1


@pytest.mark.parametrize("sampler", [GRID, BRUTE_FORCE], ids=["grid", "brute force"])
@pytest.mark.parametrize("concurrent", [1, 5, 30])
def test_a_grid_is_gone_through_once_and_ends(tmp_path, sampler, concurrent):
    path = tmp_path / "j"
    rows = swept(path, [plan(space=STEPPED, sampler=sampler, pruner=None, n_trials=99)], concurrent=concurrent)
    points = {(row["params"]["peak_lr"], row["params"]["decay"]) for row in rows}
    assert points == {(peak, decay) for peak in (0.01, 0.1, 1.0, 2.0) for decay in (0.0, 0.25, 0.5)}
    assert len(rows) == 12
    assert studies(path, [plan(space=STEPPED, sampler=sampler, pruner=None, n_trials=99)]).progress()[0].trials == 12


def test_a_grid_with_failures_and_start_points_still_covers_everything(tmp_path):
    start = [{"peak_lr": 0.1, "decay": 0.25}, {"peak_lr": 2.0, "decay": 0.0}]
    grid = plan(space=STEPPED, sampler=GRID, pruner=None, n_trials=99, start=start)
    rows = swept(tmp_path / "j", [grid], rough)
    assert [(row["params"]["peak_lr"], row["params"]["decay"]) for row in rows[:2]] == [(0.1, 0.25), (2.0, 0.0)]
    good = [(row["params"]["peak_lr"], row["params"]["decay"]) for row in rows if row["state"] != "failed"]
    assert len(set(good)) == len(good) == 12, "the grid leaves out what the start points tried"
    train(studies(tmp_path / "i", [grid]), rough, rounds=6)
    train(studies(tmp_path / "i", [plan(space=STEPPED, sampler=GRID, pruner=None, n_trials=99)]), rough)
    assert table(tmp_path / "i") == rows, "the start points may be left out later"
    with pytest.raises(InputError, match=r"search\.start\.fall\[0\]\.peak_lr: missing"):
        studies(tmp_path / "k", [plan(space=STEPPED, sampler=GRID, start=[{"decay": 0.25}])])


# --- studies of earlier versions --------------------------------------------------------------------

SPELLED = {"peak_lr": Range(1, 3, log=True), "decay": Range(0, 1), "warmup": Choice((0, 0.1, 0.3))}
TYPED = {name: replace(one, whole=False) if isinstance(one, Range) else one for name, one in SPELLED.items()}


@pytest.mark.parametrize("sampler", [TPE, RANDOM], ids=["tpe", "random"])
def test_a_study_that_searched_as_its_ranges_are_spelled_is_resumed_so(tmp_path, sampler):
    before, now = plan(space=SPELLED, sampler=sampler), plan(space=TYPED, sampler=sampler, as_written=SPELLED)
    whole = swept(tmp_path / "whole", [before], rough)
    assert {row["params"]["decay"] for row in whole} == {0, 1}
    path = tmp_path / "resumed"
    train(studies(path, [before]), rough, rounds=3)
    resumed = studies(path, [now])
    assert resumed.resumed_as_written == ["fall"]
    train(resumed, rough)
    assert table(path) == whole
    fresh = swept(tmp_path / "fresh", [now], rough)
    assert all(isinstance(row["params"]["decay"], float) and 0 < row["params"]["decay"] < 1 for row in fresh)
    assert studies(tmp_path / "fresh", [now]).resumed_as_written == []


EARLIER = json.loads(Path(__file__).with_name("earlier.json").read_text())  # points, recorded with such a version


DEFAULT = {"_target_": "sweeper.search.tpe.TPE", "n_startup_trials": 8, "multivariate": True}  # 10 in earlier versions


@pytest.mark.parametrize("method", ["the default", *EACH])
def test_a_study_of_an_earlier_version_proposes_as_that_version(tmp_path, method):
    """Its seeds follow from the family's name, and it shares no points."""
    sampler, pruner, space = {**METHODS, "the default": (DEFAULT, MEDIAN, LOOSE)}[method]
    planned = [plan(sampler=sampler, pruner=pruner, space=space, n_trials=8 if sampler is GP else 20)]
    path = tmp_path / "j"
    studies(path, planned).commit(1)
    journal = path.read_bytes()
    mark = b',"draws":"shared"'
    assert mark in journal
    path.write_bytes(re.sub(rb',"crc":"\w{8}"', b"", journal.replace(mark, b"")))
    rows = swept(path, planned, rough)
    assert [list(row["params"].values()) for row in rows] == [pytest.approx(point) for point in EARLIER[method]]


def test_a_grid_of_an_earlier_version_is_resumed(tmp_path):
    spelled = {"peak_lr": Choice((0.1, 1.0)), "decay": Range(0, 1), "warmup": 0.1}
    before = plan(space=spelled, sampler=GRID)
    typed = {**spelled, "decay": Range(0, 1, whole=False)}
    now = plan(space=typed, sampler=GRID, as_written=spelled)
    train(studies(tmp_path / "j", [before]), rounds=1)
    assert len(swept(tmp_path / "j", [now])) == 4
    with pytest.raises(InputError, match="decay: a grid needs a list of values"):
        studies(tmp_path / "new", [now])
    assert not (tmp_path / "new").exists()


def test_a_real_study_takes_over_whole_trials(tmp_path):
    swept(tmp_path / "j", [plan(space=SPELLED, n_trials=4, formula="f")], healthy)
    wider = {**TYPED, "peak_lr": Range(0.5, 3, log=True, whole=False)}
    extended = replace(plan(space=wider, n_trials=8, formula="f", extends=True), name="fall-1")
    rows = [row for row in swept(tmp_path / "j", [extended], healthy) if row["study"] == "fall-1"]
    assert [row["origin"] is not None for row in rows] == [True] * 4 + [False] * 4
    assert all(isinstance(row["params"]["decay"], float) for row in rows)


# --- start points -----------------------------------------------------------------------------------


def test_start_points_come_first_once_and_what_they_leave_out_is_sampled(tmp_path):
    path, start = tmp_path / "j", [{"peak_lr": 0.5, "warmup": 0.3, "decay": 0}, {"peak_lr": 0.25}]
    without = swept(tmp_path / "without", [plan(n_trials=12)])
    for _ in range(3):
        rows = swept(path, [plan(n_trials=5, start=start)])
    assert len(rows) == 5
    assert rows[0]["params"] == {"peak_lr": 0.5, "warmup": 0.3, "decay": 0.0}
    assert rows[1]["params"]["peak_lr"] == 0.25
    assert rows[2]["params"] == without[0]["params"], "a start point is nothing the sampler was asked"


def test_more_start_points_than_trials_wait_for_more_trials(tmp_path):
    start = [{"peak_lr": peak} for peak in (0.1, 0.2, 0.3)]
    assert len(swept(tmp_path / "j", [plan(n_trials=2, start=start)])) == 2
    rows = swept(tmp_path / "j", [plan(n_trials=3, start=start)])
    assert [row["params"]["peak_lr"] for row in rows] == [0.1, 0.2, 0.3]


def test_start_points_may_be_added_at_the_end_and_not_be_changed(tmp_path):
    path = tmp_path / "j"
    swept(path, [plan(n_trials=2, start=[{"peak_lr": 0.1}])])
    rows = swept(path, [plan(n_trials=3, start=[{"peak_lr": 0.1}, {"peak_lr": 0.2}])])
    assert rows[2]["params"]["peak_lr"] == 0.2
    with pytest.raises(InputError, match=r"search\.start\.fall: .*other start points"):
        studies(path, [plan(start=[{"peak_lr": 0.3}])])
    assert len(swept(path, [plan(n_trials=4)])) == 4, "they may be left out once they are tried"


def test_a_start_point_with_its_own_seed(tmp_path):
    points = [{"peak_lr": 0.1, "decay": 0.0, "warmup": 0}] * 3
    rows = swept(tmp_path / "j", [plan(n_trials=3, start=points, start_seeds=(11, 12, 13), sampler=RANDOM)], rough)
    assert [row["seeds"] for row in rows[:3]] == [(seed_of(seed, "member", 0),) for seed in (11, 12, 13)]
    assert [(row["retry_of"], row["seeds"]) for row in rows[3:]] == [(2, rows[2]["seeds"])]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"peek_lr": 0.1}, r"\[1\]\.peek_lr=0\.1: no such hyperparameter"),
        ({"peak_lr": 30}, r"\[1\]\.peak_lr=30: not a number in the searched range"),
        ({"warmup": 0.2}, r"\[1\]\.warmup=0\.2: not an option"),
        (3, r"\[1\]=3: not a point"),
    ],
)
def test_a_start_point_that_cannot_be_tried_is_refused_before_anything_is_written(tmp_path, point, said):
    with pytest.raises(InputError, match=r"search\.start\.fall" + said):
        studies(tmp_path / "j", [plan(start=[{"peak_lr": 0.1}, point])])
    assert not (tmp_path / "j").exists()


# --- reports ----------------------------------------------------------------------------------------


def reports(jobs, step, values, **more):
    return [Report(job.id, step, {}, {"valid/loss": v}, 0.0, **more) for job, v in zip(jobs, values, strict=True)]


def test_a_trial_is_judged_by_the_median_of_its_members(tmp_path):
    path = tmp_path / "j"
    search = studies(path, [plan(n_trials=1)], members=3)
    jobs = search.ask()
    assert search.report(reports(jobs, 3, [0.1, 5.0, 0.2])) == set()
    search.report(reports(jobs, 6, [0.3, 0.2, 9.0]))
    search.commit(1)
    assert table(path)[0]["intermediate"] == ((3, 0.2), (6, 0.3))


def test_what_members_reported_before_an_interruption_counts(tmp_path):
    values = ([0.9, 0.5, 0.7], [0.8, 0.2, 0.3], [0.6, 0.4, 0.1], [0.5, 0.7, 0.3])
    objective = {"metric": "valid/loss", "direction": "minimize", "at": "best", "k": 3}
    told = []
    for interrupted in (False, True):
        path = tmp_path / str(interrupted)
        search = studies(path, [plan(n_trials=1)], members=3, objective=objective)
        jobs = search.ask()
        for round, (step, of_members) in enumerate(zip(REPORT_STEPS, values, strict=True), start=1):
            search.report(reports(jobs, step, of_members))
            search.commit(round)
            if interrupted:
                search = studies(path, [plan(n_trials=1)], members=3, objective=objective)
        ending = search.tell(jobs[0].id.of, "complete")
        search.commit(5)
        (record,) = read(path)
        assert record.measures == ending.measures
        told.append(ending)
    assert told[0] == told[1]
    assert told[0].value == told[0].measures["objective/best"] == 0.3
    assert told[0].measures["objective/last"] == 0.5
    assert told[0].measures["objective/spread"] == pytest.approx(np.std([0.5, 0.2, 0.1], ddof=1))


def test_a_missing_metric_is_named_with_those_there_are(tmp_path):
    objective = {"metric": "valid/auroc", "direction": "maximize", "at": "last", "k": 3}
    search = studies(tmp_path / "j", [plan()], objective=objective)
    with pytest.raises(InputError, match=r"objective\.metric=valid/auroc: .*Choose one of valid/accuracy, valid/loss"):
        train(search, healthy)


def test_pruning_stops_the_worse_trial_and_never_at_its_last_report(tmp_path):
    worst = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 1.0}
    search = studies(tmp_path / "j", [plan(n_trials=2, pruner=worst)])
    good, bad = search.ask(), search.ask()
    assert search.report(reports(good, 3, [0.5]) + reports(bad, 3, [1.5])) == {bad[0].id.of}
    for step in (6, 9):
        assert search.report(reports(good, step, [0.5])) == set()
    assert search.report(reports(good, 12, [1.5])) == set()
    assert search.tell(good[0].id.of, "complete").value == 1.5


def test_pruners_count_reports_whatever_the_horizon(tmp_path):
    never_before = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 1.0, "n_warmup_steps": 3}
    for report_steps in ((3, 6, 9, 12), (1000, 2000, 3000, 4000)):
        search = studies(tmp_path / str(report_steps), [plan(pruner=never_before)], report_steps=report_steps)
        jobs = search.ask()
        stopped = [bool(search.report(reports(jobs, step, [2.0]))) for step in report_steps[:3]]
        assert stopped == [False, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("metric", "state"), [("valid/loss", "diverged"), ("valid/auroc", "failed")])
def test_a_loss_that_is_not_finite_is_a_divergence_and_another_metric_is_not(tmp_path, metric, state, value):
    """It ends the trial in either case. Without a value, training again would give the same."""
    path = tmp_path / "j"
    search = studies(path, [plan(n_trials=2)], members=2, objective=Objective(metric))
    early, late = search.ask(), search.ask()

    def of(jobs, step, values):
        return [
            replace(report, metrics={metric: report.metrics["valid/loss"]}) for report in reports(jobs, step, values)
        ]

    assert search.report([*of(early, 3, [0.5, value]), *of(late, 3, [0.5, 0.5])]) == {early[0].id.of}
    assert search.tell(early[0].id.of, "pruned").state == state
    for step in (6, 9):
        search.report(of(late, step, [0.5, 0.5]))
    assert search.report(of(late, 12, [0.5, value])) == set()
    ending = search.tell(late[0].id.of, "complete")
    assert (ending.state, ending.value, ending.step, ending.given_up) == (state, None, 12, state == "failed")
    assert ending.reason == f"{metric} is {value} at update 12"
    if state == "failed":
        with pytest.raises(AllTrialsFailedError, match=rf"{metric} is {value} at update 3"):
            search.ask()
    else:
        assert search.ask() is None
    search.commit(1)
    assert all(math.isfinite(v) for trial in frozen(path) for v in trial.intermediate_values.values())
    assert [(row["state"], row["diverged_step"], row["has_no_value"]) for row in table(path)] == [
        (state, 3 if state == "diverged" else None, state == "failed"),
        (state, 12 if state == "diverged" else None, state == "failed"),
    ]


def test_the_order_in_which_reports_arrive_changes_nothing(tmp_path):
    stopped = []
    for order in (1, -1):
        search = studies(tmp_path / str(order), [plan(pruner=HALVING)], concurrent=4)
        asked = [search.ask() for _ in range(4)]
        arrived = [
            r for jobs, value in zip(asked, (0.4, 0.3, 0.2, 0.5), strict=True) for r in reports(jobs, 3, [value])
        ]
        stopped.append(search.report(arrived[::order]))
    assert stopped[0] == stopped[1] != set()


def test_all_members_are_needed(tmp_path):
    search = studies(tmp_path / "j", [plan()], members=2)
    jobs = search.ask()
    with pytest.raises(ValueError, match="1 reports of a trial with 2 members"):
        search.report(reports(jobs[:1], 3, [0.5]))


# --- endings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "at", "expected"),
    [
        ("minimize", "last", 0.4),
        ("minimize", "best", 0.1),
        ("minimize", "mean_last_k", 0.3),
        ("minimize", "ema", (0.4 + 0.2 / 3 + 0.1 / 9 + 0.9 / 27) / (1 + 1 / 3 + 1 / 9 + 1 / 27)),
        ("maximize", "last", 0.4),
        ("maximize", "best", 0.9),
        ("maximize", "mean_last_k", 0.3),
    ],
)
def test_the_objective_of_a_complete_trial(tmp_path, direction, at, expected):
    objective = {"metric": "valid/loss", "direction": direction, "at": at, "k": 2}
    search = studies(tmp_path / "j", [plan(pruner=None)], objective=objective)
    jobs = search.ask()
    for step, value in zip(REPORT_STEPS, (0.9, 0.1, 0.2, 0.4), strict=True):
        search.report(reports(jobs, step, [value]))
    ending = search.tell(jobs[0].id.of, "complete")
    assert ending.value == pytest.approx(expected)
    assert (ending.state, ending.step) == ("complete", 12)
    search.commit(1)
    assert frozen(tmp_path / "j")[0].value == ending.value
    assert search.progress()[0].best == ending.value


def frozen(path, study="fall-0"):
    storage = optuna.storages.JournalStorage(Journal(path, read_only=True))
    return optuna.load_study(study_name=study, storage=storage).trials


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("step", [1, 4, 12])
def test_a_diverged_trial_is_told_so_that_the_sampler_learns(tmp_path, direction, step):
    objective = {"metric": "valid/loss", "direction": direction, "at": "last", "k": 3}
    search = studies(tmp_path / "j", [plan(pruner=None)], objective=objective, members=2)
    jobs = search.ask()
    done = [at for at in REPORT_STEPS if at < step]
    for at in done:
        search.report(reports(jobs, at, [0.5, 0.5]))
    burst = Report(jobs[1].id, step, {}, {}, 0.0, "diverged", "the loss is inf")
    assert search.report([*reports(jobs[:1], REPORT_STEPS[len(done)], [0.4]), burst]) == set()
    ending = search.tell(jobs[0].id.of, "diverged", "the loss is inf")
    assert (ending.state, ending.step, ending.value, ending.reason) == ("diverged", step, None, "the loss is inf")
    search.commit(1)

    left = 1 - (step - 1) / 12
    (trial,) = frozen(tmp_path / "j")
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.constraints == {"diverged": left}
    assert left > 0, "or Optuna would take it for feasible"
    assert trial.value == pytest.approx(2.3 + left if direction == "minimize" else -(2.3 + left))
    (row,) = table(tmp_path / "j")
    assert (row["state"], row["diverged_step"], row["value"]) == ("diverged", step, None)
    assert row["intermediate"] == tuple((at, 0.5) for at in done), "the penalty is no measurement"
    assert search.progress()[0].counts == {"diverged": 1}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_diverged_trial_is_told_as_each_sampler_takes_it(tmp_path, sampler):
    """Finite, a complete trial to those that read no others, with a constraint to those that do not warn of it."""
    path = tmp_path / "j"
    space = STEPPED if sampler == "grid" else LOOSE
    search = studies(path, [plan(sampler=SAMPLERS[sampler], space=space, pruner=None, n_trials=2)], concurrent=2)
    burst, good = search.ask(), search.ask()
    search.report([Report(burst[0].id, 2, {}, {}, 0.0, "diverged", "nan"), *reports(good, 3, [0.5])])
    search.tell(burst[0].id.of, "diverged", "nan")
    for step in REPORT_STEPS[1:]:
        search.report(reports(good, step, [0.5]))
    search.tell(good[0].id.of, "complete")
    search.commit(1)
    bad, healthy = frozen(path)
    assert bad.state.name == ("COMPLETE" if sampler in ("gp", "cma-es") else "PRUNED")
    assert bad.value == pytest.approx(2.3 + 11 / 12)
    assert bad.constraints == ({} if sampler == "cma-es" else {"diverged": pytest.approx(11 / 12)})
    assert healthy.constraints == ({"diverged": -1.0} if sampler == "gp" else {})
    assert [row["state"] for row in table(path)] == ["diverged", "complete"]
    assert studies(path, [plan(sampler=SAMPLERS[sampler], space=space, pruner=None)]).progress()[0].best == 0.5


@pytest.mark.parametrize("sampler", [TPE, CMAES, pytest.param(GP, marks=pytest.mark.slow)], ids=["tpe", "cma-es", "gp"])
def test_samplers_learn_to_avoid_what_diverges(tmp_path, sampler):
    """Told as failed, which samplers ignore, far more of it is tried."""
    n_trials = 14 if sampler is GP else 50

    def cliff(state):
        return lambda job, step: (
            Report(job.id, 1, {}, {}, 0.0, state, "nan") if job.lr_S.max() > 3 else healthy(job, step)
        )

    counts = {}
    seeds = range(8 if sampler is CMAES else 2)
    wide = plan(sampler=sampler, pruner=None, n_trials=n_trials, space={**LOOSE, "peak_lr": Range(1e-3, 1e3, log=True)})
    for state in ("diverged", "failed"):
        tables = [swept(tmp_path / f"{state} {seed}", [wide], cliff(state), seed=seed, max_retries=0) for seed in seeds]
        counts[state] = sum(row["state"] == state for rows in tables for row in rows)
    assert counts["diverged"] < counts["failed"] * (0.9 if sampler is CMAES else 0.5)


@pytest.mark.slow
def test_the_gp_sampler_gets_complete_trials_with_a_constraint_each(tmp_path):
    path = tmp_path / "j"
    rows = swept(path, [plan(sampler=GP, pruner=None, n_trials=6, start=[{"peak_lr": 2.9}])])
    assert {row["state"] for row in rows} == {"complete", "diverged"}
    for trial, row in zip(frozen(path), rows, strict=True):
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert (trial.constraints["diverged"] > 0) == (row["state"] == "diverged")
        assert row["state"] == "complete" or row["value"] is None
    best = studies(path, [plan(sampler=GP, pruner=None, n_trials=6)]).progress()[0]
    assert best.best == min(row["value"] for row in rows if row["state"] == "complete")


def test_a_failed_trial_is_tried_again_once_with_the_same_numbers(tmp_path):
    def broken(job, step):
        bad = job.params["peak_lr"] == 0.5 or job.id.trial == 3
        return Report(job.id, 2, {}, {}, 0.0, "failed", "no memory") if bad else healthy(job, step)

    start = [{"peak_lr": 0.5, "decay": 0.0, "warmup": 0}]
    rows = swept(tmp_path / "j", [plan(n_trials=6, start=start)], broken)
    failed = [row for row in rows if row["state"] == "failed"]
    assert [row["retry_of"] for row in failed if row["params"]["peak_lr"] == 0.5] == [None, 0]
    of_number = {row["number"]: row for row in rows}
    for row in rows:
        if row["retry_of"] is not None:
            assert row["params"] == of_number[row["retry_of"]]["params"]
            assert row["seeds"] == of_number[row["retry_of"]]["seeds"]
    retried = {row["retry_of"] for row in rows}
    assert sum(row["number"] not in retried for row in rows) == 6, "what is tried again does not count"
    assert all(row["reason"] == "no memory" for row in failed)
    assert all(row["steps_done"] == 2 for row in failed)
    ended, stood = Counter(row["state"] for row in rows), studies(tmp_path / "j", [plan(n_trials=6)]).progress()[0]
    assert (stood.counts, stood.given_up) == (ended, len(failed) - len(retried - {None}))
    assert ended["complete"] + ended["pruned"] + ended["diverged"] + stood.given_up == stood.trials == 6


def dear_fails(job, step):
    """Some trials fail, also when they are retried; the others are healthy."""
    if job.params["peak_lr"] > 0.3:
        return Report(job.id, step, {}, {}, 0.0, "failed", "no memory")
    return healthy(job, step)


def outcomes(path):
    """Return the end of every trial that did not fail, by its hyperparameters and seeds."""
    rows = [row for row in table(path) if row["state"] != "failed"]
    assert all(row["state"] != "running" for row in rows)
    return {repr((row["params"], row["seeds"])): (row["state"], row["value"], row["intermediate"]) for row in rows}


@pytest.mark.parametrize("members", [1, 2])
def test_retries_train_what_was_given_up_and_nothing_else(tmp_path, members):
    """A sampler that does not learn proposes the same points whether or not trials fail."""
    path, planned = tmp_path / "j", plan(n_trials=10, sampler=RANDOM, pruner=None)
    whole = tmp_path / "whole"
    swept(whole, [planned], healthy, members=members)
    before = swept(path, [planned], dear_fails, members=members)
    (study,) = studies(path, [planned], members=members).progress()
    assert study.given_up == JournalReader(path).trial_counts()["fall-0"] - len(outcomes(path)) > 0

    retried = train(studies(path, [replace(planned, retries_only=True)], members=members), healthy)
    assert len(retried.opened) == study.given_up
    assert table(path)[: len(before)] == before, "no other trial changes"
    assert outcomes(path) == outcomes(whole), "as if none had ever failed"
    (study,) = studies(path, [planned], members=members).progress()
    assert (study.given_up, JournalReader(path).given_up()) == (0, [])
    assert JournalReader(path).trial_counts()["fall-0"] == 10
    size = path.stat().st_size
    train(studies(path, [replace(planned, retries_only=True)], members=members), healthy)
    train(studies(path, [planned], members=members), healthy)
    assert path.stat().st_size == size, "nothing is left"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("resumed_by", ["retry", "sweep"])
def test_retries_cut_at_random_bytes_end_the_same(tmp_path, seed, resumed_by):
    path, planned = tmp_path / "j", plan(n_trials=10, sampler=RANDOM, pruner=None)
    retries = replace(planned, retries_only=True)
    swept(tmp_path / "whole", [planned], healthy)
    swept(path, [planned], dear_fails)
    before, rng = path.stat().st_size, random.Random(seed)
    for _ in range(4):
        train(studies(path, [retries]), healthy, rounds=rng.randrange(1, 4))
        os.truncate(path, rng.randrange(before, path.stat().st_size + 1))
    if resumed_by == "sweep":  # what was not queued yet stays given up
        train(studies(path, [planned]), healthy)
        assert JournalReader(path).unfinished_retries() == []
    train(studies(path, [retries]), healthy)
    assert outcomes(path) == outcomes(tmp_path / "whole")


def test_retries_leave_open_trials_start_points_and_the_limit_alone(tmp_path):
    start = [{"peak_lr": lr, "decay": 0.0, "warmup": 0} for lr in (0.5, 0.1, 0.2)]
    path, planned = tmp_path / "j", plan(n_trials=2, sampler=RANDOM, pruner=None, start=start)
    train(studies(path, [planned]), dear_fails)
    (study,) = studies(path, [planned]).progress()
    assert (study.given_up, study.counts) == (1, {"failed": 2, "complete": 1})
    train(studies(path, [replace(planned, n_trials=12)]), healthy, rounds=2)  # one start point waited
    before = {row["number"]: row for row in table(path)}
    is_open = {number for number, row in before.items() if row["state"] == "running"}
    assert is_open
    train(studies(path, [replace(planned, n_trials=20, retries_only=True)]), healthy)
    after = {row["number"]: row for row in table(path)}
    (new,) = after.keys() - before.keys()
    assert after[new]["params"] == before[0]["params"]
    assert after[new]["state"] == "complete"
    assert {number: after[number] for number in before} == before, "open trials wait for the sweep's own command"


def test_a_retry_that_fails_is_given_up_until_it_is_asked_for_again(tmp_path):
    path, planned = tmp_path / "j", plan(n_trials=6, sampler=RANDOM, pruner=None)
    swept(path, [planned], dear_fails)
    (first,) = studies(path, [planned]).progress()
    train(studies(path, [replace(planned, retries_only=True)]), dear_fails)
    (second,) = studies(path, [planned]).progress()
    assert second.given_up == first.given_up
    assert second.counts["failed"] == first.counts["failed"] + first.given_up
    train(studies(path, [replace(planned, retries_only=True)]), healthy)
    assert studies(path, [planned]).progress()[0].given_up == 0


def always_failed(job, step):
    return Report(job.id, 1, {}, {}, 0.0, "failed", "CUDA is out of memory")


@pytest.mark.parametrize(("n_trials", "concurrent", "started"), [(12, 3, 3), (12, 1, 3), (1, 3, 2)])
def test_when_every_trial_fails_the_sweep_says_why_and_keeps_what_was(tmp_path, n_trials, concurrent, started):
    path = tmp_path / "j"
    with pytest.raises(AllTrialsFailedError, match="fall-0 trial 0: CUDA is out of memory"):
        train(studies(path, [plan(n_trials=n_trials)], concurrent=concurrent), always_failed)
    assert [row["state"] for row in table(path)] == ["failed"] * started
    rows = swept(path, [plan(n_trials=12)], healthy)
    assert sum(row["state"] in ("complete", "pruned") for row in rows) >= 11, "mended, it goes on"


def test_a_few_failures_among_good_trials_stop_nothing(tmp_path):
    def sometimes(job, step):
        return always_failed(job, step) if job.id.trial % 2 else healthy(job, step)

    rows = swept(tmp_path / "j", [plan(n_trials=10)], sometimes)
    assert sum(row["state"] == "failed" for row in rows) >= 3


# --- endings before the time ------------------------------------------------------------------------


def test_a_study_that_gets_no_better_asks_for_no_more(tmp_path):
    best = {"peak_lr": 0.5, "decay": 0.0, "warmup": 0}

    def curve(job, step):
        value = 0.1 if job.params["peak_lr"] == 0.5 else 1.0
        return Report(job.id, step, {}, {"valid/loss": value}, 0.0)

    stalling = plan(n_trials=30, pruner=None, start=[best], stop=5)
    rows = swept(tmp_path / "j", [stalling, plan("other", n_trials=8)], curve)
    assert sum(row["family"] == "other" for row in rows) == 8, "the others go on"
    ours = table(tmp_path / "j", "fall")
    assert len(ours) == 1 + 5
    assert JournalReader(tmp_path / "j").trials_at_stop() == {"fall-0": 6}

    again = studies(tmp_path / "j", [stalling])
    assert again.ask() is None
    more = swept(tmp_path / "j", [plan(n_trials=30, pruner=None, start=[best])], curve)
    assert sum(row["family"] == "fall" for row in more) == 30, "without the rule it goes on"
    assert JournalReader(tmp_path / "j").trials_at_stop() == {}


@pytest.mark.parametrize("seed", range(3))
def test_a_study_that_stops_does_so_whenever_it_was_interrupted(tmp_path, seed):
    planned = [plan(n_trials=40, stop=4, start=[{"peak_lr": 0.01}] * 6)]
    whole = swept(tmp_path / "whole.log", planned, rough)
    assert 6 <= len(whole) < 40, "start points are tried in any case"
    rng, path = random.Random(seed), tmp_path / "cut.log"
    for _ in range(5):
        train(studies(path, planned), rough, rounds=rng.randrange(1, 6))
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content) // 2, len(content) + 1)])
    train(studies(path, planned), rough)
    assert table(path) == whole
    assert JournalReader(path).trials_at_stop() == JournalReader(tmp_path / "whole.log").trials_at_stop() != {}


def rising_late(job, step):
    """Falls until the second report; every other trial then rises."""
    value = loss(job, min(step, 6)) + (0.01 * step if job.id.trial % 2 and step > 6 else -0.01 * step)
    return Report(job.id, step, {}, {"valid/loss": value}, 0.5)


def test_a_trial_that_gets_no_better_ends_early_as_a_complete_one(tmp_path):
    path, rule = tmp_path / "j", EarlyStopping(1)
    noted = train(studies(path, [plan(n_trials=6, pruner=None)], early_stopping=rule), rising_late)
    for record in read(path):
        assert record.state == "complete"
        assert record.truncated == (record.number % 2 == 1)
        assert record.steps_done == (9 if record.truncated else 12)
        assert record.value == record.intermediate[-1][1] == record.measures["objective/last"]
    cut = [ending for ending in noted.endings if ending.step == 9]
    assert {(ending.state, ending.reason) for ending in cut} == {
        ("complete", "ended early, at update 9: search.early_stopping")
    }
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in frozen(path))


def test_trials_end_early_at_the_same_report_whenever_it_was_interrupted(tmp_path):
    terms = {"early_stopping": EarlyStopping(1), "members": 2}
    whole = swept(tmp_path / "whole", [plan(pruner=HALVING)], rising_late, **terms)
    assert {row["truncated"] for row in whole} == {True, False}
    for _ in range(60):
        train(studies(tmp_path / "j", [plan(pruner=HALVING)], **terms), rising_late, rounds=1)
    assert table(tmp_path / "j") == whole


# --- the journal and what is read from it -----------------------------------------------------------


def test_running_trials_are_resumed_with_the_same_jobs(tmp_path):
    path = tmp_path / "j"
    search = studies(path, [plan("other"), plan("fall")], members=2)
    asked = [jobs for _ in range(6) if (jobs := search.ask())]
    search.report([report for jobs in asked[:2] for report in reports(jobs, 3, [0.5, 0.6])])
    search.commit(4)
    again = studies(path, [plan("other"), plan("fall")], members=2)
    assert again.round == 4
    resumed = again.resume()
    assert [step for _, step in resumed] == [3, 3, 0, 0, 0, 0]
    for jobs, (same, _) in zip(asked, resumed, strict=True):
        for job, other in zip(jobs, same, strict=True):
            for name in (field.name for field in fields(job)):
                np.testing.assert_equal(getattr(job, name), getattr(other, name))
    assert again.ask() is None, "they count as open"


def test_what_was_not_committed_never_happened(tmp_path):
    path = tmp_path / "j"
    first = studies(path, [plan()])
    points = [first.ask()[0].params for _ in range(3)]
    second = studies(path, [plan()])
    assert second.round == 0
    assert [second.ask()[0].params for _ in range(3)] == points


def test_a_study_begun_with_something_else_is_refused(tmp_path):
    path = tmp_path / "j"
    swept(path, [plan(n_trials=1)])
    before = path.read_bytes()
    for changed, said in [
        ({"space": {**LOOSE, "decay": Range(0.0, 0.4)}}, "another space"),
        ({"sampler": RANDOM}, "another sampler"),
        ({"pruner": None}, "another pruner"),
    ]:
        with pytest.raises(InputError, match=said):
            studies(path, [plan(n_trials=1, **changed)])
    with pytest.raises(InputError, match="another report_steps"):
        studies(path, [plan(n_trials=1)], report_steps=(6, 12))
    assert path.read_bytes() == before


def test_records_are_read_beside_a_running_sweep_as_of_its_last_round(tmp_path):
    path = tmp_path / "j"
    search = studies(path, [plan()])
    assert read(path) == []
    assert read_round(path) == 0
    train(search, rounds=2)
    seen, size = table(path), path.stat().st_size
    search.ask()
    assert table(path) == seen
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"trial')  # as the next commit may look half way
    assert table(path) == seen
    assert read_round(path) == 2
    assert path.stat().st_size == size + 19


def test_a_record_says_all_there_is(tmp_path):
    path = tmp_path / "j"
    hparams = {"optimizer.betas": Choice(((0.9, 0.99), (0.9, 0.95))), "optimizer.eps": 1e-8, "model.shape": (1, (2, 3))}
    train(studies(path, [plan(n_trials=3, hparams=hparams, pruner=None)], members=2), healthy)
    for record in read(path):
        assert (record.study, record.family, record.state) == ("fall-0", "fall", "complete")
        assert record.params["optimizer.betas"] in ((0.9, 0.99), (0.9, 0.95))
        assert record.params["optimizer.eps"] == 1e-8
        assert record.params["model.shape"] == (1, (2, 3))
        assert set(record.searched) == {"peak_lr", "decay", "warmup", "optimizer.betas"}
        assert [step for step, _ in record.intermediate] == [3, 6, 9, 12]
        assert record.intermediate[-1][1] == record.value
        assert record.steps_done == 12
        assert record.diverged_step is None
        assert record.seconds == pytest.approx(2 * 4 * 0.5)
        assert len(record.seeds) == 2
        assert record.started <= record.ended


def test_seconds_of_before_an_interruption_count(tmp_path):
    path = tmp_path / "j"
    for _ in range(9):
        train(studies(path, [plan(n_trials=3, pruner=None)]), healthy, rounds=1)
    assert [record.seconds for record in read(path)] == [2.0, 2.0, 2.0]


def test_progress_counts_and_names_the_best(tmp_path):
    search = studies(tmp_path / "j", [plan("fall"), plan("other", n_trials=4)])
    train(search, rough)
    for progress in search.progress():
        rows = table(tmp_path / "j", progress.family)
        assert sum(progress.counts.values()) == len(rows)
        best = min((row for row in rows if row["value"] is not None), key=lambda row: row["value"])
        assert (progress.best, progress.best_trial) == (best["value"], best["number"])
    assert [progress.trials for progress in search.progress()] == [12, 4]


def test_optuna_reads_the_journal_as_it_is(tmp_path):
    path = tmp_path / "j"
    rows = swept(path, [plan()])
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="fall-0", storage=storage)
    assert study.best_value == min(row["value"] for row in rows if row["value"] is not None)
    assert [trial.params["peak_lr"] for trial in study.trials] == [row["params"]["peak_lr"] for row in rows]


def test_studies_need_names_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="study names must be unique"):
        studies(tmp_path / "j", [plan(), plan()])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), concurrent=st.integers(1, 5), n_trials=st.integers(1, 9), members=st.integers(1, 3))
def test_any_sweep_ends_with_its_trials_whatever_happens_to_them(tmp_path_factory, seed, concurrent, n_trials, members):
    def whatever(job, step):
        fate = seed_of(seed, job.id.trial, job.id.member, step) % 12
        if fate < 2:
            state = "failed" if fate == 0 else "diverged"
            return Report(job.id, step - 1, {}, {}, 0.1, state, "so it is")
        if fate == 2:
            return Report(job.id, step, {}, {"valid/loss": math.nan}, 0.1)
        return healthy(job, step)

    path = tmp_path_factory.mktemp("any") / "j"
    search = studies(path, [plan(n_trials=n_trials, sampler=RANDOM)], concurrent=concurrent, members=members)
    try:
        noted = train(search, whatever)
    except AllTrialsFailedError:
        assert {row["state"] for row in table(path)} == {"failed"}
        return
    rows = table(path)
    retried = {row["retry_of"] for row in rows}
    assert sum(row["number"] not in retried for row in rows) == n_trials
    assert [(e.trial.trial, e.state, e.step, e.value) for e in sorted(noted.endings, key=lambda e: e.trial)] == [
        (row["number"], row["state"], row["steps_done"], row["value"]) for row in rows
    ]
    assert all(row["state"] != "running" for row in rows)
