"""A stored sweep, read only: its trials, its families, its traces, while it runs or long after."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sweeper.results import tables
from sweeper.schedules import ENDS_HIGH, family, height_at_end, height_of, lr_trace
from sweeper.spec.question import Home, ObjectiveQuestion, StoredConfig, find, homes, seeds_and_folds
from sweeper.text.columns import value_text
from sweeper.tracking.facts import Facts, read_facts
from sweeper.tracking.mlflow.destination import resolve
from sweeper.tracking.traces import read_trace
from sweeper.training.kept import read_weights
from sweeper.types import Family, Floats, InputError, Value

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from sweeper.search.records import JournalReader
    from sweeper.types import Record, TrialId

Which = Any  # a trial: "cosine:17", (study, 17), or a row of .trials; or study, 17 as two arguments
ROOT = Path("sweeps")


class StoredSweep:
    """A sweep as it stood when it was loaded, or at the last `refresh`.

    Methods that take a trial take "cosine:17" (family or study, and number), a row of `trials` or `best`, (study, 17),
    or study and number as two arguments. Raises InputError for a trial that is not there.
    """

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def name(self) -> str:
        return self.home.name

    @cached_property
    def config(self) -> StoredConfig:
        """What is stored of it: the question, its studies, the trainer."""
        return self.home.read()

    @property
    def objective(self) -> ObjectiveQuestion:
        """metric, direction, at, k."""
        return self.config["question"]["objective"]

    @property
    def asked(self) -> tables.Asked:
        """What is asked, for the words about the table."""
        seeds, folds = seeds_and_folds(self.config["question"])
        objective = self.objective
        return tables.Asked(objective["metric"], objective["direction"], objective["at"], seeds, folds)

    @property
    def records(self) -> list[Record]:
        """Every trial, as of the last committed round."""
        return self._read[0]

    @cached_property
    def _reading(self) -> JournalReader:
        """The journal as of one moment."""
        from sweeper.search.records import JournalReader

        return JournalReader(self.home.journal)

    @cached_property
    def _read(self) -> tuple[list[Record], dict[str, int]]:
        """The trials, and how many of each study count."""
        return self._reading.records(), self._reading.trial_counts()

    @cached_property
    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """Of each study, the share of each searched number in what separates better trials from others; {}: too few."""
        return self._reading.importances()

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
            target=self.target,
            details=tables.Details(self._ends_high, self._facts, self.importances),
        )

    @cached_property
    def target(self) -> float | None:
        """What trials are timed against: `objective.target`, else what the best tuned constant reached, so far."""
        fixed: float | None = self.config.get("target")
        return tables.target_of(self.records, self.objective["direction"]) if fixed is None else fixed

    @property
    def best(self) -> pd.Series[Any]:
        """The best trial's row of `trials`. Raises InputError while no trial is complete."""
        ranked = self.families[self.families["rank"] == 1]
        if ranked.empty:
            raise InputError("sweep", self.name, "no trial is complete, so there is no best one", "Let it train on")
        first = ranked.iloc[0]
        is_it = (self.trials["study"] == first["study"]) & (self.trials["trial"] == first["best_trial"])
        row: pd.Series[Any] = self.trials[is_it].iloc[0]
        return row

    @cached_property
    def finished(self) -> bool:
        """Whether every study has all the trials it was asked for, and none is running."""
        records, begun = self._read
        asked = self.config["studies"]
        running = any(record.state == "running" and not record.prior_of for record in records)
        least = {name: min(study["trials"], self.stopped.get(name, study["trials"])) for name, study in asked.items()}
        return not running and all(begun.get(name, 0) >= trials for name, trials in least.items())

    @cached_property
    def stopped(self) -> Mapping[str, int]:
        """Of each study that got no better (`search.stop`), after how many trials it ended."""
        return self._reading.trials_at_stop()

    def refresh(self) -> Self:
        """Read it again, as far as it is now; the same object."""
        self.__dict__ = {"home": self.home}
        return self

    # --- one trial --------------------------------------------------------------------------------------

    def trace(self, trial: Which, number: int | None = None, member: int = 0) -> pd.DataFrame:
        """Everything logged of one training: one row an update; columns step, "lr/group0", "train/loss", ..."""
        study, of_study = self.record(trial, number).trained_as
        return read_trace(self.home.path, study, of_study, member)

    def lr(self, trial: Which, number: int | None = None, *, steps: int | None = None) -> Floats:
        """The planned LR of every update, also of a trial that was stopped, float64 [steps].

        steps: of a run of another length, its fractions kept; None: of the sweep's. Of a reactive schedule, which plans
        nothing, it is the LR of the updates that were trained.
        """
        record = self.record(trial, number)
        own_steps, epoch = self._horizon
        if self._family(record).controller is not None:
            return self._used_lr(record, own_steps if steps is None else steps)
        return lr_trace(self._family(record), _own(record), own_steps if steps is None else steps, epoch=epoch)

    def _used_lr(self, record: Record, steps: int) -> Floats:
        """The LR of a reactive schedule as far as it was trained, of a run of that many updates."""
        shown = f"{record.family}:{record.number}"
        if steps != self._horizon[0]:
            raise InputError("steps", steps, f"{shown} reacts, so that its LR was that of one training", "Leave it out")
        try:
            lr_S: Floats = self.trace(record.study, record.number)["lr/group0"].to_numpy(np.float64)
        except KeyError:
            told = "a reactive schedule that has not reported yet, so its LR is not known"
            raise InputError("trial", shown, told, "Wait for its first report") from None
        return lr_S

    def params(self, trial: Which, number: int | None = None) -> dict[str, Value]:
        """The numbers of its schedule, searched and fixed, as `sweeper.lr_trace` takes them."""
        return _own(self.record(trial, number))

    def weights(self, trial: Which, number: int | None = None, member: int = 0) -> dict[str, Tensor]:
        """The final state of its model, where it was kept (`keep.best`). Raises InputError where it was not."""
        record = self.record(trial, number)
        try:
            return read_weights(self.home.weights, *record.trained_as, member)
        except FileNotFoundError:
            name = f"{record.family}:{record.number}"
            remedy = f"Train it again: python -m sweeper rerun {self.name} --trial {name} --weights FILE"
            raise InputError("trial", name, "its weights were not kept", remedy) from None

    def record(self, trial: Which, number: int | None = None) -> Record:
        """All that the journal has of it."""
        id = self._id(trial, number)
        return next(record for record in self.records if (record.study, record.number) == id)

    def _id(self, trial: Which, number: int | None) -> tuple[str, int]:
        """Study and number of a trial there is."""
        name, of_name = _parts(trial, number)
        found = [r for r in self.records if r.number == of_name and name in (r.study, r.family)]
        shown = f"{name}:{of_name}"
        if len(found) == 1:
            return found[0].study, found[0].number
        if found:
            raise InputError(
                "trial", shown, "several studies of this family have it", f"Say which: {_list(r.study for r in found)}"
            )
        known = sorted({r.family for r in self.records})
        numbers = [r.number for r in self.records if name in (r.study, r.family)]
        remedy = f"Its trials are 0 to {max(numbers)}" if numbers else f"There are: {_list(known) or 'none yet'}"
        raise InputError("trial", shown, "no such trial in this sweep", remedy)

    @property
    def _horizon(self) -> tuple[int, float | None]:
        """Updates of a trial; updates of an epoch through which an LR is held, None where it is not."""
        question = self.config["question"]
        return question["train"]["steps"], question.get("epoch_steps")

    def _family(self, record: Record) -> Family:
        return family(record.family, self.config["studies"][record.study]["schedule"])

    def _facts(self, only: Collection[TrialId] | None = None) -> Mapping[TrialId, Facts]:
        return read_facts(self.home.spool, only)

    def _ends_high(self, study: str, trial: int) -> bool | None:
        record, (steps, epoch) = self.record(study, trial), self._horizon
        try:
            family = self._family(record)
            if family.controller is not None:
                return height_of(self._used_lr(record, steps)) > ENDS_HIGH
            return height_at_end(family, _own(record), steps, epoch=epoch) > ENDS_HIGH
        except InputError:  # a factor of a notebook's or a script's own, which another process does not have
            return None

    def __repr__(self) -> str:
        try:
            families, trials = len({r.family for r in self.records}), len(self.records)
            state = "finished" if self.finished else "not finished"
            best = self.best if self.families["rank"].notna().any() else None
        except (OSError, KeyError):
            return f"<{type(self).__name__} {self.name}, which cannot be read, in {self.home.path}>"
        won = "" if best is None else f", best {best['family']}:{best['trial']} {value_text(best['value'])}"
        return f"<{type(self).__name__} {self.name}: {families} families, {trials} trials, {state}{won}>"


def _own(record: Record) -> dict[str, Value]:
    """The schedule's numbers of a trial."""
    return {name: value for name, value in record.params.items() if "." not in name}


def _parts(trial: Which, number: int | None) -> tuple[str, int]:
    """The name of a family or study, and a number."""
    if number is not None:
        return str(trial), int(number)
    if isinstance(trial, str):
        name, _, digits = trial.rpartition(":")
        if name and digits.strip().isdecimal():
            return name, int(digits)
    elif isinstance(trial, tuple | list) and len(trial) == 2:
        return str(trial[0]), int(trial[1])
    elif hasattr(trial, "keys") and {"study", "trial"} <= set(trial.keys()):
        return str(trial["study"]), int(trial["trial"])
    raise InputError("trial", trial, "not the name of a trial", 'Write "cosine:17", or give a row of .trials')


def _list(names: Any) -> str:
    return ", ".join(names)


# --- where it is ------------------------------------------------------------------------------------


def locate(name: str | Path | None = None, root: Path = ROOT) -> Home:
    """The folder of the sweep of that name, or of an MLflow run of it ("runs:/<id>"); without a name the last one.

    Raises InputError where there is none, or its folder is not on this machine.
    """
    run = re.fullmatch(r"runs:/+([^/]+)(/.*)?", str(name))
    return find(root, None if name is None else str(name)) if run is None else _of_run(run[1], root)


def _of_run(run: str, root: Path) -> Home:
    """The folder of the sweep that an MLflow run belongs to: in `root`, or beside MLflow's database."""
    shown, destination = f"runs:/{run}", resolve(None, experiment="", sweep_id="")
    assert destination is not None  # uri "none" was not asked for
    database = destination.database
    if database is not None and not database.exists():
        told, remedy = f"there is no MLflow database {database}", "Set MLFLOW_TRACKING_URI, or go to the sweep's folder"
        raise InputError("sweep", shown, told, remedy)
    from sweeper.tracking.mlflow.client import sweep_of_run

    id, experiment = sweep_of_run(destination.uri, run)
    folders = [root] if database is None else [root, database.parent / ROOT]
    found = [home for folder in folders for home in homes(folder) if home.read().get("id") == id]
    if not found:
        where = " or ".join(dict.fromkeys(f"{folder}/" for folder in folders))
        told = f"its sweep ({experiment}) is not in {where}"
        raise InputError("sweep", shown, told, "Name the folder of the sweeps with root=, or load on its machine")
    return found[0]
