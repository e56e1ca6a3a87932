"""Jobs spread over worker processes of this machine, one for each GPU or core. Each has its own trainer.

Invariants:

- A job's results depend on the job alone. Where it is trained, and how often it is moved or repeated, only changes the
  time.
- Training starts in this process. Workers take seconds to start, so they are started only after a while. They take over
  at the first report after they are ready. A short sweep has none.
- A worker that dies is restarted. Its jobs are restored from the last checkpoint, or started again, and repeated
  without reports up to their last report. Jobs of the unfinished turn then run one at a time, to see which one kills
  the process.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sweeper.training.checkpoint import part_folder, remove_others, restore_jobs
from sweeper.training.recipe import Recipe
from sweeper.training.workers.worker import PERIOD_SECONDS, Payload, Worker, WorkerDiedError
from sweeper.types import Job, JobId, Report, State, Task, Trainer

_log = logging.getLogger(__name__)

HEAD_START = 3.0  # seconds of training in this process before workers are started, which takes as long
DEATHS = 3  # in a row, after which the job that the workers had fails, or a worker that never answered is removed

Order = tuple[Any, ...]
Orders = Mapping[Worker, Sequence[Order]]


@dataclass
class _OpenJob:
    """An open job.

    Attributes:
        job: The job.
        place: The worker that has it; "here" for this process, "lost" if its worker died.
        step: Updates finished.
        state: State of its last report.
        deaths: How many workers in a row died with this job alone.
        failure: Why it failed; "" if it did not.
    """

    job: Job
    place: Worker | str
    step: int = 0
    state: State = "running"
    deaths: int = 0
    failure: str = ""


class _Answer(NamedTuple):
    """The result of an order.

    Attributes:
        order: The order.
        kind: "report" (more follow), "done", "raised" or "died".
        value: The report, the returned value, the exception, or the reason.
    """

    order: Order
    kind: str
    value: Any


class Processes:
    """A trainer in one process for each device; see sweeper.types.Trainer.

    If no worker can be started, for example because the task cannot be pickled, this is logged, and this process trains
    everything. What the trainer raises is raised here.

    Args:
        task: What is trained.
        recipe: How it is trained.
        trainer: Constructor of the trainer, called as `trainer(task, recipe, device=..., **options)`.
        devices: Device of each process. With one device, everything is trained in this process.
        head_start: Seconds of training in this process before workers are started; None for HEAD_START, 0 to wait for
            the workers before the first job.
        options: Other arguments of the constructor.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        trainer: Callable[..., Trainer],
        devices: Sequence[str],
        head_start: float | None = None,
        **options: Any,
    ) -> None:
        self._payload = Payload(trainer, task, recipe, options)
        self._devices, self._head_start = tuple(devices), HEAD_START if head_start is None else head_start
        self._local: Trainer | None = self._payload.build_trainer(devices[0])
        self._lanes = self._local.capacity()
        self._is_single = len(devices) < 2  # whether this process trains everything
        self._has_moved = False  # whether the workers have the jobs
        self._is_sending = False
        self._trained = 0.0  # seconds in this process
        self._workers: list[Worker] = []
        self._folder = Path()
        self._open: dict[JobId, _OpenJob] = {}
        self._checkpoint: tuple[Path, int] | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.id in self._open:
                raise RuntimeError(f"{job.id} is already open")
        if not self._distribute():
            self._local_trainer.start(jobs)
            self._open.update({job.id: _OpenJob(job, "here") for job in jobs})
            return
        self._assign([_OpenJob(job, "lost") for job in jobs])
        errors = [answer.value for answer in self._send(self._orders("start", jobs)) if answer.kind == "raised"]
        if errors:
            for job in jobs:
                self.stop(job.id)
            raise errors[0]

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for id in ids:
            run = self._open[id]
            if run.state != "running":
                raise RuntimeError(f"{id} is {run.state}: it can be evaluated and stopped, not advanced")
        left = list(ids)
        while left and not self._distribute():
            self._lanes = self._local_trainer.capacity()
            together = len(left) if self._is_single else self._lanes  # few, to notice soon that the workers are ready
            now, left = left[:together], left[together:]
            start = time.perf_counter()
            for report in self._local_trainer.advance(now):
                yield self._record(report)
            self._trained += time.perf_counter() - start
        if left:
            yield from self._advance_workers(left)

    def stop(self, id: JobId) -> None:
        run = self._open.pop(id)
        if isinstance(run.place, Worker):
            run.place.send("stop", id)
        elif run.place == "here":
            self._local_trainer.stop(id)
            self._release_device()

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        metrics: dict[str, float] = self._request("evaluate", id, part)
        return metrics

    def weights(self, id: JobId) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self._request("weights", id)
        return state

    def save(self, folder: Path, round: int) -> None:
        """Write a checkpoint. Each worker writes a part of it, so a crash may leave an older part of another worker."""
        if not self._has_moved:
            self._local_trainer.save(folder, round)
            remove_others(folder, ())
        else:
            self._recover()
            parts = {worker: [("save", part_folder(folder, worker.place), round)] for worker in self._workers}
            if all(answer.kind != "died" for answer in self._send(parts, raises=True)):
                remove_others(folder, [worker.place for worker in parts])
        self._checkpoint = folder, round

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        self._checkpoint = folder, last_round
        if not self._distribute():
            steps = restore_jobs(self._local_trainer, folder, jobs, last_round)
            self._open.update({job.id: _OpenJob(job, "here", steps[job.id]) for job in jobs if job.id in steps})
            return steps
        self._assign([_OpenJob(job, "lost") for job in jobs])
        steps = {}
        for answer in self._send(self._orders("restore", jobs, folder, last_round), raises=True):
            steps.update(answer.value if answer.kind == "done" else {})
        for job in jobs:
            if job.id in steps:
                self._open[job.id].step = steps[job.id]
            else:
                del self._open[job.id]
        return steps

    def capacity(self) -> int:
        return self._lanes * (len(self._workers) if self._has_moved else 1 if self._is_single else len(self._devices))

    def close(self) -> None:
        self._kill_workers()
        self._open.clear()
        if self._local is not None:
            self._local.close()

    # --- from this process to the workers -------------------------------------------------------------

    @property
    def _local_trainer(self) -> Trainer:
        assert self._local is not None
        return self._local

    def _distribute(self) -> bool:
        """Start the workers when it is time, and move the jobs when they are ready.

        Returns:
            Whether the workers have the jobs.
        """
        if self._has_moved or self._is_single or self._trained < self._head_start:
            return self._has_moved
        if not self._workers:
            running = sum(run.state == "running" for run in self._open.values())
            count = min(len(self._devices), running) if self._head_start else len(self._devices)
            if count > 1:
                self._start_workers(count)
        if self._workers and self._has_ready_workers(wait=not self._head_start):
            self._move_jobs()
        return self._has_moved

    def _start_workers(self, count: int) -> None:
        """Start workers without waiting for them; log it if they cannot be started."""
        self._folder = Path(tempfile.mkdtemp(prefix="sweeper-"))
        try:
            self._payload.write(self._folder)
            for place in range(count):
                self._workers.append(Worker(self._folder, place, self._devices[place]))
        except Exception as error:  # pickling runs the task's own code
            _log.warning("Training in one process, because workers cannot start: %s: %s", type(error).__name__, error)
            self._kill_workers()

    def _has_ready_workers(self, *, wait: bool) -> bool:
        """Return whether all workers have built their trainers."""
        try:
            for worker in self._workers:
                while not worker.is_ready and (wait or worker.has_message()):
                    worker.receive()
        except WorkerDiedError as error:
            _log.warning("Training in one process, because a worker did not start: %s", error)
            self._kill_workers()
            return False
        return all(worker.is_ready for worker in self._workers)

    def _move_jobs(self) -> None:
        """Move running jobs to the workers by a checkpoint. Jobs that ended stay here until they are stopped."""
        moving = [run for run in self._open.values() if run.state == "running"]
        folder = self._folder / "moving"
        if moving:
            self._local_trainer.save(folder, 0)
        for run in moving:
            self._local_trainer.stop(run.job.id)
            run.place = "lost"
        self._has_moved = True
        self._release_device()
        self._recover((folder, 0))
        shutil.rmtree(folder, ignore_errors=True)
        _log.info("Training in %d processes on %s", len(self._workers), ", ".join(dict.fromkeys(self._devices)))

    def _release_device(self) -> None:
        """Free the device's memory once this process has no job."""
        if self._has_moved and self._local is not None and all(run.place != "here" for run in self._open.values()):
            self._local.close()
            self._local = None
            torch.cuda.empty_cache()  # does nothing if CUDA was not used

    def _kill_workers(self) -> None:
        """Kill all workers and train in this process alone."""
        for worker in self._workers:
            worker.kill()
        if self._workers or self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._workers, self._is_single = [], True

    # --- a turn in the workers ------------------------------------------------------------------------

    def _advance_workers(self, ids: Sequence[JobId]) -> Iterator[Report]:
        """Advance each worker's jobs together. Jobs that a dead worker left are advanced one at a time."""
        left = dict.fromkeys(ids)
        singly = False
        while left:
            self._recover()
            for id in [id for id in left if self._open[id].failure]:
                del left[id]
                yield self._record(self._failure_report(self._open[id]))
            orders: dict[Worker, list[Order]] = {}
            for worker, jobs in self._shares([self._open[id].job for id in left]).items():
                share = [job.id for job in jobs]
                orders[worker] = [("advance", [id]) for id in share] if singly else [("advance", share)]
            for answer in self._send(orders, raises=True):
                if answer.kind == "report":
                    del left[answer.value.id]
                    yield self._record(answer.value)
                elif answer.kind == "died":
                    singly = True
                    self._blame(answer)

    def _record(self, report: Report) -> Report:
        """Update the open job by its report, and return the report."""
        run = self._open[report.id]
        run.step, run.state, run.deaths = report.step, report.state, 0
        if report.state == "failed":
            run.failure = report.reason
        return report

    def _failure_report(self, run: _OpenJob) -> Report:
        return Report(run.job.id, run.step, {}, {}, 0.0, "failed", run.failure)

    def _request(self, name: str, id: JobId, *arguments: Any) -> Any:
        """Return the result of a trainer's method for one job. If its worker dies, it is restarted and called again."""
        run = self._open[id]
        if run.place == "here":
            return getattr(self._local_trainer, name)(id, *arguments)
        while not run.failure:
            self._recover()
            if not isinstance(run.place, Worker):
                continue
            for answer in self._send({run.place: [(name, id, *arguments)]}, raises=True):
                if answer.kind == "done":
                    return answer.value
                self._blame(answer)
        raise RuntimeError(f"{id} failed: it has no weights ({run.failure})")

    # --- workers that die -----------------------------------------------------------------------------

    def _recover(self, source: tuple[Path, int] | None = None) -> None:
        """Assign every lost job to a worker, and bring it back to its last report.

        Args:
            source: Folder and round of a checkpoint; None for the last one.
        """
        source = source or self._checkpoint
        while lost := [run for run in self._open.values() if run.place == "lost" and not run.failure]:
            self._assign(lost)
            jobs = [run.job for run in lost]
            steps: dict[JobId, int] = {}
            if source is not None:
                for answer in self._send(self._orders("restore", jobs, *source), raises=True):
                    steps.update(answer.value if answer.kind == "done" else {})
            orders: dict[Worker, list[Order]] = {}
            for run in lost:
                if isinstance(run.place, Worker) and steps.get(run.job.id) != run.step:
                    order = ("repeat", run.job, steps.get(run.job.id), run.step)
                    orders.setdefault(run.place, []).append(order)
            for answer in self._send(orders):
                self._check_repeated(answer)

    def _check_repeated(self, answer: _Answer) -> None:
        """Check that a repeated job reached its last report again. If not, it failed."""
        run = self._open[answer.order[1].id]
        if answer.kind == "died":
            self._blame(answer)
        elif answer.kind == "raised":
            run.failure = f"{type(answer.value).__name__}: {answer.value}"
        elif answer.value[:2] != (run.step, run.state):
            step, state, reason = answer.value
            outcome = f"{state} at {step}" + (f": {reason}" if reason else "")
            run.failure = f"its process died, and training it again did not reach update {run.step} ({outcome})"

    def _blame(self, answer: _Answer) -> None:
        """Count the death of a worker against its job, if its order was about a single one."""
        subject = answer.order[1]
        if isinstance(subject, list):
            if len(subject) > 1:
                return
            subject = subject[0]
        run = self._open[subject.id if isinstance(subject, Job) else subject]
        run.deaths += 1
        if run.deaths >= DEATHS:
            run.failure = f"{answer.value}, {run.deaths} times in a row"

    def _replace(self, worker: Worker, reason: str) -> None:
        """Mark the jobs of a dead worker as lost, and restart it. After DEATHS in a row, remove it instead."""
        _log.warning("Worker %d on %s: %s.", worker.place, worker.device, reason)
        worker.kill()
        for run in self._open.values():
            if run.place is worker:
                run.place = "lost"
        worker.failures += 1
        if worker.failures < DEATHS:
            worker.restart()
            return
        self._workers.remove(worker)
        if self._has_moved and not self._workers:
            raise RuntimeError(f"All worker processes died: {reason}")

    # --- orders ---------------------------------------------------------------------------------------

    def _assign(self, runs: Sequence[_OpenJob]) -> None:
        """Assign each job to the worker with the fewest running jobs, then the fewest updates left.

        The number of jobs comes first because it decides how long a turn takes.
        """
        jobs, updates = dict.fromkeys(self._workers, 0), dict.fromkeys(self._workers, 0)

        def count(worker: Worker, run: _OpenJob) -> None:
            jobs[worker] += 1
            updates[worker] += run.job.steps - run.step

        for run in self._open.values():
            if isinstance(run.place, Worker) and run.state == "running":
                count(run.place, run)
        for run in runs:
            run.place = min(self._workers, key=lambda worker: (jobs[worker], updates[worker], worker.place))
            count(run.place, run)
            self._open[run.job.id] = run

    def _shares(self, jobs: Sequence[Job]) -> dict[Worker, list[Job]]:
        """Return which of these jobs each worker has."""
        shares: dict[Worker, list[Job]] = {}
        for job in jobs:
            place = self._open[job.id].place
            if isinstance(place, Worker):
                shares.setdefault(place, []).append(job)
        return shares

    def _orders(self, name: str, jobs: Sequence[Job], *arguments: Any) -> dict[Worker, list[Order]]:
        """Return one order for each worker, about its share of the jobs."""
        return {worker: [(name, share, *arguments)] for worker, share in self._shares(jobs).items()}

    def _send(self, orders: Orders, *, raises: bool = False) -> Iterator[_Answer]:
        """Send each worker its orders, one after another, and yield the answers as they arrive.

        A worker that dies gets no more of them. If the caller stops iterating, workers with an unfinished order are
        killed, because their jobs would advance unnoticed.

        Args:
            orders: The orders of each worker.
            raises: Whether to raise what a worker raised, instead of yielding it.
        """
        if self._is_sending:
            raise RuntimeError("The previous turn has not ended: consume all its reports first")
        self._is_sending = True
        queues = {worker: deque(queue) for worker, queue in orders.items()}
        busy: dict[Worker, Order] = {}

        def send_next(worker: Worker) -> None:
            if queues[worker]:
                if not worker.is_alive:
                    worker.restart()
                busy[worker] = queues[worker].popleft()
                worker.send(*busy[worker])

        try:
            for worker in queues:
                send_next(worker)
            while busy:
                wait([worker.connection for worker in busy], PERIOD_SECONDS)
                for worker in [worker for worker in busy if worker.has_message()]:
                    order = busy[worker]
                    try:
                        answer = worker.receive()
                    except WorkerDiedError as error:
                        del busy[worker]
                        self._replace(worker, str(error))
                        yield _Answer(order, "died", str(error))
                        continue
                    if answer is None:
                        continue
                    if answer[0] != "report":
                        del busy[worker]
                        send_next(worker)
                    if answer[0] == "raised" and raises:
                        raise answer[1]
                    yield _Answer(order, *answer)
        finally:
            self._is_sending = False
            for worker in busy:
                worker.kill()
                for run in self._open.values():
                    if run.place is worker:
                        run.place = "lost"
