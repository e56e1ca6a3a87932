"""The paragraphs under the table of families: the answer, how far to trust it, what the words mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.results.tables import (
    DEFAULT,
    ENDS_HIGH,
    LOWER,
    RAMPS,
    ROLES,
    STATES,
    TUNED,
    UNEQUAL_TRIALS,
    Criterion,
    StudyRow,
    count_tried,
    has_no_skill,
    names_of,
    other_ranks,
    rows_of,
    verdict_change,
)
from sweeper.text.columns import clean, join, value_text
from sweeper.text.numbers import gain_text, param_text

if TYPE_CHECKING:
    import pandas as pd

TRUNCATED = "A trial that ended early (search.early_stopping) was trained with only the first part of its schedule."
READ = "`python -m sweeper range` with the same data, model and optimizer reads from such ramps which LRs to search."


def small_print(families: pd.DataFrame, criterion: Criterion, *, notes: Sequence[str] = ()) -> list[str]:
    """Return the paragraphs under the table, the answer first.

    Args:
        families: From `families_table`.
        criterion: How trials are compared.
        notes: More paragraphs, for the end.
    """
    rows = rows_of(families)
    return [
        _answer(rows, criterion),
        *_budget(rows, criterion),
        *_other_rules(rows, criterion),
        *_missing_baselines(rows),
        *_states(rows, criterion),
        *_useless(rows, criterion),
        *_stability(rows, criterion),
        *_marks(rows),
        *_target(rows, criterion),
        *_spread(rows, criterion),
        *_importance(rows),
        *_spaces(rows),
        *_taken_over(rows),
        *map(clean, notes),
    ]


def lowest(rows: Sequence[StudyRow], criterion: Criterion) -> str:
    """Name the trial with the lowest value. One trial of many at one seed: nothing says that its schedule is best."""
    first = [(name, row) for name, row in zip(names_of(rows), rows, strict=True) if row.rank == 1]
    if not rows:
        return "No trials yet"
    if not first:
        return "No trial is complete yet, so there is nothing to compare"
    so_far = " so far" if any(row.counts["running"] for row in rows) else ""
    trials = " and ".join(f"trial {row.best_trial} of {name}" for name, row in first)
    value = f"{criterion.metric} {value_text(first[0][1].best_value)}"
    return f"{value} is the {criterion.extreme} in the search{so_far}, {trials} ({criterion.members}; not confirmed)"


def _answer(rows: Sequence[StudyRow], criterion: Criterion) -> str:
    """Name the trial with the lowest value, its hyperparameters, and its gain."""
    first = [row for row in rows if row.rank == 1]
    answer = lowest(rows, criterion)
    if len(first) != 1:
        return f"{answer}."
    (row,) = first
    params = {key: value for key, value in row.common.items() if value is not None} | dict(row.others)
    params_text = ", ".join(f"{key} {param_text(key, value)}" for key, value in params.items())
    gain = ""
    if row.role == TUNED:
        gain = " That is the tuned constant."
    elif row.gain is not None:
        side = "below" if criterion.direction == "minimize" else "above"
        gain = f" It is {gain_text(abs(row.gain)).lstrip('+')} {side} the tuned constant's {criterion.extreme}."
    return f"{answer}{', at ' if params_text else ''}{params_text}.{gain}"


def cautions(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Return those of the paragraphs that name something to mend: in the sweep, or in the range of an LR."""
    lowest_row = next((row for row in rows if row.rank == 1), None)
    return [
        *_unequal(rows),
        *(_missing_baselines(rows) if rows else []),
        *_without_value(rows, criterion),
        *_useless(rows, criterion),
        *([TRUNCATED] if lowest_row is not None and lowest_row.best_truncated else []),
    ]


def _budget(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Say how many trials each value is chosen from, and whether families had different numbers of them."""
    trials = [count_tried(row.counts) for row in rows if row.role != DEFAULT]
    if not any(row.rank for row in rows):
        return []
    fewest, most = min(trials, default=1), max(trials, default=1)
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return [
        f"Each value is the {criterion.extreme} of {number} trial{'' if most == 1 else 's'}, which is partly luck: on "
        f"other seeds such a trial tends to be {'higher' if criterion.direction == 'minimize' else 'lower'}.",
        *_unequal(rows),
    ]


def _unequal(rows: Sequence[StudyRow]) -> list[str]:
    """Say so if families had different numbers of trials."""
    trials = {count_tried(row.counts) for row in rows if row.role != DEFAULT}
    has_values = any(row.rank for row in rows)
    return [f"{UNEQUAL_TRIALS} Compare when all are finished."] if has_values and len(trials) > 1 else []


def _other_rules(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Say whether another choice of objective.at would change which trial is named."""
    others = other_ranks(rows, criterion.direction, criterion.at)
    if len([row for row in rows if row.rank is not None]) < 2 or not others:
        return []
    names = dict(zip((row.study for row in rows), names_of(rows), strict=True))
    changes = {rule: verdict_change(rows, ranks) for rule, ranks in others.items()}
    sentences = []
    for rule, ranks in others.items():
        if changes[rule] == "winner":
            first = [row for row in rows if ranks.get(row.study) == 1]
            families = " and ".join(names[row.study] for row in first)
            value = value_text(first[0].by_rule[rule])
            sentences.append(f"With {rule} it would be {families} ({criterion.metric} {value}).")
    for what, words in (("order", "the same family, the others in another order"), (None, "the same order")):
        rules = [rule for rule in others if changes[rule] == what]
        if rules:
            sentences.append(f"With {join(rules, 'or')}: {words}.")
    depends = "depends" if "winner" in changes.values() else "does not depend"
    which = f"Which family has the {criterion.extreme} value"
    return [f"{which} {depends} on objective.at (now {criterion.at}). {' '.join(sentences)}"]


def _missing_baselines(rows: Sequence[StudyRow]) -> list[str]:
    roles = {row.role for row in rows}
    missing = {role: family for family, role in ROLES.items() if role not in roles}
    if not missing:
        return []
    families = sorted({row.family for row in rows} | set(missing.values()))
    what = " and the ".join(missing)
    verb, pronoun = ("is", "it") if len(missing) == 1 else ("are", "them")
    gain = ", so no gain can be shown" if TUNED in missing else ""
    return [
        f"The {what} {verb} not in this sweep{gain}. To add {pronoun}, run the same command with "
        f"'schedule=[{','.join(families)}]'. Finished trials are kept."
    ]


def _states(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Explain the states that occur."""
    total: dict[str, int] = {state: sum(row.counts[state] for row in rows) for state in STATES}
    meaning = {
        "pruned": "stopped early because other trials were better at the same step. Not compared",
        "diverged": f"the loss became NaN, infinite, or larger than the task's bound{_judged(rows)}",
        "failed": "training failed. Each is retried once. The reasons are in the table of trials and in log.txt",
        "running": "not finished yet",
    }
    counts = {**total, "failed": total["failed"] - sum(row.no_value for row in rows)}
    explained = {state: f"{state} ({counts[state]}): {text}." for state, text in meaning.items() if counts[state]}
    running = explained.pop("running", None)
    return [*explained.values(), *_without_value(rows, criterion), *([running] if running else [])]


def _judged(rows: Sequence[StudyRow]) -> str:
    """Return what a divergence counts as. Ramps are meant to diverge."""
    count = Counter[str]()
    for row in rows:
        count[row.family] += row.counts["diverged"]
    ramps = [f"{family} ({count[family]})" for family in RAMPS if count[family]]
    if ramps and count.total() == sum(count[family] for family in RAMPS):
        return f", as it is meant to at the end of {join(ramps)}"
    except_ramps = f", except of {join(ramps)}, where it is meant to" if ramps else ""
    return f". It counts as a bad result{except_ramps}"


def _without_value(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Say so if trials failed because their objective had no value."""
    count = sum(row.no_value for row in rows)
    advice = (
        f"failed without a value ({count}): {criterion.metric} was NaN or infinite, and the loss was not. Look at the "
        "metric and the validation targets, or choose another objective.metric."
    )
    return [advice] if count else []


def _useless(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Name families whose trials all diverged or have no skill."""
    ramps = [family for family in RAMPS if any(row.family == family for row in rows)]
    named = [
        (name, row)
        for name, row in zip(names_of(rows), rows, strict=True)
        if row.role != DEFAULT and row.family not in RAMPS  # the default has one LR
    ]
    burst = [name for name, row in named if row.counts["diverged"] == sum(row.counts.values()) > 0]
    useless = [name for name, row in named if has_no_skill(row, criterion.direction)]
    paragraphs = [f"{join(ramps)} measures, and is no schedule for training. {READ}"] if ramps else []
    if burst:
        paragraphs.append(f"Every trial of {', '.join(burst)} diverged. {LOWER}")
    if useless:
        level = f"{criterion.metric} {value_text(rows[0].no_skill)}"
        paragraphs.append(
            f"No trial of {', '.join(useless)} is better than a prediction that ignores the inputs ({level}). "
            "Try other peak LRs, or more updates."
        )
    return paragraphs


def _stability(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Explain stable and diverged LRs."""
    if not any(row.stable_lr or row.diverged_lr for row in rows):
        return []
    return [
        f"stable LR: the largest peak LR of a complete trial{_learned_text(rows, criterion)}. "
        "diverged LR: the smallest whose loss diverged."
    ]


def _learned_text(rows: Sequence[StudyRow], criterion: Criterion) -> str:
    """Return the rule by which a trial learned something; "" if what takes no skill is unknown."""
    row = rows[0]
    if row.bar is None or row.no_skill is None:
        return ""
    side = "below" if criterion.direction == "minimize" else "above"
    return (
        f" that learned something: {criterion.metric} {side} {value_text(row.bar)}, a tenth of the way from a "
        f"prediction that ignores the inputs ({value_text(row.no_skill)}) to the {criterion.extreme} of the sweep"
    )


def _marks(rows: Sequence[StudyRow]) -> list[str]:
    paragraphs = []
    if any(row.ends_high for row in rows):
        paragraphs.append(f"* {ENDS_HIGH}")
    if count := sum(row.truncated for row in rows):
        mark = "+ marks a family whose trial shown did. " if any(row.best_truncated for row in rows) else ""
        paragraphs.append(
            f"truncated: {count} of the complete trials ended early without improvement (search.early_stopping). "
            f"{mark}{TRUNCATED}"
        )
    return paragraphs


def _target(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    target = next((row.target for row in rows), None)
    if target is None:
        return []
    tuned = any(row.role == TUNED and row.best_value == target for row in rows)
    whose = f", the {criterion.extreme} of the tuned constant" if tuned else ""
    reached = f"{criterion.metric} {value_text(target)}{whose}"
    return [f"to target: the share of the run after which the trial shown first reached {reached}."]


def _spread(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    if not any(row.spread is not None for row in rows):
        return []
    of = " and ".join(word for count, word in ((criterion.seeds, "seeds"), (criterion.folds, "folds")) if count > 1)
    return [f"spread: the standard deviation of {criterion.metric} of the trial shown over its {of or 'members'}."]


def _importance(rows: Sequence[StudyRow]) -> list[str]:
    """List the importance of each hyperparameter, for families with enough trials."""
    names = names_of(rows)
    shares = [
        f"{name}: " + ", ".join(f"{param} {100 * share:.0f}%" for param, share in row.importance.items())
        for name, row in zip(names, rows, strict=True)
        if row.importance
    ]
    few = [
        name
        for name, row in zip(names, rows, strict=True)
        if row.importance == {} and row.rank is not None and row.role != DEFAULT
    ]
    too_few = f"too few complete trials of {', '.join(few)}." if few else ""
    if not shares:
        return [f"Importance: {too_few}"] if few else []
    meaning = "how well each hyperparameter separates the better half of the complete trials from all of them"
    return [f"Importance, {meaning}: {'; '.join(shares)}.{' ' if few else ''}{too_few[:1].upper()}{too_few[1:]}"]


def _spaces(rows: Sequence[StudyRow]) -> list[str]:
    counts = Counter(row.family for row in rows)
    return [
        f"{clean(str(family))} has {count} studies, one for each search space. They are searched independently."
        for family, count in counts.items()
        if count > 1
    ]


def _taken_over(rows: Sequence[StudyRow]) -> list[str]:
    """Say where the trials of a widened space come from."""
    counts = []
    for name, row in zip(names_of(rows), rows, strict=True):
        if row.taken_over or row.prior:
            outside = f", {row.prior} outside the new space" if row.prior else ""
            counts.append(f"{name} {row.taken_over} kept{outside}")
    if not counts:
        return []
    ignored = " Those outside do not count." if any(row.prior for row in rows) else ""
    return [f"Trials from before the space was changed (search.extend): {'; '.join(counts)}.{ignored}"]
