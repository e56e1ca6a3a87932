"""The Python API: `sweep` trains a sweep, `load` opens a stored one. Both return a `Sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sweeper.results.stored import ROOT, StoredSweep, Which, locate
from sweeper.types import InputError, Task, did_you_mean

if TYPE_CHECKING:
    from sweeper.run.confirm_spec import ConfirmSpec
    from sweeper.run.rerun import Rerun
    from sweeper.run.sweeping import Outcome
    from sweeper.spec.requests import Families
    from sweeper.spec.sweep import Subject
    from sweeper.views.lr_range import LRRange
    from sweeper.views.notebook import Figures

# Arguments of `sweep` that say how an update is made, and where.
RANGE_SETTINGS = (
    "optimizer", "model", "batch_size", "train", "search", "trainer", "device", "experiment", "config_dir",
)  # fmt: skip


VALUES = {  # arguments of `sweep` that are one key
    "steps": ("train", "steps"),
    "epochs": ("train", "epochs"),
    "batch_size": ("train", "batch_size"),
    "n_trials": ("search", "n_trials"),
}


class Sweep(StoredSweep):
    """A sweep: its trials, tables, traces and figures.

    `print` and a notebook show the answer, with a line for each family.

    `sweep` and `load` return it.
    """

    _subject: Subject | None = None  # what `sweep` trained

    @cached_property
    def figures(self) -> Figures:
        """Matplotlib figures by name. A notebook shows them all.

        They are schedules, losses, lr_above_objective, peak_lr and best_so_far; replicates once it is confirmed.
        """
        from sweeper.views.notebook import Figures

        return Figures(self)

    def report(self) -> Path:
        """Write report.html in the sweep's folder, one page to read and to show to others; figures as SVG and PDF.

        Returns:
            The path of the report.

        Raises:
            StorageError: If the disk is full or read-only (`sweeper.files`).
        """
        from sweeper.views.report import page

        return page.write_with_figures(self)

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

    def final(
        self,
        task: Task | None = None,
        *,
        trial: str | None = None,
        model: Mapping[str, object] | None = None,
        **options: object,
    ) -> Self:
        """Train the chosen settings on train + valid with several seeds, and judge the models on the test part.

        Afterwards `final_models` says what was found. The models are logged and registered where the sweep is tracked,
        and their weights are in the sweep's folder: docs/guide/final.md. Ctrl-C, and calling it again, work as for
        `sweeper.sweep`.

        Args:
            task: The task that the sweep was started with. Not needed as for `confirm`.
            trial: The trial whose settings are trained, such as `"cosine:17"`. None for the winner of the confirmation,
                else its leader, else the lowest complete trial of the search.
            model: The searched hyperparameters of the model that the sweep was started with.
            options: `seeds=5`, how many models.

        Returns:
            This sweep, read again.

        Raises:
            InputError: If there is no such trial, an option cannot be used, task or model are not those of the sweep,
                or another process is running it. Raised before anything is trained or written.
        """
        from sweeper.run import finalizing
        from sweeper.run.final_spec import parse_final
        from sweeper.tracking.mlflow.tracker import MLflow
        from sweeper.views import conclusion, final_models

        planned = finalizing.plan(self.refresh(), parse_final(options), trial)
        subject = self._subject_for("final(task)", task, model)
        print("\n".join(final_models.plan_lines(self, planned, subject.task)), flush=True)
        tracker = MLflow.stored(self.home.spool)
        _print_rest(finalizing.finalize(self, subject, tracker, planned, conclusion.conclude))
        final_models.conclude(self.refresh(), planned, subject.task)
        conclusion.write_report(self.refresh())
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

    def export(self, to: str, trial: str | None = None, steps: int | None = None, out: str | Path | None = None) -> str:
        """Return the schedule of a trial for your own training code (docs/guide/export.md).

        Args:
            to: "python", "torch", "lightning", "huggingface", "timm", "keras", "optax", "csv", "json" or "yaml".
            trial: Such as "cosine:17". None for the verdict's winner, else the confirmation's leader, else the lowest
                of the search (the highest, if that is better); the text says which.
            steps: Updates of the run, by default those of the sweep. Warmup and cycles keep their fractions.
            out: A file to write it to.

        Raises:
            InputError: If there is no such target or trial, or the target cannot express its schedule.
        """
        from sweeper.export.exporting import check_out, export

        path = check_out(out)
        text = export(self, to, trial, steps).text
        if path is not None:
            path.write_text(text, encoding="utf-8")
        return text

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

    def __str__(self) -> str:
        """Return the answer as text, as `python -m sweeper status` prints it."""
        from sweeper.views.answer import text_of

        return text_of(self)

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


def retune(
    old: str | Path | Sweep,
    task: Task | None = None,
    *,
    confirm: Mapping[str, object] | None = None,
    root: str | Path = "sweeps",
    **changes: Any,
) -> Sweep:
    """Tune again for another question, with the winner of an earlier sweep as first trial, and compare the two.

    The new sweep is like the earlier one, except for what is given here. Its winner and the old one are compared on
    fresh seeds: afterwards `retuned` says whether the old settings would have done (docs/guide/retune.md). Ctrl-C, and
    calling it again, work as for `sweeper.sweep`.

    Args:
        old: The earlier sweep: its name, its folder, or what `sweeper.load` returned.
        task: What is trained now. None for what the earlier sweep trained.
        confirm: Options of the confirmation, as for `Sweep.confirm`.
        root: The folder of the sweeps.
        changes: Other arguments of `sweeper.sweep`, such as `steps=500`, `optimizer="adamw"`, `families=["cosine"]`,
            `model={...}` or `name="new"`, but not `experiment`.

    Returns:
        The new sweep; the earlier one after `confirm={"dry": True}`, which trains nothing.

    Raises:
        InputError: If nothing is different, or something cannot be used. Raised before anything is trained or written.
    """
    from sweeper.run import retuning
    from sweeper.run.confirm_spec import parse_confirm
    from sweeper.spec.composing import build_subject, compose
    from sweeper.spec.describing import subject_of
    from sweeper.spec.requests import request
    from sweeper.views import retuned

    asked = retuning.check_options(parse_confirm(confirm or {}))
    earlier = old if isinstance(old, Sweep) else load(old, root)
    retuning.refuse_unstored(earlier, is_given=task is not None or earlier._subject is not None)
    families, config_dir = (changes.pop(name, None) for name in ("families", "config_dir"))
    model = changes.pop("model", None) if task is not None else None
    values = {path: changes.pop(name) for name, path in VALUES.items() if name in changes}
    like_old = retuning.known_families(earlier)
    wanted = request(like_old if families is None else families, changes, values=values, config_dir=config_dir)
    composed = retuning.inherited(earlier, compose(wanted), wanted.keys(with_families=families is not None))
    if task is not None:
        subject = subject_of(task, model or {}, composed.choice("optimizer"))
    else:
        subject = earlier._subject or build_subject(composed.nodes, composed.label)
    planned = retuning.plan(earlier, composed, subject)
    print("\n".join(retuned.plan_lines(planned)), flush=True)
    if asked.dry:
        return earlier
    outcome = retuned.train(planned, subject, asked, root=Path(root))
    _print_rest(outcome)
    trained = Sweep(outcome.home)
    if outcome.stopped is None:
        retuned.conclude(outcome.home, planned, asked)
    trained._subject = subject
    return trained


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
    from sweeper.run import auto_range, sweeping
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
    given = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "n_trials": n_trials}
    values = {path: given[name] for name, path in VALUES.items()}
    asked = request(families, changes, values=values, experiment=experiment, config_dir=config_dir)
    config = compose(asked)
    subject = subject_of(task, model or {}, config.choice("optimizer"))
    asked_for = parse(auto_range.resolve(config, subject, Path(root)).nodes, subject)
    spec = earlier.resumed(asked_for, subject, Path(root))
    if spec is not asked_for:
        terminal.announce(earlier.NOTE)
    outcome = sweeping.sweep(spec, root=Path(root), conclude=conclusion.conclude)
    _print_rest(outcome)
    trained = Sweep(outcome.home)
    trained._subject = subject
    return trained


def find_lr(
    task: Task,
    *,
    seeds: int | None = None,
    updates: int | None = None,
    low: float | None = None,
    high: float | None = None,
    **settings: Any,
) -> LRRange:
    """Find the LRs to search with an LR range test (LR finder): ramps from `low` to `high`, on several seeds.

    A ramp multiplies the LR by the same factor at every update and ends once its loss has exploded. The ramps of all
    seeds train side by side, first from the untrained model, then again after a warmup. Nothing is written.

    Example:
        ```python
        found = sweeper.find_lr(task, optimizer="adamw", batch_size=64)
        found.table, found.figure
        low, high = found.interval
        ```

    Args:
        task: What is trained, as for `sweeper.sweep`.
        seeds: Ramps of each kind; by default 3.
        updates: Of a ramp without warmup; by default 100.
        low: LR of the first update; by default the optimizer's `default_lr` / 10,000.
        high: LR of the last update; by default `default_lr` x 100,000.
        settings: How an update is made, and where: `optimizer`, `model`, `batch_size`, `train`, `search` (its seed),
            `trainer`, `device`, `experiment`, `config_dir`, as for `sweeper.sweep`.

    Returns:
        The range test, with `table`, `interval` (None if the loss neither fell nor exploded) and `figure`.

    Raises:
        InputError: If something cannot be used, or a ramp fails.
    """
    from sweeper.run import ramping
    from sweeper.spec.composing import compose
    from sweeper.spec.describing import subject_of
    from sweeper.spec.ramp_spec import parse_ramp
    from sweeper.spec.requests import request
    from sweeper.views.lr_range import LRRange

    for key in settings:
        if key not in RANGE_SETTINGS:
            raise InputError(key, None, "no such setting of a range test", did_you_mean(key, RANGE_SETTINGS))
    changes = {key: settings.get(key) for key in ("optimizer", "train", "search", "trainer", "device")}
    config = compose(
        request(
            {"range_test": {"peak_lr": 1.0}},  # whatever it is: the ramp has its own
            changes,
            values={("train", "batch_size"): settings.get("batch_size")},
            experiment=settings.get("experiment"),
            config_dir=settings.get("config_dir"),
        )
    )
    subject = subject_of(task, settings.get("model") or {}, config.choice("optimizer"))
    asked = {"seeds": seeds, "updates": updates, "low": low, "high": high}
    test = ramping.find_lr(config, subject, parse_ramp(asked, config))
    return LRRange(test.label, test.ramps)


def _print_rest(outcome: Outcome) -> None:
    """Print what a call left to do."""
    from sweeper.tracking.mlflow import view

    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same call resumes the sweep.", flush=True)
    if outcome.unsent:
        print(view.unsent_text(outcome.home.spool, outcome.home.name, outcome.unsent))
    if outcome.lost:
        print(outcome.lost.text)
