"""The page docs/guide/claims.md: what was claimed, how it was tried, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypedDict

from contrasts import UNITS, Found, Measure

from sweeper.results.paired import interval, paired
from sweeper.results.words import difference_text
from sweeper.text.columns import value_text
from sweeper.types import Floats

ALONE = 0.05  # level of an interval that stands for itself
COLUMNS = ("task", "seeds", "arm 1", "arm 2", "difference", "interval", "the claim is")


class Claim(TypedDict):
    """A claim of claims.yaml."""

    title: str
    source: str
    document: str
    contrast: str
    measure: Measure
    minimum: float
    seeds: int
    both: str
    arms: dict[str, str]


class Written(TypedDict):
    """claims.yaml."""

    together: float
    tasks: dict[str, str]
    claims: dict[str, Claim]


class Compared(NamedTuple):
    """The staircase against the constant in one loss.

    Attributes:
        means: Of the staircase and of the constant.
        difference: Mean difference with the ends of its interval, positive if the staircase ends higher.
        lower: Seeds at which the staircase ends lower.
    """

    means: tuple[float, float]
    difference: tuple[float, float, float]
    lower: int


class Staircase(NamedTuple):
    """What the Keras tutorial's comparison showed.

    Attributes:
        seeds: How many.
        train: In the mean training loss of the tenth epoch, which Keras prints.
        valid: In the final loss on 1,000 other examples.
    """

    seeds: int
    train: Compared
    valid: Compared

    @classmethod
    def of(cls, step_S2: Floats, constant_S2: Floats) -> Self:
        """Return it from the losses at each seed, training loss first."""
        of_loss = [_compare(step_S2[:, column], constant_S2[:, column]) for column in (0, 1)]
        return cls(len(step_S2), *of_loss)


def _compare(step_S: Floats, constant_S: Floats) -> Compared:
    test = paired(step_S - constant_S)
    means = float(step_S.mean()), float(constant_S.mean())
    return Compared(means, (float(test.mean), *interval(test, ALONE)), int((step_S < constant_S).sum()))


@dataclass(frozen=True)
class Run:
    """Everything that `make claims` found.

    Attributes:
        written: The contrasts as they were fixed.
        found: By claim and task.
        staircase: The tutorial's comparison.
        trainings: In all.
        minutes: Of processor time, of all processes.
    """

    written: Written
    found: Mapping[tuple[str, str], Found]
    staircase: Staircase
    trainings: int
    minutes: float


def page(run: Run) -> str:
    """Return the page as Markdown."""
    written = run.written
    parts = [
        *_head(run),
        *(line for name, claim in written["claims"].items() for line in _section(run, name, claim)),
        *_staircase(run.staircase),
    ]
    return "\n".join(parts) + "\n"


def _head(run: Run) -> list[str]:
    import torch

    written = run.written
    count = len(run.found)
    return [
        "<!-- written by `make claims` -->",
        "# Claims of the founding documents",
        "",
        "What four texts about learning-rate schedules claim, tried on two small tasks each. The contrasts were "
        "fixed before they were run, in `benchmarks/claims.yaml`. `make claims` repeats them and writes this page.",
        "",
        *_table(
            ("claim", *written["tasks"]),
            [
                [f"[{claim['title']}](#{_anchor(claim['title'])})"]
                + [run.found[name, task].word for task in written["tasks"]]
                for name, claim in written["claims"].items()
            ],
        ),
        "",
        "- **supported**: the interval of the mean difference lies above the smallest difference worth having",
        "- **refuted on this task**: it lies below",
        "- **undecided**: that difference is inside",
        "",
        f"A word holds for its task, its model and these lengths. All {count} intervals hold together with "
        f"{100 * written['together']:g}%. Differences are at equal seeds, positive in favor of the claim. Each arm was "
        "tuned by its own search, with as many trials as the other, and judged on fresh seeds. Where the LR itself "
        "is the question, every point of a grid was.",
        "",
        f"Run once: {run.trainings:,} trainings, {run.minutes:.0f} minutes of processor time, torch "
        f"{torch.__version__.partition('+')[0]}.",
        "",
        *_table(("task", "settings"), [[task, f"`{words}`"] for task, words in written["tasks"].items()]),
        "",
        "The text of `data=text` is Python's standard library, so its figures change a little with the version of "
        "Python.",
        "",
    ]


def _section(run: Run, name: str, claim: Claim) -> list[str]:
    unit, arms = UNITS[claim["measure"]], list(claim["arms"])
    lines = {
        "loss": "Measured in the final validation loss, in % of the second arm's.",
        "accuracy": "Measured in the test accuracy, in percentage points.",
        "largest_lr": "Measured at each seed: the largest peak LR at which the model still learns. Its loss keeps at "
        "least half of what the lowest mean loss gains over predictions that ignore the inputs. 1 doubling is a factor "
        'of 2. The grid, the depth of the networks and "half" were chosen after a look at two other seeds.',
    }
    rows = [_row(task, run.found[name, task], unit) for task in run.written["tasks"]]
    columns = [{"arm 1": arms[0], "arm 2": arms[1]}.get(column, column) for column in COLUMNS]
    return [
        f"## {claim['title']}",
        "",
        f'> "{claim["source"]}" (document {claim["document"]})',
        "",
        f"{claim['contrast']} {lines[claim['measure']]} It must exceed {claim['minimum']:g} {unit}.",
        "",
        *_table(columns, rows),
        "",
        f"The sweeps of the arms, with a task's settings in place of `...`; then `{_confirmed(claim)}`:",
        "",
        "```sh",
        *(f"python -m sweeper experiment=claims ... {_typed(claim, arm)}" for arm in arms),
        "```",
        "",
    ]


def _confirmed(claim: Claim) -> str:
    """Return the command that judges an arm on fresh seeds; on a grid it judges every trial."""
    every = " confirm.top=1 'confirm.also=[linear:0,linear:1,...]'" if claim["measure"] == "largest_lr" else ""
    return f"python -m sweeper confirm 'confirm.looks=[{claim['seeds']}]'{every}"


def _typed(claim: Claim, arm: str) -> str:
    """Return the words of an arm as they are typed: those with brackets in quotes."""
    words = f"{claim['both']} {claim['arms'][arm]}".split()
    return " ".join(f"'{word}'" if "[" in word else word for word in words)


def _row(task: str, found: Found, unit: str) -> list[str]:
    lost = f", {found.lost} lost to divergence" if found.lost else ""
    return [
        task,
        f"{found.seeds}{lost}",
        *(value_text(value) for value in found.arms),
        f"{found.mean:.2f} {unit}",
        f"{found.low:.2f} to {found.high:.2f}",
        f"**{found.word}**",
    ]


def _staircase(found: Staircase) -> list[str]:
    rows = [
        [
            name,
            *(f"{mean:.4f}" for mean in one.means),
            difference_text(*one.difference),
            f"{one.lower} of {found.seeds}",
        ]
        for name, one in (("training, tenth epoch", found.train), ("validation, at the end", found.valid))
    ]
    return [
        "## The staircase",
        "",
        '> "the loss observed in the scheduled scheme is decreasing quite faster than the default scheme" (document '
        "001)",
        "",
        "The Keras tutorial's own example: 1,000 examples, three layers of nine units with Keras' initial weights "
        "(`model.init=glorot`), batches of 50, plain SGD, ten epochs; LR 0.01, times 0.8 every second epoch, against a "
        f"constant LR of 0.01. The same initial weights and batches for both, {found.seeds} times.",
        "",
        *_table(("loss", "staircase", "constant", "difference (95%)", "staircase lower"), rows),
        "",
        f"The staircase is lower in {found.train.lower} of {found.seeds}: the tutorial's observation is "
        + ("refuted." if found.train.difference[1] > 0 else "not refuted by so few seeds."),
        "",
        "```sh",
        "python -m sweeper experiment=staircase_vs_constant",
        f"python -m sweeper confirm 'confirm.looks=[{found.seeds}]'",
        "python -m sweeper status --columns all   # also: at how many seeds each is better",
        "```",
        "",
        "The commands judge by the validation loss. The training loss of the tenth epoch, which Keras prints, is the "
        "mean of its updates in the traces.",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
