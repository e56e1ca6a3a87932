"""What a confirmation of a search trains, and what that costs: all of it known before the first training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sweeper.results import changes
from sweeper.results.choosing import Candidate, find_candidates
from sweeper.results.confirmation import ConfirmationPlan, draw_seeds
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import BASELINES
from sweeper.results.varying import COMPARED, draw_vary_seeds
from sweeper.results.verdict import Objective
from sweeper.run.confirm_spec import ConfirmSpec
from sweeper.schedules import lr_trace, momentum_trace
from sweeper.spec.question import StoredConfirmation, differences
from sweeper.types import Floats, InputError, Record

TUNED, DEFAULT = BASELINES
Candidates = Mapping[str, Sequence[Candidate]]
TYPICAL = 2  # the look by which a confirmation of all families has trained as often as it typically does


def plan(sweep: StoredSweep, asked: ConfirmSpec) -> ConfirmationPlan:
    """Return what is confirmed, and on which seeds.

    Raises:
        InputError: If there is nothing to confirm, or a confirmation of that number was begun otherwise.
    """
    fresh = _fresh_plan(sweep, asked)
    begun = sweep.config.get("confirmations", {}).get(str(asked.seed))
    if begun is None:
        return fresh
    fresh = replace(fresh, changes=tuple(dict.fromkeys([*changes.from_keys(begun.get("vary", {})), *asked.vary])))
    _refuse_changes(begun, stored(fresh, asked), asked.seed)
    first = sweep.verdict_of(asked.seed)
    is_verdict = first is not None and first["ended_by"] != "interrupted"
    new = [family for family in fresh.candidates if family not in begun["candidates"] and is_verdict]
    return replace(fresh, families_added=(*begun.get("added", ()), *new))


def stored(planned: ConfirmationPlan, asked: ConfirmSpec) -> StoredConfirmation:
    """Return what is stored of a confirmation when it begins."""
    candidates = {
        family: [_name_in(family, candidate) for candidate in of_family]
        for family, of_family in planned.candidates.items()
    }
    found = StoredConfirmation(settings=asked.stored, candidates=candidates, added=list(planned.families_added))
    if planned.changes:
        found["vary"] = changes.by_key(planned.changes)
    return found


def _refuse_changes(begun: StoredConfirmation, now: StoredConfirmation, seed: int) -> None:
    another = f"Go on with what it began with, or begin another one: confirm.seed={seed + 1}"
    changed = differences(begun["settings"], now["settings"])
    if changed:
        key = changed[0].partition(":")[0]
        raise InputError(f"confirm.{key}", None, f"this confirmation was begun otherwise ({changed[0]})", another)
    for family, candidates in begun["candidates"].items():
        if now["candidates"].get(family) != candidates:
            problem = f"{family} has more trials than when this confirmation began, or is not confirmed any more"
            raise InputError("sweep", None, problem, f"Begin another one: confirm.seed={seed + 1}")


def _name_in(family: str, candidate: Candidate) -> str:
    record = _of_family(family, candidate).record
    return f"{record.study}:{record.number}"


def _of_family(family: str, candidate: Candidate) -> Candidate:
    """Return a candidate that several families may share as that of one of them."""
    record = next(record for record in candidate.same if record.family == family)
    return Candidate(record, (record,))


def _fresh_plan(sweep: StoredSweep, asked: ConfirmSpec) -> ConfirmationPlan:
    """Return what would be confirmed if nothing was begun."""
    objective, question = sweep.objective, sweep.config["question"]
    direction, seeds = objective["direction"], question["search"]["seeds"]
    found = find_candidates(sweep.records, direction, asked.top, lambda record: _traces(sweep, record))
    default = found.pop(DEFAULT, [None])[0]
    if not found:
        raise InputError(
            "sweep", sweep.name, "no trial is complete, so there is nothing to confirm", "Resume the sweep"
        )
    trials = len([record for record in sweep.records if not record.prior_of])
    kept = _families(found, asked, direction, trials)
    candidates = {family: found[family] for family in kept}
    most = None if asked.budget is None else math.floor(asked.budget * trials) - _chosen_on(candidates, asked)
    members, longest = seeds * question.get("folds", 1), asked.all_looks[-1]
    run_seed = question["search"]["seed"]
    drawn = draw_seeds(run_seed, members, asked.seed, asked.choose, longest)
    return ConfirmationPlan(
        sweep=sweep.name,
        seed=asked.seed,
        objective=Objective(metric=objective["metric"], direction=direction, at=objective["at"]),
        rules=asked.rules(most),
        candidates=candidates,
        left_out=[_of_family(family, found[family][0]) for family in found if family not in kept],
        default_lr=default,
        seeds=drawn,
        weight=seeds,
        searched=trials,
        changes=asked.vary,
        vary_seeds=draw_vary_seeds(run_seed, members, asked.seed, drawn),
        also=tuple(_candidate(sweep, name, candidates) for name in asked.also),
    )


def _candidate(sweep: StoredSweep, name: str, candidates: Candidates) -> Candidate:
    """Return a named trial as a candidate: the one of its family that it is, or else one of its own."""
    try:
        record = sweep.record(name)
    except InputError as error:
        raise InputError("confirm.also", name, error.problem, error.remedy) from error
    of_families = [one for of_family in candidates.values() for one in of_family]
    return next((one for one in of_families if record in one.same), Candidate(record, (record,)))


def _families(found: Candidates, asked: ConfirmSpec, direction: str, trials: int) -> list[str]:
    """Return the families that are confirmed: the constant, and the others with the best search values.

    With a budget, so many that their first look fits.

    Raises:
        InputError: If the budget is too small for two configurations.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    others = sorted(
        (name for name in found if name != TUNED), key=lambda name: sign * (found[name][0].record.value or 0)
    )
    constant = [TUNED] if TUNED in found else []
    count = min(len(others), int(min(asked.family_count, len(others))))
    least = min(count, 2 - len(constant))
    if asked.budget is not None:
        while count > least and _least(found, [*others[:count], *constant], asked) > asked.budget * trials:
            count -= 1
    kept = [*others[:count], *constant]
    needed = _least(found, kept, asked)
    if asked.budget is not None and needed > asked.budget * trials:
        budget = math.ceil(100 * needed / trials) / 100
        raise InputError(
            "confirm.budget",
            asked.budget,
            f"{needed} trainings are needed to compare {' and '.join(kept)}, and the sweep has {trials} trials",
            f"Use {budget} or more, or leave it out",
        )
    return sorted(kept)


def _least(found: Candidates, families: Sequence[str], asked: ConfirmSpec) -> int:
    """Return the trainings up to the first look, without those of the default LR."""
    return _chosen_on({name: found[name] for name in families}, asked) + len(families) * asked.all_looks[0]


def _chosen_on(candidates: Candidates, asked: ConfirmSpec) -> int:
    """Return the trainings on which configurations are chosen. One that families share is trained once."""
    several = [of_family for of_family in candidates.values() if len(of_family) > 1]
    return asked.choose * len({id(one) for of_family in several for one in of_family})


def _traces(sweep: StoredSweep, record: Record) -> Sequence[Floats] | None:
    """Return LR and momentum of every update; None for a reactive schedule."""
    try:
        family = sweep.family_of(record)
    except InputError:  # a factor defined in a notebook or script, unknown to this process
        return None
    if family.controller is not None:
        return None
    steps, epoch = sweep.horizon
    params = sweep.params(record.study, record.number)
    momentum_S = momentum_trace(family, params, steps, epoch=epoch)
    return [lr_trace(family, params, steps, epoch=epoch), *([] if momentum_S is None else [momentum_S])]


@dataclass(frozen=True)
class Cost:
    """Trainings of a confirmation.

    Attributes:
        least: If everything is clear at the first look.
        typical: If the configurations that are still in are few after the second look.
        most: If it goes to the last look with everyone.
        seconds: That one training took in the search, on average.
        varied: Under changes, at most.
    """

    least: int
    typical: int
    most: int
    seconds: float
    varied: int = 0


def cost(sweep: StoredSweep, planned: ConfirmationPlan, asked: ConfirmSpec) -> Cost:
    """Return what a confirmation costs."""
    rules, chosen_on = planned.rules, _chosen_on(planned.candidates, asked)
    default = 0 if planned.default_lr is None else rules.looks[0]
    # Families with the same trials are judged as one.
    judging = len({tuple(map(id, of_family)) for of_family in planned.candidates.values()}) + len(planned.also)
    judged = [judging * rules.looks[min(place, len(rules.looks) - 1)] for place in (0, TYPICAL)]
    longest = judging * rules.looks[-1]
    most = longest if rules.most_trainings is None else max(judged[0], min(longest, rules.most_trainings))
    complete = [record for record in sweep.records if record.state == "complete" and record.seconds]
    seconds = sum(record.seconds for record in complete) / max(1, len(complete)) / planned.weight
    least, typical, most = (chosen_on + default + count for count in (judged[0], min(judged[1], most), most))
    varied = len(asked.vary) * min(COMPARED, judging) * len(planned.vary_seeds)
    return Cost(least, typical, most, seconds, varied)
