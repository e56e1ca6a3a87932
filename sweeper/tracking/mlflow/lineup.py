"""Choose the trial that stands for each family on MLflow's page: the tag `family.place`, "1" to "9" or "-" for none.

The families that a confirmation judged come first, in the order of its verdict, each with the first of its judged
trials. The others follow, each with its best complete trial. MLflow sorts tags as text, so a place has one digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sweeper.types import Direction, TrialId

TAG = "family.place"
MOST = 9
BEYOND = "-"


def places(
    values: Mapping[TrialId, float], families: Mapping[str, str], judged: Iterable[TrialId], direction: Direction
) -> dict[TrialId, str]:
    """Return the place of every complete trial. Of trials with equal objectives, the first study and number is ahead.

    Args:
        values: The objective of each complete trial.
        families: The family of each study.
        judged: The trials of a verdict, in its order.
        direction: Whether smaller or larger objectives are better.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    by_objective = sorted(values, key=lambda trial: (sign * values[trial], trial))
    leads: dict[str, TrialId] = {}
    for trial in [*(trial for trial in judged if trial in values), *by_objective]:
        leads.setdefault(families[trial.study], trial)
    place_of = {trial: str(place) for place, trial in enumerate([*leads.values()][:MOST], start=1)}
    return {trial: place_of.get(trial, BEYOND) for trial in values}
