"""What limits a comparison, in words, where a user can do something about it: how the search treated the families.

docs/guide/trust.md explains every sentence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from sweeper.results.assembling import Confirmation, Contestant
from sweeper.results.edges import Edge, Space, spaces
from sweeper.results.judging import Judgement
from sweeper.results.stored import StoredSweep
from sweeper.results.tables import ENDS_HIGH, LOWER, RAMPS, UNEQUAL_TRIALS, count_tried
from sweeper.spec.question import Question, node_name
from sweeper.text.columns import clean, join, value_text
from sweeper.types import Direction, Family, Floats, InputError, Range, Record

MOST = 4  # notes beside the last one
FEW = 10  # complete trials below which a family counts as hardly searched
ENOUGH = 20  # trials that are proposed to such a family at least
DIVERGED = 1 / 3  # share of diverged trials from which it is said
NEARLY = 0.9  # share of another family's trials from which their numbers count as equal
UNEQUAL = 0.5  # share of another family's updates below which it is said
LATE_TRIALS = 0.25  # share of a family's trials, the last ones, that should not have found its best value
LATE_UPDATES, LATE_GAIN = (
    0.1,
    0.05,
)  # share of a run, the last one, and of its whole improvement that should not be there
NAMED = 3  # names in a list


@dataclass(frozen=True)
class Search:
    """What is stored of a search.

    Attributes:
        records: All trials that count.
        spaces: What each study may try, as far as its factor is known to this process.
        exhausted: Studies that have tried every point of their space.
        question: The sweep's question.
        ends_high: Whether the LR of (study, trial) ends high; None if unknown.
    """

    records: Sequence[Record]
    spaces: Mapping[str, Space]
    exhausted: Collection[str]
    question: Question
    ends_high: Callable[[str, int], bool | None]


def search_of(sweep: StoredSweep) -> Search:
    """Return what is stored of a sweep's search."""
    records = [record for record in sweep.records if not record.prior_of]
    families: dict[str, Family] = {}
    for record in {record.study: record for record in records}.values():
        try:
            families[record.study] = sweep.family_of(record)
        except InputError:  # a factor defined in a notebook or script, unknown to this process
            continue
    question, (steps, epoch) = sweep.config["question"], sweep.horizon
    nodes = {"optimizer": question["optimizer"], "model": question.get("model")}
    return Search(records, spaces(families, steps, epoch, nodes), sweep.exhausted, question, sweep.ends_high)


def notes(confirmation: Confirmation, search: Search) -> list[str]:
    """Return what limits the verdict: at most MOST sentences, the most important first, and then what it holds for.

    Args:
        confirmation: What the verdict follows from.
        search: The search that found the configurations.
    """
    comparison = _Comparison(confirmation, confirmation.judge(), search)
    found = [
        comparison.few_trials(),
        *comparison.at_edges(),
        comparison.unequal_trials(),
        comparison.unequal_updates(),
        comparison.diverging(),
        comparison.larger_spaces(),
        comparison.improving_search(),
        comparison.improving_training(),
        comparison.ending_high(),
    ]
    return [*[clean(note) for note in found if note][:MOST], comparison.scope()]


class _Comparison:
    """The configurations of a confirmation beside the search that found them."""

    def __init__(self, confirmation: Confirmation, judgement: Judgement, search: Search) -> None:
        self._search, self._direction = search, confirmation.objective["direction"]
        self._metric = confirmation.objective["metric"]
        self._value_KS = confirmation.values(confirmation.contestants).value_KS
        contestants = confirmation.contestants
        winner, leader = judgement.winner, judgement.leader
        best = sorted(judgement.contenders, key=lambda place: place != leader) if winner is None else [winner]
        self._best = [(place, contestants[place]) for place in best]
        self._record = {place: _record_of(one, search.records) for place, one in self._best}
        confirmed = {family for one in contestants for family in (one.family, *(name for name, _ in one.same_as))}
        self._families: dict[str, list[Record]] = {}
        for record in search.records:
            if record.family in confirmed:
                self._families.setdefault(record.family, []).append(record)

    def _tried(self, family: str) -> int:
        return count_tried(Counter(record.state for record in self._families[family]))

    def _searched_names(self, family: str) -> int:
        return max((len(record.searched) for record in self._families[family]), default=0)

    def _more_trials(self) -> str:
        """Return the override for twice as many trials."""
        return f"search.n_trials={max(ENOUGH, 2 * max(map(self._tried, self._families), default=0))}"

    def few_trials(self) -> str:
        """Name families with few complete trials, unless there is nothing more to try."""
        complete = {
            family: sum(record.state == "complete" for record in records)
            for family, records in self._families.items()
            if family in self._compared()
        }
        few = {family: count for family, count in complete.items() if count < FEW}
        if not few:
            return ""
        more = f"{self._more_trials()} continues the search."
        if len(few) == len(complete):
            return f"No family has {FEW} complete trials: another search may find much better configurations. {more}"
        counts = [f"{family} was searched with {count} complete trial{_s(count)}" for family, count in few.items()]
        return f"{_list(counts)}: too few for a fair comparison. {more}"

    def at_edges(self) -> list[str]:
        """Name configurations with a hyperparameter at an end of its range: each with one, the peak LR if it is."""
        found = []
        for place, contestant in self._best:
            record = self._record[place]
            space = None if record is None else self._search.spaces.get(record.study)
            edges = [] if space is None else space.edges(contestant.params)
            found += [(edges[0], contestant)] if edges else []
        notes = []
        for _, group in groupby(sorted(found, key=lambda pair: _order(pair[0])), lambda pair: _order(pair[0])):
            pairs = list(group)
            edge, names = pairs[0][0], [_name(contestant) for _, contestant in pairs]
            what = f"{edge.name} at the {edge.end} end of its range ({edge.limit:g})"
            remedy = f"{edge.remedy} search.extend=true {self._more_trials()} searches beyond it."
            other = "A wider range is another sweep."
            notes.append(f"{_list(names)} {_has(names)} {what}. {remedy if edge.remedy else other}")
        return notes

    def unequal_trials(self) -> str:
        """Say so if families had unequal numbers of trials. A few that failed make no difference."""
        tried = {family: self._tried(family) for family in self._compared()}
        if not tried or min(tried.values()) >= NEARLY * max(tried.values()):
            return ""
        fewest, most = min(tried, key=lambda name: tried[name]), max(tried, key=lambda name: tried[name])
        counts = f"{most} had {tried[most]}, {fewest} {tried[fewest]}"
        return f"{UNEQUAL_TRIALS} {counts}. Give all the same search.n_trials."

    def unequal_updates(self) -> str:
        """Say so if a family had far fewer updates than the leader's, at equal numbers of trials."""
        updates = {family: sum(record.steps_done for record in self._families[family]) for family in self._compared()}
        leader = self._best[0][1].family if self._best else None
        if leader not in updates or self.unequal_trials():
            return ""
        short = [
            family
            for family, count in updates.items()
            if count < UNEQUAL * updates[leader] and family not in RAMPS  # which are meant to end early
        ]
        if not short:
            return ""
        return (
            f"In the search {_list(short)} had less than half of the {updates[leader]:,} updates of {leader}: more of "
            "the trials were pruned or diverged. pruner=none treats all alike (a new search)."
        )

    def diverging(self) -> str:
        """Name the family among the best of whose trials most diverged, if many did, and a range that avoids that.

        Ramps are meant to diverge.
        """
        shares = {}
        for place, contestant in self._best:
            if contestant.family in RAMPS:
                continue
            records = self._families.get(contestant.family, [])
            diverged = sum(record.state == "diverged" for record in records)
            if diverged and diverged >= DIVERGED * self._tried(contestant.family):
                shares[place] = diverged / self._tried(contestant.family)
        if not shares:
            return ""
        place = max(shares, key=lambda place: shares[place])
        family = dict(self._best)[place].family
        tried = self._tried(family)
        return (
            f"{round(shares[place] * tried)} of {tried} trials of {family} diverged in the search. "
            f"{self._lower(place, family)}"
        )

    def _lower(self, place: int, family: str) -> str:
        """Return what to type for a range of peak LRs without the highest ones."""
        record = self._record[place]
        space = None if record is None else self._search.spaces.get(record.study)
        stable = [lr for one in self._families[family] if one.state == "complete" if (lr := _peak_lr(one)) is not None]
        searched = None if space is None else space.family.space.get("peak_lr")
        lowered = _round_up(max(stable, default=0.0))
        if space is None or not isinstance(searched, Range) or not searched.low < lowered < searched.high:
            return LOWER
        override = space.override("peak_lr", replace(searched, high=lowered))
        return f"{override} search.extend=true {self._more_trials()} searches below them."

    def larger_spaces(self) -> str:
        """Name families with more searched hyperparameters than the leader's, at the same number of trials."""
        if not self._best:
            return ""
        leader = self._best[0][1].family
        count = self._searched_names(leader)
        larger = [family for family in self._compared() if self._searched_names(family) > count]
        if not larger or self.unequal_trials():
            return ""
        return (
            f"{_list(larger)} {_has(larger)} more searched hyperparameters than {leader} ({count}), and equally many "
            f"trials: more trials may improve them more. {self._more_trials()} continues the search."
        )

    def improving_search(self) -> str:
        """Name the first family among the best whose last trials still improved by more than the spread over seeds."""
        for place, contestant in self._best:
            sd = _spread(self._value_KS[place])
            values = [
                record.value
                for record in sorted(self._families.get(contestant.family, []), key=lambda record: record.number)
                if record.state == "complete" and record.value is not None
            ]
            if len(values) < FEW or sd is None:
                continue
            late = round(LATE_TRIALS * len(values))
            gain = _gain(_best_of(values[:-late], self._direction), _best_of(values, self._direction), self._direction)
            if gain > sd:
                return (
                    f"The last {late} of {len(values)} complete trials of {contestant.family} improved {self._metric} "
                    f"by {value_text(gain)}, more than its spread over seeds ({value_text(sd)}). "
                    f"{self._more_trials()} may improve it further."
                )
        return ""

    def improving_training(self) -> str:
        """Name configurations that still improved much at the end of their run."""
        names = [_name(contestant) for place, contestant in self._best if self._still_improves(place)]
        if not names:
            return ""
        return (
            f"{_list(names)} still improved in the last tenth of the updates. With longer training another one may be "
            f"best: sweep again with train.steps={2 * self._search.question['train']['steps']}."
        )

    def _still_improves(self, place: int) -> bool:
        """Return whether the end of its run in the search improved it by more than the spread over seeds."""
        record, sd = self._record[place], _spread(self._value_KS[place])
        if record is None or sd is None or not record.intermediate:
            return False
        (_, first), (last_step, last) = record.intermediate[0], record.intermediate[-1]
        before = [value for step, value in record.intermediate if step <= (1 - LATE_UPDATES) * last_step]
        if not before:
            return False
        late, whole = _gain(before[-1], last, self._direction), _gain(first, last, self._direction)
        return late > max(sd, LATE_GAIN * whole)

    def ending_high(self) -> str:
        """Name configurations whose LR is still high at the end."""
        records = [self._record[place] for place, _ in self._best]
        is_high = [record is not None and self._search.ends_high(record.study, record.number) for record in records]
        names = [_name(one) for (_, one), high in zip(self._best, is_high, strict=True) if high]
        if not names:
            return ""
        return f"{_list(names)}: each {ENDS_HIGH}" if len(names) > 1 else f"{names[0]} {ENDS_HIGH}"

    def scope(self) -> str:
        """Return what the verdict holds for."""
        tried = sorted({self._tried(family) for family in self._compared()})
        number = "" if not tried else f"{tried[0]} " if len(tried) == 1 else f"{tried[0]} to {tried[-1]} "
        train = self._search.question["train"]
        return (
            f"This holds for {node_name(self._search.question['optimizer']) or 'this optimizer'}, batches of "
            f"{train['batch_size']:,} and {train['steps']:,} updates. Another search of {number}trials would have "
            "found other configurations, so this is no claim about families (confirm.searches=8 makes one)."
        )

    def _compared(self) -> list[str]:
        """Return the families that were searched, and could be searched on."""
        exhausted = {record.family for record in self._search.records if record.study in self._search.exhausted}
        return [family for family in self._families if self._searched_names(family) and family not in exhausted]


def _order(edge: Edge) -> tuple[bool, str, str, str]:
    """Return what edges are grouped by, those of the peak LR first."""
    return edge.name != "peak_lr", edge.name, edge.end, edge.remedy


def _record_of(contestant: Contestant, records: Sequence[Record]) -> Record | None:
    same = [record for record in records if (record.family, record.number) == (contestant.family, contestant.trial)]
    return next((record for record in same if dict(record.params) == dict(contestant.params)), None)


def _name(contestant: Contestant) -> str:
    return f"{contestant.family} trial {contestant.trial}"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _list(names: Sequence[str]) -> str:
    """Join names, at most NAMED of them and the number of the others."""
    more = len(names) - NAMED
    return join([*names[:NAMED], f"{more} more"] if more > 1 else names)


def _peak_lr(record: Record) -> float | None:
    value = record.params.get("peak_lr")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _round_up(number: float) -> float:
    """Return the number with two significant digits, rounded up."""
    if number <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / unit) * unit:.2g}")


def _spread(value_S: Floats) -> float | None:
    ended_S = value_S[~np.isnan(value_S)]
    return float(ended_S.std(ddof=1)) if len(ended_S) > 1 else None


def _best_of(values: Sequence[float], direction: Direction) -> float:
    return min(values) if direction == "minimize" else max(values)


def _gain(before: float, after: float, direction: Direction) -> float:
    return before - after if direction == "minimize" else after - before
