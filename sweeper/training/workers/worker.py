"""A trainer in a process of its own, and the parent's handle of it.

The process runs `python -m sweeper.training.workers.worker` with one socket for orders and answers. It is not forked,
because threads and CUDA do not survive a fork, and not spawned by multiprocessing, which would run the caller's script
again. The task comes in a file that all workers map into memory, so the data are in memory once.

- A thread of the worker always reads, so the parent never waits to send. When the parent ends, so does the socket, and
  the worker exits at once, even in the middle of a turn.
- The worker has its own session, so Ctrl-C in the terminal reaches the parent only.
- The parent logs what the worker logs. What the worker prints is in a file of the workers' folder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from sweeper.training.checkpoint import restore_jobs
from sweeper.training.recipe import Recipe
from sweeper.types import InputError, Job, Report, State, Task, Trainer

_log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0  # how often a worker checks that its parent is alive, in case the socket stays open
OOM_SCORE = 500  # if memory runs out, the system kills a worker, which is restarted, and not the loop
PAYLOAD = "trainer.pt"


class WorkerDiedError(Exception):
    """A worker's process ended. The message says how."""


@dataclass(frozen=True)
class Payload:
    """What every worker builds its trainer from: `trainer(task, recipe, device=..., **options)`.

    Attributes:
        trainer: Constructor of the trainer.
        task: What is trained.
        recipe: How it is trained.
        options: Other arguments of the constructor.
    """

    trainer: Callable[..., Trainer]
    task: Task
    recipe: Recipe
    options: Mapping[str, Any]

    def build_trainer(self, device: str) -> Trainer:
        """Build the trainer on a device."""
        return self.trainer(self.task, self.recipe, device=device, **self.options)

    def write(self, folder: Path) -> None:
        """Write the payload for the workers, with classes of a script or notebook by value.

        Raises:
            Exception: If it cannot be pickled. Pickling runs the task's own code.
        """
        import cloudpickle  # type: ignore[import-untyped, unused-ignore] # it has no annotations

        content = (self.trainer, self.task, self.recipe, dict(self.options), _torch_settings())
        torch.save(content, folder / PAYLOAD, pickle_module=cloudpickle, pickle_protocol=pickle.HIGHEST_PROTOCOL)


# --- in the parent ----------------------------------------------------------------------------------


class Worker:
    """A process with a trainer on one device. `restart` replaces the process.

    Attributes:
        place: Number of the worker.
        device: Where it trains.
        failures: Processes that died since one last answered an order.
        connection: The parent's end of the socket.
        is_alive: Whether the process was started and not killed.
        is_ready: Whether its trainer is built.
    """

    def __init__(self, folder: Path, place: int, device: str) -> None:
        self.place, self.device, self.failures = place, device, 0
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self.is_alive, self.is_ready = True, False
        ours, theirs = socket.socketpair()
        with theirs, self._output.open("wb") as output:
            arguments = (str(theirs.fileno()), str(os.getpid()), str(self._folder))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeper.training.workers.worker", *arguments],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_worker_environment(),
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.send("build", self._folder, self.device, log_level())

    def restart(self) -> None:
        """Kill the process and start another one."""
        self.kill()
        self._start()

    def send(self, *order: Any) -> None:
        """Send an order, (name, arguments ...). All but "stop" are answered; for a dead process `receive` raises."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(order, pickle.HIGHEST_PROTOCOL))

    def has_message(self) -> bool:
        """Return whether `receive` returns or raises at once."""
        return self.connection.poll() or self._process.poll() is not None

    def receive(self) -> tuple[str, Any] | None:
        """Wait for the next message.

        Returns:
            ("report", Report), ("done", value) or ("raised", exception); None for a message that is handled here.

        Raises:
            WorkerDiedError: If the process ended, or cannot train.
        """
        try:
            while not self.connection.poll(PERIOD_SECONDS):
                if self._process.poll() is not None and not self.connection.poll():
                    raise EOFError
            kind, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorkerDiedError(self._death_reason()) from error
        if kind == "broken":
            raise WorkerDiedError(value)
        if kind == "log":
            logging.getLogger(value.name).handle(value)
        elif kind == "ready":
            self.is_ready = True
        else:
            self.failures = 0
            return kind, value
        return None

    def kill(self) -> None:
        """Kill the process at once. Nothing in it is worth waiting for."""
        if not self.is_alive:
            return
        self.is_alive = self.is_ready = False
        self._process.kill()
        self._process.wait()
        self.connection.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def _output(self) -> Path:
        return self._folder / f"worker-{self.place}.log"

    def _death_reason(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PERIOD_SECONDS)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL, perhaps because memory ran out)"
        if code is not None and code < 0:
            return f"its process was killed by {signal_name(-code)}"
        lines = []
        with contextlib.suppress(OSError):
            lines = self._output.read_text(errors="replace").strip().splitlines()
        return f"its process exited with code {code}" + (f": {lines[-1]}" if lines else "")


def signal_name(number: int) -> str:
    """Return the name of a signal, "SIGABRT"; "signal 40" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _worker_environment() -> dict[str, str]:
    """Return the parent's environment with its module search path, and one thread for each numerical library."""
    path = [*(part or str(Path.cwd()) for part in sys.path), str(Path(__file__).resolve().parents[3])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def log_level() -> int:
    """Return the level of the package's log in this process."""
    return logging.getLogger("sweeper").getEffectiveLevel()


def _torch_settings() -> dict[str, Any]:
    """Return the global settings of torch that change results and that the user may have changed."""
    return {
        "set_default_dtype": torch.get_default_dtype(),
        "set_float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


# --- in the worker ----------------------------------------------------------------------------------


def main() -> None:
    """Execute orders until the socket closes."""
    faulthandler.enable()
    _prefer_for_oom_kill()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # the parent runs the same code, and has shown them
    torch.set_num_threads(1)
    socket_number, parent_pid, folder = sys.argv[1:]  # not in an order: the parent may die before it sends one
    parent = _ParentConnection(Connection(int(socket_number)), int(parent_pid), Path(folder))
    logging.getLogger().addHandler(_ForwardingHandler(parent))
    trainer: Trainer | None = None
    while True:
        name, *arguments = parent.next()
        if name == "build":
            trainer = _build_trainer(parent, *arguments)
            parent.send("ready", None)
            continue
        assert trainer is not None
        if name == "stop":  # has no answer; the job may never have started here
            with contextlib.suppress(KeyError):
                trainer.stop(*arguments)
            continue
        try:
            value = _ORDERS[name](parent, trainer, *arguments)
        except Exception as error:
            if not can_compute(parent.device):
                parent.send("broken", f"{type(error).__name__}: {error}")
                raise
            parent.send("raised", error)
        else:
            parent.send("done", value)


def _build_trainer(parent: _ParentConnection, folder: Path, device: str, level: int) -> Trainer:
    """Build the trainer on its device. If that fails, send the reason and exit."""
    parent.folder, parent.device = folder, device
    logging.getLogger("sweeper").setLevel(level)
    try:
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(device)
        return _read_payload(folder).build_trainer(device)
    except Exception as error:
        parent.send("broken", f"{type(error).__name__}: {error}")
        raise


def _read_payload(folder: Path) -> Payload:
    """Read what `Payload.write` wrote. Tensors stay in the file, whose pages all workers share."""
    trainer, task, recipe, options, settings = torch.load(folder / PAYLOAD, mmap=True, weights_only=False)
    for name, value in settings.items():
        getattr(torch, name)(value)
    return Payload(trainer, task, recipe, options)


def _advance(parent: _ParentConnection, trainer: Trainer, ids: Sequence[Any]) -> None:
    for report in trainer.advance(ids):
        if report.state == "failed" and not can_compute(parent.device):
            raise RuntimeError(report.reason)
        parent.send("report", report)


def _restore(parent: _ParentConnection, trainer: Trainer, jobs: Sequence[Job], folder: Path, last_round: int) -> Any:
    return restore_jobs(trainer, folder, jobs, last_round)


def _repeat(
    parent: _ParentConnection, trainer: Trainer, job: Job, restored: int | None, until: int
) -> tuple[int, State, str]:
    """Train a job again without sending reports, up to the report at `until`.

    Args:
        parent: Unused, as all orders have it.
        trainer: The trainer.
        job: The job.
        restored: Updates finished in the trainer; None to start the job.
        until: Updates of its last report.

    Returns:
        Updates finished, state and reason.
    """
    if restored is None:
        trainer.start([job])
    state: State = "running"
    step, reason = restored or 0, ""
    while step < until and state == "running":
        report: Report = next(iter(list(trainer.advance([job.id]))))
        step, state, reason = report.step, report.state, report.reason
    return step, state, reason


_ORDERS: dict[str, Callable[..., Any]] = {
    "advance": _advance,
    "restore": _restore,
    "repeat": _repeat,
    "start": lambda parent, trainer, jobs: trainer.start(jobs),
    "evaluate": lambda parent, trainer, id, part: trainer.evaluate(id, part),
    "weights": lambda parent, trainer, id: trainer.weights(id),
    "save": lambda parent, trainer, folder, round: trainer.save(folder, round),
}


def can_compute(device: str) -> bool:
    """Return whether the device still works. After some CUDA errors only a new process helps."""
    try:
        return bool((torch.ones(2, device=device) + 1).sum().item() == 4)
    except Exception:
        return False


class _ParentConnection:
    """The worker's end of the socket. A thread reads it, and exits the process when it closes."""

    def __init__(self, connection: Connection, parent_pid: int, folder: Path) -> None:
        self.folder, self.device = folder, "cpu"
        self._connection, self._parent_pid = connection, parent_pid
        self._orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Any:
        """Wait for the next order."""
        return pickle.loads(self._orders.get())

    def send(self, kind: str, value: Any) -> None:
        """Send an answer."""
        with self._lock:
            try:
                self._connection.send_bytes(_pickle(kind, value))
            except OSError:
                self._exit_process()

    def _listen(self) -> None:
        """Read orders until the parent ends. Its id is checked too, since its forks may keep the socket open."""
        try:
            while os.getppid() == self._parent_pid:
                if self._connection.poll(PERIOD_SECONDS):
                    self._orders.put(self._connection.recv_bytes())
        except (EOFError, OSError):
            pass
        self._exit_process()

    def _exit_process(self) -> None:
        """Exit. If the parent died, first remove the folder, because nothing else does."""
        deadline = time.monotonic() + PERIOD_SECONDS  # a dying parent closes its files before its id is gone
        while time.monotonic() < deadline:
            if os.getppid() != self._parent_pid:
                shutil.rmtree(self.folder, ignore_errors=True)
                break
            time.sleep(0.01)
        os._exit(0)


class _ForwardingHandler(logging.Handler):
    """Forwards log records to the parent."""

    def __init__(self, parent: _ParentConnection) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = self.format(record), None  # with its traceback, as text
        record.exc_info = record.exc_text = record.stack_info = None
        self._parent.send("log", record)


def _pickle(kind: str, value: Any) -> bytes:
    """Pickle a message. An exception that cannot be pickled becomes a RuntimeError with its text."""
    if isinstance(value, InputError):
        return pickle.dumps((kind, _PicklableInputError(value)))
    try:
        message = pickle.dumps((kind, value), pickle.HIGHEST_PROTOCOL)
        if kind == "raised":
            pickle.loads(message)
        return message
    except Exception:
        if kind != "raised":
            raise
        return pickle.dumps((kind, RuntimeError(f"{type(value).__name__}: {value}")))


class _PicklableInputError:
    """A pickled form of InputError, whose constructor takes four arguments instead of a message."""

    def __init__(self, error: InputError) -> None:
        self._parts = (error.key, error.value, error.problem, error.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return InputError, self._parts


def _prefer_for_oom_kill() -> None:
    """Let the system kill this process first if memory runs out."""
    with contextlib.suppress(OSError):  # only Linux has this file
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


if __name__ == "__main__":
    main()
