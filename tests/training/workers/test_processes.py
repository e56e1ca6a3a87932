"""The trainer of several processes: deaths, moves, parts of a checkpoint, orphans.

test_contract.py tests what every trainer must do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.recipe import Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.training.workers.processes import Processes
from sweeper.types import InputError, Job, JobId, Report, Trainer

SGD = OptimizerSpec("torch.optim.SGD", {"momentum": 0.9})
STEPS, REPORTS = 24, (5, 6, 14, 24)
Trained = tuple[dict[JobId, list[Report]], dict[JobId, dict[str, torch.Tensor]]]


def job(trial: int, **changes: Any) -> Job:
    lr_S = np.linspace(0.1, 0.01, STEPS) * (1 + trial / 10)
    of = Job(JobId("linear", trial, 0), "linear", {}, 100 + trial, lr_S, REPORTS)
    return dataclasses.replace(of, **changes)


JOBS = [job(trial) for trial in range(5)]


@pytest.fixture
def processes(teacher: Any, warm_workers: Any) -> Iterator[Any]:
    built = []

    def build(task: Any = None, workers: int = 2, batch_size: int = 8, **settings: Any) -> Processes:
        keywords = {"trainer": SequentialTrainer, "devices": ("cpu",) * workers}
        recipe = Recipe(SGD, batch_size)
        trainer = Processes(task or teacher("dropout"), recipe, **(keywords | settings))  # type: ignore[arg-type]
        built.append(trainer)
        return trainer

    yield build
    for trainer in built:
        trainer.close()


def through(trainer: Trainer, jobs: Sequence[Job], after: Any = None, between: Any = None) -> Trained:
    """Train these jobs to their ends.

    Args:
        trainer: The trainer.
        jobs: The jobs, which are started.
        after: Called after each report with the number of reports so far.
        between: The same, after each turn.
    """
    reports: dict[JobId, list[Report]] = {each.id: [] for each in jobs}
    running, count = list(reports), 0
    while running:
        for report in trainer.advance(running):
            reports[report.id].append(report)
            count += 1
            if after is not None:
                after(count)
        if between is not None:
            between(count)
        running = [id for id in running if reports[id][-1].state == "running"]
    return reports, {id: trainer.weights(id) for id, of in reports.items() if of[-1].state in ("complete", "diverged")}


def start(trainer: Trainer, jobs: Sequence[Job]) -> None:
    for each in jobs:
        trainer.start([each])


@pytest.fixture
def expected(teacher: Any) -> Trained:
    trainer = SequentialTrainer(teacher("dropout"), Recipe(SGD, 8), device="cpu")
    start(trainer, JOBS)
    return through(trainer, JOBS)


def assert_same(found: Trained, expected: Trained, done: int = 0) -> None:
    """Equal to the last bit, but for the seconds; `done` reports of each were made before."""
    for id, reports in found[0].items():
        assert len(reports) == len(expected[0][id]) - done
        for one, other in zip(reports, expected[0][id][done:], strict=True):
            assert (one.step, one.state, one.reason, one.metrics) == (
                other.step,
                other.state,
                other.reason,
                other.metrics,
            )
            assert list(one.traces) == list(other.traces)
            for name, trace in one.traces.items():
                np.testing.assert_array_equal(trace, other.traces[name])
    for id, weights in found[1].items():
        for name, value in weights.items():
            assert torch.equal(value, expected[1][id][name])


# --- where jobs are -----------------------------------------------------------------------------------


def test_processes_start_with_the_first_job(processes: Any, expected: Trained, tmp_path: Path) -> None:
    trainer = processes()
    assert trainer.restore(tmp_path, [], 0) == {}
    assert trainer._workers == []
    start(trainer, JOBS)
    assert len(trainer._workers) == 2
    assert_same(through(trainer, JOBS), expected)


def test_a_job_goes_to_the_process_with_the_fewest_jobs_then_updates(processes: Any) -> None:
    trainer = processes()
    long = job(9, lr_S=np.full(100, 0.01), report_steps=(50, 100))
    start(trainer, [long, *JOBS])
    places = [trainer._open[each.id].place.place for each in (long, *JOBS)]
    assert places == [0, 1, 1, 0, 1, 0]
    assert trainer.capacity() == 2


def test_each_process_has_its_device(teacher: Any, processes: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Devices that only their names tell apart; what a process logs is in the parent's log."""

    def on(task: Any, recipe: Recipe, *, device: str) -> Trainer:
        logging.getLogger("sweeper.fake").warning("trains on %s", device)
        return SequentialTrainer(task, recipe, device="cpu")

    caplog.set_level(logging.INFO, "sweeper")
    fakes = tuple(f"cpu:{index}" for index in range(2))
    trainer = processes(trainer=on, devices=fakes)
    start(trainer, JOBS)
    said = [
        record.message for record in caplog.records if record.name == "sweeper.fake" and record.process != os.getpid()
    ]
    assert sorted(said) == [f"trains on {name}" for name in fakes]


def test_a_large_model_has_the_same_bits_in_one_process_and_in_two(processes: Any, teacher: Any) -> None:
    class Large(teacher):  # type: ignore[misc]
        """Matrices that torch would multiply with several threads."""

        def to(self, device: torch.device) -> Any:
            return self

        def build(self, seed: int, **numbers: Any) -> nn.Module:
            draw = torch.Generator().manual_seed(seed)
            layers = [nn.Linear(6, 700), nn.Tanh(), nn.Linear(700, 700), nn.Tanh(), nn.Linear(700, 3)]
            model = nn.Sequential(*layers)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.03)
            return model

    jobs = [job(trial, lr_S=np.full(6, 0.01), report_steps=(3, 6)) for trial in range(3)]
    found = []
    for workers in (1, 2):
        trainer = processes(Large(), workers, batch_size=256)
        start(trainer, jobs)
        found.append(through(trainer, jobs))
    assert_same(*found)


# --- what the trainer says --------------------------------------------------------------------------


def test_wrong_input_arrives_as_itself(processes: Any, teacher: Any) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        processes(no_such_option=1)
    trainer = processes()
    wrong = job(7, hparams={"optimizer.no_such": 1})
    members = [job(6), dataclasses.replace(wrong, id=JobId("linear", 6, 1))]
    with pytest.raises(InputError) as caught:
        trainer.start(members)
    assert (caught.value.key, caught.value.value) == ("optimizer.no_such", 1)
    trainer.start([job(6)])  # nothing of the trial stayed open


def test_a_task_that_cannot_be_sent_is_trained_here(
    processes: Any, teacher: Any, expected: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    task = teacher("dropout")
    task.lock = threading.Lock()
    trainer = processes(task)
    start(trainer, JOBS)
    assert_same(through(trainer, JOBS), expected)
    assert trainer._workers == []
    assert "Training in one process, because workers cannot start: TypeError" in caplog.text


@pytest.mark.slow
def test_a_task_that_arrives_broken_is_trained_here(
    processes: Any, teacher: Any, expected: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(teacher):  # type: ignore[misc]
        def __setstate__(self, state: Any) -> None:
            raise FileNotFoundError("data.bin")

    trainer = processes(Broken("dropout"))
    start(trainer, JOBS)
    assert_same(through(trainer, JOBS), expected)
    assert "data.bin" in caplog.text


# --- deaths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_killed_process_changes_nothing(processes: Any, expected: Trained, tmp_path: Path, checkpoint: bool) -> None:
    trainer = processes()
    start(trainer, JOBS)

    def kill(count: int) -> None:
        if count == 7:  # in the middle of the second turn
            os.kill(trainer._workers[count % 2].pid, signal.SIGKILL)

    def save(count: int) -> None:
        if checkpoint:
            trainer.save(tmp_path, count)

    assert_same(through(trainer, JOBS, kill, save), expected)


@pytest.mark.slow
def test_processes_killed_at_random_moments_change_nothing(
    processes: Any, teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a process is in its turn, starting, restoring or training again."""
    monkeypatch.setattr("sweeper.training.workers.processes.DEATHS", 1000)  # nobody is to blame
    steps = 900
    lr_S = np.linspace(0.1, 0.01, steps)
    jobs = [job(trial, lr_S=lr_S, report_steps=tuple(range(300, steps + 1, 300))) for trial in range(4)]
    alone = SequentialTrainer(teacher("dropout"), Recipe(SGD, 8), device="cpu")
    start(alone, jobs)
    expected = through(alone, jobs)
    trainer = processes()
    start(trainer, jobs)
    moments, over = random.Random(0), threading.Event()
    kills, in_a_row = 0, 0  # since the last report, so that there is an end

    def killer() -> None:
        nonlocal kills, in_a_row
        while not over.wait(moments.uniform(0.05, 1.0)):
            if in_a_row < 2:
                with contextlib.suppress(ProcessLookupError):  # the last one killed is not yet replaced
                    os.kill(moments.choice(trainer._workers).pid, signal.SIGKILL)
                    kills, in_a_row = kills + 1, in_a_row + 1

    def reported(count: int) -> None:
        nonlocal in_a_row
        in_a_row = 0

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        found = through(trainer, jobs, reported, lambda n: trainer.save(tmp_path, n) if n % 3 == 0 else None)
    finally:
        over.set()
        thread.join()
    assert kills >= 2
    assert_same(found, expected)


@pytest.mark.slow
def test_a_job_that_kills_its_process_fails_and_the_others_go_on(
    processes: Any, teacher: Any, expected: Trained
) -> None:
    class Deadly(teacher):  # type: ignore[misc]
        def to(self, device: torch.device) -> Any:
            return self

        def build(self, seed: int, **numbers: Any) -> nn.Module:
            if seed == 102:
                os.kill(os.getpid(), signal.SIGKILL)
            model: nn.Module = super().build(seed, **numbers)
            return model

    trainer = processes(Deadly("dropout"))
    start(trainer, JOBS)
    found = through(trainer, JOBS)
    [failed] = found[0].pop(JOBS[2].id)
    assert (failed.state, failed.step) == ("failed", 0)
    assert "killed" in failed.reason
    assert "3 times in a row" in failed.reason
    assert_same(found, expected)
    with pytest.raises(RuntimeError, match="failed"):
        trainer.weights(JOBS[2].id)
    trainer.stop(JOBS[2].id)


def test_a_turn_that_is_broken_off_is_taken_again(processes: Any, expected: Trained) -> None:
    trainer = processes()
    start(trainer, JOBS)
    turn = trainer.advance([each.id for each in JOBS])
    first = next(turn)
    turn.close()
    found = through(trainer, [each for each in JOBS if each.id != first.id])
    assert_same(found, expected)
    assert_same(through(trainer, [each for each in JOBS if each.id == first.id]), expected, done=1)


# --- checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), (1, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((2, 3), (3, 1)))],
)
def test_a_checkpoint_of_any_number_of_processes_is_taken_up_by_any_other(
    processes: Any, expected: Trained, tmp_path: Path, before: int, after: int
) -> None:
    trainer = processes(workers=before)
    start(trainer, JOBS)
    list(trainer.advance([each.id for each in JOBS]))
    trainer.save(tmp_path, 4)
    trainer.close()
    again = processes(workers=after)
    assert again.restore(tmp_path, JOBS, 4) == {each.id: REPORTS[0] for each in JOBS}
    again.save(tmp_path, 5)  # leaves nothing of the other parts
    assert_same(through(again, JOBS), expected, done=1)
    again.close()
    last = processes(workers=1)
    assert last.restore(tmp_path, JOBS, 4) == {}
    assert last.restore(tmp_path, JOBS, 5) == {each.id: REPORTS[0] for each in JOBS}


def test_a_crash_between_two_parts_leaves_the_older_one_of_the_other(
    processes: Any, expected: Trained, tmp_path: Path
) -> None:
    trainer = processes()
    start(trainer, JOBS)
    ids = [each.id for each in JOBS]
    list(trainer.advance(ids))
    trainer.save(tmp_path / "older", 1)
    list(trainer.advance(ids))
    trainer.save(tmp_path / "newer", 2)
    trainer.close()
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "older" / "part-000", crashed / "part-000")
    shutil.copytree(tmp_path / "newer" / "part-001", crashed / "part-001")
    (crashed / "part-000" / "round-000002.partial").mkdir()  # in the middle of the second
    again = processes(workers=1)
    stands = again.restore(crashed, JOBS, 2)
    assert stands == {each.id: REPORTS[each.id.trial % 2] for each in JOBS}
    behind = [each.id for each in JOBS if stands[each.id] < REPORTS[1]]
    list(again.advance(behind))
    assert_same(through(again, JOBS), expected, done=2)


# --- nothing is left --------------------------------------------------------------------------------

PARENT = """
    import functools
    import numpy as np
    from sweeper.tasks.digits import Digits
    from sweeper.tasks.models import MLP
    from sweeper.tasks.problems import Supervised
    from sweeper.training.optimizers.spec import OptimizerSpec
    from sweeper.training.workers.processes import Processes
    from sweeper.training.optimizers.spec import OptimizerSpec
    from sweeper.training.recipe import Recipe
    from sweeper.training.sequential import SequentialTrainer
    from sweeper.types import Job, JobId
    task = Supervised(Digits(), functools.partial(MLP, width=256))
    steps = 10**6
    trainer = Processes(task, Recipe(OptimizerSpec("torch.optim.SGD"), 32), trainer=SequentialTrainer,
                        devices=("cpu", "cpu"))
    jobs = [Job(JobId("s", t, 0), "s", {}, t, np.full(steps, 1e-6), (steps,)) for t in range(2)]
    for job in jobs:
        trainer.start([job])
    print(*[worker.pid for worker in trainer._workers], trainer._folder, flush=True)
    list(trainer.advance([job.id for job in jobs]))
"""
STARTING = """
import threading, time
threading.Thread(target=trainer.start, args=(jobs,), daemon=True).start()
while len(trainer._workers) < 2:
    time.sleep(0.001)
"""


@pytest.mark.slow
def test_no_process_outlives_a_killed_parent_and_ctrl_c_is_for_the_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    with parent:
        try:
            *pids, folder = parent.stdout.readline().split()
            time.sleep(0.5)  # in the middle of a turn
            for pid in pids:
                assert os.getpgid(int(pid)) != os.getpgid(parent.pid)  # the terminal's Ctrl-C goes to a group
                os.kill(int(pid), signal.SIGINT)
            time.sleep(0.2)
            assert all(_lives(int(pid)) for pid in pids)
            assert Path(folder).exists()
        finally:
            parent.kill()
    deadline = time.monotonic() + 10
    while any(_lives(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(int(pid)) for pid in pids)
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_parent_killed_while_its_processes_start_leaves_nothing(tmp_path: Path) -> None:
    """The workers import torch, and know only their command line yet."""
    early = (
        textwrap.dedent(PARENT)
        .replace("for job in jobs:\n    trainer.start([job])", STARTING)
        .replace("list(trainer.advance([job.id for job in jobs]))", "time.sleep(60)")
    )
    assert "threading" in early
    assert "sleep(60)" in early
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", early], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent:
        try:
            *pids, folder = parent.stdout.readline().split()
            assert Path(folder).is_relative_to(tmp_path)
        finally:
            parent.kill()
    deadline = time.monotonic() + 30
    while any(_lives(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(int(pid)) for pid in pids)
    assert not Path(folder).exists()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
