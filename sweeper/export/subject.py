"""What is exported: a trial of a stored sweep, with all that a file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import sweeper
from sweeper.export.closed_form import ClosedForm, closed_form
from sweeper.results.chosen import Chosen
from sweeper.schedules import lr_trace, momentum_trace
from sweeper.spec.question import Question
from sweeper.text.columns import value_text
from sweeper.training.optimizers.spec import OptimizerSpec, parse_optimizer
from sweeper.types import Family, Floats, InputError, Value

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep

CYCLED = "cycled against the LR. Before each update set momentum(step) in the groups (momentum, or the first of betas)"


@dataclass(frozen=True)
class Exported:
    """A trial, and the length of the run that its LR is exported for.

    Attributes:
        sweep: The sweep.
        chosen: The trial, and why it was taken.
        steps: Updates of the run.
    """

    sweep: StoredSweep
    chosen: Chosen
    steps: int

    @property
    def question(self) -> Question:
        return self.sweep.config["question"]

    @cached_property
    def family(self) -> Family:
        return self.sweep.family_of(self.chosen.record)

    @cached_property
    def params(self) -> dict[str, Value]:
        """The hyperparameters of the schedule."""
        record = self.chosen.record
        return self.sweep.params(record.study, record.number)

    @property
    def epoch(self) -> float | None:
        """Updates of an epoch if each LR is held through one."""
        return self.sweep.horizon[1]

    @property
    def peak(self) -> float:
        return float(self.params["peak_lr"])  # type: ignore[arg-type]  # checked

    @property
    def is_reactive(self) -> bool:
        return self.family.controller is not None

    @cached_property
    def form(self) -> ClosedForm | None:
        """Its closed form; None for a reactive schedule and a factor of the user's own."""
        return closed_form(self.family, self.params, self.steps, self.epoch)

    @cached_property
    def lr(self) -> Floats:
        """The LR of every update; of a reactive schedule, of those that were trained."""
        record = self.chosen.record
        if self.is_reactive:
            return self.sweep.lr(record.study, record.number, steps=self.steps)
        return lr_trace(self.family, self.params, self.steps, epoch=self.epoch)

    @cached_property
    def momentum(self) -> Floats | None:
        """The momentum of every update; None if it is constant."""
        return momentum_trace(self.family, self.params, self.steps, epoch=self.epoch)

    @cached_property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer with the trial's hyperparameters."""
        values = {
            name.removeprefix("optimizer."): value
            for name, value in self.chosen.record.params.items()
            if name.startswith("optimizer.")
        }
        return parse_optimizer(self.question["optimizer"]).with_options(values)

    # --- in words ---------------------------------------------------------------------------------------

    @property
    def schedule_text(self) -> str:
        numbers = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.chosen.record.family}({numbers})"

    @property
    def optimizer_text(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self.optimizer.arguments.items())
        return f"{self.optimizer.target}(lr=PEAK_LR{arguments})"

    @property
    def groups_text(self) -> str:
        """The parameter groups; "" if all parameters are in one."""
        spec = self.optimizer
        patterns = [spec.no_decay] if isinstance(spec.no_decay, str) else spec.no_decay
        parts = [f"no weight decay: {', '.join(patterns)}"] if patterns else []
        for name, group in spec.groups.items():
            if group is not None:
                options = ", ".join(f"{key} {value}" for key, value in group.items())
                parts.append(f"{name}: {options} (lr is a factor)")
        if spec.layer_decay is not None:
            parts.append(f"each layer has {spec.layer_decay} of the LR of the layer above it")
        if spec.wd_mode != "lr":
            parts.append(f"weight decay is {spec.wd_mode} of the LR (wd_mode), applied before the update")
        return "; ".join(parts)

    @property
    def training_text(self) -> str:
        train, trained = self.question["train"], self.sweep.horizon[0]
        steps = f"{self.steps} updates" + (f" (the sweep trained {trained})" if self.steps != trained else "")
        extra = [f"{key} {train[key]}" for key in ("clip", "accumulate", "ema") if key in train]
        model = [f"{name}={value!r}" for name, value in self.chosen.record.params.items() if name.startswith("model.")]
        return ", ".join([steps, f"batch size {train['batch_size']}", train["precision"], *extra, *model])

    @property
    def value_text(self) -> str:
        record, criterion = self.chosen.record, self.sweep.criterion
        if record.value is None:
            return f"the trial is {record.state}"
        return f"{criterion.metric} {value_text(record.value)} in the search ({criterion.sense}, {criterion.members})"

    @property
    def verdict_text(self) -> str:
        verdict = self.sweep.verdict
        return "none; the trial was not confirmed on fresh seeds" if verdict is None else verdict["sentence"]

    @property
    def facts(self) -> dict[str, str]:
        """What a file says of the trial, by subject."""
        facts = {
            "Trial": f"{self.chosen.name} of {self.sweep.name}, {self.chosen.words}",
            "Schedule": self.schedule_text,
            "Optimizer": self.optimizer_text,
            "Groups": self.groups_text,
            "Training": self.training_text,
            "Value": self.value_text,
            "Verdict": self.verdict_text,
            "Momentum": "" if self.family.momentum is None else CYCLED,
            "Written by": f"sweeper {sweeper.__version__}",
        }
        return {subject: " ".join(text.split()) for subject, text in facts.items() if text}


def check_steps(steps: int | None, trained: int) -> int:
    """Return the length of the run, by default that of the sweep.

    Raises:
        InputError: If it is no number of updates.
    """
    if steps is None:
        return trained
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError("steps", steps, "not a number of updates", "Give a whole number of at least 1")
    return steps
