"""Jobs spread over processes of this machine, each with a trainer of its own: one for each GPU, or for each core.

What holds:

- A job's numbers depend on the job alone, so where it is trained, and how often it must be moved or trained again,
  changes nothing but the time.
- Training begins in this process. The others take seconds to start, so they are started once it has gone on for
  a while, and take over at the first report after they are ready: a short sweep never has them.
- A process that dies is started again. Its jobs go on from the last checkpoint or from their beginning, in silence up
  to their last report; those of the unfinished turn then one at a time, to see which of them it is.
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

HEAD_START = 3.0  # seconds of training in this process before the others are started, which takes as long
DEATHS = (
    3  # of a process in a row: with the same job in hand that job has failed; without an answer the place is given up
)

Order = tuple[Any, ...]
Orders = Mapping[Worker, Sequence[Order]]


@dataclass
class _OpenJob:
    """An open job. place: the process that has it; "here", or "lost" with a process that died. deaths: in a row."""

    job: Job
    place: Worker | str
    step: int = 0
    state: State = "running"
    deaths: int = 0
    failure: str = ""


class _Answer(NamedTuple):
    """What came of an order: "report" (more follow), "done", "raised", or "died" with the reason."""

    order: Order
    kind: str
    value: Any


class Processes:
    """`trainer(task, recipe, device=..., **options)` in a process for each of `devices`; see sweeper.types.Trainer.

    One device: all in this process. head_start: seconds of training in this process before the others are started, by
    default HEAD_START; 0: they are waited for before the first job. Raises what the trainer raises. Where no process
    can be started (the task cannot be pickled, ...) it is logged, and everything is trained in this one.
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
        self._is_single = len(devices) < 2  # no other process (any more)
        self._has_moved = False
        self._is_sending = False
        self._trained = 0.0
        self._workers: list[Worker] = []
        self._folder = Path()
        self._open: dict[JobId, _OpenJob] = {}
        self._checkpoint: tuple[Path, int] | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.id in self._open:
                raise RuntimeError(f"{job.id} is open already")
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
            together = len(left) if self._is_single else self._lanes  # few, to see soon that the others are ready
            now, left = left[:together], left[together:]
            began = time.perf_counter()
            for report in self._local_trainer.advance(now):
                yield self._record(report)
            self._trained += time.perf_counter() - began
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
        """Each process its part, below `folder`; a crash between two leaves the older one of the other."""
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
            stands = restore_jobs(self._local_trainer, folder, jobs, last_round)
            self._open.update({job.id: _OpenJob(job, "here", stands[job.id]) for job in jobs if job.id in stands})
            return stands
        self._assign([_OpenJob(job, "lost") for job in jobs])
        stands = {}
        for answer in self._send(self._orders("restore", jobs, folder, last_round), raises=True):
            stands.update(answer.value if answer.kind == "done" else {})
        for job in jobs:
            if job.id in stands:
                self._open[job.id].step = stands[job.id]
            else:
                del self._open[job.id]
        return stands

    def capacity(self) -> int:
        return self._lanes * (len(self._workers) if self._has_moved else 1 if self._is_single else len(self._devices))

    def close(self) -> None:
        self._kill_workers()
        self._open.clear()
        if self._local is not None:
            self._local.close()

    # --- from this process to the others --------------------------------------------------------------

    @property
    def _local_trainer(self) -> Trainer:
        assert self._local is not None
        return self._local

    def _distribute(self) -> bool:
        """Whether the other processes have the jobs: started when it is time, handed over to when they are ready."""
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
        self._folder = Path(tempfile.mkdtemp(prefix="sweeper-"))
        try:
            self._payload.write(self._folder)
            for place in range(count):
                self._workers.append(Worker(self._folder, place, self._devices[place]))
        except Exception as error:  # pickling runs the task's own code
            _log.warning("Everything is trained in one process: %s: %s", type(error).__name__, error)
            self._kill_workers()

    def _has_ready_workers(self, *, wait: bool) -> bool:
        """Whether all processes have built their trainers."""
        try:
            for worker in self._workers:
                while not worker.is_ready and (wait or worker.has_message()):
                    worker.receive()
        except WorkerDiedError as error:
            _log.warning("Everything is trained in one process: the others did not start: %s", error)
            self._kill_workers()
            return False
        return all(worker.is_ready for worker in self._workers)

    def _move_jobs(self) -> None:
        """Running jobs move by way of a checkpoint; those that ended stay until they are stopped."""
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
        _log.info("training goes on in %d processes on %s", len(self._workers), ", ".join(dict.fromkeys(self._devices)))

    def _release_device(self) -> None:
        """Once nothing is left in this process, free what it holds of the device."""
        if self._has_moved and self._local is not None and all(run.place != "here" for run in self._open.values()):
            self._local.close()
            self._local = None
            torch.cuda.empty_cache()  # nothing where CUDA was not used

    def _kill_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        if self._workers or self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._workers, self._is_single = [], True

    # --- a turn in the other processes ----------------------------------------------------------------

    def _advance_workers(self, ids: Sequence[JobId]) -> Iterator[Report]:
        """Each process its jobs at once; what one left when it died, one at a time."""
        left = dict.fromkeys(ids)
        singly = False
        while left:
            self._recover()
            for id in [id for id in left if self._open[id].failure]:
                del left[id]
                yield self._record(self._failure_report(self._open[id]))
            orders: dict[Worker, list[Order]] = {}
            for worker, jobs in self._shares([self._open[id].job for id in left]).items():
                of = [job.id for job in jobs]
                orders[worker] = [("advance", [id]) for id in of] if singly else [("advance", of)]
            for answer in self._send(orders, raises=True):
                if answer.kind == "report":
                    del left[answer.value.id]
                    yield self._record(answer.value)
                elif answer.kind == "died":
                    singly = True
                    self._blame(answer)

    def _record(self, report: Report) -> Report:
        run = self._open[report.id]
        run.step, run.state, run.deaths = report.step, report.state, 0
        if report.state == "failed":
            run.failure = report.reason
        return report

    def _failure_report(self, run: _OpenJob) -> Report:
        return Report(run.job.id, run.step, {}, {}, 0.0, "failed", run.failure)

    def _request(self, name: str, id: JobId, *arguments: Any) -> Any:
        """What the process of a job says about it, also when it must be started again for that."""
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

    # --- processes that die ---------------------------------------------------------------------------

    def _recover(self, source: tuple[Path, int] | None = None) -> None:
        """Every lost job to a process again, and to where it stood: from `source`, by default the last checkpoint."""
        source = source or self._checkpoint
        while lost := [run for run in self._open.values() if run.place == "lost" and not run.failure]:
            self._assign(lost)
            jobs = [run.job for run in lost]
            stands: dict[JobId, int] = {}
            if source is not None:
                for answer in self._send(self._orders("restore", jobs, *source), raises=True):
                    stands.update(answer.value if answer.kind == "done" else {})
            orders: dict[Worker, list[Order]] = {}
            for run in lost:
                if isinstance(run.place, Worker) and stands.get(run.job.id) != run.step:
                    order = ("repeat", run.job, stands.get(run.job.id), run.step)
                    orders.setdefault(run.place, []).append(order)
            for answer in self._send(orders):
                self._check_repeated(answer)

    def _check_repeated(self, answer: _Answer) -> None:
        """A job that was trained again must stand where it stood."""
        run = self._open[answer.order[1].id]
        if answer.kind == "died":
            self._blame(answer)
        elif answer.kind == "raised":
            run.failure = f"{type(answer.value).__name__}: {answer.value}"
        elif answer.value[:2] != (run.step, run.state):
            step, state, reason = answer.value
            why = f"{state} at {step}" + (f": {reason}" if reason else "")
            run.failure = f"its process died, and it could not be trained again to update {run.step} ({why})"

    def _blame(self, answer: _Answer) -> None:
        """If the process died with an order about one job alone, that job had it in hand."""
        about = answer.order[1]
        if isinstance(about, list):
            if len(about) > 1:
                return
            about = about[0]
        run = self._open[about.id if isinstance(about, Job) else about]
        run.deaths += 1
        if run.deaths >= DEATHS:
            run.failure = f"{answer.value}, {run.deaths} times in a row"

    def _replace(self, worker: Worker, reason: str) -> None:
        """A dead process: its jobs are lost, another takes its place, unless that is no use any more."""
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
            raise RuntimeError(f"No process for training stays alive: {reason}")

    # --- orders ---------------------------------------------------------------------------------------

    def _assign(self, runs: Sequence[_OpenJob]) -> None:
        """Each job to the process with the fewest running jobs: they make a turn long. Then the fewest updates left."""
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
        """By process, those of these jobs that it has."""
        shares: dict[Worker, list[Job]] = {}
        for job in jobs:
            place = self._open[job.id].place
            if isinstance(place, Worker):
                shares.setdefault(place, []).append(job)
        return shares

    def _orders(self, name: str, jobs: Sequence[Job], *arguments: Any) -> dict[Worker, list[Order]]:
        """One order for each process, about its share."""
        return {worker: [(name, share, *arguments)] for worker, share in self._shares(jobs).items()}

    def _send(self, orders: Orders, *, raises: bool = False) -> Iterator[_Answer]:
        """Give each process its orders, one after the other, and say what comes of them, as it comes.

        One that dies is given no more of them. Whoever breaks off leaves no process with an order in hand: it would
        go on with what nobody knows of. raises: what a process raised is raised here.
        """
        if self._is_sending:
            raise RuntimeError("A turn is not over: take all its reports first")
        self._is_sending = True
        queues = {worker: deque(of) for worker, of in orders.items()}
        busy: dict[Worker, Order] = {}

        def give(worker: Worker) -> None:
            if queues[worker]:
                if not worker.is_alive:
                    worker.restart()
                busy[worker] = queues[worker].popleft()
                worker.send(*busy[worker])

        try:
            for worker in queues:
                give(worker)
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
                        give(worker)
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
