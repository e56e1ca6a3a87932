"""The Python API: `sweep` trains a sweep, `load` opens a stored one. Both return a `Sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sweeper.results.stored import ROOT, StoredSweep, Which, locate
from sweeper.types import Task

if TYPE_CHECKING:
    from sweeper.run.confirm_spec import ConfirmSpec
    from sweeper.run.rerun import Rerun
    from sweeper.run.sweeping import Outcome
    from sweeper.spec.requests import Families
    from sweeper.spec.sweep import Subject
    from sweeper.views.notebook import Figures


class Sweep(StoredSweep):
    """A sweep: its trials, tables, traces and figures. A notebook shows it as a table.

    `sweep` and `load` return it.
    """

    _subject: Subject | None = None  # what `sweep` trained

    @cached_property
    def figures(self) -> Figures:
        """Matplotlib figures by name: schedules, losses, peak_lr, best_so_far. A notebook shows them all."""
        from sweeper.views.notebook import Figures

        return Figures(self)

    def rerun(
        self,
        trial: Which,
        task: Task | None = None,
        *,
        model: Mapping[str, Any] | None = None,
        weights: str | Path | None = None,
    ) -> Rerun:
        """Train a stored trial again and compare every value, bit for bit.

        Args:
            trial: A row of `trials`, or `"cosine:17"`.
            task: The task that the sweep was started with. Not needed as for `confirm`.
            model: The searched hyperparameters of the model that the sweep was started with.
            weights: A file to write the final weights to.

        Raises:
            InputError: If there is no such trial, or task or model are not those of the sweep.
        """
        from sweeper.run.rerun import rerun_trial

        subject = self._subject_for('rerun("cosine:17", task)', task, model)
        return rerun_trial(self, trial, subject, None if weights is None else Path(weights))

    def confirm(
        self, task: Task | None = None, *, model: Mapping[str, object] | None = None, **options: object
    ) -> Self:
        """Train the best trials of each family on fresh seeds, to learn which is best and how sure that is.

        Afterwards `verdict` says so, and the sweep is shown with it. Ctrl-C, and calling it again, work as for
        `sweeper.sweep`. What the words mean: docs/guide/trust.md.

        Args:
            task: The task that the sweep was started with. Not needed for the sweep that `sweeper.sweep` returned, and
                for one of the command line.
            model: The searched hyperparameters of the model that the sweep was started with.
            options: The keys of `confirm`, such as `budget=0.5`, `looks=[8, 12]` or `vary={"train.steps": ["x2"]}`.
                With `searches=8, yes=True` new whole searches are made, and `family_verdict` says what they show.

        Returns:
            This sweep, read again.

        Raises:
            InputError: If an option cannot be used, nothing can be confirmed, task or model are not those of the sweep,
                or another process is running it. Raised before anything is trained or written.
        """
        from sweeper.run.confirm_plan import cost, plan
        from sweeper.run.confirm_spec import parse_confirm
        from sweeper.run.confirming import confirm
        from sweeper.text.columns import write_text
        from sweeper.tracking.mlflow.tracker import MLflow
        from sweeper.views import conclusion, confirmed

        asked = parse_confirm(options)
        if asked.searches is not None:
            return self._search_again(asked, task, model)
        planned = plan(self.refresh(), asked)
        write_text(confirmed.cost_lines(cost(self, planned, asked), sorted(planned.candidates)))
        if not asked.dry:
            subject = self._subject_for("confirm(task)", task, model)
            tracker = MLflow.stored(self.home.spool)
            _print_rest(confirm(self, subject, tracker, asked, conclusion.conclude))
        return self.refresh()

    def _search_again(self, asked: ConfirmSpec, task: Task | None, model: Mapping[str, object] | None) -> Self:
        """Make new whole searches; `family_verdict` says what they show."""
        from sweeper.run import searching
        from sweeper.text.columns import write_text
        from sweeper.views import confirmed_families

        searches = searching.plan(self.refresh(), asked)
        write_text(confirmed_families.cost_lines(searches.cost()))
        if not asked.dry:
            _print_rest(searching.search_again(searches, self._subject_for("confirm(task)", task, model)))
        return self.refresh()

    def retry(self, task: Task | None = None, *, model: Mapping[str, object] | None = None) -> Self:
        """Train the failed trials in `given_up` again: the same hyperparameters and seeds, and no other trial.

        It is tracked where the sweep was. Ctrl-C, and calling it again, work as for `sweeper.sweep`.

        Args:
            task: The task that the sweep was started with. Not needed as for `confirm`.
            model: The searched hyperparameters of the model that the sweep was started with.

        Returns:
            This sweep, read again.

        Raises:
            InputError: If task or model are not those of the sweep, or another process is running it. Raised before
                anything is trained or written.
        """
        from sweeper.run.retrying import retry
        from sweeper.tracking.mlflow.tracker import MLflow
        from sweeper.views import conclusion

        if self.refresh().to_retry:
            subject = self._subject_for("retry(task)", task, model)
            _print_rest(retry(self, subject, MLflow.stored(self.home.spool), conclusion.conclude))
        return self.refresh()

    def refresh(self) -> Self:
        """Read the sweep again. Returns the same object."""
        subject = self._subject
        super().refresh()
        self._subject = subject
        return self

    def _subject_for(self, call: str, task: Task | None, model: Mapping[str, object] | None) -> Subject:
        """Return data, model and task of the sweep: as given, as `sweep` had them, or as they are stored.

        Args:
            call: The call with a task, for the error if they are not stored.
            task: As given.
            model: Its searched hyperparameters.
        """
        from sweeper.run.restoring import subject_nodes
        from sweeper.spec.composing import build_subject
        from sweeper.spec.describing import subject_of
        from sweeper.spec.earlier import started_with

        subject = self._subject if task is None else subject_of(task, model or {})
        if subject is None:
            return build_subject(subject_nodes(self, call))
        return started_with(subject, self.config["question"])

    def _repr_html_(self) -> str:
        from sweeper.views.notebook import html_table

        return html_table(self)


def load(name: str | Path | None = None, root: str | Path = ROOT) -> Sweep:
    """Load a stored sweep, finished or not.

    Args:
        name: Its name, its folder, or `"runs:/<id>"` of one of its MLflow runs (looked up in `MLFLOW_TRACKING_URI`, or
            in `mlflow.db` in the working folder). None for the sweep used last.
        root: The folder of the sweeps.

    Raises:
        InputError: If there is no such sweep, or its folder is not on this machine.
    """
    return Sweep(locate(name, Path(root)))


def sweep(
    task: Task,
    families: Families = "core",
    *,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    n_trials: int | None = None,
    optimizer: Any = None,
    model: Mapping[str, Any] | None = None,
    warmup: Any = None,
    schedule_unit: str | None = None,
    train: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    search: Any = None,
    pruner: Any = None,
    trainer: Any = None,
    tracking: Any = None,
    device: str | None = None,
    keep: Mapping[str, Any] | None = None,
    name: str | None = None,
    fresh: bool | None = None,
    experiment: str | None = None,
    config_dir: str | Path | None = None,
    root: str | Path = "sweeps",
) -> Sweep:
    """Train a sweep: one Optuna study for each schedule family, all on equal budgets.

    Calling it again resumes the sweep, or returns the finished one. Ctrl-C (a notebook's stop button) finishes the
    round and returns the partial result, whose `.finished` is False; a second Ctrl-C raises KeyboardInterrupt, and
    what was committed can be loaded.

    Arguments that are None have the defaults of `conf/config.yaml` and its groups. A plain value is fixed;
    `{"low": ..., "high": ..., "log": True}` or `{"choice": [...]}` is searched.

    Example:
        ```python
        task = Supervised(Arrays(X, y), Net)
        sweep = sweeper.sweep(task, ["cosine", "wsd", "constant"], optimizer="adamw", steps=1000, n_trials=20)
        ```

    Args:
        task: What is trained: `sweeper.tasks.Supervised`, or any object with the members of `sweeper.types.Task`.
        families: Names of `conf/schedule`, `"core"` or `"all"`; `{"cosine": {"decay": 0.1}}` to change
            hyperparameters; a `sweeper.types.Family`; or a factor of your own, `{"mine": {"factor": f, ...}}`.
        steps: Updates of a trial (`train.steps`).
        epochs: Length of a trial in epochs, instead of `steps` (`train.epochs`).
        batch_size: Examples of an update (`train.batch_size`).
        n_trials: Trials of each family, in all (`search.n_trials`).
        optimizer: A name (`"adamw"`), a name with values (`{"adamw": {"weight_decay": 0.1}}`), values of the default
            choice (`{"momentum": 0.8}`), or a mapping with a `_target_`.
        model: Hyperparameters of the model's constructor that are searched.
        warmup: Warmup length, as a fraction of the updates.
        schedule_unit: `"step"`, or `"epoch"` to hold each LR through an epoch.
        train: Other keys of `train`, such as `{"precision": "bfloat16"}`.
        objective: Keys of `objective`, such as `{"metric": "valid/accuracy", "direction": "maximize"}`.
        search: A sampler's name (`"random"`), or keys of `search`. Written like `optimizer`.
        pruner: Written like `optimizer`.
        trainer: Written like `optimizer`.
        tracking: Written like `optimizer`; `"none"` tracks nothing.
        device: `"auto"`, `"cpu"`, `"cuda:1"`, `"mps"`.
        keep: Which weights to keep, such as `{"best": 3}`.
        name: The sweep's name. By default it is made of data, model, optimizer and a hash of the question.
        fresh: Whether to start over; the old sweep is kept beside the new one.
        experiment: A file of `conf/experiment`, for everything but data, model and task.
        config_dir: A folder with your own `schedule/`, `optimizer/`, `experiment/` ... files.
        root: The folder of the sweeps.

    Returns:
        The sweep, with its trials, tables, traces and pictures.

    Raises:
        InputError: If something cannot be used. Raised before anything is trained or written.
        AllTrialsFailedError: If every first trial fails (`sweeper.search.study`).
        StorageError: If the disk is full or read-only (`sweeper.files`). What was committed is safe.
    """
    from sweeper import terminal
    from sweeper.run import sweeping
    from sweeper.spec import earlier
    from sweeper.spec.composing import compose
    from sweeper.spec.describing import subject_of
    from sweeper.spec.parse import parse
    from sweeper.spec.requests import request
    from sweeper.views import conclusion

    changes = {
        "optimizer": optimizer,
        "warmup": warmup,
        "schedule_unit": schedule_unit,
        "train": train,
        "objective": objective,
        "search": search,
        "pruner": pruner,
        "trainer": trainer,
        "tracking": tracking,
        "device": device,
        "keep": keep,
        "name": name,
        "fresh": fresh,
    }
    values = {
        ("train", "steps"): steps,
        ("train", "epochs"): epochs,
        ("train", "batch_size"): batch_size,
        ("search", "n_trials"): n_trials,
    }
    asked = request(families, changes, values=values, experiment=experiment, config_dir=config_dir)
    config = compose(asked)
    subject = subject_of(task, model or {}, config.choice("optimizer"))
    asked_for = parse(config.nodes, subject)
    spec = earlier.resumed(asked_for, subject, Path(root))
    if spec is not asked_for:
        terminal.announce(earlier.NOTE)
    outcome = sweeping.sweep(spec, root=Path(root), conclude=conclusion.conclude)
    _print_rest(outcome)
    trained = Sweep(outcome.home)
    trained._subject = subject
    return trained


def _print_rest(outcome: Outcome) -> None:
    """Print what a call left to do."""
    from sweeper.tracking.mlflow import view

    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same call resumes the sweep.", flush=True)
    if outcome.unsent:
        print(view.unsent_text(outcome.home.spool, outcome.home.name, outcome.unsent))
    if outcome.lost:
        print(outcome.lost.text)
