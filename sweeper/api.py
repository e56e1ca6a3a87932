"""The door for Python: `sweep` trains a task's sweep, `load` opens a stored one; both return a `Sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.results.stored import ROOT, StoredSweep, Which, locate
from sweeper.spec import requests
from sweeper.types import Task

if TYPE_CHECKING:
    from sweeper.run.rerun import Rerun
    from sweeper.views.notebook import Figures


class Sweep(StoredSweep):
    """A stored sweep with its pictures, as a notebook shows it, and whose trials can be trained again."""

    @cached_property
    def figures(self) -> Figures:
        """Pictures by name, as matplotlib figures: schedules, losses, peak_lr, best_so_far. A notebook shows them."""
        from sweeper.views.notebook import Figures

        return Figures(self)

    def rerun(
        self, trial: Which, task: Task, *, model: Mapping[str, Any] | None = None, weights: str | Path | None = None
    ) -> Rerun:
        """Train a trial again and compare (`sweeper.run.rerun`).

        task, model: what the sweep was begun with. weights: a file for the final weights. Raises InputError.
        """
        from sweeper.run.rerun import again
        from sweeper.spec.describing import subject_of

        return again(self, trial, subject_of(task, model or {}), None if weights is None else Path(weights))

    def _repr_html_(self) -> str:
        from sweeper.views.notebook import html_table

        return html_table(self)


def load(name: str | Path | None = None, root: str | Path = ROOT) -> Sweep:
    """The sweep of that name, in that folder, or of an MLflow run of it ("runs:/<id>"); without a name the last one.

    root: the folder of the sweeps. A run is looked up in MLFLOW_TRACKING_URI, or in mlflow.db in the working folder.
    Raises InputError where there is none, or its folder is not on this machine.
    """
    return Sweep(locate(name, Path(root)))


def sweep(
    task: Task,
    families: requests.Families = "core",
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
    """Sweep the learning-rate schedules for a task; the same call again goes on, or returns what is finished.

        task = Supervised(Arrays(X, y), Net)  # from sweeper.tasks; or any object with the members of types.Task
        sweeper.sweep(task, ["cosine", "wsd", "constant"], optimizer="adamw", steps=1000, n_trials=20)

    families: names of conf/schedule, or "core" or "all"; {"cosine": {"decay": 0.1}, "wsd": {}} to change numbers; a
    `types.Family`; a factor of your own, with the common peak LRs and warmups, or {"mine": {"factor": f, ...}}.
    Everything else is as in conf/config.yaml and its groups where it is None. A number is fixed by a value and searched
    by {"low": ..., "high": ..., "log": True} or {"choice": [...]}.

    steps, epochs, batch_size: of `train`. n_trials: of `search`, in all, for each family. optimizer, search, pruner,
    trainer, tracking: a name ("adamw", "random", "none", ...), {name: {number: value}}, numbers changed of the default
    choice, or a mapping with a _target_. model: numbers of the model's constructor that are searched. keep:
    weights, {"best": 3}. name, fresh: of the sweep. experiment: a file of conf/experiment, for all but data, model and
    task. config_dir: a folder with your own schedule/, optimizer/, experiment/ ... files, as --config-dir. root: the
    folder of the sweeps.

    Ctrl-C (a notebook's stop button) finishes the round and returns what there is, `.finished` being False; once more
    raises KeyboardInterrupt, and what was committed can be loaded. Raises InputError, before anything is trained or
    written, for what cannot be used; search.study.AllTrialsFailedError when every first trial fails.
    """
    from sweeper.run import sweeping
    from sweeper.spec.composing import compose
    from sweeper.spec.describing import subject_of
    from sweeper.spec.parse import parse
    from sweeper.tracking.mlflow import view
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
    asked = requests.request(families, changes, values=values, experiment=experiment, config_dir=config_dir)
    config = compose(asked)
    subject = subject_of(task, model or {}, config.choice("optimizer"))
    outcome = sweeping.sweep(parse(config.nodes, subject), root=Path(root), conclude=conclusion.conclude)
    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same call goes on.", flush=True)
    if outcome.unsent:
        print(view.unsent_text(outcome.home.spool, outcome.home.name, outcome.unsent))
    return Sweep(outcome.home)
