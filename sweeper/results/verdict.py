"""The verdict of a confirmation: what confirm.json holds. Every view of it is made from this mapping alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from sweeper.types import At, Direction, Number, ReplicateStage, Value

if TYPE_CHECKING:
    from sweeper.results.changes import Written
    from sweeper.results.judging import EndedBy, Status

SCHEMA = 1
TUNED_FAMILY = "constant"

Stage = ReplicateStage | Literal["search"]
Question = Literal["best", "constant", "default_lr"]
Decision = Literal["better", "worse", "out", "barred", "void", "exact", "not decided"]
Standing = Literal["best", "among the best", "out", "not decided", "barred", "void", "not tested", "not confirmed"]


class Reference(TypedDict):
    """A configuration: a trial of the search."""

    family: str
    trial: int


class Objective(TypedDict):
    """As in conf/config.yaml."""

    metric: str
    direction: Direction
    at: At


class BesideValue(TypedDict, total=False):
    """What a training has beside its value.

    `test` are the metrics of the test part, and `by_rule` is the objective by each rule of `objective.at`. Both are of
    all folds of the seed together. `reason` is why it failed. `best_trial` is there in a verdict on families.
    """

    test: dict[str, float | None]
    by_rule: dict[At, float]
    reason: str
    best_trial: int | None


class ValueRow(BesideValue):
    """One training. `value` is None unless its `state` is "complete".

    In a verdict on families it is a family in a new search: its best value, and the trial that has it (`best_trial`).
    """

    family: str
    trial: int
    stage: Stage
    seed: int
    fold: int
    value: float | None
    state: str


class Divergence(TypedDict):
    """k of n seeds diverged, with the ends of a Clopper-Pearson interval of the share."""

    k: int
    n: int
    low: float
    high: float


class Measured(TypedDict):
    """Mean and standard deviation over n seeds."""

    n: int
    mean: float
    sd: float | None


class Configuration(TypedDict):
    """A row of the table.

    `test` has the metrics of the test part, or is None if there is none. `error` is why a training failed.
    """

    family: str
    trial: int
    same_as: list[Reference]
    params: dict[str, Value]
    search_value: float | None
    choose_mean: float | None
    n: int
    mean: float | None
    sd: float | None
    diverged: Divergence
    rank: list[int] | None
    status: Standing
    out_at_look: int | None
    barred: bool
    test: dict[str, Measured] | None
    error: str | None


class Outcome(TypedDict):
    """What would have been found with another rule of `objective.at`."""

    leader: Reference
    winner: Reference | None


class Difference(TypedDict):
    """The difference a - b in the metric, on the seeds on which both ended.

    `p` is of the paired t test alone; it is compared with `level`, and the interval has confidence 1 - level.
    """

    n: int
    mean: float | None
    sd: float | None
    t: float | None
    p: float
    level: float | None
    low: float | None
    high: float | None
    skewed: bool


class Contrast(Difference):
    """Two configurations as of a look.

    `gain_share` is by how much a is better, as a share of the leader's gain over the constant.
    """

    a: Reference
    b: Reference
    question: Question
    decision: Decision
    look: int
    gain_share: float | None


class Trained(TypedDict):
    """Numbers of trainings."""

    choose: int
    judge: int
    total: int
    search: int


class Seeds(TypedDict):
    """Seeds in the order drawn; `search` has those of whole searches, in a verdict on families."""

    choose: list[int]
    judge: list[int]
    search: NotRequired[list[int]]


class VariedConfiguration(Reference):
    """A configuration under a change.

    `value` is what the changed key was set to, and `values` has the objective at each seed, None where it diverged.
    """

    value: Number
    n: int
    mean: float | None
    sd: float | None
    diverged: int
    values: list[float | None]


class VariedContrast(Difference):
    """Two configurations under a change, with the plain interval of a t test."""

    a: Reference
    b: Reference


class Varied(TypedDict):
    """What was found under a change (`confirm.vary`). `value` is as written: "x0.5" or 0.01.

    `contrasts` are the leader under the change against the others. It is None if all diverge too often or failed.
    """

    change: str
    value: Written
    seeds: list[int]
    configurations: list[VariedConfiguration]
    contrasts: list[VariedContrast]
    leader: Reference | None


class Verdict(TypedDict):
    """confirm.json. Keys are only added; `schema` changes if a meaning does.

    `folds` is the number of folds of each seed. `test_leader` is the best by `test_metric`, the objective's metric on
    the test part, on the seeds that it shares with the leader; None if there is no test part. `other_rules` is empty if
    the values by other rules are not known.

    In a verdict on families (confirm-families.json), `trial` is the family's best one in the stored search, `mean` and
    `sd` are over new searches, and `trials` are those of each family in one of them.
    """

    schema: int
    sweep: str
    confirm_seed: int
    objective: Objective
    status: Status
    ended_by: EndedBy | Literal["interrupted"]
    exact: bool
    alpha: float
    n_max: int
    looks: list[int]
    level: Literal["configuration", "family"]
    winner: Reference | None
    leader: Reference | None
    among_best: list[Reference]
    beats_constant: bool | None
    sentence: str
    notes: list[str]
    trained: Trained
    seeds: Seeds
    configurations: list[Configuration]
    contrasts: list[Contrast]
    values: list[ValueRow]
    folds: int
    test_metric: str
    test_leader: Reference | None
    other_rules: dict[At, Outcome]
    families_added: NotRequired[list[str]]
    varied: NotRequired[list[Varied]]
    trials: NotRequired[dict[str, int]]
