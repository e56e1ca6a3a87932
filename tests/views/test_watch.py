"""A sweep seen from another process: what is shown at each moment, and that looking changes nothing."""

import fcntl
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest

from sweeper.importing import Target
from sweeper.schedules import family, lr_trace
from sweeper.search.objective import Objective
from sweeper.search.plan import Terms
from sweeper.search.study import Studies, StudyPlan
from sweeper.spec import locking
from sweeper.spec.locking import is_running, lock
from sweeper.spec.question import Home
from sweeper.text.columns import plain_text
from sweeper.types import InputError, Record, Report
from sweeper.views import follower, watch

STEPS = (25, 50, 75, 100)
NODES = {
    name: {"factor": name, "peak_lr": {"low": 1e-3, "high": 1.0, "log": True}, "decay": {"low": 0.001, "high": 0.3}}
    for name in ("cosine", "linear")
}


class Sweep:
    """A sweep without training: its folder, its studies, its rounds."""

    def __init__(self, home, trials=3, concurrent=2, families=("cosine", "linear")):
        self.home, self.open = home, {}
        home.path.mkdir(parents=True, exist_ok=True)
        plans = [
            StudyPlan(f"{name}-1", family(name, NODES[name]), Target("optuna.samplers.RandomSampler"), None, trials)
            for name in families
        ]
        objective = {"metric": "valid/loss", "direction": "minimize", "at": "last", "k": 3}
        terms = Terms(0, STEPS, concurrent, Objective(**objective), untrained_loss=5.0, partitions=(0, 0))
        self.studies = Studies(home.journal, plans, terms)
        home.write(
            {
                "question": {
                    "objective": objective,
                    "search": {"reports": 4, "seeds": 1, "seed": 0},
                    "train": {"steps": 100},
                    "data": {},
                },
                "trainer": {},
                "studies": {
                    plan.name: {"family": plan.family.name, "trials": trials, "schedule": NODES[plan.family.name]}
                    for plan in plans
                },
            }
        )
        for jobs, step in self.studies.resume():
            self.open[jobs[0].id.of] = [jobs, STEPS.index(step) + 1 if step else 0]

    def round(self, diverge=()):
        while jobs := self.studies.ask():
            self.open[jobs[0].id.of] = [jobs, 0]
        for trial, one in list(self.open.items()):
            jobs, made = one
            one[1] += 1
            bad = trial in diverge
            state = "diverged" if bad else "complete" if one[1] == 4 else "running"
            value = 2.0 + trial.trial + 1 / one[1] + (trial.study == "linear-1")
            self.studies.report(
                [Report(job.id, STEPS[made] - 3 * bad, {}, {"valid/loss": value}, 0.1, state) for job in jobs]
            )
            if state != "running":
                self.studies.tell(trial, state)
                del self.open[trial]
        self.studies.commit(self.studies.round + 1)
        return bool(self.open) or any(study.can_ask for study in self.studies._studies.values())


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "sweeps" / "mine")


def looked(home, now=time.time):
    seen = follower.Follower(home, now)
    seen.refresh()
    return seen


def shown(seen, width=119, height=None):
    return [plain_text(line) for line in watch.picture(seen, width, height, True)]


def snapshot(folder):
    """Every path with its content and its time of change."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def told(tally):
    """What a tally knows, apart from times."""
    return [
        (row.name, row.done, row.trials, row.open, row.fraction, row.best, row.best_trial, row.diverged, row.bests,
         row.lr_S.tolist())
        for row in tally.rows()
    ]  # fmt: skip


# --- what is known ------------------------------------------------------------------------------------


def test_before_the_first_round_is_committed_all_is_to_come(home):
    with lock(home):
        Sweep(home)
        seen = looked(home)
        lines = shown(seen)
    assert home.journal.read_bytes() == b""
    assert (seen.is_running, seen.is_finished) == (True, False)
    assert re.match(r"mine  0:0\d elapsed  valid/loss, lower is better", lines[0])
    assert [line.split()[:1] for line in lines[1:]] == [["family"], ["cosine"], ["linear"], ["all"], ["~"]]
    assert "0/3" in lines[2]


def test_looking_now_and_then_and_only_at_the_end_tell_the_same(home):
    sweep = Sweep(home, trials=5, concurrent=2)
    often = looked(home)
    more, rounds = True, 0
    while more:
        more, rounds = sweep.round(diverge=[trial for trial in sweep.open if trial.trial == 1]), rounds + 1
        often.refresh()
        once = looked(home)
        assert told(often.tally) == told(once.tally)
        assert often.is_finished == (not more)
    row = often.tally.rows()[0]
    assert (row.done, row.trials, row.diverged, row.best, row.best_trial) == (5, 5, 1, 2.25, 0)
    assert row.bests == (None, 2.25, 2.25, 2.25, 2.25)
    assert rounds > 8


def test_open_trials_count_in_part_and_the_best_lr_is_its_schedule(home):
    sweep = Sweep(home, trials=3, concurrent=2)
    for _ in range(6):
        sweep.round()
    seen = looked(home)
    row = seen.tally.rows()[0]
    assert (row.done, row.open, row.open_fraction) == (2, 1, 0.5)
    assert row.best_trial == 0
    stored = sweep.studies._studies["cosine-1"].study.trials[0].params
    assert row.lr_S.tolist() == lr_trace(family("cosine", NODES["cosine"]), stored, 100).tolist()
    assert "1@50%" in shown(seen)[2]


def test_a_line_that_is_being_written_is_not_seen_until_its_round_is_whole(home):
    sweep = Sweep(home)
    sweep.round()
    seen, before = looked(home), home.journal.read_bytes()
    told_before = told(seen.tally)
    sweep.round()
    whole = home.journal.read_bytes()
    for size in (len(before) + 7, len(whole) - 1):
        with home.journal.open("r+b") as file:
            file.truncate(size)
        seen.refresh()
        assert told(seen.tally) == told_before == told(looked(home).tally)
        home.journal.write_bytes(whole)
    seen.refresh()
    assert told(seen.tally) == told(looked(home).tally) != told_before


def test_another_command_with_more_trials_or_families_is_taken_in(home):
    first = Sweep(home, trials=1, families=("cosine",))
    while first.round():
        pass
    seen = looked(home)
    assert seen.is_finished
    Sweep(home, trials=2).round()
    seen.refresh()
    assert not seen.is_finished
    assert [(row.name, row.done, row.trials) for row in seen.tally.rows()[:2]] == [("cosine", 1, 2), ("linear", 0, 2)]


def test_a_sweep_that_was_begun_again_from_nothing_in_the_same_folder(home):
    sweep = Sweep(home)
    for _ in range(5):
        sweep.round()
    seen = looked(home)
    home.journal.unlink()
    Sweep(home).round()
    seen.refresh()
    assert [(row.done, row.open) for row in seen.tally.rows()[:2]] == [(0, 2), (0, 2)]


def test_a_sweep_whose_folder_is_taken_away_ends_the_view(home):
    Sweep(home)
    home.journal.unlink()
    with pytest.raises(InputError, match=r"sweep=mine: .*journal.log is gone"):
        watch.watch(home, io.StringIO())


def test_a_failed_trial_is_tried_again_and_then_given_up(home):
    sweep = Sweep(home, trials=1, families=("cosine",))
    for attempt in range(2):
        jobs = sweep.studies.ask()
        sweep.studies.report([Report(job.id, 0, {}, {}, 0.1, "failed", "broken") for job in jobs])
        sweep.studies.tell(jobs[0].id.of, "failed", "broken")
        sweep.studies.commit(attempt + 1)
        seen = looked(home)
        assert seen.is_finished == (attempt == 1)
    (row, _) = seen.tally.rows()
    assert (row.done, row.trials, row.failed, row.given_up) == (0, 1, 2, 1)
    assert "ended after" in shown(seen)[0]


def test_a_family_that_is_no_longer_there_has_no_curve(home):
    sweep = Sweep(home, families=("cosine",))
    for _ in range(4):
        sweep.round()
    home.write(
        {**home.read(), "studies": {"cosine-1": {"family": "cosine", "trials": 3, "schedule": {"factor": "gone.away"}}}}
    )
    row = looked(home).tally.rows()[0]
    assert (row.best, row.lr_S.tolist()) == (2.25, [])


# --- how fast and how long --------------------------------------------------------------------------------


def record(number, started, ended=None, reports=4, state="complete"):
    at = [None if when is None else datetime.fromtimestamp(when) for when in (started, ended)]
    return Record(
        "cosine-1", "cosine", number, state, {}, (), 1.0 if state == "complete" else None,
        tuple((step, 1.0) for step in STEPS[:reports]), STEPS[reports - 1], None, "", 0.0, (), (1, 2), None, *at,
    )  # fmt: skip


def test_reports_of_an_unseen_trial_are_spread_over_its_time_and_new_ones_are_of_now():
    events = follower.new_events(record(0, 1000.0, 1040.0), None, 1050.0)
    assert [(event.at, event.what) for event in sorted(events)] == [
        (1000.0, "opened"), (1010.0, "reported"), (1020.0, "reported"), (1030.0, "reported"), (1040.0, "reported"),
        (1040.0, "ended"),
    ]  # fmt: skip
    open_one = record(1, 1000.0, reports=3, state="running")
    assert [event.at for event in follower.new_events(open_one, (1, False), 1060.0)] == [1060.0, 1060.0]
    assert follower.new_events(record(0, 1000.0, 1040.0), (4, True), 1050.0) == []


def test_the_pace_is_that_of_all_rounds_however_often_one_looked(home):
    sweep, began, now = Sweep(home, trials=4, concurrent=1, families=("cosine",)), 200_000.0, [200_000.0]
    os.utime(home.config, (began, began))
    seen = looked(home, now=lambda: now[0])
    for _ in range(8):  # two trials of four reports, one in 10 s
        now[0] += 10
        sweep.round()
        os.utime(home.journal, (now[0], now[0]))
        seen.refresh()
    row = seen.tally.rows()[-1]
    assert (row.done, row.trials) == (2, 4)
    # The first round is not known to have taken 10 s: its trial was opened in it.
    assert row.left == pytest.approx(80, rel=0.15)
    now[0] += 5
    assert seen.tally.rows()[-1].left == pytest.approx(row.left - 5)


def test_the_time_left_is_that_of_the_rounds_of_this_command(home, monkeypatch):
    # Two trials done by a command of yesterday; two of 4 more done in 80 s by this one.
    sweep = Sweep(home, trials=6, families=("cosine",))
    began = 200_000.0
    os.utime(home.config, (began, began))
    trials = [record(0, 1000.0, 1040.0), record(1, 1040.0, 1080.0), record(2, began, began + 40)]
    trials.append(record(3, began + 40, began + 80))
    sweep.round()
    os.utime(home.journal, (began + 80, began + 80))
    monkeypatch.setattr("sweeper.search.records.JournalReader.records", lambda _: trials)
    with lock(home):
        seen = looked(home, now=lambda: began + 80)
    row = seen.tally.rows()[-1]
    assert (row.done, row.trials) == (4, 6)
    assert row.left == pytest.approx(80, rel=0.2)
    assert "1:20 elapsed, about 1:" in shown(seen)[0]


# --- who runs it ------------------------------------------------------------------------------------------


def test_it_says_when_no_process_runs_the_sweep(home):
    sweep = Sweep(home)
    sweep.round()
    lines = shown(looked(home))
    assert "stopped after 0:0" in lines[0]
    assert lines[-1].startswith("No process is running this sweep.")
    assert lines[2].split()[-1] == "-", "no time left is said where none passes"
    with lock(home):
        seen = looked(home)
        assert "elapsed" in shown(seen)[0]
        assert shown(seen)[-2].startswith("all")
    assert max(map(len, shown(seen, width=49))) <= 49
    seen.refresh()
    assert len(shown(seen, height=7)) <= 7


def test_looking_whether_it_runs_takes_the_lock_from_nobody(home):
    assert not is_running(home)
    with lock(home):
        assert is_running(home)
    assert home.lock.exists()
    assert not is_running(home)
    # One that looks at the very moment at which a sweep begins: the lock is got all the same.
    looking = os.open(home.lock, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not is_running(home), "others who look are no sweep"
    threading.Timer(locking.LOCK_TIMEOUT / 5, os.close, [looking]).start()
    with lock(home):
        assert is_running(home)


def test_sweeps_begin_while_others_look_all_the_time(home):
    code = (
        "import sys; from pathlib import Path; from sweeper.spec.locking import *\n"
        "home = Home(Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "while True: is_running(home)"
    )
    home.path.mkdir(parents=True)
    home.lock.touch()
    lookers = [subprocess.Popen([sys.executable, "-c", code, str(home.path)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for looker in lookers:
            assert looker.stdout.readline() == b"ready\n"
        for _ in range(100):
            with lock(home):
                pass
    finally:
        for looker in lookers:
            looker.kill()
            looker.communicate()


# --- the command ------------------------------------------------------------------------------------------


def test_piped_it_prints_one_picture_and_writes_nothing(home, sweeper, tmp_path):
    sweep = Sweep(home)
    sweep.round()
    with lock(home):
        before = snapshot(tmp_path)
        code, out, err = sweeper("status", "--watch")
        assert (code, err) == (0, "")
        assert out.splitlines()[0].startswith("mine  0:0")
        assert "0/3" in out
        assert "\x1b" not in out
        assert snapshot(tmp_path) == before


def test_wrong_use_is_one_line(home, sweeper):
    code, _, err = sweeper("status", "--watch")
    assert (code, len(err.splitlines())) == (2, 1)
    Sweep(home)
    code, _, err = sweeper("status", "--watch", "--json", "mine")
    assert (code, err) == (2, "sweeper: --watch: cannot be combined with --json. Leave one of them out\n")


def _hears_ctrl_c():
    """A script's background job does not, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_a_terminal(folder, *words):
    """`python -m sweeper` with its output on a pseudo-terminal of 80 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", *words], stdout=slave, stderr=slave, stdin=slave, cwd=folder,
        env={**os.environ, "TERM": "xterm"}, preexec_fn=_hears_ctrl_c)  # fmt: skip
    os.close(slave)
    return process, master


def until(master, text, seconds=20):
    """What the terminal got until `text` came; all of it if it never did."""
    got, deadline = b"", time.monotonic() + seconds
    while text not in got and time.monotonic() < deadline:
        try:
            got += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    return got.decode()


def test_on_a_terminal_it_follows_until_the_sweep_is_finished(home, tmp_path):
    sweep = Sweep(home, trials=1, families=("cosine",))
    with lock(home):
        process, master = on_a_terminal(tmp_path, "status", "--watch", "mine")
        assert "0/1" in until(master, b"all")
        before = snapshot(home.path)
        sweep.round()
        sweep.round()
        changed = snapshot(home.path)
        assert {path for path in changed if changed[path] != before[path]} == {home.journal}
        assert "~2.5000" in until(master, b"~2.5000")
        while sweep.round():
            pass
        last = until(master, b"--columns all")
        assert "finished in" in last
        assert "valid/loss 2.2500 is the lowest in the search, trial 0 of cosine" in last
        assert process.wait(20) == 0
    os.close(master)


@pytest.mark.parametrize("piped", [True, False])
def test_a_finished_sweep_ends_with_what_status_prints(home, sweeper, tmp_path, piped):
    sweep = Sweep(home, trials=1)
    while sweep.round():
        pass
    if piped:
        printed, watched = sweeper("status")[1], sweeper("status", "--watch")[1]
        assert watched.endswith(f"\n\n{printed}")
        return
    process, master = on_a_terminal(tmp_path, "status", "mine")
    printed = until(master, b"--columns all")
    assert process.wait(20) == 0
    os.close(master)
    process, master = on_a_terminal(tmp_path, "status", "--watch", "mine")
    assert until(master, b"--columns all").endswith(printed)
    assert process.wait(20) == 0
    os.close(master)


def test_ctrl_c_ends_it_with_0(home, tmp_path):
    Sweep(home).round()
    before = snapshot(tmp_path)
    process, master = on_a_terminal(tmp_path, "status", "--watch")
    assert "No process is running this sweep" in until(master, b"resumes it")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in until(master, b"nothing of the kind", 1)
    assert snapshot(tmp_path) == before
    os.close(master)


def test_a_stream_without_our_characters_gets_ascii(home):
    class Ascii(io.StringIO):
        encoding = "ascii"

    sweep = Sweep(home)
    for _ in range(5):
        sweep.round()
    out = Ascii()
    watch.watch(home, out)
    assert out.getvalue().isascii()
    assert out.getvalue().startswith("mine  stopped")
