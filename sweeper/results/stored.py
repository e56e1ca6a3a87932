"""A stored sweep, read only: its trials, families and traces, while it runs or later."""

from __future__ import annotations

import json
import re
from collections import Counter
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
from sweeper.tracking.mlflow.destination import resolve_address, sqlite_path
from sweeper.tracking.spool import published_round
from sweeper.tracking.traces import read_trace
from sweeper.types import Family, Floats, InputError, TrialId, Value

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from sweeper.results.final import Final
    from sweeper.results.retune import Retune
    from sweeper.results.verdict import Verdict
    from sweeper.search.records import JournalReader
    from sweeper.types import Record

Which = Any  # a trial: "cosine:17", (study, 17), a row of .trials; or study and number as two arguments
ROOT = Path("sweeps")


class StoredSweep:
    """A sweep as of when it was loaded, or as of the last `refresh`.

    Methods that take a trial accept "cosine:17" (family or study, and number), a row of `trials` or `best`,
    (study, 17), or study and number as two arguments. They raise InputError if there is no such trial.
    """

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.home.name

    @cached_property
    def config(self) -> StoredConfig:
        """The stored configuration: question, studies, trainer."""
        return self.home.read()

    @property
    def is_from_python(self) -> bool:
        """Whether it was started in Python, with a task that is stored nowhere."""
        return "data" not in self.config["question"]

    @property
    def objective(self) -> ObjectiveQuestion:
        """The objective's metric, direction, at and k."""
        return self.config["question"]["objective"]

    @property
    def criterion(self) -> tables.Criterion:
        """How trials are compared: the objective, and the seeds and folds of each trial."""
        seeds, folds = seeds_and_folds(self.config["question"])
        objective = self.objective
        return tables.Criterion(objective["metric"], objective["direction"], objective["at"], seeds, folds)

    @property
    def records(self) -> list[Record]:
        """All trials, as of the last committed round."""
        return self._records_and_counts[0]

    @cached_property
    def _reading(self) -> JournalReader:
        """The journal as of one moment, so that all tables agree."""
        from sweeper.search.records import JournalReader

        committed = published_round(self.home.spool)  # read first: the journal of a running sweep grows
        return JournalReader(self.home.journal, committed)

    @cached_property
    def _records_and_counts(self) -> tuple[list[Record], dict[str, int]]:
        """All trials, and the number of started trials of each study."""
        return self._reading.records(), self._reading.trial_counts()

    @property
    def round(self) -> int:
        """The last committed round; 0 before the first."""
        return self._reading.round

    @cached_property
    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """Importance of each searched hyperparameter by study, in shares of 1. Empty if a study has too few trials."""
        return self._reading.importances()

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial. `tables.trials_table` lists the columns."""
        return tables.trials_table(
            self.records, direction=self.objective["direction"], target=self.target, facts=self._facts()
        )

    @cached_property
    def families(self) -> pd.DataFrame:
        """One row per study, the best first, the baselines last. `tables.families_table` lists the columns."""
        return tables.families_table(
            self.records,
            direction=self.objective["direction"],
            target=self.target,
            details=tables.Details(self.ends_high, self._facts, self.importances, self.config.get("no_skill")),
        )

    @cached_property
    def target(self) -> float | None:
        """What trials are timed against: `objective.target`, by default the tuned constant's best value so far."""
        fixed: float | None = self.config.get("target")
        return tables.target_of(self.records, self.objective["direction"]) if fixed is None else fixed

    @property
    def best(self) -> pd.Series[Any]:
        """The row of `trials` with the lowest value of the search (the highest, if that is better). Not a verdict.

        Raises:
            InputError: If no trial is complete.
        """
        study, number = self.best_trial
        row: pd.Series[Any] = self.trials[(self.trials["study"] == study) & (self.trials["trial"] == number)].iloc[0]
        return row

    @property
    def best_trial(self) -> TrialId:
        """Study and number of `best`, found without the table of trials, which takes long for thousands of them.

        Raises:
            InputError: If no trial is complete.
        """
        ranked = self.families[self.families["rank"] == 1]
        if ranked.empty:
            raise InputError("sweep", self.name, "no trial is complete yet", "Resume the sweep, or wait")
        return TrialId(ranked.iloc[0]["study"], int(ranked.iloc[0]["best_trial"]))

    @cached_property
    def finished(self) -> bool:
        """Whether nothing is left to train: every study has all its trials, except those in `given_up`."""
        records, started = self._records_and_counts
        studies = self.config["studies"]
        running = any(record.state == "running" and not record.prior_of for record in records)
        needed = {
            name: min(study["trials"], self.stopped.get(name, study["trials"])) for name, study in studies.items()
        }
        return not running and all(
            started.get(name, 0) >= trials or name in self.exhausted for name, trials in needed.items()
        )

    @cached_property
    def given_up(self) -> list[str]:
        """Failed trials that no trial repeats, such as "cosine:17". `retry` trains them again."""
        families = [study["family"] for study in self.config["studies"].values()]
        names = {
            study: stored["family"] if families.count(stored["family"]) == 1 else study
            for study, stored in self.config["studies"].items()
        }
        return [f"{names[trial.study]}:{trial.trial}" for trial in self._reading.given_up()]

    @property
    def to_retry(self) -> Mapping[str, int]:
        """How many trials of each study `retry` would train: those given up, and retries that have not ended."""
        return Counter(trial.study for trial in [*self._reading.given_up(), *self._reading.unfinished_retries()])

    @cached_property
    def stopped(self) -> Mapping[str, int]:
        """Trials of each study that ended early because it did not improve (`search.stop`)."""
        return self._reading.trials_at_stop()

    @cached_property
    def exhausted(self) -> Mapping[str, int]:
        """The number of points of each study that has tried all points of its space."""
        return self._reading.exhausted()

    def refresh(self) -> Self:
        """Read the sweep again. Returns the same object."""
        self.__dict__ = {"home": self.home}
        return self

    # --- confirmations ----------------------------------------------------------------------------------

    @cached_property
    def verdict(self) -> Verdict | None:
        """What the last confirmation says (docs/guide/trust.md), as in confirm.json. None if there was none.

        The last one is that with the highest `confirm.seed`.
        """
        seeds = sorted(int(seed) for seed in self.config.get("confirmations", {}))
        found = [self.verdict_of(seed) for seed in seeds]
        return next((verdict for verdict in reversed(found) if verdict is not None), None)

    def verdict_of(self, seed: int) -> Verdict | None:
        """Return the verdict of one confirmation, by its `confirm.seed`; None if there is none."""
        return self._read_verdict(self.home.verdict(seed))

    @cached_property
    def family_verdict(self) -> Verdict | None:
        """What new whole searches say about families (`confirm.searches`), as in confirm-families.json; None without.

        Of several, that with the highest `confirm.seed`.
        """
        found = [self._read_verdict(path) for path in self.home.path.glob("confirm-families*.json")]
        return max(filter(None, found), key=lambda verdict: verdict["confirm_seed"], default=None)

    def family_verdict_of(self, seed: int) -> Verdict | None:
        """Return the verdict on families of one `confirm.seed`; None if there is none."""
        return self._read_verdict(self.home.family_verdict(seed))

    @staticmethod
    def _read_verdict(path: Path) -> Verdict | None:
        found: Verdict | None = _read_json(path, "confirm")
        return found

    @cached_property
    def final_models(self) -> Final | None:
        """What was found of the final models (docs/guide/final.md), as in final.json. None if there are none."""
        found: Final | None = _read_json(self.home.final, "final")
        return found

    @cached_property
    def retuned(self) -> Retune | None:
        """How it compares with the winner of an earlier sweep (docs/guide/retune.md), as in retune.json, or None."""
        found: Retune | None = _read_json(self.home.retune, "retune")
        return found

    @property
    def extended(self) -> set[str]:
        """The studies whose trials a wider study took over (`search.extend`)."""
        return self._reading.extended()

    @property
    def open_confirmation(self) -> int | None:
        """The `confirm.seed` of the last confirmation if that was begun and has no verdict yet."""
        last = max((int(seed) for seed in self.config.get("confirmations", {})), default=None)
        verdict = None if last is None else self.verdict_of(last)
        return last if verdict is None or verdict["ended_by"] == "interrupted" else None

    @property
    def replicates(self) -> list[Record]:
        """All trainings of confirmations and of final models, as of the last committed round."""
        return self._reading.replicates()

    # --- one trial --------------------------------------------------------------------------------------

    def trace(self, trial: Which, number: int | None = None, member: int = 0) -> pd.DataFrame:
        """Return everything that one training logged; that of a confirmation by its study and number.

        Returns:
            A row for each step, with the columns "step", "lr/group0", "train/loss", ..., NaN where a step has no value.
            Step n is the moment after n updates: its losses and metrics are those reached by then, and its LR is the
            one that the next update uses. So the first row has no loss, and the last no LR.

        Raises:
            InputError: If it has not reported yet, there is no such member, or its traces are lost.
        """
        record = self._training(trial, number)
        try:
            return read_trace(self.home.path, *record.trained_as, member)
        except KeyError as error:
            name = f"{record.family}:{record.number}"
            if record.steps_done == 0:
                raise InputError("trial", name, "it has not reported yet", "Wait for its first report") from error
            if not 0 <= member < max(1, len(record.seeds)):
                raise InputError("member", member, f"{name} has {len(record.seeds)}", "Count from 0") from error
            remedy = "Its results are in the tables. Restore spool/ or traces/ from a backup to have its traces"
            raise InputError("trial", name, "its traces are damaged or missing", remedy) from error

    def _training(self, trial: Which, number: int | None) -> Record:
        """Return a trial, or a training of a confirmation by its study and number."""
        if isinstance(trial, str) and number is not None:
            for one in self.replicates:
                if (one.study, one.number) == (trial, number):
                    return one
        return self.record(trial, number)

    def lr(self, trial: Which, number: int | None = None, *, steps: int | None = None) -> Floats:
        """Return the LR of every update, also of a pruned trial.

        Args:
            trial: The trial.
            number: Its number, if `trial` is a study.
            steps: Length of the run, by default that of the sweep. Warmup and cycles keep their fractions.

        Returns:
            The planned LR, float64 [steps]. A reactive schedule plans nothing, so it is the LR of the trained updates.

        Raises:
            InputError: If the schedule is reactive and `steps` differs from the sweep's, or it has not reported yet.
        """
        record = self.record(trial, number)
        sweep_steps, epoch = self.horizon
        steps = sweep_steps if steps is None else steps
        if self.family_of(record).controller is not None:
            return self._used_lr(record, steps)
        return lr_trace(self.family_of(record), _schedule_params(record), steps, epoch=epoch)

    def _used_lr(self, record: Record, steps: int) -> Floats:
        """Return the LR of the trained updates of a reactive schedule. `steps` must be the sweep's."""
        name = f"{record.family}:{record.number}"
        if steps != self.horizon[0]:
            problem = f"{name} is reactive, so its LR is known only for the length that was trained"
            raise InputError("steps", steps, problem, "Leave it out")
        lr_S: Floats = self.trace(record.study, record.number)["lr/group0"].dropna().to_numpy(np.float64)
        return lr_S

    def params(self, trial: Which, number: int | None = None) -> dict[str, Value]:
        """Return the schedule's hyperparameters, searched and fixed, as `sweeper.lr_trace` takes them."""
        return _schedule_params(self.record(trial, number))

    def weights(self, trial: Which, number: int | None = None, member: int = 0) -> dict[str, Tensor]:
        """Return the final weights of its model.

        Raises:
            InputError: If they were not kept (`keep.best`), or are damaged.
        """
        from sweeper.training.torch_files import DamagedError
        from sweeper.training.weights import read_weights

        record = self.record(trial, number)
        name = f"{record.family}:{record.number}"
        remedy = f"Train it again: python -m sweeper rerun {self.name} --trial {name} --weights FILE"
        try:
            return read_weights(self.home.weights, *record.trained_as, member)
        except FileNotFoundError:
            raise InputError("trial", name, "its weights were not kept", remedy) from None
        except DamagedError as error:
            raise InputError("trial", name, f"its weights are damaged ({error})", remedy) from error

    def record(self, trial: Which, number: int | None = None) -> Record:
        """Return the trial as stored in the journal."""
        id = self._find(trial, number)
        return next(record for record in self.records if (record.study, record.number) == id)

    def _find(self, trial: Which, number: int | None) -> tuple[str, int]:
        """Return study and number of an existing trial."""
        name, number = _parse_trial(trial, number)
        matches = [r for r in self.records if r.number == number and name in (r.study, r.family)]
        text = f"{name}:{number}"
        if len(matches) == 1:
            return matches[0].study, matches[0].number
        if matches:
            remedy = f"Name one of the studies: {_join(r.study for r in matches)}"
            raise InputError("trial", text, "several studies of this family have it", remedy)
        families = sorted({r.family for r in self.records})
        numbers = [r.number for r in self.records if name in (r.study, r.family)]
        remedy = f"Its trials are 0 to {max(numbers)}" if numbers else f"Families: {_join(families) or 'none yet'}"
        raise InputError("trial", text, "no such trial in this sweep", remedy)

    @property
    def horizon(self) -> tuple[int, float | None]:
        """Updates of a trial, and updates of an epoch if the LR is held through each epoch, else None."""
        question = self.config["question"]
        return question["train"]["steps"], question.get("epoch_steps")

    def family_of(self, record: Record) -> Family:
        """Return the schedule family of a trial."""
        return family(record.family, self.config["studies"][record.study]["schedule"])

    def _facts(self, only: Collection[TrialId] | None = None) -> Mapping[TrialId, Facts]:
        return read_facts(self.home.spool, only)

    def ends_high(self, study: str, trial: int) -> bool | None:
        """Return whether the LR of a trial ends more than 10% of its peak above its floor; None if unknown."""
        record, (steps, epoch) = self.record(study, trial), self.horizon
        try:
            family = self.family_of(record)
            if family.controller is not None:
                return height_of(self._used_lr(record, steps)) > ENDS_HIGH
            return height_at_end(family, _schedule_params(record), steps, epoch=epoch) > ENDS_HIGH
        except InputError:  # a factor defined in a notebook or script, unknown to this process
            return None

    def __repr__(self) -> str:
        try:
            families, trials = len({r.family for r in self.records}), len(self.records)
            state = "finished" if self.finished else "not finished"
            best = self.best if self.families["rank"].notna().any() else None
        except (OSError, InputError):
            return f"<{type(self).__name__} {self.name}, which cannot be read, in {self.home.path}>"
        word = self.criterion.extreme
        first = "" if best is None else f", {word} {best['family']}:{best['trial']} {value_text(best['value'])}"
        return f"<{type(self).__name__} {self.name}: {families} families, {trials} trials, {state}{first}>"


def _schedule_params(record: Record) -> dict[str, Value]:
    """Return the schedule's hyperparameters: those of optimizer and model have a dot in their names."""
    return {name: value for name, value in record.params.items() if "." not in name}


def _read_json(path: Path, verb: str) -> Any:
    """Return what a verb wrote to a file; None if there is none. Raises InputError."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = f"Delete it, then {verb} again: nothing is trained twice"
        raise InputError("sweep", path, "the file is damaged", remedy) from error


def _parse_trial(trial: Which, number: int | None) -> tuple[str, int]:
    """Return the name of a family or study, and a number."""
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
    raise InputError("trial", trial, "not the name of a trial", 'Write "cosine:17", or pass a row of .trials')


def _join(names: Any) -> str:
    return ", ".join(names)


# --- folders ----------------------------------------------------------------------------------------


def locate(name: str | Path | None = None, root: Path = ROOT) -> Home:
    """Return the folder of a sweep.

    Args:
        name: Its name, its folder, or "runs:/<id>" of one of its MLflow runs; None for the sweep used last.
        root: The folder of the sweeps.

    Raises:
        InputError: If there is no such sweep, or its folder is not on this machine.
    """
    run = re.fullmatch(r"runs:/+([^/]+)(/.*)?", str(name))
    return find(root, None if name is None else str(name)) if run is None else _home_of_run(run[1], root)


def _home_of_run(run: str, root: Path) -> Home:
    """Return the folder of the sweep that an MLflow run belongs to, in `root` or next to MLflow's database."""
    text, address = f"runs:/{run}", resolve_address(None)
    database = sqlite_path(address)
    if database is not None and not database.exists():
        remedy = "Set MLFLOW_TRACKING_URI, or change to the folder where the sweep was run"
        raise InputError("sweep", text, f"there is no MLflow database {database}", remedy)
    from sweeper.tracking.mlflow.client import sweep_of_run

    id, experiment = sweep_of_run(address, run)
    folders = [root] if database is None else [root, database.parent / ROOT]
    matches = [home for folder in folders for home in homes(folder) if home.read().get("id") == id]
    if not matches:
        where = " or ".join(dict.fromkeys(f"{folder}/" for folder in folders))
        problem = f"its sweep ({experiment}) is not in {where}"
        raise InputError("sweep", text, problem, "Pass the folder of the sweeps as root=, or load it on its machine")
    return matches[0]
