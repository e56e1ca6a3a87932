"""The probe: decides whether a model can be stacked, by training it stacked and alone and comparing the results.

It makes three updates in float64 and refuses any difference. vmap is silently wrong in some cases (an embedding with
padding_idx, buffers that forward reassigns), and raises errors in others (data-dependent branches, .item(), random
numbers). So a model is stacked only if the results agree. What three updates may miss (a rare draw, a padding symbol
that does not occur, a count of the updates) is checked for separately.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sweeper.training.batch import has_stream, training_batches
from sweeper.training.device import resolve_device
from sweeper.training.evaluation import cast
from sweeper.training.examples import Examples
from sweeper.training.lanes.program import Form, Mode, build_model, dropout_rates
from sweeper.training.lanes.stacked import stacking_obstacle
from sweeper.training.lanes.structure import attribute_texts, structure
from sweeper.training.lanes.trainer import LaneTrainer, Stacking
from sweeper.training.optimizers.optim import options_of
from sweeper.training.optimizers.spec import OptimizerSpec
from sweeper.training.randomness import PROBE, key_of, seeded_generators
from sweeper.training.recipe import HALF, Recipe
from sweeper.training.sequential import SequentialTrainer
from sweeper.types import Job, JobId, Report, Task, Trainer, Value

_log = logging.getLogger(__name__)

UPDATES = 3
LRS = (0.1, 0.03, 0.01)  # one for each job
# Not the trial's optimizer, because Adam turns a gradient that is 0 up to rounding (a bias before a BatchNorm) into a
# whole step of either sign, so that equal models would differ. The rules of the optimizers are tested separately.
SGD = OptimizerSpec("torch.optim.SGD", {"weight_decay": 0.01})
RTOL = 1e-9
HALF_RTOL = 0.1  # of losses in mixed precision, which has two or three digits

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")  # of a tensor
STACKED = "lanes: stacked trials give the same numbers as one at a time"
EXPLANATIONS = {  # part of torch's error message: what it means
    ".item()": "the model's forward pass needs the value of a tensor (.item(), or an `if` on one)",
    "data-dependent control flow": "the model's forward pass needs the value of a tensor (.item(), or an `if` on one)",
    "dynamic shape": "shapes in the model's forward pass depend on the data (a boolean mask?)",
    "Batching rule not implemented": "torch cannot stack one of the model's operations",
    "saved tensor hooks": "the model recomputes parts of itself in the backward pass (checkpointing)",
    "autograd.Function": "the model has an autograd.Function (a custom one, or that of checkpointing)",
    "appears to not have been used": "a parameter is not used as an attribute of its module",
}


class _UnfitError(Exception):
    """The model cannot be stacked. The message is the reason that users read."""


@dataclass(frozen=True)
class Verdict:
    """What the probe decided.

    Attributes:
        form: How the model is stacked; None if it cannot be.
        why: The reason, in one line for the user.
        seconds: How long the probe took.
    """

    form: Form | None
    why: str
    seconds: float = 0.0


def probe(task: Task, recipe: Recipe, example: Job, *, device: str = "auto") -> Verdict:
    """Return whether and how jobs like `example` can be stacked.

    A mixed precision of the recipe is tried, too, because operations may have no rule for it.

    Args:
        task: What is trained.
        recipe: How it is trained.
        example: A job with the hyperparameters of the model. The job itself is not trained.
        device: auto, cpu, cuda, cuda:1, mps.
    """
    start = time.perf_counter()
    try:
        with _without_logs():
            verdict = Verdict(_form(task, recipe, example, device), STACKED)
    except _UnfitError as reason:
        verdict = Verdict(None, f"one trial at a time: {reason}")
    except Exception as error:  # the model cannot be trained at all: the trial itself will report it
        verdict = Verdict(None, f"one trial at a time: training failed ({_first_line(error)})")
    return replace(verdict, seconds=time.perf_counter() - start)


def _form(task: Task, recipe: Recipe, example: Job, device: str) -> Form:
    """Return the first form that agrees with training alone. Raises _UnfitError if there is none."""
    reason = stacking_obstacle(recipe.optimizer, example.hparams, example.momentum_S)
    if reason is not None:
        raise _UnfitError(reason.rstrip("."))
    if has_stream(task):
        raise _UnfitError("the data stay on the host and stream to one model, batch by batch (data.stream)")
    if resolve_device(device).type == "mps":
        raise _UnfitError("mps has no float64, which comparing stacked trials needs")
    forms = _forms(task, example, recipe.batch_size, resolve_device(device))
    jobs, plain = _jobs(example), Recipe(SGD, recipe.batch_size)
    rtol_of = {"float64": RTOL} | ({recipe.precision: HALF_RTOL} if recipe.precision in HALF else {})
    recipes = {precision: replace(plain, precision=precision) for precision in rtol_of}
    expected = {each: _results(SequentialTrainer(task, recipes[each], device=device), jobs) for each in rtol_of}
    for form in forms:
        try:
            reason = None
            for each, rtol in rtol_of.items():
                trainer = LaneTrainer(task, recipes[each], Stacking(form, width=2), device=device)
                reason = reason or _difference(expected[each], _results(trainer, jobs), rtol)
        except Exception as error:
            reason = _explain(error)
        if reason is None:
            return form
        _log.debug("vmap(%s): %s", form.mode, reason)
    raise _UnfitError(str(reason))


def _jobs(example: Job) -> list[Job]:
    """Return three short jobs with the example's hyperparameters of the model."""
    hparams = {key: value for key, value in example.hparams.items() if key.startswith("model.")}
    return [
        replace(
            example,
            id=JobId("probe", trial, 0),
            seed=key_of(example.seed, PROBE, trial),
            lr_S=np.full(UPDATES, lr),
            momentum_S=None,
            controller=None,
            hparams=hparams,
            report_steps=(UPDATES,),
        )
        for trial, lr in enumerate(LRS)
    ]


# --- checks of a single model -----------------------------------------------------------------------


def _forms(task: Task, example: Job, batch_size: int, device: torch.device) -> list[Form]:
    """Return the forms that are worth trying, the fastest first. Raises _UnfitError."""
    task, hparams = task.to(device), options_of(example.hparams, "model")
    model, other = (
        build_model(task, seed, hparams, torch.float64, device) for seed in (example.seed, example.seed + 1)
    )
    _check_same_structure(model, other)
    examples = Examples(task, example.parts[0], example.partition)
    index_B = np.arange(min(batch_size, examples.size))

    def train() -> None:
        """Make one forward and backward pass, as in every update."""
        (batch,) = training_batches(examples, index_B[None], example.seed, 0, device)
        inputs_B, target_B = cast(batch, torch.float64)
        loss_B = task.loss(task.forward(model, inputs_B), target_B)
        loss_B.sum().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated

    moving = _moving_buffers(model, train, device)
    trained = tuple(name for name, parameter in model.named_parameters() if parameter.grad is not None)
    modes: tuple[Mode, ...] = ("grad",) if _has_padding(train, device) else ("forward", "grad")
    return [Form(mode, trained, moving) for mode in modes]


def _check_same_structure(model: nn.Module, other: nn.Module) -> None:
    """Check that models of two seeds differ only in values, and that no hook takes part in training."""
    parameters = list(model.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise _UnfitError("no parameter of the model is trained")
    if any(getattr(parameter, hooks, None) for parameter in parameters for hooks in HOOKS):
        raise _UnfitError("a parameter of the model has a hook, which stacked parameters would lose")
    if structure(model) != structure(other):
        where = _first_difference(attribute_texts(model), attribute_texts(other)) or "its parameters"
        raise _UnfitError(f"models of two seeds differ in more than parameters and buffers ({where})")


def _moving_buffers(model: nn.Module, train: Callable[[], None], device: torch.device) -> tuple[str, ...]:
    """Return the buffers that training changes. Raises _UnfitError if it changes anything else, or draws."""
    buffers = dict(model.named_buffers())
    before = {name: value.clone() for name, value in buffers.items()}
    generators = _used_generators(train, device)
    if generators:
        raise _UnfitError(f"the model draws random numbers of its own ({generators}), which stacked trials would share")
    if any(parameter.grad is not None and parameter.grad.is_sparse for parameter in model.parameters()):
        raise _UnfitError("the model has sparse gradients (an embedding with sparse=True)")
    texts, rates = attribute_texts(model, values=False), dropout_rates(model)
    _used_generators(train, device)
    changed = _first_difference(texts, attribute_texts(model, values=False)) or (
        "a dropout rate" if dropout_rates(model) != rates else None
    )
    if changed is not None:
        raise _UnfitError(f"training changes something in the model that is no parameter and no buffer ({changed})")
    for name, value in model.named_buffers():
        if value is not buffers.get(name):
            raise _UnfitError(
                f"the model reassigns its buffer {name} (use self.{name.rpartition('.')[2]}.copy_(...) instead)"
            )
    return tuple(name for name, value in before.items() if not torch.equal(value, buffers[name]))


def _used_generators(train: Callable[[], None], device: torch.device) -> str:
    """Return whose generators `train` draws from ("torch, NumPy"); empty if none."""
    with seeded_generators(0, device):
        before = _generators(device)
        train()
        after = _generators(device)
    return ", ".join(name for name, state in before.items() if state != after[name])


def _generators(device: torch.device) -> dict[str, bytes]:
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "NumPy": pickle.dumps(np.random.get_state()),
        "Python": pickle.dumps(random.getstate()),
    }
    if device.type == "cuda":
        states["torch"] += torch.cuda.get_rng_state(device).numpy().tobytes()
    return states


def _has_padding(train: Callable[[], None], device: torch.device) -> bool:
    """Return whether an operation has a padding_idx, for which vmap(forward) computes a wrong gradient.

    This finds it even if the symbol does not occur in the batches of the probe.
    """
    with seeded_generators(0, device), _Padding() as padding:  # type: ignore[no-untyped-call] # as its class
        train()
    return bool(padding.has_padding)


class _Padding(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it unannotated
    """Records whether any operation has a padding_idx while it is active."""

    has_padding = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | (kwargs or {})
        self.has_padding |= isinstance(named.get("padding_idx"), int) and named["padding_idx"] >= 0
        return func(*args, **(kwargs or {}))


def _first_difference(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Return the path of the first attribute that differs, or None."""
    return next((key.rstrip(".") for key in {**one, **other} if one.get(key) != other.get(key)), None)


# --- comparing stacked trials with single ones ------------------------------------------------------


def _results(trainer: Trainer, jobs: Sequence[Job]) -> list[tuple[Report, dict[str, Tensor]]]:
    """Train the jobs, and return the report and the weights of each."""
    trainer.start(jobs)
    reports = {report.id: report for report in trainer.advance([job.id for job in jobs])}
    for report in reports.values():
        if report.state == "failed":
            raise RuntimeError(report.reason)
    results = [(reports[job.id], trainer.weights(job.id)) for job in jobs]
    trainer.close()
    return results


def _difference(
    alone: Sequence[tuple[Report, dict[str, Tensor]]],
    stacked: Sequence[tuple[Report, dict[str, Tensor]]],
    rtol: float,
) -> str | None:
    """Return the first difference in words, or None. In mixed precision, only the losses are compared."""
    for (report, weights), (other, other_weights) in zip(alone, stacked, strict=True):
        if report.state != other.state:
            return f"a trial that is {report.state} alone is {other.state} when stacked"
        for name, trace in report.traces.items() if rtol == RTOL else [("train/loss", report.traces["train/loss"])]:
            if not np.allclose(other.traces[name], trace, rtol=rtol, atol=rtol, equal_nan=True):
                return f"{name} of a stacked trial is not the same as alone"
        if rtol != RTOL:
            continue
        for name, value in report.metrics.items():
            if not np.isclose(other.metrics[name], value, rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"{name} of a stacked trial is not the same as alone"
        for name, tensor in weights.items():
            if not torch.allclose(other_weights[name].double(), tensor.double(), rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"{name} of a stacked trial is not the same as alone"
    return None


def _explain(error: Exception) -> str:
    """Return what an error of torch means for the user, in one line."""
    explanations = (meaning for part, meaning in EXPLANATIONS.items() if part in str(error))
    return next(explanations, f"torch cannot stack it ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    """Return the first line of the message, shortened, without the class name that a report adds."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("RuntimeError: ")
    return line if len(line) <= 120 else f"{line[:117]}..."


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """Turn off the log of the trainers in this thread: a failure inside the probe is a result, not an incident."""
    loggers = [logging.getLogger(f"sweeper.training.{name}") for name in ("sequential", "lanes.trainer")]
    thread = threading.get_ident()

    def is_from_other_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    for logger in loggers:
        logger.addFilter(is_from_other_thread)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_from_other_thread)


# --- the trainer ------------------------------------------------------------------------------------


class ProbedTrainer:
    """A trainer that stacks jobs if the probe allows it, and else trains them one at a time.

    It decides separately for each structure of models, because a trial may choose an activation or a normalization.

    Args:
        task: What is trained.
        recipe: How it is trained.
        width: Lanes of a stack.
        device: auto, cpu, cuda, cuda:1, mps.
        compiled: Whether stacks use torch.compile.

    Attributes:
        why: What was decided for the first structure, in one line; None before that.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        width: int = 16,
        device: str = "auto",
        compiled: bool = False,
    ) -> None:
        self._task, self._recipe = task, recipe
        self._device, self._width, self._compiled = device, width, compiled
        self._alone = SequentialTrainer(task, recipe, device=device)
        self._by_structure: dict[str, Trainer] = {}  # by the structure of their models
        self._structures: dict[frozenset[tuple[str, Value]], str] = {}  # by the model's hyperparameters
        self._trainer_of: dict[JobId, Trainer] = {}
        self.why: str | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        trainers = [self._trainer_for(job) for job in jobs]
        for trainer in dict.fromkeys(trainers):
            its_jobs = [job for job, other in zip(jobs, trainers, strict=True) if other is trainer]
            trainer.start(its_jobs)
            self._trainer_of |= {job.id: trainer for job in its_jobs}

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for trainer in self._trainers().values():
            yield from trainer.advance([id for id in ids if self._trainer_of[id] is trainer])

    def stop(self, id: JobId) -> None:
        self._trainer_of.pop(id).stop(id)

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        return self._trainer_of[id].evaluate(id, part)

    def weights(self, id: JobId) -> dict[str, Tensor]:
        return self._trainer_of[id].weights(id)

    def save(self, folder: Path, round: int) -> None:
        for name, trainer in self._trainers().items():
            trainer.save(folder / name, round)

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        step_of: dict[JobId, int] = {}
        trainers = [self._trainer_for(job) for job in jobs]
        for name, trainer in self._trainers().items():
            its_jobs = [job for job, other in zip(jobs, trainers, strict=True) if other is trainer]
            restored = trainer.restore(folder / name, its_jobs, last_round) if its_jobs else {}
            self._trainer_of |= dict.fromkeys(restored, trainer)
            step_of |= restored
        return step_of

    def capacity(self) -> int:
        return max(trainer.capacity() for trainer in self._trainers().values())

    def close(self) -> None:
        for trainer in self._trainers().values():
            trainer.close()
        self._trainer_of.clear()

    def _trainers(self) -> dict[str, Trainer]:
        """Return all trainers by the name of their folder in a checkpoint."""
        stacked = {
            f"lanes-{name}": trainer for name, trainer in self._by_structure.items() if trainer is not self._alone
        }
        return {"alone": self._alone, **stacked}

    def _trainer_for(self, job: Job) -> Trainer:
        """Return the trainer of a job. The first job of a structure decides, by a probe."""
        if stacking_obstacle(self._recipe.optimizer, job.hparams, job.momentum_S) is not None:
            return self._alone
        try:
            name = self._structure_of(job)
        except Exception:  # the model cannot be built: the trial itself will report it
            return self._alone
        if name not in self._by_structure:
            self._by_structure[name] = self._choose_trainer(job)
        return self._by_structure[name]

    def _structure_of(self, job: Job) -> str:
        """Return the structure of a job's model, which is built once for each set of the model's hyperparameters."""
        hparams = options_of(job.hparams, "model")
        key = frozenset(hparams.items())
        if key not in self._structures:
            cpu = torch.device("cpu")
            with seeded_generators(key_of(job.seed, PROBE), cpu):
                self._structures[key] = structure(build_model(self._task, job.seed, hparams, torch.float32, cpu))
        return self._structures[key]

    def _choose_trainer(self, job: Job) -> Trainer:
        """Probe a job's model, and return a trainer of stacks, or the one for single jobs."""
        verdict = probe(self._task, self._recipe, job, device=self._device)
        _log.info("%s (%.2f s)", verdict.why, verdict.seconds)
        self.why = self.why or verdict.why
        if verdict.form is None:
            return self._alone
        stacking = Stacking(verdict.form, self._width, self._compiled)
        return LaneTrainer(self._task, self._recipe, stacking, device=self._device)
