"""Many models at once: jobs whose models have one structure are stacked as lanes, and share every operation.

In addition to the rules for every trainer:

- Between turns, each job has its own rows. A stack is built for one turn and is always `width` lanes wide (empty lanes
  repeat the first one), so the order of a sum does not depend on the neighbors.
- Lanes of a stack may be at different updates. Everything that depends on the update comes from tables that are made
  on the host before the turn. A lane that reaches its report is copied out. Its place in the stack keeps training, and
  the result is not used.
- Nothing is read from the device within a turn.
- All models have the one Form that sweeper.training.lanes.probe found.
- If memory runs out, lanes wait in host memory. If that is not enough, stacks get narrower.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.training.batch import augment, augment_keys, micro_batches, reshape
from sweeper.training.checkpoint import Saved, job_digest, read_checkpoint, reopen_jobs, write_checkpoint
from sweeper.training.controllers import Course, observe, restore_course, save_course, start_course
from sweeper.training.device import deterministic_algorithms, intra_op_threads, resolve_device
from sweeper.training.evaluation import cast, evaluate
from sweeper.training.examples import Examples
from sweeper.training.lanes.compiling import CompiledUpdate, compiler_settings
from sweeper.training.lanes.program import Batch, Form, Program, Rows, Tensors, build_model, dropout_rates, quiet_vmap
from sweeper.training.lanes.recipe import averaging_rule, clip_rows
from sweeper.training.lanes.segments import LaneOptions, Segment, order_by_group, segmented_rule, segments_of
from sweeper.training.lanes.stacked import Rule, stacking_obstacle
from sweeper.training.lanes.structure import structure
from sweeper.training.norms import measured_flags
from sweeper.training.optimizers.groups import Grouping, with_lrs
from sweeper.training.optimizers.optim import grouping_of, options_of
from sweeper.training.randomness import (
    DROPOUT,
    EVALUATION,
    TURN,
    example_index,
    key_of,
    micro_batch_key,
    seeded_generators,
)
from sweeper.training.recipe import Recipe
from sweeper.training.reports import Turn, check_job, failure_of, next_report_step, report_of
from sweeper.types import Floats, InputError, Job, JobId, Report, State, Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stacking:
    """How jobs are stacked.

    Attributes:
        form: Form of their model, found by the probe.
        width: Lanes of a stack.
        compiled: Whether to use torch.compile, which is worth it in a long sweep.
    """

    form: Form
    width: int
    compiled: bool = False


class _Kind(NamedTuple):
    """What the lanes of one stack have in common.

    Attributes:
        structure: Digest of the structure of their models.
        partition: Split or fold of the data.
        part: The part that they train on.
        optimizer: Segments of their rows.
    """

    structure: str
    partition: int
    part: str
    optimizer: tuple[Segment, ...]


@dataclass
class _Lane:
    """An open job and its tensors as of its last report.

    Attributes:
        job: The job.
        course: The job as its controller has changed it so far.
        step: Updates finished.
        state: As in reports.
        kind: What it shares with other lanes; None before its first turn, like rows, rule and options.
        rows: Its weights and buffers.
        rule: The rule of its optimizer.
        options: What the rule computes its scalars from.
        grouping: Parameter groups of its model.
        rule_states: States of the rule, each [P].
        drops: The p of each dropout layer.
    """

    job: Job
    course: Course
    step: int = 0
    state: State = "running"
    kind: _Kind | None = None
    rows: Rows | None = None
    rule: Rule[LaneOptions] | None = None
    options: LaneOptions | None = None
    grouping: Grouping = field(default_factory=Grouping)
    rule_states: tuple[Tensor, ...] = ()
    drops: tuple[float, ...] = ()


class _SavedLane(Saved, total=False):
    """A job in a checkpoint. The tensors are there from its first turn on.

    Attributes:
        structure: Digest of the structure of its model.
        weight: Trained parameters [P].
        kept: States of its rule, each [P].
        moving: Buffers that training changes, by name.
    """

    structure: str
    weight: Tensor
    kept: tuple[Tensor, ...]
    moving: Tensors


class _Stack(NamedTuple):
    """The tensors of the lanes of a turn, stacked.

    Attributes:
        weight_LP: Trained parameters.
        rule_states: States of the rule, each [L, P].
        moving: Buffers that training changes, each [L, ...].
        fixed: All other parameters and buffers, each [L, ...].
    """

    weight_LP: Tensor
    rule_states: list[Tensor]
    moving: Tensors
    fixed: Tensors


class _Block(NamedTuple):
    """The tables of one turn: N updates of L lanes, on the device.

    Attributes:
        until_L: Update at which each lane reports.
        index_NLB: Examples of each batch.
        coefficients_NC: For each update the C scalars of the rule, each [L, 1].
        counts_N: For each update what the dropout layers count by; empty without dropout.
        augment_N: For each update the keys of augmentation, if the task has any.
        flags_L: For each lane, which of its updates are measured. On the host.
    """

    until_L: list[int]
    index_NLB: Tensor
    coefficients_NC: list[tuple[Tensor, ...]]
    counts_N: list[Tensors]
    augment_N: Sequence[Tensor | None]
    flags_L: list[NDArray[np.bool_]]


class LaneTrainer:
    """A trainer of `width` jobs at a time (see sweeper.types.Trainer and sweeper.training.lanes.probe).

    Args:
        task: What is trained.
        recipe: How it is trained. The optimizer must have a rule in sweeper.training.lanes.stacked.
        stacking: How jobs are stacked.
        device: auto, cpu, cuda, cuda:1, mps.
        now: Clock for the seconds in reports.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        stacking: Stacking,
        *,
        device: str = "auto",
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._device = resolve_device(device)
        self._task = task.to(self._device)
        self._recipe, self._form = recipe, stacking.form
        self._half = recipe.half(self._device)
        self._width, self._compiled, self._now = stacking.width, stacking.compiled, now
        self._programs: dict[str, Program] = {}
        self._updates: dict[tuple[str, tuple[Segment, ...]], Callable[..., Any]] = {}  # by structure
        self._silent: dict[str, frozenset[int]] = {}  # by structure
        self._open: dict[JobId, _Lane] = {}
        self._batch_rows: dict[str, dict[tuple[str, int], int]] = {}  # of evaluations, by structure
        self._is_crowded = False  # whether lanes wait in host memory

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._check(job)
        for job in jobs:
            self._open[job.id] = _Lane(job, start_course(job))

    def advance(self, ids: Sequence[JobId]) -> Iterator[Report]:
        stacks: dict[_Kind, list[_Lane]] = {}
        for id in ids:
            lane = self._open[id]
            if lane.state != "running":
                raise RuntimeError(f"{id} is {lane.state}. It can be evaluated and stopped, but not advanced")
            try:
                stacks.setdefault(self._prepare(lane), []).append(lane)
            except Exception as error:
                yield self._fail(lane, error)
        for lanes in stacks.values():
            for first in range(0, len(lanes), self._width):
                yield from self._run_turn(lanes[first : first + self._width])

    def stop(self, id: JobId) -> None:
        del self._open[id]

    def evaluate(self, id: JobId, part: str) -> dict[str, float]:
        lane = self._open[id]
        kind = self._prepare(lane)
        self._move(lane, self._device)
        with self._isolate(lane):
            return self._metrics(lane, kind, part)

    def weights(self, id: JobId) -> dict[str, Tensor]:
        lane = self._open[id]
        kind = self._prepare(lane)
        self._move(lane, self._device)
        state = self._programs[kind.structure].hold(self._evaluated_rows(lane)).state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items() if isinstance(value, Tensor)}

    def save(self, folder: Path, round: int) -> None:
        running = [lane for lane in self._open.values() if lane.state == "running"]
        write_checkpoint(folder, round, {lane.job.id: self._state(lane) for lane in running})

    def restore(self, folder: Path, jobs: Sequence[Job], last_round: int) -> dict[JobId, int]:
        states = read_checkpoint(folder, last_round)
        return reopen_jobs(states, jobs, digest=self._digest, check=self._check, reopen=self._reopen)

    def capacity(self) -> int:
        return self._width

    def close(self) -> None:
        self._open.clear()

    # --- a turn -------------------------------------------------------------------------------------

    def _run_turn(self, lanes: list[_Lane]) -> Iterator[Report]:
        """Train lanes of one kind to their next reports.

        If the stack fails, the lanes are trained one at a time, so that only the lane at fault fails.
        """
        try:
            with self._isolate(lanes[0]):
                reports = self._advance_stack(lanes)
        except Exception as error:
            failure = error.with_traceback(None)  # a traceback keeps tensors alive, and with them memory
        else:
            yield from reports
            return
        if isinstance(failure, torch.OutOfMemoryError) and self._make_room():
            for first in range(0, len(lanes), self._width):
                yield from self._run_turn(lanes[first : first + self._width])
        elif len(lanes) == 1:
            yield self._fail(lanes[0], failure)
        else:
            for lane in lanes:
                yield from self._run_turn([lane])

    def _make_room(self) -> bool:
        """Free memory, so that the turn can be tried again, and return whether that was possible.

        The first time, all lanes move to host memory, and wait there between their turns from now on. After that,
        stacks become half as wide, which changes the last digits in float32.
        """
        if not self._is_crowded:
            self._is_crowded = True
            _log.warning("out of memory on %s: trials now wait for their turn in host memory", self._device)
        elif self._width > 1:
            self._width //= 2
            message = "out of memory on %s: now %d trials at once. Results in float32 may differ in their last digits"
            _log.warning(message, self._device, self._width)
        else:
            return False
        for lane in self._open.values():
            self._move(lane, torch.device("cpu"))
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _move(self, lane: _Lane, device: torch.device) -> None:
        if lane.rows is not None:
            lane.rows = lane.rows.to(device)
            lane.rule_states = tuple(value.to(device) for value in lane.rule_states)

    def _advance_stack(self, lanes: list[_Lane]) -> list[Report]:
        """Train lanes of one kind to their next reports, and return these. Either all lanes advance or none."""
        start = self._now()
        kind = self._prepare(lanes[0])
        for lane in lanes:
            self._move(lane, self._device)
        program = self._programs[kind.structure]
        silent = self._silent_layers(lanes, kind)
        block = self._build_block(lanes, len(silent) < len(lanes[0].drops))
        after, loss_NL, norms = self._train(lanes, kind, program, silent, block)
        share = (self._now() - start) / len(lanes)
        reports, advanced = [], [replace(lane) for lane in lanes]  # copies, in case an evaluation fails
        for at, (lane, (rows, rule_states)) in enumerate(zip(advanced, after, strict=True)):
            start = self._now()
            first = lane.step
            lane.rows, lane.rule_states, lane.step = rows, rule_states, block.until_L[at]
            turn = Turn(lane.course.job, first, loss_NL[: lane.step - first, at], None if norms is None else norms[at])
            report = report_of(
                turn,
                self._task.loss_bound,
                lambda part, lane=lane: self._metrics(lane, kind, part),  # type: ignore[misc]
            )
            seconds = share + self._now() - start
            lane.course, report = observe(lane.course, replace(report, seconds=seconds))
            report = with_lrs(report, lane.grouping)
            lane.state = report.state
            reports.append(report)
        for lane in advanced:
            self._open[lane.job.id] = lane
            if self._is_crowded:
                self._move(lane, torch.device("cpu"))
        return reports

    def _train(
        self, lanes: list[_Lane], kind: _Kind, program: Program, silent: frozenset[int], block: _Block
    ) -> tuple[list[tuple[Rows, tuple[Tensor, ...]]], Floats, list[list[Tensor]] | None]:
        """Train lanes of one kind to their next reports, and read the results from the device once, at the end.

        Args:
            lanes: At most `width` of them.
            kind: Of all lanes.
            program: Of their structure.
            silent: Numbers of the dropout layers at which no lane drops anything.
            block: The tables of the turn.

        Returns:
            Rows and rule states of each lane at its report. The losses [N, L]; those after a lane's report are
            meaningless. The norms of each lane (`_norms_of`).
        """
        stack = self._build_stack(lanes)
        ends: dict[int, list[int]] = {}
        for at, lane in enumerate(lanes):
            ends.setdefault(block.until_L[at] - lane.step, []).append(at)
        measured_N = self._measured_updates(block)
        program.clock.silent = silent
        update = self._update_function(kind, program, _rule(lanes[0]))
        after: list[Any] = [None] * len(lanes)
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        for n, (index_LB, measured) in enumerate(zip(block.index_NLB.unbind(), measured_N.tolist(), strict=True)):
            batch_LB = self._fetch(kind, index_LB, block.augment_N[n])
            measures = measured or (self._compiled and self._recipe.norms)
            loss_LB, moving, gradient_L, before_LP = update(
                stack, batch_LB, block.counts_N[n], block.coefficients_NC[n], measures
            )
            stack = stack._replace(moving=moving)
            losses.append(loss_LB)
            if measured:
                weight_L = program.weight_norm(before_LP, stack.fixed)
                norms.append(torch.stack([gradient_L, weight_L, _norm(stack.weight_LP - before_LP)]))
            for at in ends.get(n + 1, ()):
                moved = {name: value[at].clone() for name, value in moving.items()}
                rows = Rows(stack.weight_LP[at].clone(), moved, _rows(lanes[at]).fixed)
                after[at] = (rows, tuple(state[at].clone() for state in stack.rule_states))
        loss_NL: Floats = torch.stack(losses).cpu().double().mean(2).numpy()
        return after, loss_NL, self._norms_of(lanes, block, measured_N, norms)

    def _update_function(self, kind: _Kind, program: Program, rule: Rule[LaneOptions]) -> Callable[..., Any]:
        """Return the update of a whole stack, which changes the weights and the states of the rule in place.

        A compiled update always measures. Otherwise there would be two graphs, which may round differently, and a lane
        would go through one or the other depending on what its neighbors measure.
        """
        key = (kind.structure, kind.optimizer)
        if key not in self._updates:
            update_rule, recipe = rule.update, self._recipe

            def update(
                stack: _Stack, batch_LB: Batch, counts: Tensors, coefficients_C: Sequence[Tensor], measured: bool
            ) -> tuple[Tensor, Tensors, Tensor | None, Tensor | None]:
                weight_LP, rule_states, moving, fixed = stack
                first, *others = micro_batches(batch_LB, recipe.accumulate, dim=1)
                loss_LB, gradient_LP, moving = program.gradients(weight_LP, moving, fixed, first, counts)
                losses = [loss_LB]
                for micro, batch in enumerate(others, 1):
                    counted = _of_micro_batch(counts, micro)
                    loss_LB, more_LP, moving = program.gradients(weight_LP, moving, fixed, batch, counted)
                    losses.append(loss_LB)
                    gradient_LP.add_(more_LP)
                with torch.no_grad():
                    gradient_L = _norm(gradient_LP) if measured or recipe.clip is not None else None
                    # After the forward pass, because that may change weights, too (max_norm of an embedding).
                    before_LP = weight_LP.clone() if measured else None
                    if recipe.clip is not None and gradient_L is not None:
                        clip_rows(gradient_LP, gradient_L, recipe.clip)
                    update_rule(weight_LP, gradient_LP, rule_states, coefficients_C)
                return losses[0] if len(losses) == 1 else torch.cat(losses, 1), moving, gradient_L, before_LP

            self._updates[key] = CompiledUpdate(update) if self._compiled else update
        return self._updates[key]

    def _build_stack(self, lanes: list[_Lane]) -> _Stack:
        order = [*lanes, *[lanes[0]] * (self._width - len(lanes))]
        return _Stack(
            torch.stack([_rows(lane).weight_P for lane in order]),
            [torch.stack(states) for states in zip(*(lane.rule_states for lane in order), strict=True)],
            {name: torch.stack([_rows(lane).moving[name] for lane in order]) for name in self._form.moving},
            {name: torch.stack([_rows(lane).fixed[name] for lane in order]) for name in _rows(order[0]).fixed},
        )

    def _fetch(self, kind: _Kind, index_LB: Tensor, key_L: Tensor | None) -> Batch:
        """Return inputs and targets [L, B, ...] of one update."""
        fetched = self._task.fetch(kind.part, kind.partition, index_LB.flatten())
        batch = augment(self._task, reshape(fetched, 1, index_LB.shape), key_L)
        inputs_LB, target_LB = cast(batch, self._recipe.weights)
        return inputs_LB, target_LB

    # --- the tables of a turn -----------------------------------------------------------------------

    def _build_block(self, lanes: list[_Lane], drops: bool) -> _Block:
        """Return the tables of a turn. `drops` says whether any dropout layer of the lanes drops anything."""
        order = [*lanes, *[lanes[0]] * (self._width - len(lanes))]
        until_L = [next_report_step(lane.job, lane.step) for lane in lanes]
        count = max(until - lane.step for until, lane in zip(until_L, lanes, strict=True))
        step_L = np.array([lane.step for lane in order], dtype=np.int64)
        seed_L = np.array([lane.job.seed for lane in order], dtype=np.int64)
        size = self._task.size(lanes[0].job.parts[0], lanes[0].job.partition)
        index_NLB = _batches(seed_L, step_L, count, self._recipe.batch_size, size)
        return _Block(
            until_L,
            torch.from_numpy(index_NLB).to(self._device, non_blocking=True),
            self._coefficients(order, count),
            self._dropout_counts(order, seed_L, step_L, count) if drops else [{}] * count,
            augment_keys(self._task, seed_L, step_L, count, self._device),
            [
                measured_flags(lane.job.steps, lane.job.report_steps, lane.step, until)
                for lane, until in zip(lanes, until_L, strict=True)
            ],
        )

    def _coefficients(self, order: list[_Lane], count: int) -> list[tuple[Tensor, ...]]:
        """Return for each update the C scalars of the rule, each [L, 1]."""
        table_of: dict[int, Floats] = {}
        for lane in order:
            if id(lane) not in table_of:
                table_of[id(lane)] = self._coefficients_of(lane, count)
        table_NCL = np.stack([table_of[id(lane)] for lane in order], axis=2)
        on_device = torch.from_numpy(table_NCL).to(self._recipe.weights).to(self._device).unsqueeze(3)
        return [tuple(of_update.unbind()) for of_update in on_device.unbind()]

    def _coefficients_of(self, lane: _Lane, count: int) -> Floats:
        """Return the scalars of a lane's next `count` updates, [N, C]. After its report, the last ones are repeated."""
        job, first = lane.course.job, lane.step
        until = min(first + count, next_report_step(job, first))
        momentum_S = None if job.momentum_S is None else job.momentum_S[first:until]
        earlier_S = None if job.momentum_S is None else job.momentum_S[:first]
        table_SC: Floats = _rule(lane).coefficients(lane.options, job.lr_S[first:until], momentum_S, first, earlier_S)
        return np.concatenate([table_SC, np.repeat(table_SC[-1:], first + count - until, axis=0)])

    def _dropout_counts(
        self, order: list[_Lane], seed_L: NDArray[np.int64], step_L: NDArray[np.int64], count: int
    ) -> list[Tensors]:
        """Return for each update what the dropout layers count by."""
        key_NL = key_of(seed_L, DROPOUT, step_L + np.arange(count)[:, None])
        keys = torch.from_numpy(key_NL).to(self._device).unsqueeze(2)
        p_LK = np.array([lane.drops for lane in order])
        threshold = torch.from_numpy(np.round(p_LK * 2**32).astype(np.int64)).to(self._device)
        scale_LK = np.divide(1.0, 1 - p_LK, where=p_LK < 1, out=np.zeros_like(p_LK))
        scale = torch.from_numpy(scale_LK).to(self._recipe.weights).to(self._device)
        return [{"key": key, "threshold": threshold, "scale": scale} for key in keys.unbind()]

    def _silent_layers(self, lanes: list[_Lane], kind: _Kind) -> frozenset[int]:
        """Return the numbers of the dropout layers at which no lane drops anything.

        Compiled, a layer that was once not silent stays so for its structure, so that less is compiled again.
        """
        by_layer = enumerate(zip(*(lane.drops for lane in lanes), strict=True))
        silent = frozenset(k for k, p_L in by_layer if not any(p_L))
        if self._compiled:
            silent &= self._silent.setdefault(kind.structure, silent)
            self._silent[kind.structure] = silent
        return silent

    def _measured_updates(self, block: _Block) -> NDArray[np.bool_]:
        """Return which updates of a turn are measured: those that any lane measures."""
        measured_N = np.zeros(len(block.counts_N), dtype=np.bool_)
        for flags in block.flags_L if self._recipe.norms else ():
            measured_N[: len(flags)] |= flags
        return measured_N

    def _norms_of(
        self, lanes: list[_Lane], block: _Block, measured_N: NDArray[np.bool_], norms: list[Tensor]
    ) -> list[list[Tensor]] | None:
        """Return for each lane the norms [3] of the updates that it measures: gradient, weights, change of weights."""
        if not self._recipe.norms:
            return None
        at_N = np.flatnonzero(measured_N).tolist()
        norms_K3L = torch.stack(norms).cpu() if norms else torch.zeros(0, 3, self._width)
        return [
            [norms_K3L[k, :, lane] for k, n in enumerate(at_N) if n < len(flags) and flags[n]]
            for lane, flags in zip(range(len(lanes)), block.flags_L, strict=True)
        ]

    # --- lanes --------------------------------------------------------------------------------------

    def _prepare(self, lane: _Lane) -> _Kind:
        """Return the kind of a lane. Before its first turn, build its model and fill in the lane."""
        if lane.state == "failed":
            raise RuntimeError(f"{lane.job.id} failed and has no weights")
        if lane.kind is None:
            job = lane.job
            hparams = options_of(job.hparams, "model")
            with seeded_generators(key_of(job.seed, TURN, 0), self._device):
                model = build_model(self._task, job.seed, hparams, self._recipe.weights, self._device)
            name = structure(model)
            lane.grouping = grouping_of(self._recipe.optimizer, job, model)
            if name not in self._programs:
                form = replace(self._form, trained=order_by_group(self._form.trained, lane.grouping))
                self._programs[name] = Program(self._task, model, form, self._recipe.batch_size, self._half)
            program = self._programs[name]
            lane.rows, lane.drops = program.rows(model), tuple(dropout_rates(model))
            segments, lane.options = segments_of(self._recipe.optimizer, job, lane.grouping, program.layout)
            lane.rule = self._rule_of(segments)
            lane.rule_states = tuple(
                torch.full_like(lane.rows.weight_P, start) for start in lane.rule.initial_values(lane.options)
            )
            lane.kind = _Kind(name, job.partition, job.parts[0], segments)
        return lane.kind

    def _metrics(self, lane: _Lane, kind: _Kind, part: str) -> dict[str, float]:
        model = self._programs[kind.structure].hold(self._evaluated_rows(lane))
        rows = self._batch_rows.setdefault(kind.structure, {})
        return evaluate(Examples(self._task, part, lane.job.partition), model, self._device, self._half, rows)

    def _evaluated_rows(self, lane: _Lane) -> Rows:
        """Return the rows to evaluate: with the average of the weights, if the recipe has one."""
        if self._recipe.ema is None or lane.step == 0:
            return _rows(lane)
        return _rows(lane)._replace(weight_P=lane.rule_states[-1])

    def _rule_of(self, segments: tuple[Segment, ...]) -> Rule[LaneOptions]:
        rule = segmented_rule(segments)
        return rule if self._recipe.ema is None else averaging_rule(rule, self._recipe.ema)

    @contextlib.contextmanager
    def _isolate(self, lane: _Lane) -> Iterator[None]:
        """Run in one thread, with repeatable algorithms and with global generators seeded for this lane.

        The probe saw no draw from these generators. Seeding them is a precaution.
        """
        seeded = seeded_generators(key_of(lane.job.seed, EVALUATION, lane.step), self._device)
        compiled = compiler_settings() if self._compiled else contextlib.nullcontext()
        with intra_op_threads(1), deterministic_algorithms(self._device), seeded, quiet_vmap(), compiled:
            yield

    def _fail(self, lane: _Lane, error: Exception) -> Report:
        _log.exception("%s failed after update %d", lane.job.id, lane.step, exc_info=error)
        lane.state = "failed"
        return failure_of(Turn(lane.job, lane.step, np.zeros(0), [] if self._recipe.norms else None), error)

    def _check(self, job: Job) -> None:
        if job.id in self._open:
            raise RuntimeError(f"{job.id} is already open")
        check_job(job, self._task, self._recipe.optimizer)
        reason = stacking_obstacle(self._recipe.optimizer, job.hparams, job.momentum_S)
        if reason is not None:
            raise InputError("trainer", "lanes", reason.rstrip("."), "Use trainer=sequential")

    # --- checkpoints --------------------------------------------------------------------------------

    def _digest(self, job: Job) -> str:
        return job_digest(job, self._task.fingerprint, *self._recipe.settings, "lanes")

    def _state(self, lane: _Lane) -> Saved:
        saved: Saved = {"digest": self._digest(lane.job), "step": lane.step, **save_course(lane.course)}
        if lane.kind is None or lane.rows is None:
            return saved
        whole: _SavedLane = {
            **saved,
            "structure": lane.kind.structure,
            "weight": lane.rows.weight_P,
            "kept": lane.rule_states,
            "moving": lane.rows.moving,
        }
        return whole

    def _reopen(self, job: Job, saved: _SavedLane) -> None:
        lane = _Lane(job, restore_course(job, saved), saved["step"])
        if "weight" in saved:
            if self._prepare(lane).structure != saved["structure"]:
                raise ValueError("the checkpoint is of a different model")
            moving = {name: value.to(self._device) for name, value in saved["moving"].items()}
            lane.rows = Rows(saved["weight"].to(self._device), moving, _rows(lane).fixed)
            lane.rule_states = tuple(value.to(self._device) for value in saved["kept"])
        self._open[job.id] = lane


def _rule(lane: _Lane) -> Rule[LaneOptions]:
    assert lane.rule is not None
    return lane.rule


def _rows(lane: _Lane) -> Rows:
    assert lane.rows is not None
    return lane.rows


def _batches(
    seed_L: NDArray[np.int64], step_L: NDArray[np.int64], count: int, batch_size: int, size: int
) -> NDArray[np.int64]:
    """Return the examples of each lane's next `count` updates, [N, L, B], as sweeper.training.randomness.batches does.

    Args:
        seed_L: Seeds of the lanes.
        step_L: Updates that each lane has finished.
        count: Updates.
        batch_size: Examples of an update.
        size: Examples of the training part.
    """
    # Trials of a sweep share their seeds, and many are at the same update. Equal rows are computed once.
    (seed_D, step_D), distinct_L = np.unique(np.stack([seed_L, step_L]), axis=1, return_inverse=True)
    place_DB = step_D[:, None] * batch_size + np.arange(count * batch_size)
    index_LB = example_index(seed_D[:, None], place_DB, size)[distinct_L.reshape(-1)]
    index_NLB = index_LB.reshape(len(seed_L), count, batch_size).transpose(1, 0, 2)
    return np.ascontiguousarray(index_NLB)


def _of_micro_batch(counts: Tensors, micro: int) -> Tensors:
    """Return what the dropout layers count by in a micro-batch."""
    return {**counts, "key": micro_batch_key(counts["key"], micro)} if counts else counts


def _norm(values_LP: Tensor) -> Tensor:
    """Return the L2 norm of each row, [L]."""
    norm_L: Tensor = torch.linalg.vector_norm(values_LP, dim=1)
    return norm_L
