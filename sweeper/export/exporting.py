"""Export a trial's schedule: the trial is chosen, the file of a target is made, and written if that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.export.subject import Exported, check_steps
from sweeper.export.targets import TARGETS
from sweeper.results.chosen import Chosen, chosen
from sweeper.types import InputError, did_you_mean

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        text: What is in it.
        chosen: The trial, and why it was taken.
    """

    text: str
    chosen: Chosen


def export(sweep: StoredSweep, to: str, trial: str | None = None, steps: int | None = None) -> Export:
    """Return the schedule of a trial in the form of a target.

    Args:
        sweep: The sweep.
        to: A key of `TARGETS`.
        trial: Such as "cosine:17". None for the verdict's winner, else the confirmation's leader, else the search's
            best.
        steps: Updates of the run, by default those of the sweep. Warmup and cycles keep their fractions.

    Raises:
        InputError: If there is no such target or trial, or the target cannot express its schedule.
    """
    if to not in TARGETS:
        raise InputError("to", to, "no such target", did_you_mean(to, TARGETS))
    exported = Exported(sweep, chosen(sweep, trial), check_steps(steps, sweep.horizon[0]))
    return Export(TARGETS[to](exported), exported.chosen)


def check_out(out: str | Path | None) -> Path | None:
    """Return the file to write.

    Raises:
        InputError: If it cannot be one.
    """
    if out is None:
        return None
    path = Path(out)
    if path.is_dir():
        raise InputError("out", out, "a folder", f"Name a file in it, such as {path / 'schedule.py'}")
    if not path.parent.is_dir():
        raise InputError("out", out, f"there is no folder {path.parent}", "Make it first")
    return path
