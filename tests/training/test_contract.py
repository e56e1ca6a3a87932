"""The contract of Trainer, run by every trainer: a job's numbers depend on the job alone.

All comparisons of a trainer with itself are bitwise, in float32. A new trainer joins TRAINERS.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.training.lanes import probe
from sweeper.training.lanes.probe import ProbedTrainer
from sweeper.training.optimizers.spec import parse_optimizer
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.training.workers.processes import Processes
from sweeper.types import ENDED, InputError, Job, JobId, Report, Trainer

TRAINERS: dict[str, Any] = {
    "sequential": SequentialTrainer,
    "lanes": functools.partial(ProbedTrainer, width=3),
    "processes": functools.partial(Processes, trainer=SequentialTrainer, devices=("cpu", "cpu")),
}
KINDS = ("plain", "dropout", "batchnorm", "functional")
SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
ADAMW = {"_target_": "torch.optim.AdamW", "betas": [0.9, 0.99], "weight_decay": 0.1}
STEPS, REPORTS, BATCH = 24, (5, 6, 14, 24), 8  # 50 examples: batches run across the ends of epochs

Make = Callable[..., Trainer]
VERDICTS: dict[Any, probe.Verdict] = {}


@pytest.fixture(autouse=True)
def probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a student can be stacked is found once, not for each trainer; the probe has tests of its own."""
    real = probe.probe

    def remembered(task: Any, recipe: Recipe, example: Job, **settings: Any) -> probe.Verdict:
        moves = example.momentum_S is not None
        key = repr((task.kind, recipe, sorted(example.hparams.items()), moves, sorted(settings.items())))
        if key not in VERDICTS:
            VERDICTS[key] = real(task, recipe, example, **settings)
        return VERDICTS[key]

    monkeypatch.setattr(probe, "probe", remembered)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name == "processes" else ()) for name in TRAINERS])
def make(request: pytest.FixtureRequest, teacher: Any) -> Iterator[Make]:
    built: list[Trainer] = []
    if request.param == "processes":
        request.getfixturevalue("warm_workers")

    def build(kind: str = "plain", optimizer: dict[str, Any] = SGD, **settings: Any) -> Trainer:
        task = settings.pop("task", None) or teacher(kind)
        recipe = Recipe(parse_optimizer(optimizer), **{"batch_size": BATCH} | settings)
        place = {} if request.param == "processes" else {"device": "cpu"}
        trainer: Trainer = TRAINERS[request.param](task, recipe, **place)
        built.append(trainer)
        return trainer

    yield build
    for trainer in built:
        trainer.close()


def job(trial: int = 0, member: int = 0, *, peak: float = 0.1, **changes: Any) -> Job:
    t = np.arange(STEPS)
    described = Job(
        id=JobId("cosine", trial, member),
        family="cosine",
        params={"peak_lr": peak},
        seed=100 + 10 * trial + member,
        lr_S=peak * (1 + np.cos(np.pi * t / STEPS)) / 2,
        report_steps=REPORTS,
    )
    return dataclasses.replace(described, **changes)


def explodes(trial: int, at: int) -> Job:
    """Its update number `at` (from 0) throws the weights far away: the loss of the next one is beyond the bound."""
    lr_S = np.full(STEPS, 0.01)
    lr_S[at] = 1e8
    return job(trial, lr_S=lr_S)


def turn(trainer: Trainer, ids: Sequence[JobId]) -> dict[JobId, Report]:
    reports = list(trainer.advance(ids))
    assert sorted(report.id for report in reports) == sorted(ids)
    return {report.id: report for report in reports}


def train(trainer: Trainer, id: JobId) -> list[Report]:
    """To its end, alone."""
    reports = [turn(trainer, [id])[id]]
    while reports[-1].state == "running":
        reports.append(turn(trainer, [id])[id])
    return reports


def alone(make: Make, of: Job, *arguments: Any) -> tuple[list[Report], dict[str, torch.Tensor]]:
    trainer = make(*arguments)
    trainer.start([of])
    trained = train(trainer, of.id), trainer.weights(of.id)
    trainer.close()
    return trained


EXPECTED: dict[Any, tuple[list[Report], dict[str, torch.Tensor]]] = {}


@pytest.fixture
def expect(make: Make, request: pytest.FixtureRequest) -> Callable[..., tuple[list[Report], dict[str, torch.Tensor]]]:
    """`alone`, for tests of something else: one training of each job by each trainer."""

    def trained(of: Job, *arguments: Any) -> tuple[list[Report], dict[str, torch.Tensor]]:
        arrays = [None if row is None else row.tobytes() for row in (of.lr_S, of.momentum_S)]
        key = repr(
            (request.node.callspec.params["make"], arguments, dataclasses.replace(of, lr_S=(), momentum_S=()), arrays)
        )
        if key not in EXPECTED:
            EXPECTED[key] = alone(make, of, *arguments)
        return EXPECTED[key]

    return trained


def stands(trainer: Trainer, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
    """What a fresh trainer takes up."""
    found = trainer.restore(folder, jobs, last_round)
    trainer.close()
    return found


def assert_same(left: Sequence[Report], right: Sequence[Report]) -> None:
    """Equal to the last bit, but for the seconds."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert (one.id, one.step, one.state, one.reason) == (other.id, other.step, other.state, other.reason)
        assert one.metrics == other.metrics
        assert list(one.traces) == list(other.traces)
        for name in one.traces:
            np.testing.assert_array_equal(one.traces[name], other.traces[name])


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


# --- reports ----------------------------------------------------------------------------------------


def test_reports_cover_every_update_once(make: Make) -> None:
    of = job()
    reports, _ = alone(make, of)
    assert [report.step for report in reports] == list(REPORTS)
    assert [report.state for report in reports] == ["running"] * 3 + ["complete"]
    for report, width in zip(reports, np.diff((0, *REPORTS)), strict=True):
        assert set(report.traces) == {"train/loss", "lr/group0", "grad_norm", "update_to_weight"}
        assert {len(trace) for trace in report.traces.values()} == {width}
        assert {trace.dtype for trace in report.traces.values()} == {np.dtype(np.float64)}
        assert set(report.metrics) == {"valid/loss", "valid/accuracy"}
        assert report.seconds > 0
        assert report.reason == ""
    np.testing.assert_array_equal(np.concatenate([report.traces["lr/group0"] for report in reports]), of.lr_S)
    assert reports[-1].metrics["valid/loss"] < reports[0].metrics["valid/loss"]


def test_measuring_norms_changes_no_number(make: Make) -> None:
    of = job()
    trained = []
    for norms in (True, False):
        trainer = make("dropout", ADAMW, norms=norms)
        trainer.start([of])
        trained.append((train(trainer, of.id), trainer.weights(of.id)))
    (with_norms, weights), (without, other_weights) = trained
    for report in with_norms:
        traces = dict(report.traces)
        assert np.isfinite(traces.pop("grad_norm")).all()  # of a run under 200 updates every one is measured
        assert np.isfinite(traces.pop("update_to_weight")).all()
        assert list(traces) == list(without[0].traces)
    for one, other in zip(with_norms, without, strict=True):
        assert one.metrics == other.metrics
        for name in other.traces:
            np.testing.assert_array_equal(one.traces[name], other.traces[name])
    assert_same_weights(weights, other_weights)


def test_parts_say_what_is_evaluated(make: Make) -> None:
    of = job(parts=("train", "test", "valid"))
    reports, _ = alone(make, of)
    assert list(reports[0].metrics) == ["test/loss", "test/accuracy", "valid/loss", "valid/accuracy"]
    only = job(parts=("train",))
    reports, weights = alone(make, only)
    assert [report.metrics for report in reports] == [{}] * 4
    assert_same_weights(weights, alone(make, of)[1])


def test_a_report_step_changes_nothing_but_the_reports(make: Make) -> None:
    reports, weights = alone(make, job(report_steps=(STEPS,)))
    often, same = alone(make, job(report_steps=tuple(range(1, STEPS + 1))))
    assert_same_weights(weights, same)
    whole = np.concatenate([report.traces["train/loss"] for report in often])
    np.testing.assert_array_equal(reports[0].traces["train/loss"], whole)
    assert reports[0].metrics == often[-1].metrics


def test_only_the_named_jobs_advance_and_all_open_jobs_are_accepted(make: Make) -> None:
    trainer = make()
    assert trainer.capacity() >= 1
    jobs = [job(trial) for trial in range(trainer.capacity() + 5)]
    for each in jobs:
        trainer.start([each])
    assert {report.step for report in turn(trainer, [jobs[3].id, jobs[1].id]).values()} == {REPORTS[0]}
    steps = {id: report.step for id, report in turn(trainer, [each.id for each in jobs]).items()}
    assert steps == {each.id: REPORTS[1 if each in (jobs[3], jobs[1]) else 0] for each in jobs}
    assert list(trainer.advance([])) == []
    trainer.close()


# --- independence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_and_the_order_of_turns_change_nothing(make: Make, expect: Any, kind: str) -> None:
    jobs = [job(trial, peak=0.05 * (trial + 1)) for trial in range(4)]
    expected = {each.id: expect(each, kind) for each in jobs}
    trainer = make(kind)
    shuffle = random.Random(1)
    waiting = list(jobs)
    opened: list[JobId] = []
    reports: dict[JobId, list[Report]] = {each.id: [] for each in jobs}
    while waiting or opened:
        if waiting:  # each starts a round later than the one before
            trainer.start([waiting[0]])
            opened.append(waiting.pop(0).id)
        shuffle.shuffle(opened)
        for id, report in turn(trainer, opened).items():
            reports[id].append(report)
            if report.state in ENDED:
                assert_same_weights(trainer.weights(id), expected[id][1])
                trainer.stop(id)
                opened.remove(id)
    for each in jobs:
        assert_same(reports[each.id], expected[each.id][0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_repeats_the_first(make: Make, kind: str) -> None:
    first = alone(make, job(), kind)
    torch.manual_seed(999)
    np.random.seed(999)
    second = alone(make, job(), kind)
    assert_same(first[0], second[0])
    assert_same_weights(first[1], second[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_generators_are_untouched_even_between_two_reports(make: Make, kind: str) -> None:
    trainer = make(kind)
    trainer.start([job(0)])
    trainer.start([job(1)])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for _report in trainer.advance([job(0).id, job(1).id]):
        assert torch.equal(torch.get_rng_state(), before)
    trainer.evaluate(job(0).id, "test")
    trainer.weights(job(0).id)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["dropout", "functional"])
def test_dropout_does_something_and_the_seed_decides_it(make: Make, kind: str) -> None:
    def losses(of: Job, of_kind: str) -> np.ndarray:
        return alone(make, of, of_kind)[0][0].traces["train/loss"]

    assert (losses(job(), kind) != losses(job(), "plain")).all()
    assert (losses(job(), kind) != losses(job(seed=1), kind)).all()


def test_stopping_a_job_in_mid_flight_leaves_the_others_alone(make: Make, expect: Any) -> None:
    expected = expect(job(1), "dropout")
    trainer = make("dropout")
    for trial in range(3):
        trainer.start([job(trial)])
    reports = [turn(trainer, [job(trial).id for trial in range(3)])[job(1).id]]
    trainer.stop(job(0).id)
    reports.append(turn(trainer, [job(2).id, job(1).id])[job(1).id])
    trainer.stop(job(2).id)
    trainer.start([job(0)])  # the place is free again, and so is the name
    reports.append(turn(trainer, [job(0).id, job(1).id])[job(1).id])
    reports += train(trainer, job(1).id)
    assert_same(reports, expected[0])
    assert_same_weights(trainer.weights(job(1).id), expected[1])
    assert_same(
        [*expect(job(0), "dropout")[0][1:]],
        train(trainer, job(0).id),
    )


def test_members_are_trainings_of_their_own(make: Make, expect: Any) -> None:
    members = [job(0, member) for member in range(3)]
    expected = [expect(each)[0] for each in members]
    trainer = make()
    trainer.start(members)
    reports = turn(trainer, [each.id for each in members])
    for each, own in zip(members, expected, strict=True):
        assert_same([reports[each.id]], own[:1])
    losses = {reports[each.id].metrics["valid/loss"] for each in members}
    assert len(losses) == 3


# --- how jobs end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 3, 8])
def test_divergence_ends_a_job_at_the_update_that_showed_it(make: Make, at: int) -> None:
    bad = explodes(1, at)
    reports, _ = alone(make, bad)
    last = reports[-1]
    assert (last.state, last.step) == ("diverged", at + 2)  # the update after the jump, counted from 1
    assert "train/loss" in last.reason
    assert str(at + 2) in last.reason
    loss = np.concatenate([report.traces["train/loss"] for report in reports])
    assert len(loss) == at + 2
    assert (loss[:-1] < 20).all()
    assert not loss[-1] < 20
    np.testing.assert_array_equal(
        np.concatenate([report.traces["lr/group0"] for report in reports]), bad.lr_S[: at + 2]
    )


def test_a_loss_that_is_not_a_number_stays_so_in_the_trace(make: Make) -> None:
    lr_S = np.full(STEPS, 0.01)
    lr_S[1] = np.inf
    reports, _ = alone(make, job(lr_S=lr_S))
    assert [(report.state, report.step) for report in reports] == [("diverged", 3)]
    assert np.isnan(reports[0].traces["train/loss"]).tolist() == [False, False, True]


def test_a_divergence_that_only_the_evaluation_sees(make: Make) -> None:
    """The very last update before a report throws the weights away: no later training loss shows it."""
    reports, _ = alone(make, explodes(0, 13))
    assert (reports[-1].state, reports[-1].step) == ("diverged", 14)
    assert "valid/loss" in reports[-1].reason
    assert len(reports[-1].traces["train/loss"]) == 8
    assert reports[-1].metrics["valid/loss"] > 20


def test_ended_neighbours_change_nothing(make: Make, expect: Any) -> None:
    """One diverges, one cannot even be built; a third goes on as if alone."""
    expected = expect(job(2), "dropout")
    trainer = make("dropout")
    broken = job(1, hparams={"model.broken": True})
    for each in (explodes(0, 2), broken, job(2)):
        trainer.start([each])
    first = turn(trainer, [explodes(0, 2).id, broken.id, job(2).id])
    assert first[explodes(0, 2).id].state == "diverged"
    failed = first[broken.id]
    assert (failed.state, failed.step, failed.reason) == ("failed", 0, "ValueError: this model cannot be built")
    assert {len(trace) for trace in failed.traces.values()} <= {0}
    trainer.stop(broken.id)
    reports = [first[job(2).id], *train(trainer, job(2).id)]
    assert_same(reports, expected[0])
    trainer.stop(explodes(0, 2).id)
    assert_same_weights(trainer.weights(job(2).id), expected[1])


# --- numbers of a trial -----------------------------------------------------------------------------


def test_momentum_rows_are_used_and_logged(make: Make) -> None:
    momentum_S = np.linspace(0.95, 0.85, STEPS)
    plain, _ = alone(make, job())
    moved, _ = alone(make, job(momentum_S=momentum_S))
    constant, _ = alone(make, job(momentum_S=np.full(STEPS, 0.9)))
    trace = np.concatenate([report.traces["momentum/group0"] for report in moved])
    np.testing.assert_array_equal(trace, momentum_S)
    assert moved[-1].metrics != plain[-1].metrics
    assert constant[-1].metrics == plain[-1].metrics


def test_numbers_of_optimizer_and_model_are_the_trials_own(make: Make) -> None:
    decayed = job(hparams={"optimizer.weight_decay": 0.5})
    dropped = job(1, hparams={"model.p": 0.5}, seed=job().seed)
    trainer = make()
    for each in (job(2, seed=job().seed), decayed, dropped):
        trainer.start([each])
    values = [report.metrics["valid/loss"] for report in turn(trainer, [job(2).id, job().id, dropped.id]).values()]
    assert len(set(values)) == 3
    assert_same(alone(make, decayed)[0], alone(lambda: make(optimizer={**SGD, "weight_decay": 0.5}), job())[0])


# --- reactive schedules -------------------------------------------------------------------------------

OFTEN = tuple(range(2, STEPS + 1, 2))
WATCHING: dict[str, Any] = {"threshold": 0.02, "cooldown": 0, "floor": 0.01}
WATCHING |= {"metric": "valid/loss", "direction": "minimize"}
REACTIVE: dict[str, dict[str, Any]] = {
    "plateau": {"name": "plateau", "decay": 0.5, "patience": 0, "threshold_mode": "abs", **WATCHING},
    "plateau_keras": {"name": "plateau_keras", "decay": 0.3, "patience": 1, **WATCHING},
    "greedy": {"name": "greedy", "decay": 0.7, "patience": 0, "threshold_mode": "abs", **WATCHING}
    | {"hold": 1, "ceiling": 5.0, "reset": 2},
}
WALL_TIME = {"name": "wall_time", "budget": 0.05, "shape": "linear", "decay": 0.1}


def reactive(trial: int, controller: dict[str, Any], **changes: Any) -> Job:
    return job(trial, peak=0.5, report_steps=OFTEN, controller=controller, **changes)


def lr_of(reports: Sequence[Report]) -> np.ndarray:
    return np.concatenate([report.traces["lr/group0"] for report in reports])


@pytest.mark.parametrize("name", list(REACTIVE))
def test_the_realised_lr_as_a_fixed_one_gives_the_same_training(make: Make, name: str) -> None:
    of = reactive(0, REACTIVE[name])
    reports, weights = alone(make, of, "dropout")
    mult_S = lr_of(reports) / of.lr_S
    assert len(np.unique(mult_S.round(9))) > 2  # it did react
    np.testing.assert_allclose(mult_S[::2], mult_S[1::2], rtol=1e-15)  # and held the multiplier between two reports
    assert (mult_S[:2] == 1).all()
    again, same = alone(make, dataclasses.replace(of, lr_S=lr_of(reports), controller=None), "dropout")
    assert_same(again, reports)
    assert_same_weights(same, weights)


def test_each_job_reacts_to_its_own_reports(make: Make, expect: Any) -> None:
    jobs = [reactive(trial, controller) for trial, controller in enumerate(REACTIVE.values())]
    jobs.append(job(3, report_steps=OFTEN))
    expected = {each.id: expect(each) for each in jobs}
    trainer = make()
    for each in jobs:
        trainer.start([each])
    turns = [turn(trainer, [each.id for each in jobs]) for _ in OFTEN]
    for each in jobs:
        assert_same([of_turn[each.id] for of_turn in turns], expected[each.id][0])
        assert_same_weights(trainer.weights(each.id), expected[each.id][1])


@pytest.mark.parametrize("name", list(REACTIVE))
def test_a_controller_goes_on_from_a_checkpoint(make: Make, expect: Any, name: str, tmp_path: Path) -> None:
    of = reactive(0, REACTIVE[name])
    expected = expect(of)
    for reports_before in (1, 4, 7):
        trainer = make()
        trainer.start([of])
        for _ in range(reports_before):
            turn(trainer, [of.id])
        folder = tmp_path / str(reports_before)
        trainer.save(folder, 1)
        trainer.close()
        again = make()
        assert again.restore(folder, [of], 1) == {of.id: OFTEN[reports_before - 1]}
        assert_same(train(again, of.id), expected[0][reports_before:])
        assert_same_weights(again.weights(of.id), expected[1])
        again.close()


def test_wall_time_falls_by_the_seconds_that_the_reports_tell(make: Make) -> None:
    of = reactive(0, WALL_TIME)
    reports, weights = alone(make, of)
    elapsed = np.cumsum([report.seconds for report in reports])
    mult = 0.1 + 0.9 * (1 - np.minimum(elapsed / 0.05, 1))
    np.testing.assert_array_equal(lr_of(reports), of.lr_S * np.repeat([1.0, *mult[:-1]], 2))
    again, same = alone(make, dataclasses.replace(of, lr_S=lr_of(reports), controller=None))
    assert again[-1].metrics == reports[-1].metrics
    assert_same_weights(same, weights)


def test_a_metric_that_is_not_there_fails_the_job_alone(make: Make, expect: Any) -> None:
    bad = reactive(0, {**REACTIVE["plateau"], "metric": "valid/f1"})
    expected = expect(job(1))
    trainer = make()
    for each in (bad, job(1)):
        trainer.start([each])
    reports = turn(trainer, [bad.id, job(1).id])
    assert (reports[bad.id].state, reports[bad.id].step) == ("failed", OFTEN[0])
    assert "valid/f1" in reports[bad.id].reason
    trainer.stop(bad.id)
    assert_same([reports[job(1).id], *train(trainer, job(1).id)], expected[0])


def test_a_part_that_is_not_evaluated_cannot_be_reacted_to(make: Make) -> None:
    trainer = make()
    with pytest.raises(InputError, match=r"schedule\.cosine\.metric=valid/loss: the trial is not evaluated on valid"):
        trainer.start([reactive(0, REACTIVE["plateau"], parts=("train",))])


# --- what a job has now -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_and_weights_are_those_of_the_last_report(make: Make, kind: str, teacher: Any) -> None:
    trainer = make(kind)
    trainer.start([job()])
    for _ in REPORTS:
        report = turn(trainer, [job().id])[job().id]
        assert trainer.evaluate(job().id, "valid") == report.metrics
    assert set(trainer.evaluate(job().id, "test")) == {"test/loss", "test/accuracy"}
    task = teacher(kind)
    model = task.build(job().seed)
    weights = trainer.weights(job().id)
    model.load_state_dict(weights)
    model.eval()
    x, y = task.parts["valid"]
    assert task.loss(model(x), y).mean().item() == pytest.approx(report.metrics["valid/loss"], rel=1e-5)
    for value in weights.values():
        value.zero_()  # a copy
    assert trainer.evaluate(job().id, "valid") == report.metrics


# --- checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_job_goes_on_as_if_never_stopped(
    make: Make, expect: Any, kind: str, optimizer: dict[str, Any], tmp_path: Path
) -> None:
    jobs = [job(0), job(1, peak=0.02), job(2)]
    expected = {each.id: expect(each, kind, optimizer) for each in jobs}
    trainer = make(kind, optimizer)
    for each in jobs[:2]:
        trainer.start([each])
    turn(trainer, [jobs[0].id, jobs[1].id])
    turn(trainer, [jobs[0].id])
    trainer.start([jobs[2]])  # no turn yet
    trainer.save(tmp_path, 7)
    turn(trainer, [jobs[1].id])  # what happens after it is not in it
    again = make(kind, optimizer)
    stands = again.restore(tmp_path, jobs, 7)
    assert stands.get(jobs[2].id, 0) == 0
    assert {id: step for id, step in stands.items() if step} == {jobs[0].id: REPORTS[1], jobs[1].id: REPORTS[0]}
    if jobs[2].id not in stands:
        again.start([jobs[2]])
    for each, done in zip(jobs, (2, 1, 0), strict=True):
        assert_same(train(again, each.id), expected[each.id][0][done:])
        assert_same_weights(again.weights(each.id), expected[each.id][1])


def test_the_last_complete_round_is_what_restore_sees(make: Make, tmp_path: Path) -> None:
    trainer = make()
    trainer.start([job()])
    turn(trainer, [job().id])
    trainer.save(tmp_path, 3)
    turn(trainer, [job().id])
    trainer.save(tmp_path, 4)
    assert stands(make(), tmp_path, [job()], 3) == {}
    assert stands(make(), tmp_path, [job()], 4) == {job().id: REPORTS[1]}
    assert stands(make(), tmp_path, [job()], 9) == {job().id: REPORTS[1]}
    turn(trainer, [job().id])
    trainer.save(tmp_path, 4)  # the same round once more: the newer one
    assert stands(make(), tmp_path, [job()], 4) == {job().id: REPORTS[2]}


CHANGED: dict[str, dict[str, Any]] = {
    "lr": {"lr_S": np.full(STEPS, 0.1)},
    "seed": {"seed": 1},
    "momentum": {"momentum_S": np.full(STEPS, 0.9)},
    "hparams": {"hparams": {"optimizer.weight_decay": 0.0}},
    "parts": {"parts": ("train", "test")},
    "partition": {"partition": 1},
    "reports": {"report_steps": (1, STEPS)},
    "controller": {"controller": {"name": "wall_time", "budget": 1.0, "shape": "linear", "decay": 0.1}},
    "trial": {"id": JobId("cosine", 9, 0)},
}


@pytest.mark.parametrize("change", list(CHANGED))
def test_a_checkpoint_of_other_numbers_restores_nothing(make: Make, change: str, tmp_path: Path) -> None:
    trainer = make()
    trainer.start([job()])
    turn(trainer, [job().id])
    trainer.save(tmp_path, 1)
    again = make()
    other = job(**CHANGED[change])
    assert again.restore(tmp_path, [other], 1) == {}
    again.start([other])  # and nothing of it stayed behind


def test_a_checkpoint_of_other_data_batches_or_optimizer_restores_nothing(
    make: Make, teacher: Any, tmp_path: Path
) -> None:
    trainer = make()
    trainer.start([job()])
    turn(trainer, [job().id])
    trainer.save(tmp_path, 1)
    assert stands(make(task=teacher(fingerprint="teacher-2")), tmp_path, [job()], 1) == {}
    assert stands(make(batch_size=4), tmp_path, [job()], 1) == {}
    assert stands(make(precision="float64"), tmp_path, [job()], 1) == {}
    assert stands(make("plain", ADAMW), tmp_path, [job()], 1) == {}
    assert stands(make("batchnorm"), tmp_path, [job()], 1) == {}  # another model under the same numbers


def test_missing_and_torn_checkpoints_restore_nothing(make: Make, tmp_path: Path) -> None:
    assert stands(make(), tmp_path / "none", [job()], 5) == {}
    trainer = make()
    trainer.start([job()])
    turn(trainer, [job().id])
    trainer.save(tmp_path, 1)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        file.write_bytes(file.read_bytes()[:-100])
    assert stands(make(), tmp_path, [job()], 5) == {}


def test_ended_jobs_are_not_in_a_checkpoint(make: Make, tmp_path: Path) -> None:
    trainer = make()
    trainer.start([explodes(0, 0)])
    trainer.start([job(1)])
    turn(trainer, [explodes(0, 0).id, job(1).id])
    trainer.save(tmp_path, 1)
    assert stands(make(), tmp_path, [explodes(0, 0), job(1)], 1) == {job(1).id: REPORTS[0]}
