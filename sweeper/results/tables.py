"""The end table: from trial records to one row a trial and one row a family, in pandas and as JSON.

Only complete trials compete: a pruned trial's last value belongs to another step, a diverged one has none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.text.columns import clean
from sweeper.tracking.facts import Facts, time_to_target
from sweeper.types import AT, At, Direction, Record, State, TrialId, Value

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("peak_lr", "warmup", "decay", "cycle")  # the numbers of a schedule that have columns of their own
STATES: tuple[State, ...] = ("complete", "pruned", "diverged", "failed", "running")
TUNED, DEFAULT = "tuned constant", "default LR"  # the roles of the two baselines
BASELINES = ("constant", "default_lr")  # the families that play them
ROLES = dict(zip(BASELINES, (TUNED, DEFAULT), strict=True))

FACTS = ("lr_auc", "lr_end_over_peak", "lr_wd_sum", "late_loss_spread", "train_valid_gap")  # see tracking.facts
TO_TARGET = ("steps_to_target", "seconds_to_target")
RULES = {at: f"objective/{at}" for at in AT}  # columns: the objective by every rule of objective.at
SPREAD = "objective/spread"

FactsOf = Callable[[Collection[TrialId]], Mapping[TrialId, Facts]]
EndsHigh = Callable[[str, int], bool | None] | Mapping[tuple[str, int], bool | None]


@dataclass(frozen=True)
class Asked:
    """What a sweep asks, for the words about its table. at: objective.at. seeds, folds: of each trial."""

    metric: str
    direction: Direction = "minimize"
    at: At = "last"
    seeds: int = 1
    folds: int = 1

    @property
    def sense(self) -> str:
        return "lower is better" if self.direction == "minimize" else "higher is better"

    @property
    def members(self) -> str:
        """What a trial is judged by, where it has several seeds or folds."""
        if self.seeds * self.folds == 1:
            return "one seed"
        named = [f"{count} {word}" for count, word in ((self.seeds, "seeds"), (self.folds, "folds")) if count > 1]
        return f"the median of {' x '.join(named)}"


# --- one row a trial --------------------------------------------------------------------------------


def trials_table(
    records: Iterable[Record],
    *,
    direction: Direction = "minimize",
    target: float | None = None,
    facts: Mapping[TrialId, Facts] | None = None,
) -> pd.DataFrame:
    """One row a trial, by family, study and number.

    Columns: study, family, trial, state, value, peak_lr, warmup, decay, cycle, every other number by its name
    ("params.<name>" where a column here has that name), the objective by every rule ("objective/last", ...),
    "objective/spread" (over its members), steps, seconds, steps_to_target, seconds_to_target, lr_auc,
    lr_end_over_peak, lr_wd_sum, late_loss_spread, train_valid_gap, diverged_step, truncated (a complete trial that
    ended early), reason, origin ("cosine-1a2b3c:4", where a wider study took it over from), prior_of (the wider study
    in whose space it does not lie). Missing numbers are NaN, missing steps <NA>.

    target: of the objective's metric, None for none. facts: by trial, see `sweeper.tracking.facts.read_facts`.
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
        for name in sorted({name for record in records for name in record.params} - set(NAMES))
    }
    rows = [
        {
            "study": record.study,
            "family": record.family,
            "trial": record.number,
            "state": record.state,
            "value": _finite(record.value),
            **{name: _number(record.params.get(name)) for name in NAMES},
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
    table = pd.DataFrame(rows, columns=[*before, *NAMES, *others.values(), *after])
    whole = dict.fromkeys(["trial", "steps", "steps_to_target", "diverged_step"], "Int64")
    floats = ["value", *NAMES, *RULES.values(), SPREAD, "seconds", *TO_TARGET, *FACTS]
    return table.astype({**dict.fromkeys(floats, "float64"), **whole})


def target_of(records: Iterable[Record], direction: Direction) -> float | None:
    """The value that others are timed against: the best of the tuned constant, without one that of the worst family.

    None while no trial is complete. The untuned default LR is no target unless there is nothing else.
    """
    best: dict[str, float] = {}
    for record in (record for record in records if not record.prior_of):
        signed = _signed(record.value, direction)
        if record.state == "complete" and signed > -math.inf:
            best[record.family] = max(signed, best.get(record.family, -math.inf))
    tuned, default = BASELINES
    others = [value for family, value in best.items() if family != default] or list(best.values())
    chosen = best.get(tuned, min(others, default=None))
    return None if chosen is None else _signed(chosen, direction)


# --- one row a study --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Details:
    """What the table of families says of trials beside their records; None: not known.

    Attributes:
        ends_high: (study, trial) -> bool, as a call or a mapping.
        facts: Of the trials asked for.
        importances: By study, of `Sweep.importances`.
    """

    ends_high: EndsHigh | None = None
    facts: FactsOf | None = None
    importances: Mapping[str, Mapping[str, float]] | None = None


def families_table(
    records: Iterable[Record], *, direction: Direction, target: float | None = None, details: Details = Details()
) -> pd.DataFrame:
    """One row a study, the best first, then the two baselines: the tuned constant and the optimizer's default LR.

    Columns: study, family, role ("", "tuned constant", "default LR"), rank (over all rows, equal values share
    one), best_value, best_trial, objective/spread (of that trial over its members), the best of all complete trials
    by every rule of the objective ("objective/last", ...: of different trials), gain (over the best tuned constant,
    positive is better), ends_high (whether the best trial ends more than 10 % of its peak above its floor; None: not
    known), peak_lr, warmup, decay, cycle and params (of the best trial), others (its searched numbers beside those
    four), one count a state, truncated (complete trials that ended early), best_truncated, taken_over (trials from
    before the space was made wider), prior (those that lie outside it and do not count), stable_lr (largest peak LR
    of a complete or pruned trial), diverged_lr (smallest of a diverged one); of the best trial steps (updates of a
    run), steps_to_target, seconds_to_target and the facts of `trials_table`; importance (a mapping, as in
    `importances`), target (the same in all rows). Missing: NaN, <NA>.

    target: of the objective's metric; None: `target_of` the records.
    """
    import pandas as pd

    records = list(records)
    aim = target_of(records, direction) if target is None else target
    outside = Counter(record.prior_of for record in records)
    studies: dict[tuple[str, str], list[Record]] = {}
    for record in (record for record in records if not record.prior_of):
        studies.setdefault((record.family, record.study), []).append(record)
    rows = [_study_row(of_study, direction, details.ends_high, aim) for _, of_study in sorted(studies.items())]
    if details.facts is not None:
        found = details.facts([row["trained_as"] for row in rows if row["trained_as"] is not None])
        for row in rows:
            row.update(found.get(row["trained_as"], {}))
    values = sorted((_signed(row["best_value"], direction) for row in rows), reverse=True)
    constant = max((_signed(row["best_value"], direction) for row in rows if row["role"] == TUNED), default=-math.inf)
    shares = details.importances
    for row in rows:
        row["target"] = aim
        row["prior"] = outside[row["study"]]
        row["importance"] = None if shares is None else dict(shares.get(row["study"], {}))
        signed = _signed(row["best_value"], direction)
        row["rank"] = None if signed == -math.inf else values.index(signed) + 1
        row["gain"] = signed - constant if math.isfinite(signed) and math.isfinite(constant) else None
    places = {"": 0, TUNED: 1, DEFAULT: 2}
    rows.sort(key=lambda row: (places[row["role"]], -_signed(row["best_value"], direction)))
    numbers = [*NAMES, "stable_lr", "diverged_lr", *TO_TARGET, *FACTS]
    counts = [*STATES, "truncated", "taken_over", "prior"]
    columns = ["study", "family", "role", "rank", "best_value", "best_trial", SPREAD, *RULES.values(), "gain"]
    columns += ["ends_high", *NAMES, "params", "others", *counts, "best_truncated", "stable_lr", "diverged_lr", "steps"]
    table = pd.DataFrame(rows, columns=[*columns, *TO_TARGET, *FACTS, "importance", "target"])
    floats = ["best_value", SPREAD, *RULES.values(), "gain", *numbers, "target"]
    whole = ["rank", "best_trial", *counts, "steps", "steps_to_target"]
    return table.astype({**dict.fromkeys(floats, "float64"), **dict.fromkeys(whole, "Int64")})


def _study_row(
    records: Sequence[Record], direction: Direction, ends_high: EndsHigh | None, target: float | None
) -> dict[str, Any]:
    study, family = records[0].study, records[0].family
    counts = Counter(record.state for record in records)
    ranked = [record for record in records if record.state == "complete" and _finite(record.value) is not None]
    best = min(ranked, key=lambda record: (-_signed(record.value, direction), record.number), default=None)
    params = dict(best.params) if best else {}
    stable = [_number(record.params.get("peak_lr")) for record in records if record.state in ("complete", "pruned")]
    burst = [_number(record.params.get("peak_lr")) for record in records if record.state == "diverged"]
    searched = _searched(records)
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
        **{name: _number(params.get(name)) for name in NAMES},
        "params": params,
        "others": {name: value for name, value in params.items() if name in searched},
        **{state: counts[state] for state in STATES},
        "truncated": sum(record.truncated for record in records),
        "best_truncated": best is not None and best.truncated,
        "taken_over": sum(record.origin is not None for record in records),
        "stable_lr": max((lr for lr in stable if lr is not None), default=None),
        "diverged_lr": min((lr for lr in burst if lr is not None), default=None),
        "steps": best.steps_done if best else None,
        **(time_to_target(best.intermediate, target, direction, best.clock) if best else {}),
    }


def _best_by(column: str, complete: Sequence[Record], direction: Direction) -> float | None:
    """The best of those trials by another rule; None where one of them does not say (a sweep of before)."""
    values = [record.measures.get(column) for record in complete]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return min(known) if direction == "minimize" else max(known)


def _searched(records: Sequence[Record]) -> set[str]:
    """Names, beside the four, that differ between trials of a study."""
    seen: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.params.items():
            seen.setdefault(name, set()).add(repr(value))
    return {name for name, values in seen.items() if len(values) > 1} - set(NAMES)


def _ends_high(ends_high: EndsHigh | None, study: str, trial: int) -> bool | None:
    if ends_high is None:
        return None
    return ends_high.get((study, trial)) if isinstance(ends_high, Mapping) else ends_high(study, trial)


def _signed(value: float | None, direction: Direction) -> float:
    """The value with the sign that makes more better; minus infinity for none."""
    value = _finite(value)
    if value is None:
        return -math.inf
    return -value if direction == "minimize" else value


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: Value) -> float | None:
    return _finite(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# --- for whoever shows it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyRow:
    """A row of `families_table`, which explains the columns. None for what is missing.

    Attributes:
        by_rule: The columns of RULES.
        numbers: The columns of NAMES.
        counts: One count a state.
        facts: The columns of FACTS.
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
    numbers: Mapping[str, float | None]
    params: Mapping[str, Value]
    others: Mapping[str, Value]
    counts: Mapping[State, int]
    truncated: int
    taken_over: int
    prior: int
    best_truncated: bool
    stable_lr: float | None
    diverged_lr: float | None
    steps: int | None
    steps_to_target: int | None
    seconds_to_target: float | None
    facts: Mapping[str, float | None]
    importance: Mapping[str, float] | None
    target: float | None


def rows_of(families: pd.DataFrame) -> list[StudyRow]:
    """Return the rows of `families_table`."""
    plain = ({str(name): _plain(value) for name, value in row.items()} for row in families.to_dict("records"))
    nested = {SPREAD, *RULES.values(), *NAMES, *STATES, *FACTS}  # columns that are not fields under their own names
    return [
        StudyRow(
            spread=row[SPREAD],
            by_rule={at: row[column] for at, column in RULES.items()},
            numbers={name: row[name] for name in NAMES},
            counts={state: row[state] for state in STATES},
            facts={name: row[name] for name in FACTS},
            **{name: value for name, value in row.items() if name not in nested},
        )
        for row in plain
    ]


def _plain(value: Any) -> Any:
    """Numbers, text and containers of Python, None for what is missing or not finite: what JSON has."""
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
    """What to call each row: its family, or its study where the family has several."""
    studies = Counter(row.family for row in rows)
    return [clean(str(row.family if studies[row.family] == 1 else row.study)) for row in rows]


def other_ranks(rows: Sequence[StudyRow], direction: Direction, at: At) -> dict[At, dict[str, int]]:
    """By each rule of the objective but `at`, where all trials say their value by it: the rank of each study."""
    ranked = [row for row in rows if row.rank is not None]
    found: dict[At, dict[str, int]] = {}
    for rule in RULES:
        values = {row.study: _signed(row.by_rule[rule], direction) for row in ranked}
        if rule == at or not values or -math.inf in values.values():
            continue
        in_order = sorted(values.values(), reverse=True)
        found[rule] = {study: in_order.index(value) + 1 for study, value in values.items()}
    return found


def change(rows: Sequence[StudyRow], ranks: Mapping[str, int]) -> str | None:
    """What other ranks would change of the verdict: "winner", "order", or None for nothing."""
    before = {row.study: row.rank for row in rows if row.rank is not None}
    if {study for study, rank in before.items() if rank == 1} != {study for study, rank in ranks.items() if rank == 1}:
        return "winner"
    return None if before == ranks else "order"


# --- as JSON ----------------------------------------------------------------------------------------


def as_json(families: pd.DataFrame, asked: Asked, *, sweep: str, finished: bool) -> dict[str, Any]:
    """The table for programs: dicts, lists, text and finite numbers; null for what is missing. Keys stay.

    {"sweep": name, "finished": bool, "metric": "valid/loss", "direction": "minimize" | "maximize",
     "at": "last" | "best" | ..., "seeds": int, "folds": int,
     "target": float | null            of the metric, for steps_to_target
     "other_rules": {at: {"ranks": {study: rank}, "changes": "winner" | "order" | null}}   by another objective.at
     "families": [row, ...]            every study, best first, then the baselines
     "baselines": {"tuned_constant": {"study", "value", "trial"} | null, "default_lr": likewise},
     "trials": {"complete", "pruned", "diverged", "failed", "running": counts over all studies}}

    row: {"study", "family": str, "role": null | "tuned_constant" | "default_lr", "rank": int | null,
     "best": {"value": float, "spread": float | null, "trial": int, "params": {name: value},
              "ends_high": bool | null, "truncated": bool, "steps": int, "steps_to_target": int | null,
              "seconds_to_target", "lr_auc", "lr_end_over_peak", "lr_wd_sum", "late_loss_spread",
              "train_valid_gap": float | null} | null,
     "gain": float | null, "importance": {name: share} | null (of too few trials {}), "trials": counts as above,
     "truncated": int, "taken_over": int, "prior": int, "stable_lr": float | null, "diverged_lr": float | null}
    """
    rows = rows_of(families)
    keys = {TUNED: "tuned_constant", DEFAULT: "default_lr"}
    best_of = {role: next((row for row in rows if row.role == role), None) for role in keys}
    return {
        "sweep": sweep,
        "finished": finished,
        "metric": asked.metric,
        "direction": asked.direction,
        "at": asked.at,
        "seeds": asked.seeds,
        "folds": asked.folds,
        "target": next((row.target for row in rows), None),
        "other_rules": {
            rule: {"ranks": ranks, "changes": change(rows, ranks)}
            for rule, ranks in other_ranks(rows, asked.direction, asked.at).items()
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
        "stable_lr": row.stable_lr,
        "diverged_lr": row.diverged_lr,
    }
