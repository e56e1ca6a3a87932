"""The files of each target: the closed form, and what connects it to a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sweeper.export import experiment, table
from sweeper.export.closed_form import ClosedForm, jax_source, keras_source, python_source
from sweeper.export.header import header
from sweeper.export.natives import Native, native
from sweeper.export.optimizers import lightning_parts
from sweeper.export.subject import Exported
from sweeper.types import InputError

LAMBDA = "LambdaLR(optimizer, lambda step: lr(step) / PEAK_LR)"
IMPORT_LAMBDA = "from torch.optim.lr_scheduler import LambdaLR"
SCHEDULER = f'''

def scheduler(optimizer):
    """Return the scheduler of an optimizer made with lr=PEAK_LR. Its step() follows each update."""
    return {LAMBDA}
'''


def python(exported: Exported) -> str:
    """Return a file without any package; of a schedule without a closed form, with a list."""
    if exported.form is None:
        return table.as_python(exported)
    return _file(exported, ["lr(step) is the LR of an update, counted from 0."], python_source(exported.form))


def torch(exported: Exported) -> str:
    """Return a file with `scheduler(optimizer)`."""
    source = python_source(_form(exported, "torch"), [IMPORT_LAMBDA])
    return _file(exported, [_sameness(exported, "torch", "optimizer")], source + SCHEDULER)


def lightning(exported: Exported) -> str:
    """Return a file with `configure_optimizers` of a LightningModule."""
    form = _form(exported, "lightning")
    parts = lightning_parts(exported)
    source = python_source(form, [*parts.imports, IMPORT_LAMBDA])
    text = f'''{parts.helper}

def configure_optimizers(module):
    """Return optimizer and schedule of a LightningModule."""
    optimizer = {parts.call}
    scheduler = {LAMBDA}
    return {{"optimizer": optimizer, "lr_scheduler": {{"scheduler": scheduler, "interval": "step"}}}}
'''
    use = "In the body of your LightningModule: configure_optimizers = configure_optimizers."
    return _file(exported, [use, _sameness(exported, "torch", "optimizer")], source + text)


def huggingface(exported: Exported) -> str:
    """Return a file with arguments of TrainingArguments, and where these cannot say it all, with a scheduler."""
    form, found = _form(exported, "huggingface"), _native(exported, "transformers")
    train = exported.question["train"]
    arguments = {
        "per_device_train_batch_size": train["batch_size"],
        "max_grad_norm": train.get("clip", 0.0),  # theirs is 1.0
        **({} if found is None else {"warmup_steps": 0, **found.arguments}),
    }
    lines = "".join(f"    {name!r}: {value!r},\n" for name, value in arguments.items())
    given = f'\n\nARGUMENTS = {{\n    "max_steps": STEPS,\n    "learning_rate": PEAK_LR,\n{lines}}}\n'.replace("'", '"')
    if found is not None:
        use = 'Trainer(model, TrainingArguments("out", **ARGUMENTS), ...) has this schedule, up to rounding.'
        return _file(exported, [use], python_source(form) + given)
    use = (
        "No lr_scheduler_type of transformers is exactly equal, so the scheduler is passed: Trainer(model, "
        'TrainingArguments("out", **ARGUMENTS), optimizers=(optimizer, scheduler(optimizer)), ...).'
    )
    return _file(exported, [use], python_source(form, [IMPORT_LAMBDA]) + given + SCHEDULER)


def timm(exported: Exported) -> str:
    """Return a file with a scheduler of timm's kind."""
    source = python_source(_form(exported, "timm"), ["from timm.scheduler.scheduler import Scheduler"])
    text = '''

class Schedule(Scheduler):
    """The schedule of an optimizer made with lr=PEAK_LR. step_update(updates so far) follows each update."""

    def __init__(self, optimizer):
        super().__init__(optimizer, param_group_field="lr", t_in_epochs=False)
        self.update_groups(self._get_lr(0))

    def _get_lr(self, t):
        return [base * lr(t) / PEAK_LR for base in self.base_values]
'''
    return _file(exported, [_sameness(exported, "timm", "optimizer")], source + text)


def keras(exported: Exported) -> str:
    """Return a file with a LearningRateSchedule of Keras 3."""
    text = '''

@keras.saving.register_keras_serializable(package="sweeper")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The LR of every update."""

    def __call__(self, step):
        return lr(step)

    def get_config(self):
        return {}
'''
    precision = "Schedule() is a learning_rate of keras.optimizers. It computes in float32, as Keras does."
    return _file(exported, [precision, _sameness(exported, "keras")], keras_source(_form(exported, "keras")) + text)


def optax(exported: Exported) -> str:
    """Return a file whose `lr` is a schedule of optax."""
    use = "optax.sgd(learning_rate=lr), for example. It computes in float32 unless jax_enable_x64 is set."
    if exported.family.momentum is not None:
        use += " optax.inject_hyperparams(optax.sgd)(learning_rate=lr, momentum=momentum) has both."
    return _file(exported, [use, _sameness(exported, "optax")], jax_source(_form(exported, "optax")))


TARGETS: Mapping[str, Callable[[Exported], str]] = {
    "python": python,
    "torch": torch,
    "lightning": lightning,
    "huggingface": huggingface,
    "timm": timm,
    "keras": keras,
    "optax": optax,
    "csv": table.as_csv,
    "json": table.as_json,
    "yaml": experiment.as_yaml,
}


def _file(exported: Exported, notes: list[str], source: str) -> str:
    return header(exported, notes) + "\n" + source


def _form(exported: Exported, target: str) -> ClosedForm:
    """Return the closed form.

    Raises:
        InputError: If there is none.
    """
    if exported.form is None:
        why = "is reactive, so its LR has no formula" if exported.is_reactive else "has a factor of your own"
        remedy = "Use python, csv or json for a table of its LRs"
        raise InputError("to", target, f"{exported.chosen.name} {why}", remedy)
    return exported.form


def _native(exported: Exported, library: str) -> Native | None:
    return native(library, exported.family, exported.params, exported.steps, exported.epoch)


def _sameness(exported: Exported, library: str, first: str = "") -> str:
    """Return the sentence on the library's own scheduler."""
    found = _native(exported, library)
    if found is None:
        return f"No scheduler of {library} is exactly equal."
    return f"Equal within the run, up to rounding: {found.call(first)}"
