"""What a person must know to believe a table of families: the answer, how far to trust it, what the words mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.results.tables import (
    DEFAULT,
    ROLES,
    STATES,
    TUNED,
    Criterion,
    StudyRow,
    names_of,
    other_ranks,
    rows_of,
    verdict_change,
)
from sweeper.text.columns import clean, value_text
from sweeper.text.numbers import gain_text, param_text
from sweeper.types import State

if TYPE_CHECKING:
    import pandas as pd


def small_print(families: pd.DataFrame, criterion: Criterion, *, notes: Sequence[str] = ()) -> list[str]:
    """Paragraphs under the table, the answer first: what won, how far it is to be trusted, what the words mean."""
    rows = rows_of(families)
    return [
        _answer(rows, criterion.metric),
        *_budget(rows, criterion),
        *_other_rules(rows, criterion),
        *_missing_baselines(rows),
        *_states(rows),
        *_marks(rows),
        *_target(rows, criterion.metric),
        *_spread(rows, criterion),
        *_importance(rows),
        *_spaces(rows),
        *_taken_over(rows),
        *map(clean, notes),
    ]


def _answer(rows: Sequence[StudyRow], metric: str) -> str:
    winners = [(name, row) for name, row in zip(names_of(rows), rows, strict=True) if row.rank == 1]
    word = "best so far" if any(row.counts["running"] for row in rows) else "best"
    if not winners:
        return "No trial is complete: there is no best schedule yet."
    if len(winners) > 1:
        names = ", ".join(name for name, _ in winners)
        return f"Equal {word}: {names}, {metric} {value_text(winners[0][1].best_value)}."
    name, row = winners[0]
    numbers = {key: value for key, value in row.common.items() if value is not None} | dict(row.others)
    with_ = ", ".join(f"{key} {param_text(key, value)}" for key, value in numbers.items())
    gain = ""
    if row.role == TUNED and any(not other.role for other in rows):
        gain = " No other schedule in this sweep beats the tuned constant."
    elif row.role != TUNED and row.gain is not None:
        gain = f" {gain_text(abs(row.gain)).lstrip('+')} better than the tuned constant."
    configuration = f" with {with_}" if with_ else ""
    won = f"{name}, trial {row.best_trial}, {metric} {value_text(row.best_value)}"
    return f"{word.capitalize()}: {won}{configuration}.{gain}"


def _budget(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """How many trials the bests were chosen from, and whether all families had equally many."""
    trials = [
        row.counts["complete"] + row.counts["pruned"] + row.counts["diverged"] for row in rows if row.role != DEFAULT
    ]
    if not any(row.rank for row in rows):
        return []
    fewest, most = min(trials, default=1), max(trials, default=1)
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    said = [
        f"Best of {number} trials a family, {criterion.members}: not yet checked on fresh seeds, and the best of many "
        "looks better than it is."
    ]
    if fewest < most:
        said.append("Unequal budgets: a family with more trials has had more chances; compare again when all are done.")
    return said


def _other_rules(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    """Whether another choice of objective.at would change the verdict."""
    others = other_ranks(rows, criterion.direction, criterion.at)
    if len([row for row in rows if row.rank is not None]) < 2 or not others:
        return []
    names = dict(zip((row.study for row in rows), names_of(rows), strict=True))
    changes = {rule: verdict_change(rows, ranks) for rule, ranks in others.items()}
    said = []
    for rule, ranks in others.items():
        if changes[rule] == "winner":
            first = [row for row in rows if ranks.get(row.study) == 1]
            winners = " and ".join(names[row.study] for row in first)
            value = value_text(first[0].by_rule[rule])
            said.append(f"with objective.at={rule} the winner would be {winners} ({criterion.metric} {value})")
    for what, words in (("order", "the same winner, another order below it"), (None, "the same winner and order")):
        alike = [rule for rule in others if changes[rule] == what]
        if alike:
            said.append(f"with {_join_or(alike)} {words}")
    head = "The verdict depends on which value counts" if "winner" in changes.values() else "Which value counts"
    return [f"{head} (objective.at={criterion.at}): {'; '.join(said)}."]


def _join_or(words: Sequence[str]) -> str:
    return " or ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _missing_baselines(rows: Sequence[StudyRow]) -> list[str]:
    roles = {row.role for row in rows}
    missing = {role: family for family, role in ROLES.items() if role not in roles}
    if not missing:
        return []
    families = sorted({row.family for row in rows} | set(missing.values()))
    what = " and the ".join(missing)
    gain = "no gain can be shown, " if TUNED in missing else ""
    return [
        f"The {what} {'is' if len(missing) == 1 else 'are'} not in this sweep: {gain}add with "
        f"'schedule=[{','.join(families)}]', all else as before; what is done stays done."
    ]


def _states(rows: Sequence[StudyRow]) -> list[str]:
    """What the counts mean, of the states there are."""
    total = {state: sum(row.counts[state] for row in rows) for state in STATES}
    meaning: dict[State, str] = {
        "pruned": "stopped early because it was behind others at the same step; never the best",
        "diverged": "the loss became NaN, infinite or larger than the task's bound; a result, counted as bad",
        "failed": "could not be trained, twice; the reasons are in the table of trials and in log.txt",
        "running": "not at its end yet",
    }
    said = [f"{state}: {text} ({total[state]})." for state, text in meaning.items() if total[state]]
    hopeless = [
        name
        for name, row in zip(names_of(rows), rows, strict=True)
        if row.counts["diverged"] and not row.counts["complete"] + row.counts["pruned"] + row.counts["running"]
    ]
    if hopeless:
        said.append(f"Every trial of {', '.join(hopeless)} diverged: lower the range of its peak LR.")
    if any(row.stable_lr or row.diverged_lr for row in rows):
        said.append("stable LR, diverged LR: the largest peak LR that did not diverge, the smallest that did.")
    return said


def _marks(rows: Sequence[StudyRow]) -> list[str]:
    said = []
    if any(row.ends_high for row in rows):
        said.append(
            "* ends more than 10% of its peak LR above its floor: the run stops in mid-air, a longer one would fall on."
        )
    if cut := sum(row.truncated for row in rows):
        mark = "+ marks a family whose best trial did. " if any(row.best_truncated for row in rows) else ""
        said.append(
            f"truncated: {cut} of the complete trials ended early, as they got no better (search.early_stopping). "
            f"{mark}What such a trial shows is another schedule than the one it is named by, cut off where it ended."
        )
    return said


def _target(rows: Sequence[StudyRow], metric: str) -> list[str]:
    target = next((row.target for row in rows), None)
    if target is None:
        return []
    tuned = any(row.role == TUNED and row.best_value == target for row in rows)
    whose = ", what the tuned constant reached" if tuned else ""
    return [f"to target: share of its run after which that trial first had {metric} {value_text(target)}{whose}."]


def _spread(rows: Sequence[StudyRow], criterion: Criterion) -> list[str]:
    if not any(row.spread is not None for row in rows):
        return []
    of = " and ".join(word for count, word in ((criterion.seeds, "seeds"), (criterion.folds, "folds")) if count > 1)
    return [f"spread: standard deviation of that trial's {criterion.metric} over its {of or 'members'}."]


def _importance(rows: Sequence[StudyRow]) -> list[str]:
    """What mattered in each family, where enough trials say it."""
    names = names_of(rows)
    said = [
        f"{name}: " + ", ".join(f"{number} {100 * share:.0f}%" for number, share in row.importance.items())
        for name, row in zip(names, rows, strict=True)
        if row.importance
    ]
    few = [
        name
        for name, row in zip(names, rows, strict=True)
        if row.importance == {} and row.rank is not None and row.role != DEFAULT
    ]
    if few:
        said.append(f"too few complete trials to say it: {', '.join(few)}")
    meaning = "Importance, the share of each number in what separates the better half of the complete trials from all"
    return [f"{meaning}: {'; '.join(said)}."] if said else []


def _spaces(rows: Sequence[StudyRow]) -> list[str]:
    counts = Counter(row.family for row in rows)
    return [
        f"{clean(str(family))} has {count} studies, one for each space it was searched in; each is a search of its own."
        for family, count in counts.items()
        if count > 1
    ]


def _taken_over(rows: Sequence[StudyRow]) -> list[str]:
    """Where the trials of a space that was made wider come from."""
    said = []
    for name, row in zip(names_of(rows), rows, strict=True):
        if row.taken_over or row.prior:
            outside = f", {row.prior} outside it" if row.prior else ""
            said.append(f"{name} {row.taken_over} kept{outside}")
    meaning = "Trials from before the space was changed (search.extend); those outside the new one do not count"
    return [f"{meaning}: {'; '.join(said)}."] if said else []
