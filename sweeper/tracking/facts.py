"""Facts of a trial, to compare schedules: how fast and how steadily it learned, and how well it generalizes.

    lr_max             the largest LR used
    lr_auc             sum of the LRs used / planned updates: the area under the LR over a run of length 1, in units of
                       the LR; the mean LR of a complete trial
    lr_end_over_peak   the last LR used / lr_max; 0 if it was annealed to zero
    lr_wd_sum          sum over the updates of LR * weight decay (or what `optimizer.wd_mode` uses instead of the LR):
                       how much the decay takes from the weights in all, which differs between schedules
    late_loss_spread   standard deviation of the training loss around its own straight line over the last tenth of the
                       run: oscillations late in training, which decay is meant to end. Batches contribute too, so
                       compare it at equal batch size. Complete trials
    train_valid_gap    validation loss at the last report - mean training loss since the report before: larger if the
                       model overfits. Complete and pruned trials
    steps_to_target, seconds_to_target   updates and training seconds until the first report at which the objective's
                       metric is at least as good as the sweep's target (`objective.target`)

With several members, late_loss_spread and train_valid_gap are medians over them, the median of the metric must reach
the target, and seconds are those of all members together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from sweeper.tracking.events import (
    EVENTS,
    TrainingEvent,
    Whole,
    decode,
    last_mark,
    lines,
    parse,
    planned_lr,
    trial_prefix,
)
from sweeper.types import Direction, Floats, State, TrialId

LR, TRAIN, VALID = "lr/group0", "train/loss", "valid/loss"
LR_WD = "lr_wd"  # of a report's sums
NONE: Mapping[str, float] = {}
LATE_SHARE = 0.1  # fraction of a run
LATE_LEAST = 20  # updates; the spread of fewer is noise

Facts = dict[str, float]


def time_to_target(
    intermediate: Iterable[tuple[int, float]],
    target: float | None,
    direction: Direction,
    clock: Sequence[float] = (),
) -> Facts:
    """Return steps_to_target and seconds_to_target; {} if there is no target or the trial did not reach it.

    Args:
        intermediate: (updates, objective's metric) of each report.
        target: The value to reach; None for none.
        direction: Whether smaller or larger values are better.
        clock: Training seconds until each report. Without it, seconds_to_target is left out.
    """
    if target is None:
        return {}
    for place, (step, value) in enumerate(intermediate):
        if value <= target if direction == "minimize" else value >= target:
            seconds = {"seconds_to_target": clock[place]} if place < len(clock) else {}
            return {"steps_to_target": float(step), **seconds}
    return {}


def late_loss_spread(loss_K: Floats) -> float | None:
    """Return the standard error of a linear regression of the losses on the update, sqrt(squared residuals / (K - 2)).

    It is None for fewer than three losses, or if one is not finite.
    """
    count = len(loss_K)
    if count < 3 or not np.isfinite(loss_K).all():
        return None
    t_K = np.arange(count) - (count - 1) / 2
    level_K = loss_K - loss_K.mean()
    residual_K = level_K - t_K * (t_K @ level_K) / (t_K @ t_K)
    return math.sqrt(residual_K @ residual_K / (count - 2))


class TrialFacts:
    """Collects the facts of one trial from its reports. It keeps only the losses near the end.

    Args:
        lr_S: The planned LR, float64 [S], for trainers that report none.
    """

    def __init__(self, lr_S: Floats) -> None:
        steps = len(lr_S)
        self.lr_max = -math.inf
        self._lr_S = lr_S
        self._lr_sum = self._lr_last = 0.0
        self._lr_until = 0
        self._late_from = steps - min(steps, max(LATE_LEAST, round(LATE_SHARE * steps)))
        self._late: dict[int, list[Floats]] = {}
        self._gaps: dict[int, float | None] = {}
        self._lr_wd_sums: dict[int, float] = {}

    def report(
        self,
        member: int,
        step: int,
        traces: Mapping[str, Floats],
        metrics: Mapping[str, float],
        sums: Mapping[str, float] = NONE,
    ) -> None:
        """Add what a member did since its previous report. The LR is taken from the member that gets there first.

        Args:
            member: The member.
            step: Updates finished.
            traces: As in `sweeper.types.Report`.
            metrics: As in `sweeper.types.Report`.
            sums: As in `sweeper.types.Report`.
        """
        if LR_WD in sums:
            self._lr_wd_sums[member] = self._lr_wd_sums.get(member, 0.0) + sums[LR_WD]
        if step > self._lr_until:
            self._add_lr(traces.get(LR, self._lr_S[:step])[self._lr_until - step :])
            self._lr_until = step
        loss_K = traces.get(TRAIN, np.zeros(0))
        if step > self._late_from:
            self._late.setdefault(member, []).append(loss_K[max(0, len(loss_K) - (step - self._late_from)) :])
        with np.errstate(all="ignore"):
            gap = metrics.get(VALID, math.nan) - float(loss_K.mean()) if len(loss_K) else math.nan
        self._gaps[member] = gap if math.isfinite(gap) else None

    def facts_at_end(self, state: State) -> Facts:
        """Return the facts of a trial that ended in `state`, without those that are not defined."""
        facts: dict[str, float | None] = {}
        if self._lr_until > 0:
            facts |= {"lr_max": self.lr_max, "lr_auc": self._lr_sum / len(self._lr_S)}
            facts["lr_end_over_peak"] = self._lr_last / self.lr_max if self.lr_max > 0 else None
            facts["lr_wd_sum"] = max(self._lr_wd_sums.values(), default=None)  # of the member that got furthest
        if state == "complete":
            facts["late_loss_spread"] = _median(late_loss_spread(np.concatenate(late)) for late in self._late.values())
        if state in ("complete", "pruned"):
            facts["train_valid_gap"] = _median(self._gaps.values())
        return {name: value for name, value in facts.items() if value is not None}

    def _add_lr(self, lr_K: Floats) -> None:
        if len(lr_K) == 0:
            return
        self.lr_max = max(self.lr_max, float(lr_K.max()))
        self._lr_sum += float(lr_K.sum())
        self._lr_last = float(lr_K[-1])


def _median(values: Iterable[float | None]) -> float | None:
    """Return the median, or None if there is no value or a member has none."""
    of_members = list(values)
    known = [value for value in of_members if value is not None]
    return median(known) if known and len(known) == len(of_members) else None


# --- a stored sweep ---------------------------------------------------------------------------------


def read_facts(spool: Path, only: Collection[TrialId] | None = None) -> dict[TrialId, Facts]:
    """Return the facts of every ended trial as of the last committed round, without those whose record is damaged.

    Args:
        spool: Folder of the spool, which is read whole.
        only: The trials to return; None for all. For few trials only their lines are parsed.
    """
    open_trials: dict[TrialId, TrialFacts] = {}
    ended: dict[TrialId, Facts] = {}
    is_whole = Whole()
    for event in _events(spool / EVENTS, only):
        id = TrialId(event["study"], event["trial"])
        if not is_whole(event):
            open_trials.pop(id, None)
            continue
        if event["e"] == "open":
            open_trials[id] = TrialFacts(planned_lr(event))
        elif event["e"] == "close":
            ended[id] = open_trials.pop(id).facts_at_end(event["state"])
        else:
            traces = {name: decode(event["traces"][name]) for name in (LR, TRAIN) if name in event["traces"]}
            open_trials[id].report(event["member"], event["step"], traces, event["metrics"], event.get("sums", NONE))
    return ended


def _events(path: Path, only: Collection[TrialId] | None) -> Iterator[TrainingEvent]:
    kinds = ("open", "report", "close")
    if only is None:
        starts = tuple(b'{"e":"%s",' % kind.encode() for kind in kinds)
    else:
        starts = tuple(trial_prefix(kind, *id) for kind in kinds for id in only)
    for line in lines(path, 0, last_mark(path)[1]):
        if line.startswith(starts) and (event := parse(line)) is not None:
            yield event
