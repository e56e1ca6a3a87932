"""The tables of a sweep: one row per trial, and one row per family, in pandas and as JSON.

Only complete trials are ranked. A pruned trial's last value is from an earlier step, and a diverged one has no value.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.text.columns import clean
from sweeper.tracking.facts import Facts, time_to_target
from sweeper.types import AT, At, Direction, Record, State, TrialId, Value, extreme

if TYPE_CHECKING:
    import pandas as pd

COMMON = ("peak_lr", "warmup", "decay", "cycle")  # hyperparameters with their own columns
STATES: tuple[State, ...] = ("complete", "pruned", "diverged", "failed", "running")
TUNED, DEFAULT = "tuned constant", "default LR"  # the roles of the two baselines
BASELINES = ("constant", "default_lr")  # the families in these roles
ROLES = dict(zip(BASELINES, (TUNED, DEFAULT), strict=True))
RAMPS = ("range_test",)  # families whose LR grows until the loss explodes: they measure, and are meant to diverge

# Sentences that a search and its confirmation have in common.
ENDS_HIGH = "ends more than 10% of its peak LR above its floor. In a longer run the LR would fall further."
UNEQUAL_TRIALS = "Unequal budgets: a family with more trials had more chances."
LOWER = "Lower the range of its peak LR."

LEARNED = 0.1  # share of the way from no skill to the best trial from which a trial has learned something

FACTS = ("lr_auc", "lr_end_over_peak", "lr_wd_sum", "late_loss_spread", "train_valid_gap")  # see tracking.facts
TO_TARGET = ("steps_to_target", "seconds_to_target")
RULES = {at: f"objective/{at}" for at in AT}  # the column of each rule of objective.at
SPREAD = "objective/spread"

FactsOf = Callable[[Collection[TrialId]], Mapping[TrialId, Facts]]
EndsHigh = Callable[[str, int], bool | None] | Mapping[tuple[str, int], bool | None]


@dataclass(frozen=True)
class Criterion:
    """How trials are compared.

    Attributes:
        metric: As in `objective.metric`.
        direction: As in `objective.direction`.
        at: As in `objective.at`: which of a trial's values counts.
        seeds: Seeds of each trial.
        folds: Folds of each trial.
    """

    metric: str
    direction: Direction = "minimize"
    at: At = "last"
    seeds: int = 1
    folds: int = 1

    @property
    def sense(self) -> str:
        """Which value is better, in words."""
        return "lower is better" if self.direction == "minimize" else "higher is better"

    @property
    def extreme(self) -> str:
        """The word for the value that the search looks for: lowest or highest."""
        return extreme(self.direction)

    @property
    def members(self) -> str:
        """Over which seeds and folds a trial's value is taken, in words."""
        if self.seeds * self.folds == 1:
            return "one seed"
        counts = [f"{count} {word}" for count, word in ((self.seeds, "seeds"), (self.folds, "folds")) if count > 1]
        return f"the median of {' x '.join(counts)}"


# --- one row per trial ------------------------------------------------------------------------------


def trials_table(
    records: Iterable[Record],
    *,
    direction: Direction = "minimize",
    target: float | None = None,
    facts: Mapping[TrialId, Facts] | None = None,
) -> pd.DataFrame:
    """Return one row per trial, sorted by family, study and number.

    Columns:

    - study, family, trial, state, value.
    - peak_lr, warmup, decay, cycle, and every other hyperparameter by its name ("params.<name>" if the name is taken).
    - The objective by every rule ("objective/last", ...), and "objective/spread", over the trial's members.
    - steps, seconds, steps_to_target, seconds_to_target, and the columns of FACTS.
    - diverged_step, reason, and truncated: whether the trial counts as complete although it ended early.
    - origin: of a trial that a wider study took over, the trial that was trained ("cosine-1a2b3c:4").
    - prior_of: the wider study whose space does not contain the trial.

    Missing floats are NaN, missing integers <NA>.

    Args:
        records: The trials.
        direction: Of the objective.
        target: Value of the objective's metric to reach; None for none.
        facts: By trial, from `sweeper.tracking.facts.read_facts`.
    """
    import pandas as pd

    records = sorted(records, key=lambda record: (record.family, record.study, record.number))
    before = ["study", "family", "trial", "state", "value"]
    after = [
        *RULES.values(),
        SPREAD,
        "steps",
        "seconds",
        *TO_TARGET,
        *FACTS,
        "diverged_step",
        "truncated",
        "reason",
        "origin",
        "prior_of",
    ]
    others = {
        name: f"params.{name}" if name in (*before, *after) else name
        for name in sorted({name for record in records for name in record.params} - set(COMMON))
    }
    rows = [
        {
            "study": record.study,
            "family": record.family,
            "trial": record.number,
            "state": record.state,
            "value": _finite_or_none(record.value),
            **{name: _number_or_none(record.params.get(name)) for name in COMMON},
            **{column: record.params.get(name) for name, column in others.items()},
            **{name: record.measures.get(name) for name in (*RULES.values(), SPREAD)},
            "steps": record.steps_done,
            "seconds": record.seconds,
            **time_to_target(record.intermediate, target, direction, record.clock),
            **{name: (facts or {}).get(record.trained_as, {}).get(name) for name in FACTS},
            "diverged_step": record.diverged_step,
            "truncated": record.truncated,
            "reason": record.reason,
            "origin": "" if record.origin is None else f"{record.origin.study}:{record.origin.trial}",
            "prior_of": record.prior_of,
        }
        for record in records
    ]
    table = pd.DataFrame(rows, columns=[*before, *COMMON, *others.values(), *after])
    whole = dict.fromkeys(["trial", "steps", "steps_to_target", "diverged_step"], "Int64")
    floats = ["value", *COMMON, *RULES.values(), SPREAD, "seconds", *TO_TARGET, *FACTS]
    return table.astype({**dict.fromkeys(floats, "float64"), **whole})


def target_of(records: Iterable[Record], direction: Direction) -> float | None:
    """Return the value that trials are timed against; None while no trial is complete.

    It is the best value of the tuned constant. Without that family it is the best value of the worst family, and the
    untuned default LR counts only if there is no other family.
    """
    best: dict[str, float] = {}
    for record in (record for record in records if not record.prior_of):
        score = _score(record.value, direction)
        if record.state == "complete" and score > -math.inf:
            best[record.family] = max(score, best.get(record.family, -math.inf))
    tuned, default = BASELINES
    others = [value for family, value in best.items() if family != default] or list(best.values())
    chosen = best.get(tuned, min(others, default=None))
    return None if chosen is None else _score(chosen, direction)


# --- one row per study ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Details:
    """What the table of families shows in addition to the records. None if unknown.

    Attributes:
        ends_high: Whether the LR of (study, trial) ends high, as a function or a mapping.
        facts: Returns the facts of the given trials.
        importances: By study, as in `Sweep.importances`.
        no_skill: The objective of a prediction that ignores the inputs.
    """

    ends_high: EndsHigh | None = None
    facts: FactsOf | None = None
    importances: Mapping[str, Mapping[str, float]] | None = None
    no_skill: float | None = None


def families_table(
    records: Iterable[Record], *, direction: Direction, target: float | None = None, details: Details = Details()
) -> pd.DataFrame:
    """Return one row per study: the best first, then the two baselines.

    Columns:

    - study, family, role: "", "tuned constant" or "default LR".
    - rank: over all rows. Equal values share a rank.
    - best_value, best_trial, and "objective/spread" of that trial over its members.
    - "objective/last", ...: the best of all complete trials by each rule, possibly of different trials.
    - gain: over the tuned constant. Positive is better.
    - ends_high: whether the best trial ends more than 10% of its peak above its floor; None if unknown.
    - peak_lr, warmup, decay, cycle, params: of the best trial. others: its other searched hyperparameters.
    - complete, pruned, diverged, failed, running: numbers of trials.
    - truncated: complete trials that ended early. best_truncated: whether the best trial is one of them.
    - taken_over: trials from before the space was widened. prior: those outside the new space, which do not count.
    - no_value: failed trials whose objective had no value, although their loss had not diverged.
    - learned: complete trials that learned something: they are better than `bar`.
    - stable_lr: largest peak LR of a trial that learned something. diverged_lr: smallest of a diverged one.
    - no_skill: the objective of a prediction that ignores the inputs. bar: LEARNED of the way from it to the best trial
      of all. Both are the same in all rows, and missing in sweeps of older versions; then every complete trial counts.
    - steps, steps_to_target, seconds_to_target, and the columns of FACTS: of the best trial.
    - importance: a mapping, as in `Sweep.importances`. target: the same in all rows.

    Missing floats are NaN, missing integers <NA>.

    Args:
        records: The trials.
        direction: Of the objective.
        target: Value of the objective's metric to reach, by default `target_of(records)`.
        details: What the records do not hold.
    """
    import pandas as pd

    records = list(records)
    aim = target_of(records, direction) if target is None else target
    outside = Counter(record.prior_of for record in records)
    studies: dict[tuple[str, str], list[Record]] = {}
    for record in (record for record in records if not record.prior_of):
        studies.setdefault((record.family, record.study), []).append(record)
    bar = _bar(itertools.chain(*studies.values()), direction, details.no_skill)
    rows = [
        {
            **_study_row(of_study, direction, details.ends_high, aim),
            **_stability(of_study, direction, bar),
            "no_skill": details.no_skill,
            "bar": bar,
        }
        for _, of_study in sorted(studies.items())
    ]
    if details.facts is not None:
        facts = details.facts([row["trained_as"] for row in rows if row["trained_as"] is not None])
        for row in rows:
            row.update(facts.get(row["trained_as"], {}))
    scores = sorted((_score(row["best_value"], direction) for row in rows), reverse=True)
    constant = max((_score(row["best_value"], direction) for row in rows if row["role"] == TUNED), default=-math.inf)
    shares = details.importances
    for row in rows:
        row["target"] = aim
        row["prior"] = outside[row["study"]]
        row["importance"] = None if shares is None else dict(shares.get(row["study"], {}))
        score = _score(row["best_value"], direction)
        row["rank"] = None if score == -math.inf else scores.index(score) + 1
        row["gain"] = score - constant if math.isfinite(score) and math.isfinite(constant) else None
    places = {"": 0, TUNED: 1, DEFAULT: 2}
    rows.sort(key=lambda row: (places[row["role"]], -_score(row["best_value"], direction)))
    numbers = [*COMMON, "stable_lr", "diverged_lr", "no_skill", "bar", *TO_TARGET, *FACTS]
    counts = [*STATES, "no_value", "learned", "truncated", "taken_over", "prior"]
    columns = ["study", "family", "role", "rank", "best_value", "best_trial", SPREAD, *RULES.values(), "gain"]
    columns += [
        "ends_high",
        *COMMON,
        "params",
        "others",
        *counts,
        "best_truncated",
        "stable_lr",
        "diverged_lr",
        "no_skill",
        "bar",
        "steps",
    ]
    table = pd.DataFrame(rows, columns=[*columns, *TO_TARGET, *FACTS, "importance", "target"])
    floats = ["best_value", SPREAD, *RULES.values(), "gain", *numbers, "target"]
    whole = ["rank", "best_trial", *counts, "steps", "steps_to_target"]
    return table.astype({**dict.fromkeys(floats, "float64"), **dict.fromkeys(whole, "Int64")})


def _study_row(
    records: Sequence[Record], direction: Direction, ends_high: EndsHigh | None, target: float | None
) -> dict[str, Any]:
    study, family = records[0].study, records[0].family
    counts = Counter(record.state for record in records)
    ranked = [record for record in records if record.state == "complete" and _finite_or_none(record.value) is not None]
    best = min(ranked, key=lambda record: (-_score(record.value, direction), record.number), default=None)
    params = dict(best.params) if best else {}
    searched = _searched_names(records)
    return {
        "study": study,
        "family": family,
        "role": ROLES.get(family, ""),
        "best_value": best.value if best else None,
        "best_trial": best.number if best else None,
        "trained_as": best.trained_as if best else None,
        SPREAD: best.measures.get(SPREAD) if best else None,
        **{column: _best_by(column, ranked, direction) for column in RULES.values()},
        "ends_high": _ends_high(ends_high, study, best.number) if best else None,
        **{name: _number_or_none(params.get(name)) for name in COMMON},
        "params": params,
        "others": {name: value for name, value in params.items() if name in searched},
        **{state: counts[state] for state in STATES},
        "no_value": sum(record.has_no_value for record in records),
        "truncated": sum(record.truncated for record in records),
        "best_truncated": best is not None and best.truncated,
        "taken_over": sum(record.origin is not None for record in records),
        "steps": best.steps_done if best else None,
        **(time_to_target(best.intermediate, target, direction, best.clock) if best else {}),
    }


def _bar(records: Iterable[Record], direction: Direction, no_skill: float | None) -> float | None:
    """Return what a trial must exceed to have learned something: LEARNED of the way from no skill to the best.

    It is no skill itself if the best trial has none. None if no skill is unknown.
    """
    if no_skill is None:
        return None
    best = max((_score(r.value, direction) for r in records if r.state == "complete"), default=-math.inf)
    start = _score(no_skill, direction)
    return _score(start + LEARNED * max(0.0, best - start), direction)


def _stability(records: Sequence[Record], direction: Direction, bar: float | None) -> dict[str, Any]:
    """Return how many trials of a study learned something, their largest peak LR, and the smallest that diverged.

    A ramp has neither LR: it does not train at its peak, and diverges before.
    """
    least = -math.inf if bar is None else _score(bar, direction)
    learned = [r for r in records if r.state == "complete" and _score(r.value, direction) > least]
    diverged = [r for r in records if r.state == "diverged"]
    if records[0].family in RAMPS:
        return {"learned": len(learned), "stable_lr": None, "diverged_lr": None}
    return {
        "learned": len(learned),
        "stable_lr": max(_peak_lrs(learned), default=None),
        "diverged_lr": min(_peak_lrs(diverged), default=None),
    }


def _peak_lrs(records: Iterable[Record]) -> list[float]:
    return [lr for record in records if (lr := _number_or_none(record.params.get("peak_lr"))) is not None]


def _best_by(column: str, complete: Sequence[Record], direction: Direction) -> float | None:
    """Return the best value by another rule; None if a trial lacks it (a sweep of an older version)."""
    measured = [record.measures.get(column) for record in complete]
    values = [value for value in measured if value is not None]
    if not values or len(values) < len(measured):
        return None
    return min(values) if direction == "minimize" else max(values)


def _searched_names(records: Sequence[Record]) -> set[str]:
    """Return the hyperparameters without their own columns whose values differ between the trials."""
    seen: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.params.items():
            seen.setdefault(name, set()).add(repr(value))
    return {name for name, values in seen.items() if len(values) > 1} - set(COMMON)


def _ends_high(ends_high: EndsHigh | None, study: str, trial: int) -> bool | None:
    if ends_high is None:
        return None
    return ends_high.get((study, trial)) if isinstance(ends_high, Mapping) else ends_high(study, trial)


def _score(value: float | None, direction: Direction) -> float:
    """Return the value with the sign for which higher is better; minus infinity for none."""
    value = _finite_or_none(value)
    if value is None:
        return -math.inf
    return -value if direction == "minimize" else value


def _finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number_or_none(value: Value) -> float | None:
    return _finite_or_none(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# --- typed rows, for views ---------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyRow:
    """A row of `families_table`, which explains the columns. Missing values are None.

    Attributes:
        spread: The column "objective/spread".
        by_rule: The columns of RULES, by rule.
        common: The columns of COMMON, by name.
        counts: Numbers of trials, by state.
        facts: The columns of FACTS, by name.
    """

    study: str
    family: str
    role: str
    rank: int | None
    best_value: float | None
    best_trial: int | None
    spread: float | None
    by_rule: Mapping[At, float | None]
    gain: float | None
    ends_high: bool | None
    common: Mapping[str, float | None]
    params: Mapping[str, Value]
    others: Mapping[str, Value]
    counts: Mapping[State, int]
    truncated: int
    taken_over: int
    prior: int
    best_truncated: bool
    no_value: int
    learned: int
    stable_lr: float | None
    diverged_lr: float | None
    no_skill: float | None
    bar: float | None
    steps: int | None
    steps_to_target: int | None
    seconds_to_target: float | None
    facts: Mapping[str, float | None]
    importance: Mapping[str, float] | None
    target: float | None


def rows_of(families: pd.DataFrame) -> list[StudyRow]:
    """Return the rows of `families_table`."""
    plain = ({str(name): _plain(value) for name, value in row.items()} for row in families.to_dict("records"))
    nested = {SPREAD, *RULES.values(), *COMMON, *STATES, *FACTS}  # columns that are not fields of the same name
    return [
        StudyRow(
            spread=row[SPREAD],
            by_rule={at: row[column] for at, column in RULES.items()},
            common={name: row[name] for name in COMMON},
            counts={state: row[state] for state in STATES},
            facts={name: row[name] for name in FACTS},
            **{name: value for name, value in row.items() if name not in nested},
        )
        for row in plain
    ]


def _plain(value: Any) -> Any:
    """Return the value as JSON has it: plain Python types, None for missing and non-finite numbers."""
    import pandas as pd

    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def names_of(rows: Sequence[StudyRow]) -> list[str]:
    """Return the name of each row: its family, or its study if the family has several."""
    studies = Counter(row.family for row in rows)
    return [clean(str(row.family if studies[row.family] == 1 else row.study)) for row in rows]


def count_tried(counts: Mapping[State, int]) -> int:
    """Return how many trials a family's best one was chosen from."""
    return counts["complete"] + counts["pruned"] + counts["diverged"]


def has_no_skill(row: StudyRow, direction: Direction) -> bool:
    """Return whether the best trial is no better than a prediction that ignores the inputs. False if unknown."""
    if row.best_value is None or row.no_skill is None:
        return False
    return _score(row.best_value, direction) <= _score(row.no_skill, direction)


def other_ranks(rows: Sequence[StudyRow], direction: Direction, at: At) -> dict[At, dict[str, int]]:
    """Return the rank of each study by the other rules of `objective.at`, if every study has a value by that rule."""
    ranked = [row for row in rows if row.rank is not None]
    ranks: dict[At, dict[str, int]] = {}
    for rule in RULES:
        scores = {row.study: _score(row.by_rule[rule], direction) for row in ranked}
        if rule == at or not scores or -math.inf in scores.values():
            continue
        in_order = sorted(scores.values(), reverse=True)
        ranks[rule] = {study: in_order.index(score) + 1 for study, score in scores.items()}
    return ranks


def verdict_change(rows: Sequence[StudyRow], ranks: Mapping[str, int]) -> str | None:
    """Return what other ranks would change: the "winner", only the "order" below it, or None for nothing."""
    before = {row.study: row.rank for row in rows if row.rank is not None}
    if {study for study, rank in before.items() if rank == 1} != {study for study, rank in ranks.items() if rank == 1}:
        return "winner"
    return None if before == ranks else "order"


# --- as JSON ----------------------------------------------------------------------------------------


def as_json(families: pd.DataFrame, criterion: Criterion, *, sweep: str, finished: bool) -> dict[str, Any]:
    """Return the table for programs: missing values are null, numbers are finite. The keys do not change.

    {"sweep": name, "finished": bool, "metric": "valid/loss", "direction": "minimize" | "maximize",
     "at": "last" | "best" | ..., "seeds": int, "folds": int,
     "target": float | null,           of the metric, for steps_to_target
     "no_skill": float | null,         of a prediction that ignores the inputs
     "bar": float | null,              what a trial must exceed to count in "learned"
     "other_rules": {at: {"ranks": {study: rank}, "changes": "winner" | "order" | null}},   other rules of objective.at
     "families": [row, ...],           every study, best first, then the baselines
     "baselines": {"tuned_constant": {"study", "value", "trial"} | null, "default_lr": the same},
     "trials": {"complete", "pruned", "diverged", "failed", "running": counts over all studies}}

    row: {"study", "family": str, "role": null | "tuned_constant" | "default_lr", "rank": int | null,
     "best": {"value": float, "spread": float | null, "trial": int, "params": {name: value},
              "ends_high": bool | null, "truncated": bool, "steps": int, "steps_to_target": int | null,
              "seconds_to_target", "lr_auc", "lr_end_over_peak", "lr_wd_sum", "late_loss_spread",
              "train_valid_gap": float | null} | null,
     "gain": float | null, "importance": {name: share} | null ({} for too few trials), "trials": counts as above,
     "truncated": int, "taken_over": int, "prior": int, "no_value": int, "learned": int,
     "stable_lr": float | null, "diverged_lr": float | null}
    """
    rows = rows_of(families)
    keys = {TUNED: "tuned_constant", DEFAULT: "default_lr"}
    best_of = {role: next((row for row in rows if row.role == role), None) for role in keys}
    return {
        "sweep": sweep,
        "finished": finished,
        "metric": criterion.metric,
        "direction": criterion.direction,
        "at": criterion.at,
        "seeds": criterion.seeds,
        "folds": criterion.folds,
        "target": next((row.target for row in rows), None),
        "no_skill": next((row.no_skill for row in rows), None),
        "bar": next((row.bar for row in rows), None),
        "other_rules": {
            rule: {"ranks": ranks, "changes": verdict_change(rows, ranks)}
            for rule, ranks in other_ranks(rows, criterion.direction, criterion.at).items()
        },
        "families": [_json_row(row, keys) for row in rows],
        "baselines": {
            key: row and {"study": row.study, "value": row.best_value, "trial": row.best_trial}
            for key, row in ((keys[role], row) for role, row in best_of.items())
        },
        "trials": {state: sum(row.counts[state] for row in rows) for state in STATES},
    }


def _json_row(row: StudyRow, keys: Mapping[str, str]) -> dict[str, Any]:
    best = {
        "value": row.best_value,
        "spread": row.spread,
        "trial": row.best_trial,
        "params": row.params,
        "ends_high": row.ends_high,
        "truncated": row.best_truncated,
        "steps": row.steps,
        "steps_to_target": row.steps_to_target,
        "seconds_to_target": row.seconds_to_target,
        **row.facts,
    }
    return {
        "study": row.study,
        "family": row.family,
        "role": keys.get(row.role),
        "rank": row.rank,
        "best": None if row.rank is None else best,
        "gain": row.gain,
        "importance": row.importance,
        "trials": row.counts,
        "truncated": row.truncated,
        "taken_over": row.taken_over,
        "prior": row.prior,
        "no_value": row.no_value,
        "learned": row.learned,
        "stable_lr": row.stable_lr,
        "diverged_lr": row.diverged_lr,
    }
