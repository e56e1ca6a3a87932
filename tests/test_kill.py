"""A sweep that is killed again and again ends like an undisturbed one: journal, tables, and the rows in MLflow.

Also a sweep in worker processes: it ends like the one in one process.
"""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

from sweeper.search.records import read

SWEEP = [
    "name=killed",
    "data=digits",
    "model=mlp",
    "model.width=16",
    "model.dropout=0.1",
    "schedule=[cosine,sgdr]",
    "optimizer.peak_lr.high=30",  # some trials diverge
    "train.steps=240",
    "search.n_trials=10",
    "search.concurrent_trials=4",
    "pruner.n_startup_trials=2",
]
PLAIN = ("trainer=sequential",)
LANES = ("trainer=lanes", "trainer.width=3")  # fewer than the open trials
ONE_PROCESS = "trainer.workers=1"
PATIENCE = 300  # seconds
MOMENTS = Path(__file__).parent / "moments"


def start(folder, *more, **environment):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeper", *SWEEP, *more],
            cwd=folder,
            env={**inherited, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def ended(process, folder):
    """Wait for a command. Returns its exit code and its output."""
    code = process.wait(PATIENCE)
    return code, (folder / "output.txt").read_text()


def through(folder, *more):
    code, out = ended(start(folder, *more), folder)
    assert code == 0, out
    return out


# --- what a sweep leaves ----------------------------------------------------------------------------


def trials(folder):
    kept = ("study", "family", "number", "state", "params", "value", "intermediate", "steps_done", "diverged_step")
    records = read(folder / "sweeps" / "killed" / "journal.log")
    return [{key: getattr(record, key) for key in kept} for record in records]


def table(folder, name):
    frame = pd.read_csv(folder / "sweeps" / "killed" / "tables" / f"{name}.csv")
    return frame.drop(columns=["seconds", "seconds_to_target"], errors="ignore")


def rows(folder):
    """Return everything in MLflow except timestamps and seconds. Role, study and trial replace the ids of runs."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            tags.setdefault(run, {})[key] = value
        own = {
            run: tuple(of_run.get(key) for key in ("sweep.role", "sweep.study", "trial.number"))
            for run, of_run in tags.items()
        }

        def of_runs(query):
            found = [(own[run], *rest) for run, *rest in database.execute(query)]
            return [row for row in found if row[1] not in ("seconds", "seconds_to_target")]

        found = {
            "runs": of_runs("select run_uuid, name, status from runs"),
            "params": of_runs("select run_uuid, key, value from params"),
            "metrics": of_runs("select run_uuid, key, step, value from metrics"),
            "last metrics": of_runs("select run_uuid, key, step, value from latest_metrics"),
            "tags": [
                (own[run], key, value)
                for run, of_run in tags.items()
                for key, value in of_run.items()
                if key.startswith(("sweep.", "trial.", "family.", "schedule.", "diverged."))
                and key not in ("sweep.study_run", "sweep.id")
            ],
        }
    return {kind: sorted(of_kind, key=repr) for kind, of_kind in found.items()}


def result(folder):
    """Return everything that two equal sweeps have in common, by what it is."""
    return {
        "trials of the journal": trials(folder),
        "trials.csv": table(folder, "trials"),
        "families.csv": table(folder, "families"),
        **{f"{kind} in MLflow": of_kind for kind, of_kind in rows(folder).items()},
    }


def differences(found, expected):
    def is_same(one, other):
        return one.equals(other) if isinstance(one, pd.DataFrame) else one == other  # tables have NaN

    return [what for what in expected if not is_same(found[what], expected[what])]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the folder of the sweep in one process without interruption, by trainer."""
    folders = {trainer: tmp_path_factory.mktemp("undisturbed") for trainer in (PLAIN, LANES)}
    for trainer, folder in folders.items():
        through(folder, *trainer, ONE_PROCESS)
        assert {trial["state"] for trial in trials(folder)} >= {"complete", "pruned", "diverged"}
    return folders


# --- the kill campaign ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """Before a call of a function, or before the fsync of a file or folder: every durable write ends with one.

    Attributes:
        call: The function, "module:name".
        path: A regular expression for the path of the file.
        torn: Whether half of what is not synced is lost, as if the machine stopped.
        count: Which of the calls of a process, since the command started or its previous kill.
    """

    call: str = ""
    path: str = ""
    torn: bool = False
    count: int = 1

    def at(self, count):
        return dataclasses.replace(self, count=count)


@dataclass(frozen=True)
class Committed:
    """A number of seconds after the next commit."""

    seconds: float


@dataclass(frozen=True)
class Kill:
    """Who is killed when.

    Attributes:
        moment: When.
        victim: "command": its process group. Workers and sender have their own, and notice it by themselves.
            "all": these too. "worker" or "sender": one such process alone; the command continues.
    """

    moment: Moment | Committed
    victim: str


# In the order in which they come.
STORED = Moment(call="sweeper.tracking.trackers:start")  # configuration and journal exist, the spool does not
RESTORING = Moment(call="sweeper.training.checkpoint:read_checkpoint")
REPORTED = Moment(call="sweeper.search.study:Studies.tell")
SPOOL_TORN = Moment(path=r".*/events\.jsonl", torn=True)
SPOOL_AHEAD = Moment(call="sweeper.search.journal:Journal.commit")  # the spool has the round, the journal does not
JOURNAL_TORN = Moment(path=r".*/journal\.log", torn=True)
UNPUBLISHED = Moment(call="sweeper.tracking.spool:Spool.publish")  # the journal has the round; it is not sent yet
CHECKPOINT_TORN = Moment(path=r".*/jobs\.pt", torn=True)
CHECKPOINT_UNNAMED = Moment(path=r".*/round-\d+\.partial")
CHECKPOINT_TWICE = Moment(path=r".*/checkpoint(?!.*/round-).*")  # the earlier one is still there
TRAINED = Moment(call="sweeper.tracking.traces:write_parquet")
TRACED = Moment(call="sweeper.views.conclusion:conclude")  # without tables and figures
CONCLUDED = Moment(call="sweeper.tracking.mlflow.sender:Sender.finish")  # not everything is sent
RUN_EMPTY = Moment(call="mlflow.tracking.client:MlflowClient.log_batch")  # the sender's
RUN_OPEN = Moment(call="mlflow.tracking.client:MlflowClient.set_terminated")

draw = random.Random(11)


def some_time():
    return Committed(draw.uniform(0, 0.15))


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        kills: In the order in which they come.
        workers: Processes that train.
    """

    kills: tuple[Kill, ...]
    workers: int = 1


def killed(moment, victim, workers=1):
    """Return a command with one kill."""
    return Command((Kill(moment, victim),), workers)


CAMPAIGN = [  # sweeps: the trainer, and the commands before the last one
    (
        PLAIN,
        [
            killed(STORED, "all"),
            killed(some_time(), "command"),
            killed(SPOOL_TORN.at(3), "all"),
            killed(SPOOL_AHEAD.at(3), "all"),
            killed(JOURNAL_TORN.at(3), "all"),
            killed(REPORTED.at(2), "command"),
            killed(CHECKPOINT_TORN.at(2), "all"),
            killed(TRAINED, "all"),
            killed(RUN_OPEN, "sender"),
        ],
    ),
    (
        LANES,
        [
            killed(some_time(), "all"),
            killed(UNPUBLISHED.at(4), "command"),
            killed(CHECKPOINT_UNNAMED.at(2), "all"),
            killed(CHECKPOINT_TWICE.at(2), "all"),
            killed(RESTORING, "command"),
            killed(TRACED, "all"),  # so that no earlier sender is left to send the next command's rows
            killed(RUN_EMPTY.at(2), "all"),
        ],
    ),
    (
        PLAIN,
        [
            Command((Kill(some_time(), "worker"), Kill(some_time(), "command")), workers=3),
            killed(some_time(), "all", workers=1),
            Command((Kill(CHECKPOINT_TORN.at(2), "worker"), Kill(CHECKPOINT_TWICE.at(2), "all")), workers=2),
        ],
    ),
    (
        LANES,
        [
            Command((Kill(some_time(), "worker"), Kill(CHECKPOINT_TORN.at(2), "all")), workers=2),
            Command((Kill(RESTORING, "worker"), Kill(some_time(), "command")), workers=2),
            killed(CONCLUDED, "command", workers=2),
        ],
    ),
]
CHECKPOINTS = {"sweeper.run.sweeping": {"CHECKPOINT_SECONDS": 0.1}}  # the sweeps are short


def die(folder, trainer, command):
    """Run a command with its kills. It ends by itself only if its last kill is not its own."""
    kills = command.kills
    files = [folder / f"moment-{number}" for number in range(len(kills))]
    for file in files:
        file.unlink(missing_ok=True)
    moments = [{**vars(kill.moment), "file": str(file)} for kill, file in zip(kills, files, strict=True)]
    process = start(
        folder,
        *trainer,
        f"trainer.workers={command.workers}",
        PYTHONPATH=os.pathsep.join(filter(None, [str(MOMENTS), os.environ.get("PYTHONPATH")])),
        MOMENTS=json.dumps(moments),
        SETTINGS=json.dumps(CHECKPOINTS),
    )
    try:
        for kill, file in zip(kills, files, strict=True):
            reached = wait_for(kill.moment, folder, process, file)
            if kill.victim == "command":
                os.killpg(process.pid, signal.SIGKILL)
            elif kill.victim == "all":
                kill_all(folder, process)
            else:
                psutil.Process(reached or workers(process)[0]).kill()
        code, out = ended(process, folder)
        assert code == (-signal.SIGKILL if kills[-1].victim in ("command", "all") else 0), out
    finally:
        if process.poll() is None:
            kill_all(folder, process)


def wait_for(moment, folder, process, file):
    """Wait for a moment of a command. Returns the process that reached it; None for a time after a commit."""
    journal, deadline = folder / "sweeps" / "killed" / "journal.log", time.monotonic() + PATIENCE
    size = journal.stat().st_size if journal.exists() else 0

    def is_reached():
        if isinstance(moment, Moment):
            return file.exists() and file.read_text().endswith("\n")
        return journal.exists() and journal.stat().st_size > size

    while not is_reached():
        assert process.poll() is None, f"over before {moment}: {(folder / 'output.txt').read_text()}"
        assert time.monotonic() < deadline, f"{moment} did not come: {(folder / 'output.txt').read_text()}"
        time.sleep(0.005)
    if isinstance(moment, Moment):
        return int(file.read_text())
    time.sleep(moment.seconds)
    file.touch()
    return None


def workers(process):
    children = psutil.Process(process.pid).children()
    return sorted(child.pid for child in children if "sweeper.training.workers.worker" in child.cmdline())


def kill_all(folder, process):
    """Kill a command with its workers and its sender, and senders that earlier commands left, as a power cut does."""
    victims = psutil.Process(process.pid).children(recursive=True)
    for other in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in other.info["cmdline"] or ()):
            victims.append(other)
    for victim in [psutil.Process(process.pid), *victims]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait(PATIENCE)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a moment knows the path of a file by Linux's /proc")
def test_killed_again_and_again_it_ends_the_same(undisturbed, tmp_path, capsys):
    kills, different = 0, []
    for number, (trainer, commands) in enumerate(CAMPAIGN):
        folder = tmp_path / str(number)
        folder.mkdir()
        for command in commands:
            die(folder, trainer, command)
            kills += len(command.kills)
        through(folder, *trainer, f"trainer.workers={command.workers}")
        found, expected = result(folder), result(undisturbed[trainer])
        different += [f"{what} of sweep {number}" for what in differences(found, expected)]
        log = (folder / "sweeps" / "killed" / "log.txt").read_text()
        assert ("Training in 2 processes" in log) == (command.workers == 2)
    with capsys.disabled():
        print(f"\n{kills} kills in {len(CAMPAIGN)} sweeps; differences: {', '.join(different) or 'none'}")
    assert not different
    assert kills == 26


# --- other ends ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_more_trials_continue(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[PLAIN], tmp_path / "copy")
    before = result(folder)
    through(folder, *PLAIN, ONE_PROCESS)
    assert differences(result(folder), before) == []
    through(folder, *PLAIN, ONE_PROCESS, "search.n_trials=12", "tracking=none")
    after = trials(folder)
    old = [trial for trial in after if trial["number"] < 10]
    assert (old, len(after)) == (before["trials of the journal"], len(old) + 4)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_round_and_says_how_to_go_on(tmp_path, sent):
    process = start(tmp_path, "tracking=none", "search.n_trials=200")
    journal = tmp_path / "sweeps" / "killed" / "journal.log"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    process.send_signal(sent)
    code, out = ended(process, tmp_path)
    assert code == 128 + sent, out
    assert "Finishing this round" in out
    assert "the same command resumes the sweep" in out
    assert trials(tmp_path)
    assert (tmp_path / "sweeps" / "killed" / "checkpoint").exists()


@pytest.mark.slow
def test_a_second_ctrl_c_stops_now(tmp_path):
    process = start(tmp_path, "tracking=none", "train.steps=400000", "search.reports=4")
    while process.poll() is None and not (tmp_path / "sweeps" / "killed" / "config.yaml").exists():
        time.sleep(0.01)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, out = ended(process, tmp_path)
    assert code == 130, out
