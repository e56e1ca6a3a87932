"""A stored sweep, read only: its trials, its families, its traces, while it runs or long after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.answer import tables
from sweeper.question import Home, find
from sweeper.types import Family

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.search.records import Record
    from sweeper.tracking.facts import Facts
    from sweeper.types import TrialId


class Sweep:
    """A sweep as it stood when it was loaded."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def name(self) -> str:
        return self.home.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """What is stored of it: the question, its studies, the trainer."""
        return self.home.read()

    @property
    def objective(self) -> Mapping[str, Any]:
        """metric, direction, at, k."""
        objective: Mapping[str, Any] = self.config["question"]["objective"]
        return objective

    @cached_property
    def records(self) -> list[Record]:
        """Every trial, as of the last committed round."""
        from sweeper.search.records import read

        return read(self.home.journal)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial; columns: `tables.trials_table`."""
        return tables.trials_table(
            self.records, direction=self.objective["direction"], target=self.target, facts=self._facts()
        )

    @cached_property
    def families(self) -> pd.DataFrame:
        """One row a study, the best first, the baselines last; columns: `tables.families_table`."""
        return tables.families_table(
            self.records,
            direction=self.objective["direction"],
            ends_high=self._ends_high,
            target=self.target,
            facts=self._facts,
        )

    @cached_property
    def target(self) -> float | None:
        """What trials are timed against: `objective.target`, else what the best tuned constant reached, so far."""
        fixed: float | None = self.config.get("target")
        return tables.target_of(self.records, self.objective["direction"]) if fixed is None else fixed

    @cached_property
    def finished(self) -> bool:
        """Whether every study has all the trials it was asked for, and none is running."""
        ended = Counter(record.study for record in self.records if record.state != "running")
        running = any(record.state == "running" for record in self.records)
        return not running and all(ended[name] >= asked["trials"] for name, asked in self.config["studies"].items())

    def trace(self, study: str, trial: int, member: int = 0) -> pd.DataFrame:
        """Everything logged of one training: one row an update; columns step, "lr/group0", "train/loss", ..."""
        from sweeper.tracking.traces import read_trace

        return read_trace(self.home.path, study, trial, member)

    def _facts(self, only: Collection[TrialId] | None = None) -> Mapping[TrialId, Facts]:
        from sweeper.tracking.facts import read

        return read(self.home.spool, only)

    def _ends_high(self, study: str, trial: int) -> bool | None:
        from sweeper.schedules import ENDS_HIGH, family, height_at_end

        record = next(record for record in self.records if (record.study, record.number) == (study, trial))
        node = self.config["studies"][study]["schedule"]
        built: Family = family(record.family, node)
        own = {name: value for name, value in record.params.items() if "." not in name}
        return height_at_end(built, own, self.config["question"]["train"]["steps"]) > ENDS_HIGH


def load(name: str | None = None, root: Path = Path("sweeps")) -> Sweep:
    """The sweep of that name or in that folder; without a name the one used last."""
    return Sweep(find(root, name))
