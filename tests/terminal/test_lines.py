"""Plain lines: what a log says, how often, and that nothing but text is in it."""

import io
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from sweeper import terminal
from sweeper.types import Ending, Job, JobId, Progress, Report, TrialId

ESCAPE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says what a test wants it to say."""

    def __init__(self, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self.tty, self.named = tty, encoding

    def isatty(self) -> bool:
        return self.tty

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only in StringIO too
        return self.named


def jobs(study: str, trial: int, reports: int = 10, members: int = 1, family: str | None = None) -> list[Job]:
    steps = tuple(10 * (i + 1) for i in range(reports))
    return [Job(JobId(study, trial, m), family or study, {}, 0, np.ones(steps[-1]), steps) for m in range(members)]


def report(id: JobId, step: int) -> Report:
    return Report(id, step, {}, {}, 0.0)


@dataclass
class Sweep:
    """Drives a view as the loop does: each round takes `seconds`, reports arriving evenly or all at the end."""

    view: terminal.TerminalView
    clock: Clock
    open: dict[TrialId, list[Job]] = field(default_factory=dict)
    made: dict[TrialId, int] = field(default_factory=dict)

    def start(self, new: list[Job]) -> None:
        self.view.open(new)
        self.open[new[0].id.of], self.made[new[0].id.of] = new, 0

    def round(self, seconds: float, burst: bool = False) -> None:
        ids = [job.id for of_trial in self.open.values() for job in of_trial]
        self.clock.now += seconds if burst else 0
        reports = []
        for id in ids:
            self.clock.now += 0 if burst else seconds / len(ids)
            reports.append(report(id, 10 * (self.made[id.of] + 1)))
            self.view.arrived(reports[-1])
        for trial in self.open:
            self.made[trial] += 1
        self.view.append(reports)

    def end(self, trial: TrialId, state: str, value: float | None = None) -> None:
        del self.open[trial]
        self.view.close(Ending(trial, state, 0, value))


HEADING = terminal.Heading("t", "valid/loss", "minimize")


def tally(progress, clock=time.monotonic):
    return terminal.Tally(progress, terminal.Terms(10, "minimize"), clock=clock)


def plain_sweep(out, clock, rounds=10, seconds=1.0, **options):
    progress = [Progress("cosine", "cosine", 1, {}), Progress("step", "step", 3, {"complete": 2}, 0.5, 1)]
    with terminal.view(tally(progress, clock), HEADING, out=out, **options) as shown:
        sweep = Sweep(shown, clock)
        sweep.start(jobs("cosine", 0))
        sweep.start(jobs("step", 2))
        for _ in range(rounds):
            sweep.round(seconds)
        sweep.end(TrialId("cosine", 0), "complete", 1.5)
        shown.note("a \x1b[31mnote\x1b[0m →")
        sweep.end(TrialId("step", 2), "diverged")
    return out.getvalue().splitlines()


def test_plain_lines_say_each_study_in_turn_every_few_seconds_and_at_its_end():
    lines = plain_sweep(Terminal(), Clock())
    assert lines[0] == "t: valid/loss, lower is better"
    assert re.match(r" +0:00  step +67%  2/3 trials, lowest 0.5000 \(trial 1\)$", lines[1])
    assert [line.split()[1] for line in lines[2:4]] == ["cosine", "step"]
    assert "left" in lines[2]
    assert "trials/min" in lines[2]
    assert re.search(r"; all \d+%, 0:\d\d left$", lines[2])
    assert re.match(
        r" +0:10  cosine +100%  1/1 trials, lowest 1.5000 \(trial 0\), done; all 100%, 0:00 left$", lines[4]
    )
    assert lines[5] == "a note →"
    assert re.match(r" +0:10  step +100%  3/3 trials, lowest 0.5000 \(trial 1\), 1 diverged, done$", lines[6])
    assert re.match(r" +0:10  all +100%  4/4 trials, lowest 0.5000, 1 diverged, done$", lines[7])
    assert len(lines) == 8


def test_plain_lines_come_within_a_long_round():
    clock, out = Clock(), Terminal()
    with terminal.view(tally([Progress("cosine", "cosine", 9, {})], clock), HEADING, out=out) as shown:
        for number in range(3):
            shown.open(jobs("cosine", number))
        clock.now += 30
        shown.arrived(report(JobId("cosine", 0, 0), 10))
        assert "cosine" in out.getvalue()


def test_a_long_log_stays_readable():
    lines = plain_sweep(Terminal(), Clock(), rounds=10, seconds=8640)  # a day
    assert len(lines) < 40


@pytest.mark.parametrize(
    ("out", "term", "plain"),
    [(Terminal(), "xterm", None), (Terminal(tty=True), "dumb", None), (Terminal(tty=True), "xterm", True)],
)
def test_plain_lines_have_no_control_characters(out, term, plain, monkeypatch):
    monkeypatch.setenv("TERM", term)
    assert not any(ESCAPE.search(line) for line in plain_sweep(out, Clock(), plain=plain))


def test_an_encoding_without_our_characters_gets_ascii():
    out = Terminal(encoding="ascii")
    assert "a note ?" in plain_sweep(out, Clock())
    assert out.getvalue().isascii()


def test_a_stream_that_is_gone_ends_no_sweep():
    out = Terminal()
    with terminal.view(tally([Progress("a", "a", 1, {})], Clock()), HEADING, out=out) as shown:
        out.close()
        shown.note("nobody hears")


def test_an_error_inside_goes_through():
    with (
        pytest.raises(KeyboardInterrupt),
        terminal.view(tally([]), HEADING, out=Terminal()),
    ):
        raise KeyboardInterrupt


def test_importing_it_is_light():
    code = "import sys, sweeper.terminal; print([m for m in ('rich', 'pandas', 'torch', 'optuna') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
