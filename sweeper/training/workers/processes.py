"""Jobs spread over worker processes of this machine, one for each GPU or core. Each has its own trainer.

Invariants:

- A job's results depend on the job alone. Where it is trained, and how often it is moved or repeated, only changes the
  time.
- Workers are started with the first job, so a finished sweep has none. Then this process waits for them, and trains
  nothing itself. With one device, or if no worker can be started, it trains everything.
- A worker that dies is restarted. Its jobs are restored from the last checkpoint, or started again, and repeated
  without reports up to their last report. Jobs of the unfinished turn then run one at a time, to see which one kills
  the process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sweeper import temporary
from sweeper.training.checkpoint import part_folder, remove_others, restore_jobs
from sweeper.training.recipe import Recipe
from sweeper.training.workers.worker import PERIOD_SECONDS, Payload, Worker, WorkerDiedError
from sweeper.types import Job, JobId, Report, State, Task, Trainer

_log = logging.getLogger(__name__)

DEATHS = 3  # in a row, after which the job that the workers had fails, or a worker that never answered is removed

Order = tuple[Any, ...]
Orders = Mapping[Worker, Sequence[Order]]


@dataclass
class _OpenJob:
    """An open job.

    Attributes:
        job: The job.
        place: The worker that has it; None if that died.
        step: Updates finished.
        state: State of its last report.
        deaths: How many workers in a row died with this job alone.
        failure: Why it failed; "" if it did not.
    """

    job: Job
    place: Worker | None = None
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
        options: Other arguments of the constructor.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        trainer: Callable[..., Trainer],
        devices: Sequence[str],
        **options: Any,
    ) -> None:
        self._payload = Payload(trainer, task, recipe, options)
        self._devices = tuple(devices)
        # Built in any case, because that checks the arguments. None once the workers train.
        self._local: Trainer | None = self._payload.build_trainer(devices[0])
        self._capacity = self._local.capacity() * len(devices)
        self._is_sending = False
        self._workers: list[Worker] = []
        self._folder = Path()
        self._open: dict[JobId, _OpenJob] = {}
        self._checkpoint: tuple[Path, int] | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        self._start_workers()
        if self._local is not None:
            self._local.start(jobs)
            return
        for job in jobs:
            if job.id in self._open:
                raise RuntimeError(f"{job.id} is already open")
        self._assign([_OpenJob(job) for job in jobs])
        errors = [answer.value for answer in self._send(self._orders("start", jobs)) if answer.kind == "raised"]
        if errors:
            for job in jobs:
                self.stop(job.id)
            raise errors[0]

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        if self._local is not None:
            yield from self._local.advance(ids)
            return
        for id in ids:
            run = self._open[id]
            if run.state != "running":
                raise RuntimeError(f"{id} is {run.state}: it can be evaluated and stopped, not advanced")
        yield from self._advance_workers(ids)

    def stop(self, id: JobId) -> None:
        if self._local is not None:
            self._local.stop(id)
            return
        run = self._open.pop(id)
        if run.place is not None:
            run.place.send("stop", id)

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        if self._local is not None:
            return self._local.evaluate(id, part)
        metrics: dict[str, float] = self._request("evaluate", id, part)
        return metrics

    def weights(self, id: JobId) -> dict[str, torch.Tensor]:
        if self._local is not None:
            return self._local.weights(id)
        state: dict[str, torch.Tensor] = self._request("weights", id)
        return state

    def save(self, folder: Path, round: int) -> None:
        """Write a checkpoint. Each worker writes a part of it, so a crash may leave an older part of another worker."""
        if self._local is not None:
            self._local.save(folder, round)
            remove_others(folder, ())
            return
        self._recover()
        parts = {worker: [("save", part_folder(folder, worker.place), round)] for worker in self._workers}
        if all(answer.kind != "died" for answer in self._send(parts, raises=True)):
            remove_others(folder, [worker.place for worker in parts])
        self._checkpoint = folder, round

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        if not jobs:
            return {}
        self._start_workers()
        if self._local is not None:
            return restore_jobs(self._local, folder, jobs, last_round)
        self._checkpoint = folder, last_round
        self._assign([_OpenJob(job) for job in jobs])
        steps: dict[JobId, int] = {}
        for answer in self._send(self._orders("restore", jobs, folder, last_round), raises=True):
            steps.update(answer.value if answer.kind == "done" else {})
        for job in jobs:
            if job.id in steps:
                self._open[job.id].step = steps[job.id]
            else:
                del self._open[job.id]
        return steps

    def capacity(self) -> int:
        return self._capacity if self._local is None else self._local.capacity()

    def close(self) -> None:
        self._kill_workers()
        self._open.clear()
        if self._local is not None:
            self._local.close()

    # --- starting the workers -------------------------------------------------------------------------

    def _start_workers(self) -> None:
        """Start the workers, once, and wait until they have built their trainers. Log it if one cannot."""
        if self._local is None or len(self._devices) < 2:
            return
        self._folder = temporary.make_folder()
        try:
            self._payload.write(self._folder)
            for place, device in enumerate(self._devices):
                self._workers.append(Worker(self._folder, place, device))
            for worker in self._workers:
                while not worker.is_ready:
                    worker.receive()
        except Exception as error:  # pickling runs the task's own code
            _log.warning("Training in one process, because workers cannot start: %s: %s", type(error).__name__, error)
            self._kill_workers()
            self._devices = self._devices[:1]
            return
        self._local.close()
        self._local = None
        torch.cuda.empty_cache()  # does nothing if CUDA was not used
        _log.info("Training in %d processes on %s", len(self._workers), ", ".join(dict.fromkeys(self._devices)))

    def _kill_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []
        if self._folder != Path():
            temporary.remove(self._folder)

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
        while not run.failure:
            self._recover()
            if run.place is None:
                continue
            for answer in self._send({run.place: [(name, id, *arguments)]}, raises=True):
                if answer.kind == "done":
                    return answer.value
                self._blame(answer)
        raise RuntimeError(f"{id} failed: it has no weights ({run.failure})")

    # --- workers that die -----------------------------------------------------------------------------

    def _recover(self) -> None:
        """Assign every lost job to a worker, and bring it back to its last report."""
        while lost := [run for run in self._open.values() if run.place is None and not run.failure]:
            self._assign(lost)
            jobs = [run.job for run in lost]
            steps: dict[JobId, int] = {}
            if self._checkpoint is not None:
                for answer in self._send(self._orders("restore", jobs, *self._checkpoint), raises=True):
                    steps.update(answer.value if answer.kind == "done" else {})
            orders: dict[Worker, list[Order]] = {}
            for run in lost:
                if run.place is not None and steps.get(run.job.id) != run.step:
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
                run.place = None
        worker.failures += 1
        if worker.failures < DEATHS:
            worker.restart()
            return
        self._workers.remove(worker)
        if not self._workers:
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
            if run.place is not None and run.state == "running":
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
            if place is not None:
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
                        run.place = None
