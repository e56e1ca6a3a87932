"""The settings to use: the hyperparameters of the trial that the answer names, to be typed or called."""

from __future__ import annotations

import json
import shlex
import textwrap
from dataclasses import dataclass, replace

import numpy as np

from sweeper.results.chosen import Chosen
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import COMMON
from sweeper.schedules import family, lr_trace
from sweeper.text.columns import Line, clean, wrap
from sweeper.types import Floats, InputError, Record, Value

DIGITS = (4, 6, 9)  # significant digits that are tried, the fewest first
EQUAL = 1e-3  # of the peak: difference of two LRs below which digits are left out
INDENT = "  "


@dataclass(frozen=True)
class Settings:
    """The settings of one trial.

    Attributes:
        about: Which trial it is, and why that one.
        words: Overrides for the command line. Of a sweep that was started in Python, each number with its name.
        call: For such a sweep, what returns its LR; "" for one of the command line.
    """

    about: str
    words: tuple[str, ...]
    call: str = ""

    def render(self, width: int | None) -> list[Line]:
        """Return them as lines of at most `width` cells, by default 100. Overrides can be pasted into a shell."""
        joint = "" if self.call else " \\"
        lines = textwrap.wrap(
            "\n".join(self.words),
            (width or 100) - len(INDENT) - len(joint),
            break_on_hyphens=False,
        )
        ends = [joint] * (len(lines) - 1) + [""]
        texts = [f"{INDENT}{line}{end}" for line, end in zip(lines, ends, strict=True)]
        if self.call:
            texts.append(f"{INDENT}{self.call} returns the LR of each update.")
        return [*wrap(self.about, width), *([(text, "")] for text in texts)]


def settings_of(sweep: StoredSweep, chosen: Chosen) -> Settings:
    """Return the settings of a trial."""
    record = chosen.record
    params = _short(sweep, record)
    name = clean(chosen.name)
    about = f"Settings of {name}, {chosen.words}:"
    if "data" not in sweep.config["question"]:  # started in Python
        pairs = [clean(f"{key}={_text(value)}") for key, value in params.items()]
        return Settings(about, (*(f"{pair}," for pair in pairs[:-1]), *pairs[-1:]), f'sweep.lr("{name}")')
    keys = {key: key if "." in key else f"schedule.{record.family}.{key}" for key in params}
    overrides = [f"{keys[key]}={_text(value)}" for key, value in params.items()]
    return Settings(about, tuple(shlex.quote(clean(word)) for word in (f"schedule={record.family}", *overrides)))


def _short(sweep: StoredSweep, record: Record) -> dict[str, Value]:
    """Return the numbers that the schedule file names and all that was searched, with as few digits as they need."""
    named = sweep.config["studies"][record.study]["schedule"]
    wanted = {
        key: value
        for key, value in record.params.items()
        if key in record.searched or (key in named and isinstance(value, int | float) and not isinstance(value, bool))
    }
    params = {key: wanted[key] for key in dict.fromkeys([*COMMON, *wanted]) if key in wanted}
    exact = _lr(sweep, record)
    for digits in DIGITS:
        rounded = {key: float(f"{value:.{digits}g}") if isinstance(value, float) else value
                   for key, value in params.items()}  # fmt: skip
        lr_S = _lr(sweep, replace(record, params={**record.params, **rounded}))
        if exact is None or (lr_S is not None and np.abs(lr_S - exact).max() <= EQUAL * exact.max()):
            return rounded
    return params


def _lr(sweep: StoredSweep, record: Record) -> Floats | None:
    """Return the planned LR; None if it is reactive, or its family is unknown here."""
    try:
        of_record = family(record.family, sweep.config["studies"][record.study]["schedule"])
        if of_record.controller is not None:
            return None
        steps, epoch = sweep.horizon
        params = {name: value for name, value in record.params.items() if "." not in name}
        return lr_trace(of_record, params, steps, epoch=epoch)
    except InputError:
        return None


def _text(value: Value) -> str:
    """Return a value as an override has it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
