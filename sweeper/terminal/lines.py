"""The live view as plain lines, for pipes, files, CI logs, and terminals that cannot move their cursor."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.terminal.frame import LEFT, left_text, speed_text
from sweeper.terminal.tally import Row, Tally
from sweeper.text.columns import duration_text, value_text
from sweeper.types import extreme

QUIET = 5.0  # seconds between two lines at least,
QUIET_SHARE = 0.01  # and this share of the elapsed time, so that the log of a long sweep stays short


def status_line(row: Row, word: str, elapsed: float) -> str:
    """Return the progress of one study in one line. `word` is the one for its value: lowest or highest."""
    parts = [f"{duration_text(elapsed):>8}  {row.name:<12} {row.fraction:4.0%}  {row.done}/{row.trials} trials"]
    if row.best is not None:
        trial = "" if row.best_trial is None else f"trial {row.best_trial}"
        about = ", ".join([*([trial] if trial else []), *(["still running"] if row.is_provisional else [])])
        parts.append(f"{word} {value_text(row.best)}{f' ({about})' if about else ''}")
    counts = {"pruned": row.pruned, "diverged": row.diverged, "failed": row.failed}
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    if row.is_over:
        parts.append("done" if row.is_done else f"{row.given_up} given up")
    else:
        parts += [f"{speed_text(row.per_minute)} trials/min"] if row.per_minute is not None else []
        parts += [f"{left_text(row.left)} left"] if row.left is not None else []
    return ", ".join(parts)


class Lines:
    """Writes the progress of studies as lines.

    A study that ends is written at once. Of those that made progress, one is written at a time, in turn and not too
    often, with the overall progress.

    Args:
        tally: The counts so far.
        write_line: Writes one line.
        goal: What the time left is for, as in `Heading`.
    """

    def __init__(self, tally: Tally, write_line: Callable[[str], None], goal: str = LEFT) -> None:
        self.tally, self.write_line, self.goal = tally, write_line, goal
        self.written_at = tally.clock()
        self.written: dict[str, tuple[float, bool]] = {}  # last (fraction, over) of each study, oldest first
        for name, row in self._rows()[0].items():
            self._remember(name, row)
            if row.done > 0:
                self._write(row)

    def update(self) -> None:
        """Write the studies that just ended, or if it is time, one that made progress."""
        over = [name for name, study in self.tally.studies.items() if study.is_over and not self._is_over(name)]
        is_due = self.tally.clock() - self.written_at >= max(QUIET, QUIET_SHARE * self.tally.elapsed_seconds())
        if not over and not is_due:
            return
        rows, total = self._rows()
        changed = [
            name
            for name in {**self.written, **rows}
            if (rows[name].fraction, rows[name].is_over) != self.written.get(name)
        ]
        for name in over or changed[:1]:
            self._remember(name, rows[name])
            self._write(rows[name], _overall_text(total, self.goal) if len(rows) > 1 else "")

    def end(self) -> None:
        """Write the total."""
        self._write(self.tally.rows()[-1])

    def _remember(self, name: str, row: Row) -> None:
        self.written.pop(name, None)  # to put it last
        self.written[name] = (row.fraction, row.is_over)
        self.written_at = self.tally.clock()

    def _write(self, row: Row, overall: str = "") -> None:
        word = extreme(self.tally.terms.direction)
        self.write_line(status_line(row, word, self.tally.elapsed_seconds()) + overall)

    def _is_over(self, name: str) -> bool:
        return self.written.get(name, (0.0, False))[1]

    def _rows(self) -> tuple[dict[str, Row], Row]:
        *rows, total = self.tally.rows()
        return dict(zip(self.tally.studies, rows, strict=True)), total


def _overall_text(total: Row, goal: str) -> str:
    if total.is_over or total.left is None:
        return ""
    return f"; all {total.fraction:.0%}, {left_text(total.left)} {goal}"
