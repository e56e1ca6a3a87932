"""The options of a confirmation, `confirm.KEY=VALUE`: their types, bounds and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sweeper.results.changes import Change
from sweeper.results.judging import LEAST, LOOKS, Rules
from sweeper.run.option_words import read_options
from sweeper.run.vary_spec import Changes
from sweeper.schedules.numbers import Bounds
from sweeper.spec.keys import POSITIVE, Kind, Number, Switch, Text, Whole, check_keys
from sweeper.types import InputError

MOST_SEEDS = 10_000
SHORT = tuple(look for look in LOOKS if look <= 32)  # looks of a confirmation with a budget
FEWEST_SEARCHES = 8
OF_SEARCHES = ("searches", "yes", "seed", "alpha", "allow_divergence", "margin", "dry", "exit")  # options of these
SMALL, MIDDLE = 2, 4  # families besides the constant, with a budget below 1 and from 1 on


@dataclass(frozen=True)
class ListOfWhole:
    """A list of increasing whole numbers."""

    example: str
    or_null = True

    def parse(self, key: str, value: object) -> object:
        """Return the numbers. Raises InputError."""
        numbers = list(value) if isinstance(value, list | tuple) else []
        is_whole = all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)
        if not numbers or not is_whole or sorted(set(numbers)) != numbers or not 1 <= numbers[-1] <= MOST_SEEDS:
            raise InputError(
                key, value, "not a list of increasing numbers of seeds", f"Write for example {self.example}"
            )
        return tuple(numbers)


@dataclass(frozen=True)
class ListOfTrials:
    """A list of trials, such as cosine:17. Whether the sweep has them is not known here."""

    or_null = False

    def parse(self, key: str, value: object) -> tuple[str, ...]:
        """Return the trials. Raises InputError."""
        named = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
        if not named or not all(isinstance(one, str) and ":" in one for one in named):
            shown = "null" if value is None else value
            raise InputError(key, shown, "not a list of trials", "Write for example [cosine:17]")
        return tuple(dict.fromkeys(map(str, named)))


KEYS: Mapping[str, Kind | ListOfWhole | ListOfTrials | Changes] = {
    "seed": Whole(Bounds(0, 2**31), 1),
    "top": Whole(Bounds(1, 1000), 3),
    "choose": Whole(Bounds(1, 1000), 2),
    "looks": ListOfWhole("[8,12,16]"),
    "families": Whole(Bounds(1, 1000), 4, or_null=True),
    "budget": Number(POSITIVE, "0.5", or_null=True),
    "alpha": Number(Bounds(0, 0.5, open_low=True), "0.05"),
    "allow_divergence": Number(Bounds(0, 1, open_high=True), "0.05"),
    "margin": Number(POSITIVE, "0.01", or_null=True),
    "also": ListOfTrials(),
    "vary": Changes(),
    "searches": Whole(Bounds(FEWEST_SEARCHES, 1000), FEWEST_SEARCHES, or_null=True),
    "yes": Switch(),
    "dry": Switch(),
    "exit": Text(options=("command", "verdict")),
}


@dataclass(frozen=True)
class ConfirmSpec:
    """How a search is confirmed.

    Attributes:
        seed: Which confirmation: each has its own fresh seeds, and two are never pooled.
        top: Candidates of each family.
        choose: Fresh seeds on which a family's configuration is chosen.
        looks: Numbers of seeds at which the judged configurations are compared; None for those of the form.
        families: How many families besides the constant are confirmed, those with the best search values; None for all.
        budget: Trainings at most, as a share of the sweep's trials; None for no limit.
        alpha: Error probability of each question.
        allow_divergence: Share of diverging seeds up to which a configuration may win.
        margin: Difference of the metric that does not matter.
        also: Trials that are judged besides each family's own, such as "cosine:17".
        vary: Changes under which leader, runner-up and constant are compared again, after the verdict.
        searches: How many new whole searches are made for a verdict on families; None for one on configurations.
        yes: Whether their cost is agreed to.
        dry: Whether to stop after the cost was printed.
        exit: "command": the exit code is 0 whatever the verdict; "verdict": it tells the verdict.
    """

    seed: int = 0
    top: int = 3
    choose: int = 2
    looks: tuple[int, ...] | None = None
    families: int | None = None
    budget: float | None = None
    alpha: float = 0.05
    allow_divergence: float = 0.05
    margin: float | None = None
    also: tuple[str, ...] = ()
    vary: tuple[Change, ...] = ()
    searches: int | None = None
    yes: bool = False
    dry: bool = False
    exit: str = "command"

    @property
    def family_count(self) -> float:
        """How many families besides the constant are confirmed at most."""
        if self.families is not None:
            return self.families
        return inf if self.budget is None else SMALL if self.budget < 1 else MIDDLE

    @property
    def all_looks(self) -> tuple[int, ...]:
        """The numbers of seeds at which values are compared."""
        return self.looks or (LOOKS if self.budget is None else SHORT)

    def rules(self, most_trainings: int | None) -> Rules:
        """Return the rules of the judging stage."""
        return Rules(self.all_looks, self.alpha, self.allow_divergence, self.margin, most_trainings)

    def family_rules(self, searches: int) -> Rules:
        """Return the rules of a verdict on families: one test after all searches."""
        return Rules((searches,), self.alpha, self.allow_divergence, self.margin)

    @property
    def stored(self) -> dict[str, object]:
        """What must not change once a confirmation has begun."""
        return {
            "top": self.top,
            "choose": self.choose,
            "looks": list(self.all_looks),
            "alpha": self.alpha,
            "allow_divergence": self.allow_divergence,
            "margin": self.margin,
            "families": self.families,
            "budget": self.budget,
            **({"also": list(self.also)} if self.also else {}),
        }


def parse_confirm(values: Mapping[str, object]) -> ConfirmSpec:
    """Return the checked options.

    Args:
        values: By key, without "confirm.".

    Raises:
        InputError: If there is no such key, or a value cannot be used.
    """
    check_keys("confirm", values, tuple(KEYS))
    checked = {key: _parse(key, value) for key, value in values.items()}
    spec = ConfirmSpec(**checked)
    for key in values if spec.searches is not None else ():
        if key not in OF_SEARCHES:
            problem = "new searches train whole sweeps, without this option"
            raise InputError(f"confirm.{key}", None, problem, "Leave it out, or confirm without confirm.searches")
    looks = spec.all_looks
    if looks[0] < LEAST and looks != looks[:1]:
        problem = f"a first look at {looks[0]} seeds can decide nothing"
        raise InputError("confirm.looks", list(looks), problem, f"Begin with {LEAST} seeds or more, or give one number")
    return spec


def parse_words(words: Sequence[str]) -> ConfirmSpec:
    """Return the options of the command line, `confirm.top=5`. Raises InputError."""
    return parse_confirm(read_options("confirm", words, "a confirmation", "confirm.budget=0.5"))


def _parse(key: str, value: object) -> Any:
    kind = KEYS[key]
    if value is None and kind.or_null:
        return None
    return kind.parse(f"confirm.{key}", value)
