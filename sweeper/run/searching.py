"""Repeat the whole search of a sweep with other seeds, for a verdict on families (`confirm.searches`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sweeper import terminal
from sweeper.results.confirmation import fresh_seeds
from sweeper.results.families import Families
from sweeper.results.stored import StoredSweep
from sweeper.results.verdict import Objective, Verdict
from sweeper.run import sweeping
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.run.replicating import workers_for
from sweeper.run.restoring import restore_search
from sweeper.run.sweeping import Outcome
from sweeper.run.trainers import parse_chosen
from sweeper.run.writing import write_json
from sweeper.spec.question import Home, differences, seeds_and_folds
from sweeper.spec.sweep import KeepSpec, Subject, SweepSpec
from sweeper.text.columns import duration_text
from sweeper.tracking.spool import Loss
from sweeper.types import InputError, Record

NO_LOSS = Loss(0, 0)


class SearchCost(NamedTuple):
    """What new searches cost.

    Attributes:
        searches: How many are left.
        trials: Of one search.
        trainings: Of all that are left: a trial of several seeds or folds trains as often.
        seconds: At the speed of the stored search.
    """

    searches: int
    trials: int
    trainings: int
    seconds: float


@dataclass(frozen=True)
class Searches:
    """New searches of a sweep, begun or not.

    Attributes:
        sweep: The stored sweep.
        asked: The options.
        seeds: `search.seed` of each.
    """

    sweep: StoredSweep
    asked: ConfirmSpec
    seeds: tuple[int, ...]

    @property
    def trials(self) -> dict[str, int]:
        """Trials of each study in a search."""
        extended = self.sweep.extended
        return {name: one["trials"] for name, one in self.sweep.config["studies"].items() if name not in extended}

    @property
    def of_families(self) -> dict[str, int]:
        """Trials of each family in a search."""
        families: dict[str, int] = {}
        for study, trials in self.trials.items():
            family = self.sweep.config["studies"][study]["family"]
            families[family] = families.get(family, 0) + trials
        return families

    @property
    def settings(self) -> dict[str, object]:
        """What must not change once the first search has begun."""
        rules = self.asked.family_rules(len(self.seeds))
        return {
            "searches": len(self.seeds),
            "alpha": rules.alpha,
            "allow_divergence": rules.allow_divergence,
            "margin": rules.margin,
            "trials": self.trials,
        }

    @property
    def folder(self) -> Path:
        """The folder of all of them. The searches are called 1, 2, ..."""
        return self.sweep.home.searches(self.asked.seed)

    @property
    def settings_path(self) -> Path:
        return self.folder / "settings.json"

    def ended(self, place: int) -> list[Record] | None:
        """Return the trials of a search that has ended; None if it has not."""
        home = Home(self.folder / str(place))
        if not home.config.exists():
            return None
        search = StoredSweep(home)
        has_all = self.trials.keys() <= search.config.get("studies", {}).keys()
        return search.records if has_all and search.finished else None

    def verdict(self) -> Verdict:
        """Return the verdict as of the searches that have ended."""
        objective = self.sweep.objective
        ended = {seed: self.ended(place) for place, seed in enumerate(self.seeds, 1)}
        families = Families(
            sweep=self.sweep.name,
            seed=self.asked.seed,
            objective=Objective(metric=objective["metric"], direction=objective["direction"], at=objective["at"]),
            rules=self.asked.family_rules(len(self.seeds)),
            records=[record for record in self.sweep.records if not record.prior_of],
            trials=self.of_families,
            searches={seed: records for seed, records in ended.items() if records is not None},
            seeds=self.seeds,
        )
        return families.verdict()

    def cost(self) -> SearchCost:
        """Return what the searches cost that have not ended."""
        left = sum(self.ended(place) is None for place in range(1, len(self.seeds) + 1))
        seeds, folds = seeds_and_folds(self.sweep.config["question"])
        trials, seconds = sum(self.trials.values()), sum(record.seconds for record in self.sweep.records)
        each = seconds / max(1, len(self.sweep.records)) * trials
        return SearchCost(left, trials, left * trials * seeds * folds, left * each)


def plan(sweep: StoredSweep, asked: ConfirmSpec) -> Searches:
    """Return the new searches that are asked for.

    Raises:
        InputError: If the search has no family to compare, or new searches of that number were begun otherwise.
    """
    assert asked.searches is not None
    run_seed = sweep.config["question"]["search"]["seed"]
    seeds = fresh_seeds({run_seed}, asked.searches, run_seed, "confirm", asked.seed, "search")
    searches = Searches(sweep, asked, tuple(seeds))
    if not sweep.records:
        raise InputError("sweep", sweep.name, "it has no trials, so there is nothing to repeat", "Resume the sweep")
    if searches.settings_path.exists():
        _refuse_changes(searches)
    return searches


def _refuse_changes(searches: Searches) -> None:
    path, others = searches.settings_path, f"begin others: confirm.seed={searches.asked.seed + 1}"
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("sweep", path, "the file is damaged", f"Restore it, or {others}") from error
    changed = differences(begun, searches.settings)
    if changed:
        key = changed[0].partition(":")[0].partition(".")[0]
        name, problem = f"confirm.{key}", f"these searches were begun otherwise ({changed[0]})"
        raise InputError(
            "sweep" if key == "trials" else name, None, problem, f"Go on with what they began with, or {others}"
        )


def search_again(searches: Searches, subject: Subject) -> Outcome:
    """Train what the new searches still need, one after the other, and write the verdict to the sweep's folder.

    They are not tracked. A second call trains what is left. With nothing left, it writes the same verdict.

    Args:
        searches: What is asked for.
        subject: Data, model and task of the sweep.

    Raises:
        InputError: If their cost was not agreed to, or data, model or code are no longer those of the sweep. Raised
            before anything is written.
    """
    sweep, cost = searches.sweep, searches.cost()
    outcome = Outcome(sweep.home, None, None, 0, NO_LOSS)
    if cost.searches and not searches.asked.yes:
        problem = f"{cost.trainings:,} trainings, about {duration_text(cost.seconds)}"
        raise InputError("confirm.searches", len(searches.seeds), problem, "Add confirm.yes=true to train them")
    if cost.searches:
        specs = [_prepared(spec, searches, cost) for spec in restore_search(sweep, subject)]
        searches.settings_path.parent.mkdir(exist_ok=True)
        write_json(searches.settings_path, searches.settings)
        outcome = _train(searches, specs, outcome)
    write_json(sweep.home.family_verdict(searches.asked.seed), searches.verdict())
    return outcome


def _prepared(spec: SweepSpec, searches: Searches, cost: SearchCost) -> SweepSpec:
    """Return a configuration as every new search trains it: with the trainer of the sweep, without time limit."""
    trainer = parse_chosen(searches.sweep.config["trainer"]).trainer
    workers = workers_for(1, cost.seconds / cost.searches)
    search = replace(spec.search, timeout=None)
    return replace(spec, search=search, trainer=replace(trainer, workers=workers), keep=KeepSpec())


def _train(searches: Searches, specs: Sequence[SweepSpec], outcome: Outcome) -> Outcome:
    """Train each search that has not ended. Returns how the last one ended, or `outcome` if all have."""
    for place, seed in enumerate(searches.seeds, 1):
        if searches.ended(place) is not None:
            continue
        terminal.announce(f"Search {place} of {len(searches.seeds)}, search.seed={seed}:")
        for spec in specs:
            outcome = sweeping.sweep(_seeded(spec, seed, place), root=searches.folder)
            if outcome.stopped is not None:
                return outcome
    return outcome


def _seeded(spec: SweepSpec, seed: int, place: int) -> SweepSpec:
    """Return the configuration of one search: from `search.seed` follow its points and its training seeds."""
    question = {**spec.question, "search": {**spec.question["search"], "seed": seed}}
    return replace(spec, search=replace(spec.search, seed=seed), question=question, given_name=str(place))
