"""The configuration of a confirmation with one number changed: its keys, its new values, and whether they work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sweeper.importing import import_object
from sweeper.results.changes import Change
from sweeper.results.stored import StoredSweep
from sweeper.run.restoring import stored_nodes, subject_nodes
from sweeper.run.trainers import make, parse_chosen
from sweeper.schedules import lr_trace
from sweeper.search.plan import StudyPlan
from sweeper.search.records import searched_study
from sweeper.spec import keys
from sweeper.spec.composing import build_subject
from sweeper.spec.constructors import is_whole
from sweeper.spec.inherited import with_value
from sweeper.spec.parse import parse
from sweeper.spec.sweep import Subject, SweepSpec
from sweeper.training.optimizers.spec import KEYS as GROUPING
from sweeper.types import InputError, Number, Record, closest

EPOCHS = "train.epochs"
REMEDY = "Write another factor, or a value"
SIMILAR = 0.85  # of a key that is proposed instead of the list of all


class Changeable:
    """A confirmation whose configuration may be changed."""

    def __init__(self, sweep: StoredSweep, spec: SweepSpec, subject: Subject) -> None:
        """Take what a confirmation trains.

        Args:
            sweep: The stored sweep.
            spec: Its configuration, with studies of replicates.
            subject: Data, model and task of the sweep.
        """
        self._sweep, self._spec, self._subject = sweep, spec, subject
        self._plans = {searched_study(plan.name): plan for plan in spec.studies}

    def check(self, change: Change, records: Sequence[Record]) -> list[str]:
        """Check a change for all trials that may be compared, and return what is rounded.

        Raises:
            InputError: If there is no such number, or one of them cannot be trained so.
        """
        self._check_key(change, records)
        values = {self.value(change, record) for record in records}
        if all(self.value(change, record) == self._base(change.key, record) for record in records):
            stays = f"it stays {values.pop():g}" if len(values) == 1 else "it stays as it is"
            raise self._error(change, f"changes nothing: {stays}", REMEDY)
        for value in {min(values), max(values)}:
            with self._blamed(change, value):
                spec = self._parsed(change, value)
                for record in records:
                    plan, params = self._plans[record.study], self._sweep.params(record.study, record.number)
                    lr_trace(plan.family, params, spec.train.steps, epoch=spec.train.epoch)
                make(spec, parse_chosen(self._sweep.config["trainer"]).trainer).close()
        return self._roundings(change, records)

    def value(self, change: Change, record: Record) -> Number:
        """Return what a change sets its key to, for one trial."""
        base = self._base(change.key, record)
        exact = change.apply(base)
        return round(exact) if self._is_whole(change.key, base) else exact

    def spec(self, change: Change, records: Sequence[Record]) -> SweepSpec:
        """Return the configuration under a change, with a study of replicates for each of these trials."""
        is_searched = change.key in self._searched
        changed = self._spec if is_searched else self._parsed(change, self.value(change, records[0]))
        plans = [self._plan(change, record) for record in records]
        return replace(self._spec, studies=tuple(plans), train=changed.train, task=changed.task)

    def _plan(self, change: Change, record: Record) -> StudyPlan:
        """Return the study of one trial under a change. Its space is not fitted again: the trial stays what it is."""
        plan = self._plans[record.study]
        own = {change.key: self.value(change, record)} if change.key in self._searched else {}
        hparams = {**plan.hparams, **own}
        name = f"{plan.name}.{change.suffix}"
        return replace(plan, name=name, hparams=hparams, as_written={}, is_as_written=False)

    # --- the numbers there are ----------------------------------------------------------------------

    @cached_property
    def _searched(self) -> set[str]:
        """Searched hyperparameters of optimizer and model."""
        return {name for plan in self._plans.values() for name in plan.hparams}

    @cached_property
    def _fixed(self) -> dict[str, Number]:
        """Every other number by its config path."""
        nodes = self._nodes
        sections = {"optimizer": nodes["optimizer"], "train": nodes["train"], **self._model_node}
        found = {key: value for key, value in _numbers("", sections) if not self._is_in_range(key)}
        train = self._spec.train
        size = self._subject.task.size("train", 0)
        return {**found, EPOCHS: train.steps * train.recipe.batch_size / size}

    @property
    def _nodes(self) -> dict[str, Any]:
        study = next(iter(self._plans))
        return stored_nodes(self._sweep, study, norms=self._spec.train.recipe.norms)

    @property
    def _model_node(self) -> Mapping[str, object]:
        """The model's node, unless the model was made in Python: then its fixed arguments are in the user's code."""
        question = self._sweep.config["question"]
        return {"model": question["model"]} if "data" in question else {}

    def _is_in_range(self, key: str) -> bool:
        return any(key.startswith(f"{searched}.") for searched in self._searched)

    def _base(self, key: str, record: Record) -> Number:
        value = record.params[key] if key in self._searched else self._fixed[key]
        assert isinstance(value, int | float)
        return value

    def _check_key(self, change: Change, records: Sequence[Record]) -> None:
        of_trials = {name for name in self._searched if all(_is_number(record.params[name]) for record in records)}
        known = sorted({*self._fixed, *of_trials})
        if change.key not in known:
            near = closest(change.key, known, SIMILAR)
            remedy = f"Choose one of {', '.join(known)}" if near is None else f"Did you mean {near}?"
            raise self._error(change, "no number of this sweep has this key", remedy)

    def _is_whole(self, key: str, base: Number) -> bool:
        """Return whether a key takes whole numbers alone."""
        section, _, name = key.partition(".")
        if section == "train":
            return isinstance(keys.KEYS[key], keys.Whole)
        if section == "optimizer" and name.partition(".")[0] in GROUPING:
            return False
        if section == "optimizer":
            target = self._sweep.config["question"]["optimizer"]["_target_"]
            constructor = import_object("optimizer._target_", target, "torch.optim.SGD")
        else:
            task = self._subject.task
            constructor = getattr(task, "model", None) or getattr(task, "build", None)
        whole = is_whole(constructor, name)
        return isinstance(base, int) if whole is None else whole

    def _roundings(self, change: Change, records: Sequence[Record]) -> list[str]:
        rounded = {
            change.apply(base): self.value(change, record)
            for record in records
            if change.apply(base := self._base(change.key, record)) != self.value(change, record)
        }
        return [f"{change.key}={exact:g} is rounded to {value}." for exact, value in sorted(rounded.items())]

    # --- the configuration with another number ------------------------------------------------------

    def _parsed(self, change: Change, value: Number) -> SweepSpec:
        """Return the configuration of one of the studies with that value. Raises InputError."""
        key, nodes, subject = change.key, self._nodes, self._subject
        if key in self._searched and key.startswith("model."):
            subject = replace(subject, numbers={**subject.numbers, key: {"choice": [value]}})
        elif key.startswith("model."):
            subject = build_subject(with_value(subject_nodes(self._sweep, "confirm(task)"), key, value))
        else:
            nodes = with_value(nodes, key, {"choice": [value]} if key in self._searched else value)
            nodes = with_value(nodes, "train.steps", None) if key == EPOCHS else nodes
        return parse(nodes, subject)

    @contextlib.contextmanager
    def _blamed(self, change: Change, value: Number) -> Iterator[None]:
        """Let errors inside name the change."""
        try:
            yield
        except InputError as error:
            shown = "" if error.value is None else f"={error.value}"
            cause = error.problem if error.key == change.key else f"{error.key}{shown}: {error.problem}"
            becomes = "" if value == change.number else f"that makes it {value:g}; "
            raise self._error(change, f"{becomes}{cause}", REMEDY) from error

    @staticmethod
    def _error(change: Change, problem: str, remedy: str) -> InputError:
        return InputError(f"confirm.vary.{change.key}", change.written, problem, remedy)


def _numbers(path: str, node: object) -> Iterator[tuple[str, Number]]:
    """Yield every number of a node with its path."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _numbers(f"{path}.{key}" if path else str(key), value)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, node


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
