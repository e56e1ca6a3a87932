"""One trainer in a process of its own, and the parent's end of it.

A plain `python -m sweeper.training.workers.worker` with one socket: never a fork (threads and CUDA do not survive it),
never multiprocessing's spawn (it runs the caller's script once more). What is trained comes in a file that all workers
map into memory, so the data are there once; orders and answers go through the socket.

- A thread of the worker always reads, so the parent never waits to be heard, and the end of the socket, that is of the
  parent, ends the worker at once, also in the middle of a turn.
- It is in a session of its own: a Ctrl-C in the terminal is for the parent.
- What it logs is logged by the parent; what it prints is in a file of the workers' folder.
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

PERIOD_SECONDS = 1.0  # how often a worker looks whether its parent still lives, beside the end of the socket
OOM_SCORE = 500  # where memory ends the system takes a worker, which is started again, before the loop
PAYLOAD = "trainer.pt"


class WorkerDiedError(Exception):
    """The worker's process is no more; its message says how it ended."""


@dataclass(frozen=True)
class Payload:
    """What every worker builds its trainer from: `trainer(task, recipe, device=..., **options)`."""

    trainer: Callable[..., Trainer]
    task: Task
    recipe: Recipe
    options: Mapping[str, Any]

    def build_trainer(self, device: str) -> Trainer:
        return self.trainer(self.task, self.recipe, device=device, **self.options)

    def write(self, folder: Path) -> None:
        """For the workers, classes of a script or notebook by value. Raises whatever pickling raises."""
        import cloudpickle  # type: ignore[import-untyped, unused-ignore] # it has no annotations

        content = (self.trainer, self.task, self.recipe, dict(self.options), _torch_settings())
        torch.save(content, folder / PAYLOAD, pickle_module=cloudpickle, pickle_protocol=pickle.HIGHEST_PROTOCOL)


# --- the parent's end -------------------------------------------------------------------------------


class Worker:
    """A place for a process with a trainer on one device; `restart` puts another process there.

    failures: processes that died here since one last answered an order. ready: its trainer is built.
    """

    def __init__(self, folder: Path, place: int, device: str) -> None:
        self.place, self.device, self.failures = place, device, 0
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self.is_alive, self.is_ready = True, False
        ours, theirs = socket.socketpair()
        with theirs, self._output.open("wb") as output:
            told = (str(theirs.fileno()), str(os.getpid()), str(self._folder))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeper.training.workers.worker", *told],
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
        self.kill()
        self._start()

    def send(self, *order: Any) -> None:
        """An order: (name, arguments ...), answered unless it is "stop"; one to a dead process by WorkerDiedError."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(order, pickle.HIGHEST_PROTOCOL))

    def has_message(self) -> bool:
        """Whether `receive` has something to say at once, be it that the process died."""
        return self.connection.poll() or self._process.poll() is not None

    def receive(self) -> tuple[str, Any] | None:
        """The next message, waiting for it: ("report", Report), ("done", value), ("raised", exception).

        None for one that is dealt with here. Raises WorkerDiedError.
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
        """At once: nothing of a worker is worth waiting for."""
        if not self.is_alive:
            return
        self.is_alive = self.is_ready = False
        self._process.kill()
        self._process.wait()
        self.connection.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _output(self) -> Path:
        return self._folder / f"worker-{self.place}.log"

    def _death_reason(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PERIOD_SECONDS)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL; was memory short?)"
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        said = []
        with contextlib.suppress(OSError):
            said = self._output.read_text(errors="replace").strip().splitlines()
        return f"its process ended with {code}" + (f": {said[-1]}" if said else "")


def _worker_environment() -> dict[str, str]:
    """The parent's, with its search path for modules; one thread where nobody says otherwise."""
    path = [*(part or str(Path.cwd()) for part in sys.path), str(Path(__file__).resolve().parents[3])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def log_level() -> int:
    """Of the package's log in this process."""
    return logging.getLogger("sweeper").getEffectiveLevel()


def _torch_settings() -> dict[str, Any]:
    """What a person may have set for torch and training depends on."""
    return {
        "set_default_dtype": torch.get_default_dtype(),
        "set_float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


# --- the worker's process ---------------------------------------------------------------------------


def main() -> None:
    """Do one order after the other until the socket ends."""
    faulthandler.enable()
    _prefer_for_oom_kill()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # the parent trains with the same code first: it has said them
    torch.set_num_threads(1)
    socket_number, parent_pid, folder = sys.argv[1:]  # told at once: the parent may die before the first order
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
        if name == "stop":  # not answered; a job that never started here is stopped all the same
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
    """The trainer, on its device; a process that cannot have it says why and ends."""
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
    """What `Payload.write` wrote; its tensors stay in the file, of which all workers see the same pages."""
    trainer, task, recipe, options, flags = torch.load(folder / PAYLOAD, mmap=True, weights_only=False)
    for name, value in flags.items():
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
    parent: _ParentConnection, trainer: Trainer, job: Job, stands: int | None, step: int
) -> tuple[int, State, str]:
    """Train a job again in silence, from `stands` (None: from nothing) to the report at `step`; how it then is."""
    if stands is None:
        trainer.start([job])
    state: State = "running"
    stands, reason = stands or 0, ""
    while stands < step and state == "running":
        report: Report = next(iter(list(trainer.advance([job.id]))))
        stands, state, reason = report.step, report.state, report.reason
    return stands, state, reason


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
    """Whether the device still computes: after some errors of CUDA a process can only be left."""
    try:
        return bool((torch.ones(2, device=device) + 1).sum().item() == 4)
    except Exception:
        return False


class _ParentConnection:
    """The worker's end of the socket. A thread reads it; its end is the end of the process."""

    def __init__(self, connection: Connection, parent_pid: int, folder: Path) -> None:
        self.folder, self.device = folder, "cpu"
        self._connection, self._parent_pid = connection, parent_pid
        self._orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Any:
        return pickle.loads(self._orders.get())

    def send(self, kind: str, value: Any) -> None:
        with self._lock:
            try:
                self._connection.send_bytes(_pickle(kind, value))
            except OSError:
                self._exit_process()

    def _listen(self) -> None:
        """A process that the parent forked may keep the socket open, so the parent's own end is looked for too."""
        try:
            while os.getppid() == self._parent_pid:
                if self._connection.poll(PERIOD_SECONDS):
                    self._orders.put(self._connection.recv_bytes())
        except (EOFError, OSError):
            pass
        self._exit_process()

    def _exit_process(self) -> None:
        """The parent closed the socket, or died: then nobody else removes the folder."""
        deadline = time.monotonic() + PERIOD_SECONDS  # its files are closed before it is gone
        while time.monotonic() < deadline:
            if os.getppid() != self._parent_pid:
                shutil.rmtree(self.folder, ignore_errors=True)
                break
            time.sleep(0.01)
        os._exit(0)


class _ForwardingHandler(logging.Handler):
    """To the parent's log."""

    def __init__(self, parent: _ParentConnection) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = self.format(record), None  # with its traceback, as text
        record.exc_info = record.exc_text = record.stack_info = None
        self._parent.send("log", record)


def _pickle(kind: str, value: Any) -> bytes:
    """An exception that does not survive pickling, as what it says."""
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
    """An InputError on its way: it is made of four things, not of its message."""

    def __init__(self, error: InputError) -> None:
        self._parts = (error.key, error.value, error.problem, error.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return InputError, self._parts


def _prefer_for_oom_kill() -> None:
    with contextlib.suppress(OSError):  # Linux alone
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


if __name__ == "__main__":
    main()
