"""Can this model be stacked? Three updates in float64, stacked, against the same alone; refuse at any difference.

vmap is wrong without a word in places (an embedding with padding_idx, buffers assigned anew in forward), and raises
in others (data-dependent branches, .item(), random numbers). So nothing is trusted that was not seen to agree, and
what three updates might miss (a rare draw, a padding symbol that does not occur, a count of the updates) is looked for.
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
from sweeper.training.lanes.program import Form, Mode, built, dropouts
from sweeper.training.lanes.stacked import why_not
from sweeper.training.lanes.structure import described, structure
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
# Not the trial's optimizer: Adam turns a gradient that is 0 up to rounding (a bias before a BatchNorm) into a whole
# step of either sign, so equal models would differ. The rules of the optimizers have tests of their own.
SGD = OptimizerSpec("torch.optim.SGD", {"weight_decay": 0.01})
RTOL = 1e-9
HALF_RTOL = 0.1  # of losses in mixed precision, whose digits are two or three

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")  # of a tensor
STACKED = "lanes: stacked trials give the same numbers as one at a time"
PLAIN_WORDS = {  # what an error of torch says: what it means for a person
    ".item()": "the model's forward pass needs the value of a tensor (.item(), or an `if` on one)",
    "data-dependent control flow": "the model's forward pass needs the value of a tensor (.item(), or an `if` on one)",
    "dynamic shape": "shapes in the model's forward pass depend on the data (a boolean mask?)",
    "Batching rule not implemented": "torch cannot stack one of the model's operations",
    "saved tensor hooks": "the model computes parts of itself again in the backward pass (checkpointing)",
    "autograd.Function": "the model has an autograd.Function (its own, or that of checkpointing)",
    "appears to not have been used": "a parameter is used by a way of its own, not as an attribute of its module",
}


class _UnfitError(Exception):
    """The model cannot be stacked; why, in words for a person."""


@dataclass(frozen=True)
class Verdict:
    """form: how this model is stacked, None if it cannot be. why: one line for a person."""

    form: Form | None
    why: str
    seconds: float = 0.0


def probe(task: Task, recipe: Recipe, example: Job, *, device: str = "auto") -> Verdict:
    """Whether, and how, jobs like `example` can be stacked. The example itself is not trained.

    The precision of the recipe is tried too where it is mixed, as operations may have no rule for it.
    """
    began = time.perf_counter()
    try:
        with _unlogged():
            verdict = Verdict(_form(task, recipe, example, device), STACKED)
    except _UnfitError as reason:
        verdict = Verdict(None, f"one trial at a time: {reason}")
    except Exception as error:  # it cannot be trained at all: the trial itself will say so
        verdict = Verdict(None, f"one trial at a time: training failed ({_first_line(error)})")
    return replace(verdict, seconds=time.perf_counter() - began)


def _form(task: Task, recipe: Recipe, example: Job, device: str) -> Form:
    reason = why_not(recipe.optimizer, example.hparams, example.momentum_S)
    if reason is not None:
        raise _UnfitError(reason.rstrip("."))
    if has_stream(task):
        raise _UnfitError("the data stay on the host and stream to one model, batch by batch (data.stream)")
    if resolve_device(device).type == "mps":
        raise _UnfitError("mps has no float64, in which stacked trials are compared")
    forms = _forms(task, example, recipe.batch_size, resolve_device(device))
    jobs, plain = _jobs(example), Recipe(SGD, recipe.batch_size)
    tried = {"float64": RTOL} | ({recipe.precision: HALF_RTOL} if recipe.precision in HALF else {})
    recipes = {precision: replace(plain, precision=precision) for precision in tried}
    expected = {each: _results(SequentialTrainer(task, recipes[each], device=device), jobs) for each in tried}
    for form in forms:
        try:
            reason = None
            for each, rtol in tried.items():
                trainer = LaneTrainer(task, recipes[each], Stacking(form, width=2), device=device)
                reason = reason or _difference(expected[each], _results(trainer, jobs), rtol)
        except Exception as error:
            reason = _plain_words(error)
        if reason is None:
            return form
        _log.debug("vmap(%s): %s", form.mode, reason)
    raise _UnfitError(str(reason))


def _jobs(example: Job) -> list[Job]:
    """Three short jobs with the numbers of the example's model."""
    numbers = {key: value for key, value in example.hparams.items() if key.startswith("model.")}
    return [
        replace(
            example,
            id=JobId("probe", trial, 0),
            seed=key_of(example.seed, PROBE, trial),
            lr_S=np.full(UPDATES, lr),
            momentum_S=None,
            controller=None,
            hparams=numbers,
            report_steps=(UPDATES,),
        )
        for trial, lr in enumerate(LRS)
    ]


# --- what is looked for in one model alone ----------------------------------------------------------


def _forms(task: Task, example: Job, batch_size: int, device: torch.device) -> list[Form]:
    """The ways to stack it that are worth trying, the faster one first. Raises _UnfitError."""
    task, numbers = task.to(device), options_of(example.hparams, "model")
    model, other = (built(task, seed, numbers, torch.float64, device) for seed in (example.seed, example.seed + 1))
    _check_alike(model, other)
    examples = Examples(task, example.parts[0], example.partition)
    index_B = np.arange(min(batch_size, examples.size))

    def train() -> None:
        """One forward and backward pass, as all the updates of a training."""
        (batch,) = training_batches(examples, index_B[None], example.seed, 0, device)
        inputs_B, target_B = cast(batch, torch.float64)
        loss_B = task.loss(task.forward(model, inputs_B), target_B)
        loss_B.sum().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated

    moving = _moving(model, train, device)
    trained = tuple(name for name, parameter in model.named_parameters() if parameter.grad is not None)
    modes: tuple[Mode, ...] = ("grad",) if _pads(train, device) else ("forward", "grad")
    return [Form(mode, trained, moving) for mode in modes]


def _check_alike(model: nn.Module, other: nn.Module) -> None:
    """Two seeds may give other numbers, nothing else; and those are trained by an optimizer alone."""
    parameters = list(model.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise _UnfitError("no parameter of the model is trained")
    if any(getattr(parameter, hooks, None) for parameter in parameters for hooks in HOOKS):
        raise _UnfitError("a parameter of the model has a hook, which stacked ones would lose")
    if structure(model) != structure(other):
        where = _differing(described(model), described(other)) or "its parameters"
        raise _UnfitError(f"models of two seeds differ in more than parameters and buffers ({where})")


def _moving(model: nn.Module, train: Callable[[], None], device: torch.device) -> tuple[str, ...]:
    """The buffers that training changes. Raises _UnfitError where it changes anything else, or draws."""
    buffers = dict(model.named_buffers())
    before = {name: value.clone() for name, value in buffers.items()}
    drawn = _drawn(train, device)
    if drawn:
        raise _UnfitError(f"the model draws random numbers of its own ({drawn}), which stacked trials would share")
    if any(parameter.grad is not None and parameter.grad.is_sparse for parameter in model.parameters()):
        raise _UnfitError("the model has sparse gradients (an embedding with sparse=True)")
    once, dropped = described(model, values=False), dropouts(model)
    _drawn(train, device)
    kept = _differing(once, described(model, values=False)) or (
        "a dropout rate" if dropouts(model) != dropped else None
    )
    if kept is not None:
        raise _UnfitError(f"the model changes in training what is no parameter and no buffer ({kept})")
    for name, value in model.named_buffers():
        if value is not buffers.get(name):
            raise _UnfitError(
                f"the model assigns its buffer {name} anew (self.{name.rpartition('.')[2]}.copy_(...) would do)"
            )
    return tuple(name for name, value in before.items() if not torch.equal(value, buffers[name]))


def _drawn(train: Callable[[], None], device: torch.device) -> str:
    """Whose random numbers it draws from; empty if it does not."""
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


def _pads(train: Callable[[], None], device: torch.device) -> bool:
    """Whether an operation skips a symbol (padding_idx), of which vmap(forward) gets the gradient wrong.

    Seen even where the batches of the probe do not have the symbol.
    """
    with seeded_generators(0, device), _Padding() as padding:  # type: ignore[no-untyped-call] # as its class
        train()
    return bool(padding.seen)


class _Padding(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it unannotated
    """Looks at all operations while it is on."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | (kwargs or {})
        self.seen |= isinstance(given.get("padding_idx"), int) and given["padding_idx"] >= 0
        return func(*args, **(kwargs or {}))


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """The first attribute that is not the same."""
    return next((key.rstrip(".") for key in {**one, **other} if one.get(key) != other.get(key)), None)


# --- stacked against alone --------------------------------------------------------------------------


def _results(trainer: Trainer, jobs: Sequence[Job]) -> list[tuple[Report, dict[str, Tensor]]]:
    trainer.start(jobs)
    reports = {report.id: report for report in trainer.advance([job.id for job in jobs])}
    for report in reports.values():
        if report.state == "failed":
            raise RuntimeError(report.reason)
    results = [(reports[job.id], trainer.weights(job.id)) for job in jobs]
    trainer.close()
    return results


def _difference(
    expected: Sequence[tuple[Report, dict[str, Tensor]]],
    found: Sequence[tuple[Report, dict[str, Tensor]]],
    rtol: float,
) -> str | None:
    """What differs first, None if nothing does; in mixed precision the losses alone are compared."""
    for (report, weights), (other, others) in zip(expected, found, strict=True):
        if report.state != other.state:
            return f"stacked, a trial is {other.state} that is {report.state} alone"
        for name, trace in report.traces.items() if rtol == RTOL else [("train/loss", report.traces["train/loss"])]:
            if not np.allclose(other.traces[name], trace, rtol=rtol, atol=rtol, equal_nan=True):
                return f"stacked, {name} is not as it is alone"
        if rtol != RTOL:
            continue
        for name, value in report.metrics.items():
            if not np.isclose(other.metrics[name], value, rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"stacked, {name} is not as it is alone"
        for name, tensor in weights.items():
            if not torch.allclose(others[name].double(), tensor.double(), rtol=RTOL, atol=RTOL, equal_nan=True):
                return f"stacked, {name} is not as it is alone"
    return None


def _plain_words(error: Exception) -> str:
    known = (words for sign, words in PLAIN_WORDS.items() if sign in str(error))
    return next(known, f"torch cannot stack it ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    """Without what a report puts before it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("RuntimeError: ")
    return line if len(line) <= 120 else f"{line[:117]}..."


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """What fails in the probe is no news: the trainers do not log it within, in this thread."""
    loggers = [logging.getLogger(f"sweeper.training.{name}") for name in ("sequential", "lanes.trainer")]
    mine = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != mine

    for logger in loggers:
        logger.addFilter(others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(others)


# --- the trainer ------------------------------------------------------------------------------------


class ProbedTrainer:
    """Lanes where the probe agrees, else one at a time; see sweeper.types.Trainer.

    Decides anew for each structure of models that comes, since a trial may choose an activation or a normalisation;
    `why` says in one line what was decided for the first.
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
        self._by: dict[str, Trainer] = {}  # by the structure of their models
        self._structures: dict[frozenset[tuple[str, Value]], str] = {}  # by the numbers that a trial gives its model
        self._of: dict[JobId, Trainer] = {}
        self.why: str | None = None

    def start(self, jobs: Sequence[Job]) -> None:
        trainers = [self._for(job) for job in jobs]
        for trainer in dict.fromkeys(trainers):
            own = [job for job, its in zip(jobs, trainers, strict=True) if its is trainer]
            trainer.start(own)
            self._of |= {job.id: trainer for job in own}

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        for trainer in self._all().values():
            yield from trainer.advance([id for id in ids if self._of[id] is trainer])

    def stop(self, id: JobId) -> None:
        self._of.pop(id).stop(id)

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        return self._of[id].evaluate(id, part)

    def weights(self, id: JobId) -> dict[str, Tensor]:
        return self._of[id].weights(id)

    def save(self, folder: Path, round: int) -> None:
        for name, trainer in self._all().items():
            trainer.save(folder / name, round)

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        stands: dict[JobId, int] = {}
        trainers = [self._for(job) for job in jobs]
        for name, trainer in self._all().items():
            own = [job for job, its in zip(jobs, trainers, strict=True) if its is trainer]
            found = trainer.restore(folder / name, own, last_round) if own else {}
            self._of |= dict.fromkeys(found, trainer)
            stands |= found
        return stands

    def capacity(self) -> int:
        return max(trainer.capacity() for trainer in self._all().values())

    def close(self) -> None:
        for trainer in self._all().values():
            trainer.close()
        self._of.clear()

    def _all(self) -> dict[str, Trainer]:
        """By the name of their folder in a checkpoint."""
        stacked = {f"lanes-{name}": trainer for name, trainer in self._by.items() if trainer is not self._alone}
        return {"alone": self._alone, **stacked}

    def _for(self, job: Job) -> Trainer:
        if why_not(self._recipe.optimizer, job.hparams, job.momentum_S) is not None:
            return self._alone
        try:
            name = self._structure(job)
        except Exception:  # its model cannot be built: the trial itself will say so
            return self._alone
        if name not in self._by:
            self._by[name] = self._probed(job)
        return self._by[name]

    def _structure(self, job: Job) -> str:
        """Of the job's model; it is built for this once for each choice of the model's numbers."""
        numbers = options_of(job.hparams, "model")
        key = frozenset(numbers.items())
        if key not in self._structures:
            cpu = torch.device("cpu")
            with seeded_generators(key_of(job.seed, PROBE), cpu):
                self._structures[key] = structure(built(self._task, job.seed, numbers, torch.float32, cpu))
        return self._structures[key]

    def _probed(self, job: Job) -> Trainer:
        verdict = probe(self._task, self._recipe, job, device=self._device)
        _log.info("%s (%.2f s)", verdict.why, verdict.seconds)
        self.why = self.why or verdict.why
        if verdict.form is None:
            return self._alone
        stacking = Stacking(verdict.form, self._width, self._compiled)
        return LaneTrainer(self._task, self._recipe, stacking, device=self._device)
