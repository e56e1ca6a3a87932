"""How the next command says what killed the previous one."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sweeper.run import crash
from sweeper.spec.question import Home
from sweeper.training.workers.worker import signal_name

DYING = """
import os, signal, sys
from pathlib import Path
from sweeper.run import crash
from sweeper.spec.question import Home

def forward(number):
    if number:
        signal.raise_signal(number)

try:
    with crash.noted(Home(Path.cwd())):
        forward(int(sys.argv[1]))
        raise ValueError if sys.argv[2] == "error" else KeyboardInterrupt if sys.argv[2] == "stop" else SystemExit
except (ValueError, KeyboardInterrupt):
    pass
"""

FATAL = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")


def died(folder, number=0, how=""):
    """Run a process that dies of a signal, or ends otherwise. Returns what the next command learns."""
    script = folder / "dying.py"
    script.write_text(DYING)
    done = subprocess.run([sys.executable, str(script), str(int(number)), how], cwd=folder, capture_output=True)
    assert done.returncode == -number
    return crash.last_words(Home(folder))


@pytest.mark.parametrize("name", FATAL)
def test_a_fatal_signal_is_named_with_its_line(name, tmp_path):
    words = died(tmp_path, signal.Signals[name])
    assert words == f"killed by {name}, in forward ({tmp_path}/dying.py:9)"


def test_what_leaves_no_word_is_called_killed(tmp_path):
    assert died(tmp_path, signal.SIGKILL) == crash.UNNAMED
    assert "SIGKILL" in crash.UNNAMED


@pytest.mark.parametrize("how", ["end", "error", "stop"])
def test_an_end_of_its_own_leaves_nothing(how, tmp_path):
    assert died(tmp_path, how=how) is None


def test_the_next_command_says_what_was_training(tmp_path):
    home = Home(tmp_path)
    assert crash.previous_death(home, []) == ""
    home.crash.touch()
    jobs = [SimpleNamespace(family="cosine", id=SimpleNamespace(trial=number)) for number in range(5)]
    shown = crash.previous_death(home, jobs)
    assert shown.startswith(
        "The previous command was killed (SIGKILL, perhaps because memory ran out), or the machine stopped, while it "
        "trained cosine:0, cosine:1, cosine:2, cosine:3 and others."
    )
    assert "while it trained its first round." in crash.previous_death(home, [])


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (6, "SIGABRT"), (40, "signal 40")])
def test_every_signal_has_a_name(number, name):
    assert signal_name(number) == name


ABORTING = """
import os, signal
from torch import nn

class Dying(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.batches = nn.Linear(inputs, outputs), 0

    def forward(self, x):
        self.batches += self.training
        if self.batches == 6 and os.environ.get("DEATH"):
            signal.raise_signal(int(os.environ["DEATH"]))
        return self.layer(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL])
def test_a_sweep_whose_model_kills_the_process(number, tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text(ABORTING)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "dying.yaml").write_text("_target_: dying.Dying\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    words = [
        *("data=digits", "model=dying", "--config-dir", "own", "schedule=cosine", "train.steps=16", "device=cpu"),
        *("search.reports=4", "search.n_trials=2", "tracking=none", "trainer=sequential", "trainer.workers=1"),
    ]

    def run(*words, death=""):
        monkeypatch.setenv("DEATH", death)
        command = [sys.executable, "-m", "sweeper", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    name = "killed by SIGABRT, in forward (" if number == signal.SIGABRT else crash.UNNAMED
    assert run(*words, death=str(int(number)))[0] == -number
    assert f"Its last command was {name}" in run("status")[1]
    code, shown = run(*words)
    assert code == 0
    assert f"The previous command was {name}" in shown
    assert "while it trained cosine:0" in shown
    code, shown = run("status")
    assert "last command" not in shown
    assert not list(tmp_path.glob("sweeps/*/crash.txt"))
