"""What schedules are said to be good for, as numbers of a trial: how fast, how steady, how well it generalises.

    lr_max             the largest LR that was used
    lr_auc             sum of the LRs that were used / updates planned: the area under the LR when a run is 1 long, in
                       units of the LR; of a complete trial its mean LR
    lr_end_over_peak   the last LR that was used / lr_max: 0 where it was annealed to nothing
    lr_wd_sum          sum over the updates of LR * weight decay (of what `optimizer.wd_mode` puts in the LR's place):
                       what the decay takes from the weights in all, which differs from schedule to schedule
    late_loss_spread   standard deviation of the training loss about its own straight line over the last tenth of the
                       run: oscillations late in training, which decay is said to end. Batches differ too, so it is to
                       be compared at equal batch size. Complete trials
    train_valid_gap    validation loss at the last report - mean training loss since the one before: larger where
                       training fits what does not generalise. Complete and pruned trials
    steps_to_target, seconds_to_target   updates and training seconds until the first report at which the objective's
                       metric is at least as good as the sweep's target (`objective.target`)

Of a trial with several members: the medians over them of late_loss_spread and train_valid_gap; the target is to be
reached by the median of the metric, and the seconds are those of all members together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from sweeper.tracking.events import EVENTS, TrainingEvent, decode, last_mark, lines, planned_lr, trial_prefix
from sweeper.types import Direction, Floats, State, TrialId

LR, TRAIN, VALID = "lr/group0", "train/loss", "valid/loss"
LR_WD = "lr_wd"  # of a report's sums
NONE: Mapping[str, float] = {}
LATE_SHARE = 0.1  # of a run
LATE_LEAST = 20  # updates: the spread of fewer says little

Facts = dict[str, float]


def time_to_target(
    intermediate: Iterable[tuple[int, float]],
    target: float | None,
    direction: Direction,
    clock: Sequence[float] = (),
) -> Facts:
    """steps_to_target and seconds_to_target; empty where there is no target or it was not reached.

    intermediate: (updates, the objective's metric) of each report. clock: seconds of training until each of them;
    without it there are no seconds.
    """
    if target is None:
        return {}
    for place, (step, value) in enumerate(intermediate):
        if value <= target if direction == "minimize" else value >= target:
            seconds = {"seconds_to_target": clock[place]} if place < len(clock) else {}
            return {"steps_to_target": float(step), **seconds}
    return {}


def late_loss_spread(loss_K: Floats) -> float | None:
    """The standard error of the regression of the losses on the update: sqrt(squared residuals / (K - 2)).

    None of fewer than three losses, or where one is not finite.
    """
    count = len(loss_K)
    if count < 3 or not np.isfinite(loss_K).all():
        return None
    t_K = np.arange(count) - (count - 1) / 2
    level_K = loss_K - loss_K.mean()
    residual_K = level_K - t_K * (t_K @ level_K) / (t_K @ t_K)
    return math.sqrt(residual_K @ residual_K / (count - 2))


class TrialFacts:
    """What has been seen of one trial: its reports go in, the facts come out. Holds the losses of its end alone.

    lr_S: as planned; a trainer that reports no LR used it.
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
        """What a member did until update `step`. The LR is that of whichever member was there first."""
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
        """The facts of a trial that ended so, those there are."""
        found: dict[str, float | None] = {}
        if self._lr_until > 0:
            found |= {"lr_max": self.lr_max, "lr_auc": self._lr_sum / len(self._lr_S)}
            found["lr_end_over_peak"] = self._lr_last / self.lr_max if self.lr_max > 0 else None
            found["lr_wd_sum"] = max(self._lr_wd_sums.values(), default=None)  # of the member that came furthest
        if state == "complete":
            found["late_loss_spread"] = _median(late_loss_spread(np.concatenate(late)) for late in self._late.values())
        if state in ("complete", "pruned"):
            found["train_valid_gap"] = _median(self._gaps.values())
        return {name: value for name, value in found.items() if value is not None}

    def _add_lr(self, lr_K: Floats) -> None:
        if len(lr_K) == 0:
            return
        self.lr_max = max(self.lr_max, float(lr_K.max()))
        self._lr_sum += float(lr_K.sum())
        self._lr_last = float(lr_K[-1])


def _median(values: Iterable[float | None]) -> float | None:
    """None where there is none, or a member has none."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    return median(numbers) if numbers and len(numbers) == len(known) else None


# --- of a stored sweep ------------------------------------------------------------------------------


def read_facts(spool: Path, only: Collection[TrialId] | None = None) -> dict[TrialId, Facts]:
    """The facts of every trial that has ended, or of those of `only`, as of the last committed round.

    Goes through the whole spool; of few trials it parses their lines alone.
    """
    seen: dict[TrialId, TrialFacts] = {}
    found: dict[TrialId, Facts] = {}
    for event in _events(spool / EVENTS, only):
        id = TrialId(event["study"], event["trial"])
        if event["e"] == "open":
            seen[id] = TrialFacts(planned_lr(event))
        elif event["e"] == "close":
            found[id] = seen.pop(id).facts_at_end(event["state"])
        else:
            traces = {name: decode(event["traces"][name]) for name in (LR, TRAIN) if name in event["traces"]}
            seen[id].report(event["member"], event["step"], traces, event["metrics"], event.get("sums", NONE))
    return found


def _events(path: Path, only: Collection[TrialId] | None) -> Iterator[TrainingEvent]:
    kinds = ("open", "report", "close")
    if only is None:
        starts = tuple(b'{"e":"%s",' % kind.encode() for kind in kinds)
    else:
        starts = tuple(trial_prefix(kind, *id) for kind in kinds for id in only)
    for line in lines(path, 0, last_mark(path)[1]):
        if line.startswith(starts):
            yield json.loads(line)
