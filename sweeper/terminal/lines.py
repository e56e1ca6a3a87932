"""A sweep in plain lines: for pipes, files, CI logs, and terminals that cannot move their cursor."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.terminal.frame import speed_text
from sweeper.terminal.tally import Row, Tally
from sweeper.text.columns import duration_text, value_text

QUIET = 5.0  # seconds between two plain lines at the start of a sweep,
QUIET_SHARE = 0.01  # and this share of the time it has run later on: a log of a day stays readable


def status_line(row: Row, elapsed: float) -> str:
    """One study in one plain line."""
    parts = [f"{duration_text(elapsed):>8}  {row.name:<12} {row.fraction:4.0%}  {row.done}/{row.trials} trials"]
    if row.best is not None:
        trial = "" if row.best_trial is None else f" (trial {row.best_trial})"
        parts.append(f"best {value_text(row.best)}{trial}")
    counts = {"pruned": row.pruned, "diverged": row.diverged, "failed": row.failed}
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    if row.is_finished:
        parts.append("done")
    else:
        parts += [f"{speed_text(row.per_minute)} trials/min"] if row.per_minute is not None else []
        parts += [f"{duration_text(row.left)} left"] if row.left is not None else []
    return ", ".join(parts)


class Lines:
    """A study that is done, at once; of those that moved, one at a time and not too often, and how far all are."""

    def __init__(self, tally: Tally, write_line: Callable[[str], None]) -> None:
        self.tally, self.write_line = tally, write_line
        self.written_at = tally.clock()
        self.written: dict[str, tuple[float, bool]] = {}  # (fraction, finished) of each study, in the order of saying
        for name, row in self._rows()[0].items():
            self._write(name, row, is_written=row.done > 0)

    def update(self) -> None:
        over = [name for name, study in self.tally.studies.items() if study.is_over and not self._is_finished(name)]
        due = self.tally.clock() - self.written_at >= max(QUIET, QUIET_SHARE * self.tally.elapsed_seconds())
        if not over and not due:
            return
        rows, everything = self._rows()
        waiting = [
            name
            for name in {**self.written, **rows}
            if (rows[name].fraction, rows[name].is_finished) != self.written.get(name)
        ]
        for name in over or waiting[:1]:
            self._write(name, rows[name], _overall_text(everything) if len(rows) > 1 else "")

    def end(self) -> None:
        self.write_line(status_line(self.tally.rows()[-1], self.tally.elapsed_seconds()))

    def _write(self, name: str, row: Row, overall: str = "", is_written: bool = True) -> None:
        self.written.pop(name, None)
        self.written[name] = (row.fraction, row.is_finished)
        self.written_at = self.tally.clock()
        if is_written:
            self.write_line(status_line(row, self.tally.elapsed_seconds()) + overall)

    def _is_finished(self, name: str) -> bool:
        return self.written.get(name, (0.0, False))[1]

    def _rows(self) -> tuple[dict[str, Row], Row]:
        *rows, everything = self.tally.rows()
        return dict(zip(self.tally.studies, rows, strict=True)), everything


def _overall_text(everything: Row) -> str:
    if everything.is_finished or everything.left is None:
        return ""
    return f"; all {everything.fraction:.0%}, {duration_text(everything.left)} left"
