"""What a person sees while a sweep runs: a live table on a terminal, plain lines anywhere else.

A `Tally` counts what happens and estimates how long it will take; `view` shows it.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from sweeper.columns import (
    Column,
    Line,
    assembled,
    clean,
    console,
    duration_text,
    has_unicode,
    is_plain,
    lay_out,
    plain_text,
    put_line,
    shortened,
    total_width,
    value_text,
    width_of,
)
from sweeper.types import Direction, Ending, Job, JobId, Progress, Report, State

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Clock = Callable[[], float]

REFRESHES = 4  # of the live table, a second
QUIET = 5.0  # seconds between two plain lines at the start of a sweep,
QUIET_SHARE = 0.01  # and this share of the time it has run later on: a log of a day stays readable
WINDOW = 120.0  # seconds over which the pace is measured, longer where a round takes longer
SPACING = 1.0  # seconds between two marks of the pace
BAR = (6, 30)  # cells, least and most

# --- how fast, and how long yet ---------------------------------------------------------------------


class Pace:
    """Reports a second, all and of each study, over the last two minutes or one round, whichever is longer.

    Reports may come one by one or a round at a time, so the pace is taken between marks: from the oldest mark in
    the window to the last report, never to now.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.marks: deque[tuple[float, Counter[str]]] = deque([(clock(), Counter())])

    def tick(self, study: str) -> None:
        now = self.clock()
        self.counts[study] += 1
        if now - self.marks[-1][0] >= SPACING:
            self.marks.append((now, self.counts.copy()))
        else:
            self.marks[-1] = (self.marks[-1][0], self.counts.copy())
        while len(self.marks) > 2 and self.marks[1][0] <= now - WINDOW:
            self.marks.popleft()

    def rate(self, study: str | None = None) -> float:
        """Reports a second, of one study or all; 0 until there is data."""
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        if end <= start:
            return 0.0
        return (after[study] - before[study] if study else after.total() - before.total()) / (end - start)

    def waited(self) -> float:
        """Seconds since the last report."""
        return self.clock() - self.marks[-1][0]


def expected_reports(passed: Mapping[int, int], stopped: Mapping[int, int], reports: int) -> list[float]:
    """E[p], p = 0 .. reports: how many more reports a trial makes that has made p and goes on.

    passed[p]: trials that were seen with p reports; stopped[p]: those of them that were ended there, pruned,
    diverged or failed. The product-limit estimator (Kaplan and Meier 1958): trials still open count up to where
    they are, so the first ones to be stopped do not make all look short. Nothing known: all go on to the end.
    """
    more = [0.0] * (reports + 1)
    for made in reversed(range(reports)):
        seen = passed.get(made + 1, 0)
        goes_on = 1 - stopped.get(made + 1, 0) / seen if seen else 1.0
        more[made] = 1 + goes_on * more[made + 1]
    return more


def remaining_times(work_K: Sequence[float], share_K: Sequence[float], rate: float) -> list[float]:
    """Seconds until each study is done, its work counted in reports, `rate` reports a second in all.

    All advance side by side, in proportion to their share; a study that is done leaves its part to the others.
    """
    seconds_K = [0.0] * len(work_K)
    now, turns_done, weight = 0.0, 0.0, sum(share_K)
    for k in sorted(range(len(work_K)), key=lambda k: work_K[k] / share_K[k]):
        turns = work_K[k] / share_K[k]
        now += (turns - turns_done) * weight / rate
        seconds_K[k], turns_done, weight = now, turns, weight - share_K[k]
    return seconds_K


@dataclass
class _Study:
    """One study as the tally knows it. open: reports that each member of each open trial has made."""

    label: str
    trials: int
    counts: Counter[State]
    best: float | None = None
    best_trial: int | None = None
    open: dict[int, dict[JobId, int]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Trials that count: a failed one is tried again."""
        return self.counts["complete"] + self.counts["pruned"] + self.counts["diverged"]

    @property
    def over(self) -> bool:
        return self.done >= self.trials and not self.open


@dataclass(frozen=True)
class Row:
    """What is shown of one study, or of all. fraction: of its trials, open ones counted in part;
    per_minute: trials a minute; left: seconds. None where nothing is known yet.
    """  # fmt: skip

    name: str
    done: int
    trials: int
    fraction: float
    open: int
    best: float | None
    best_trial: int | None
    pruned: int
    diverged: int
    failed: int
    per_minute: float | None
    left: float | None

    @property
    def finished(self) -> bool:
        return self.done >= self.trials and not self.open


class Tally:
    """Counts of every study from what a View is told; `rows()` is the state of things now."""

    def __init__(
        self,
        progress: Sequence[Progress],
        *,
        reports: int,
        direction: Direction,
        clock: Clock = time.monotonic,
    ) -> None:
        self.reports, self.direction, self.clock = reports, direction, clock
        self.members = 1
        self.studies = {study.study: _begun(study, progress) for study in progress}
        self.steps: dict[JobId, tuple[int, ...]] = {}
        self.passed: Counter[int] = Counter()
        self.stopped: Counter[int] = Counter()
        self.began = clock()
        self.pace = Pace(clock)

    def open(self, jobs: Sequence[Job]) -> None:
        if not self.steps and not self.pace.counts:
            self.pace = Pace(self.clock)  # what came before the first trial is no training
        id = jobs[0].id
        self.members, self.reports = len(jobs), len(jobs[0].report_steps)
        if id.study not in self.studies:
            self.studies[id.study] = _Study(jobs[0].family, 0, Counter())
        study = self.studies[id.study]
        study.open[id.trial] = {job.id: 0 for job in jobs}
        study.trials = max(study.trials, study.done + len(study.open))
        self.steps.update({job.id: job.report_steps for job in jobs})

    def arrived(self, report: Report) -> None:
        steps = self.steps.get(report.id)
        if steps is None:
            return
        made = min(bisect_left(steps, report.step) + 1, len(steps))
        self.studies[report.id.study].open[report.id.trial][report.id] = made
        self.pace.tick(report.id.study)

    def append(self, reports: Sequence[Report]) -> None:
        for trial in {report.id.of for report in reports}:
            study = self.studies.get(trial.study)
            members = study.open.get(trial.trial) if study else None
            if members:
                self.passed[max(members.values())] += 1

    def close(self, ending: Ending) -> None:
        study = self.studies.get(ending.trial.study)
        members = study.open.pop(ending.trial.trial, None) if study else None
        if study is None or members is None:
            return
        study.counts[ending.state] += 1
        if ending.state != "complete":
            self.stopped[max(members.values())] += 1
        elif self._better(ending.value, study.best):
            study.best, study.best_trial = ending.value, ending.trial.trial
        for id in members:
            self.steps.pop(id, None)

    def elapsed(self) -> float:
        """Seconds since this command began."""
        return self.clock() - self.began

    def rows(self) -> list[Row]:
        """One row a study, and last the row of all."""
        studies = list(self.studies.items())
        more = expected_reports(self.passed, self.stopped, self.reports)
        left = self._left([study for _, study in studies], more)
        a_trial = more[0] * self.members
        rows = [
            _row(study, self.reports, _known(self.pace.rate(name) * 60 / a_trial), seconds)
            for (name, study), seconds in zip(studies, left, strict=True)
        ]
        return [*rows, self._all(rows)]

    def _left(self, studies: Sequence[_Study], more: Sequence[float]) -> list[float | None]:
        rate = self.pace.rate()
        if not rate:
            return [0.0 if study.over else None for study in studies]
        work_K = []
        for study in studies:
            begun = sum(more[min(made, len(more) - 1)] for trial in study.open.values() for made in trial.values())
            to_come = max(0, study.trials - study.done - len(study.open))
            work_K.append(begun + to_come * more[0] * self.members)
        share_K = [max(1, len(study.open)) for study in studies]
        waited = self.pace.waited()
        return [max(0.0, seconds - waited) for seconds in remaining_times(work_K, share_K, rate)]

    def _all(self, rows: Sequence[Row]) -> Row:
        trials = sum(row.trials for row in rows)
        best = None
        for row in rows:
            best = row.best if self._better(row.best, best) else best
        speeds = [row.per_minute for row in rows if row.per_minute is not None]
        times = [row.left for row in rows if row.left is not None]
        return Row(
            name="all",
            done=sum(row.done for row in rows),
            trials=trials,
            fraction=sum(row.fraction * row.trials for row in rows) / trials if trials else 0.0,
            open=sum(row.open for row in rows),
            best=best,
            best_trial=None,
            pruned=sum(row.pruned for row in rows),
            diverged=sum(row.diverged for row in rows),
            failed=sum(row.failed for row in rows),
            per_minute=sum(speeds) if speeds else None,
            left=max(times) if times and len(times) == len(rows) else None,
        )

    def _better(self, value: float | None, than: float | None) -> bool:
        if value is None or not math.isfinite(value):
            return False
        return than is None or (value < than if self.direction == "minimize" else value > than)


def _begun(study: Progress, all_studies: Sequence[Progress]) -> _Study:
    """A study as it stood when this command began. Two studies of one family are told apart by their names."""
    alone = sum(other.family == study.family for other in all_studies) == 1
    best = study.best if study.best is not None and math.isfinite(study.best) else None
    return _Study(
        label=clean(study.family if alone else study.study),
        trials=study.trials,
        counts=Counter(study.counts),
        best=best,
        best_trial=None if best is None else study.best_trial,
    )


def _row(study: _Study, reports: int, per_minute: float | None, left: float | None) -> Row:
    open_parts = sum(sum(made.values()) / (len(made) * max(reports, 1)) for made in study.open.values())
    return Row(
        name=study.label,
        done=study.done,
        trials=study.trials,
        fraction=min(1.0, (study.done + open_parts) / study.trials) if study.trials else 1.0,
        open=len(study.open),
        best=study.best,
        best_trial=study.best_trial,
        pruned=study.counts["pruned"],
        diverged=study.counts["diverged"],
        failed=study.counts["failed"],
        per_minute=None if study.over else per_minute,
        left=0.0 if study.over else left,
    )


def _known(rate: float) -> float | None:
    return rate if rate > 0 else None


# --- the live table ---------------------------------------------------------------------------------


def frame(
    rows: Sequence[Row],
    *,
    title: str,
    metric: str,
    direction: Direction,
    elapsed: float,
    width: int,
    height: int | None = None,
    unicode: bool = True,
) -> list[Line]:
    """The live table: a title, one line a study, the line of all (the last of `rows`), within width and height.

    Where not all lines fit, studies that are done are left out first, then the last ones.
    """
    sense = "lower" if direction == "minimize" else "higher"
    head = shortened(f"{clean(title)}  {duration_text(elapsed)}  {metric}, {sense} is better", width, unicode)
    *studies, everything = rows
    shown = _fitting(studies, math.inf if height is None else max(1, height - 4))
    hidden = len(studies) - len(shown)
    columns = _columns([*shown, everything], width)
    room = width - total_width(columns) - 2
    if room >= BAR[0]:
        cells = [bar(row.fraction, min(room, BAR[1]), unicode) for row in [*shown, everything]]
        columns.insert(1, Column("", cells, keep=1, right=False))
    styles = {number: _style(row, everything) for number, row in enumerate(shown)} | {len(shown): "bold"}
    lines = lay_out(columns, width, styles=styles, unicode=unicode)
    if hidden:
        text = f"{hidden} more {'study' if hidden == 1 else 'studies'}: the window is not high enough"
        lines.insert(-1, [(shortened(text, width, unicode), "dim")])
    return [[(head, "bold")], *lines]


def _fitting(studies: Sequence[Row], lines: float) -> list[Row]:
    if len(studies) <= lines:
        return list(studies)
    first = sorted(range(len(studies)), key=lambda k: (studies[k].finished, k))[: int(lines)]
    return [studies[k] for k in sorted(first)]


def _style(row: Row, everything: Row) -> str:
    if row.best is not None and row.best == everything.best:
        return "green"
    return "dim" if row.finished else ""


def _columns(rows: Sequence[Row], width: int) -> list[Column]:
    wide = width >= 100
    columns = [
        Column("family", [row.name for row in rows], 100, right=False, least=10),
        Column("trials", [f"{row.done}/{row.trials}" for row in rows], 90),
        Column("best", [value_text(row.best) for row in rows], 80),
        Column("trial" if wide else "#", [_or_dash(row.best_trial) for row in rows], 40),
        Column("pruned" if wide else "prun", [str(row.pruned) for row in rows], 50),
        Column("diverged" if wide else "div", [str(row.diverged) for row in rows], 60),
    ]
    if rows[-1].failed:
        columns.append(Column("failed" if wide else "fail", [str(row.failed) for row in rows], 65))
    return [
        *columns,
        Column("trials/min" if wide else "/min", [_speed(row.per_minute) for row in rows], 30),
        Column("left", ["done" if row.finished else duration_text(row.left) for row in rows], 70),
    ]


def bar(fraction: float, width: int, unicode: bool = True) -> str:
    """A bar of `width` cells, in steps of half a cell where the encoding has one; full at 1 alone."""
    full, half, empty = ("━", "╸", "─") if unicode else ("#", "", ".")
    halves = math.floor(2 * width * min(max(fraction, 0.0), 1.0))
    done = full * (halves // 2) + half * (halves % 2)
    return done + empty * (width - len(done))


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _speed(per_minute: float | None) -> str:
    return "-" if per_minute is None else f"{per_minute:.3g}" if per_minute < 1000 else f"{per_minute:.0f}"


class _LiveTable:
    """The frame in rich's Live, redrawn by Live's thread; `lock` is held while the tally changes."""

    def __init__(self, draw: Callable[[int, int | None], list[Line]], console: Console, lock: threading.Lock) -> None:
        from rich.live import Live

        self.draw, self.console, self.lock = draw, console, lock
        self.drawn: list[int] = []
        self.leaving = False
        self.live = Live(
            console=console,
            get_renderable=self._renderable,
            refresh_per_second=REFRESHES,
            # What is printed by others goes above the table, unless it goes elsewhere than to the terminal.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def start(self) -> None:
        self.drawn = []  # Live asked once when it was made, and drew nothing
        self.live.start(refresh=True)

    def stop(self) -> None:
        self.leaving = True  # the last frame stays, with all its lines
        with suppress(OSError, ValueError):
            self.live.stop()

    def note(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.live.refresh()
            self.console.print(clean(text), soft_wrap=True)

    def _renderable(self) -> Text:
        width, height = self.console.size
        with self.lock:
            lines = self.draw(width - 1, None if self.leaving else height - 1)
        self._settle(width)
        self.drawn = [width_of(plain_text(line)) for line in lines]
        return assembled(lines)

    def _settle(self, width: int) -> None:
        """Go to where Live believes to be after the window got narrower and the terminal wrapped the old frame."""
        from rich.control import Control
        from rich.segment import ControlType

        rows = sum(max(1, math.ceil(cells / width)) for cells in self.drawn)
        if rows > len(self.drawn):
            up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * (rows - 1)
            down = [(ControlType.CURSOR_DOWN, len(self.drawn) - 1)] if len(self.drawn) > 1 else []
            self.console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up, *down))


# --- plain lines ------------------------------------------------------------------------------------


def status_line(row: Row, elapsed: float) -> str:
    """One study in one plain line."""
    parts = [f"{duration_text(elapsed):>8}  {row.name:<12} {row.fraction:4.0%}  {row.done}/{row.trials} trials"]
    if row.best is not None:
        trial = "" if row.best_trial is None else f" (trial {row.best_trial})"
        parts.append(f"best {value_text(row.best)}{trial}")
    counts = {"pruned": row.pruned, "diverged": row.diverged, "failed": row.failed}
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    if row.finished:
        parts.append("done")
    else:
        parts += [f"{_speed(row.per_minute)} trials/min"] if row.per_minute is not None else []
        parts += [f"{duration_text(row.left)} left"] if row.left is not None else []
    return ", ".join(parts)


class _Lines:
    """Plain lines: a study that is done, at once; of those that moved, one at a time and not too often."""

    def __init__(self, tally: Tally, say: Callable[[str], None]) -> None:
        self.tally, self.say = tally, say
        self.said_at = tally.clock()
        self.said: dict[str, tuple[float, bool]] = {}  # (fraction, finished) of each study, in the order of saying
        for name, row in self._rows().items():
            self._say(name, row, aloud=row.done > 0)

    def moved(self) -> None:
        over = [name for name, study in self.tally.studies.items() if study.over and not self._finished(name)]
        due = self.tally.clock() - self.said_at >= max(QUIET, QUIET_SHARE * self.tally.elapsed())
        if not over and not due:
            return
        rows = self._rows()
        waiting = [
            name for name in {**self.said, **rows} if (rows[name].fraction, rows[name].finished) != self.said.get(name)
        ]
        for name in over or waiting[:1]:
            self._say(name, rows[name])

    def end(self) -> None:
        self.say(status_line(self.tally.rows()[-1], self.tally.elapsed()))

    def _say(self, name: str, row: Row, aloud: bool = True) -> None:
        self.said.pop(name, None)
        self.said[name] = (row.fraction, row.finished)
        self.said_at = self.tally.clock()
        if aloud:
            self.say(status_line(row, self.tally.elapsed()))

    def _finished(self, name: str) -> bool:
        return self.said.get(name, (0.0, False))[1]

    def _rows(self) -> dict[str, Row]:
        return dict(zip(self.tally.studies, self.tally.rows(), strict=False))  # without the row of all


# --- the view ---------------------------------------------------------------------------------------


class TerminalView:
    """The View of a terminal or a log: it counts, under the lock of whoever draws, and says that things moved."""

    def __init__(
        self, tally: Tally, lock: threading.Lock, moved: Callable[[], None], note: Callable[[str], None]
    ) -> None:
        self.tally, self._lock, self._moved, self._note = tally, lock, moved, note

    def open(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self.tally.open(jobs)

    def arrived(self, report: Report) -> None:
        with self._lock:
            self.tally.arrived(report)
        self._moved()

    def append(self, reports: Sequence[Report]) -> None:
        with self._lock:
            self.tally.append(reports)

    def close(self, ending: Ending) -> None:
        with self._lock:
            self.tally.close(ending)
        self._moved()

    def commit(self, round: int) -> None:
        """Nothing: what is shown does not wait for the journal."""

    def note(self, text: str) -> None:
        """Print a message: above the live table, or as lines of its own."""
        self._note(text)


@contextmanager
def view(
    progress: Sequence[Progress],
    *,
    title: str,
    reports: int,
    direction: Direction,
    metric: str,
    out: TextIO | None = None,
    plain: bool | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[TerminalView]:
    """Show a sweep on `out` (default: stderr) until the block is left; what is shown last stays.

    progress: what was done before, so that a continued sweep begins at 12/20. reports: of a whole trial.
    plain: lines without control characters; by default wherever the stream is no terminal or TERM is dumb.
    NO_COLOR is respected, the window may be resized, messages go through `note`.
    """
    out = sys.stderr if out is None else out
    tally = Tally(progress, reports=reports, direction=direction, clock=clock)
    lock = threading.Lock()
    if is_plain(out) if plain is None else plain:
        stream = out

        def say(text: str) -> None:
            put_line(stream, text)

        say(f"{title}: {metric}, {'lower' if direction == 'minimize' else 'higher'} is better")
        lines = _Lines(tally, say)
        try:
            yield TerminalView(tally, lock, lines.moved, say)
        finally:
            lines.end()
        return

    unicode = has_unicode(out)

    def draw(width: int, height: int | None) -> list[Line]:
        return frame(
            tally.rows(),
            title=title,
            metric=metric,
            direction=direction,
            elapsed=tally.elapsed(),
            width=width,
            height=height,
            unicode=unicode,
        )

    table = _LiveTable(draw, console(out), lock)
    table.start()
    try:
        yield TerminalView(tally, lock, lambda: None, table.note)
    finally:
        table.stop()
