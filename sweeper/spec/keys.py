"""Every key that this package reads itself: its type and its bounds. Every other key is an option of a constructor.

A value in this table is fixed. What can be searched (hyperparameters of schedules, optimizer and model) is checked at
each end of its range by what it belongs to: `schedules.numbers`, `training.optimizers.optim` and `spec.subject`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from sweeper.schedules.numbers import ANY, Bounds
from sweeper.spec.aliases import similar, similar_key
from sweeper.spec.question import check_name
from sweeper.types import AT, InputError, as_typed

OURS = ("sweeper.", "optuna.")  # nodes whose `_target_` starts like this have keys of this table, too
Check = Callable[[str, str], object]


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    bounds: Bounds
    example: int
    words: tuple[str, ...] = ()
    or_null: bool = False

    def parse(self, key: str, value: object) -> object:
        """Return the value. Raises InputError."""
        if value in self.words and isinstance(value, str):
            return value
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and self.bounds.contains(value):  # type: ignore[arg-type] # it is an int
            return value
        or_words = "".join(f", or {word}" for word in (*self.words, *(["null"] if self.or_null else [])))
        near = int(value) if isinstance(value, float) and value.is_integer() else None  # 1e3
        meant = near if near is not None and self.bounds.contains(near) else self.example
        raise InputError(
            key, _shown(value), f"not a whole number of {self.bounds}", f"Write for example {meant}{or_words}"
        )


@dataclass(frozen=True)
class Number:
    """A finite number."""

    bounds: Bounds
    example: str
    or_null: bool = False

    def parse(self, key: str, value: object) -> object:
        """Return the value, an int as an int: it is stored as it was written. Raises InputError."""
        if _is_number(value) and self.bounds.contains(value):  # type: ignore[arg-type] # it is a number
            return value
        or_null = ", or null" if self.or_null else ""
        problem = f"not a finite number {self.bounds}".rstrip()
        raise InputError(key, _shown(value), problem, f"Write for example {self.example}{or_null}")


@dataclass(frozen=True)
class Switch:
    """True or false; never null."""

    or_null = False

    def parse(self, key: str, value: object) -> object:
        """Return the value. Raises InputError."""
        if not isinstance(value, bool):
            raise InputError(key, _shown(value), "neither true nor false", "Write true or false")
        return value


@dataclass(frozen=True)
class Text:
    """A text: any, one of `options`, or what `check` lets pass.

    YAML and Hydra read 2026 as a number. Where a text is wanted, a whole number is that text. A float and a truth value
    are refused, for their text may have been another: 1e3, yes. The command line quotes what the user typed
    (`overrides`).
    """

    example: str = ""
    options: tuple[str, ...] = ()
    check: Check | None = None
    or_null: bool = False

    def parse(self, key: str, value: object) -> object:
        """Return the text. Raises InputError."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if self.options and value not in self.options:
            raise InputError(key, _shown(value), "no such choice", similar(key, as_typed(value), self.options))
        if not isinstance(value, str) or not value:
            in_quotes = ", in quotes if it looks like a number" if isinstance(value, float) else ""
            raise InputError(key, _shown(value), "not a text", f"Write one, such as {self.example}{in_quotes}")
        return value if self.check is None else self.check(key, value)


@dataclass(frozen=True)
class Section:
    """A mapping. Its keys are checked by the rows of the table, or where it is used if it has none there."""

    example: str
    keys: tuple[str, ...] = ()
    or_null: bool = False

    def parse(self, key: str, value: object) -> object:
        """Return the value. Raises InputError."""
        if not isinstance(value, Mapping):
            raise InputError(key, _shown(value), "not a mapping of keys", self.example)
        if self.keys:
            check_keys(key, value, self.keys)
        return value


Kind = Whole | Number | Switch | Text | Section


def _at_least(low: float, high: float = inf) -> Bounds:
    return Bounds(low, high)


def _precision(key: str, value: str) -> str:
    """Return the precision. float16 needs a loss scale, which skips some updates of the schedule."""
    if value == "float16":
        problem = "it needs a loss scale, which would skip updates of the schedule"
        raise InputError(key, value, problem, "Use bfloat16 or float32")
    return str(Text(options=("float32", "float64", "bfloat16")).parse(key, value))


POSITIVE = Bounds(0, inf, open_low=True)
MANY = 10**6  # trials of a family: more than any search can use, and its lists still fit into memory
LONGEST = 10**8  # updates: the LRs of one trial take 800 MB
LARGEST_SEED = 2**63 - 1

PRUNER: Mapping[str, Kind] = {  # options of Optuna's pruners
    "n_startup_trials": Whole(_at_least(0, MANY), 5),
    "n_warmup_steps": Whole(_at_least(0, LONGEST), 4),
    "interval_steps": Whole(_at_least(1, LONGEST), 1),
    "n_min_trials": Whole(_at_least(1, MANY), 1),
    "percentile": Number(Bounds(0, 100), "25"),
    "patience": Whole(_at_least(0, LONGEST), 2),
    "min_delta": Number(_at_least(0), "0.01"),
    "min_resource": Whole(_at_least(1, LONGEST), 1, words=("auto",)),
    "max_resource": Whole(_at_least(1, LONGEST), 20, words=("auto",)),
    "reduction_factor": Whole(_at_least(2, MANY), 3),
    "min_early_stopping_rate": Whole(_at_least(0, 100), 0),
    "bootstrap_count": Whole(_at_least(0, MANY), 0),
    "lower": Number(ANY, "0.1", or_null=True),
    "upper": Number(ANY, "3", or_null=True),
}
KEYS: Mapping[str, Kind] = {
    "name": Text("first-try", check=check_name, or_null=True),
    "fresh": Switch(),
    "device": Text("cpu"),
    "schedule_unit": Text(options=("step", "epoch")),
    "data": Section("Name a file of conf/data: data=digits"),
    "model": Section("Name a file of conf/model: model=mlp"),
    "task": Section("Set task._target_=... or task.metrics=[accuracy]"),
    "optimizer": Section("Name a file of conf/optimizer: optimizer=adamw"),
    "pruner": Section("Name a file of conf/pruner: pruner=none", or_null=True),
    "schedule": Section("Name families: schedule=cosine, or 'schedule=[cosine,wsd]'"),
    "train": Section(
        "Set train.steps=1000 and the like",
        keys=("steps", "epochs", "batch_size", "precision", "clip", "accumulate", "ema", "norms"),
    ),
    "train.steps": Whole(_at_least(1, LONGEST), 1000, or_null=True),
    "train.epochs": Number(Bounds(0, LONGEST, open_low=True), "10", or_null=True),
    "train.batch_size": Whole(_at_least(1, LONGEST), 32),
    "train.precision": Text("float32", check=_precision),
    "train.clip": Number(POSITIVE, "1.0", or_null=True),
    "train.accumulate": Whole(_at_least(1, LONGEST), 4),
    "train.ema": Number(Bounds(0, 1, open_low=True, open_high=True), "0.999", or_null=True),
    "train.norms": Switch(),
    "objective": Section(
        "Set objective.metric=valid/accuracy and the like", keys=("metric", "direction", "at", "k", "target")
    ),
    "objective.metric": Text("valid/loss"),
    "objective.direction": Text(options=("minimize", "maximize")),
    "objective.at": Text(options=AT),
    "objective.k": Whole(_at_least(1, MANY), 3),
    "objective.target": Number(ANY, "2.3", or_null=True),
    "keep": Section("Set keep.best=3 and the like", keys=("best", "quota_gb")),
    "keep.best": Whole(_at_least(0, MANY), 3),
    "keep.quota_gb": Number(POSITIVE, "2"),
    "search": Section(
        "Name a file of conf/search: search=tpe",
        keys=(
            "n_trials", "concurrent_trials", "reports", "seed", "seeds", "timeout", "stop", "early_stopping",
            "allow_truncation", "extend", "start", "sampler",
        ),
    ),
    "search.n_trials": Whole(_at_least(1, MANY), 20),
    "search.concurrent_trials": Whole(_at_least(1, MANY), 8),
    "search.reports": Whole(_at_least(4, LONGEST), 20),
    "search.seed": Whole(_at_least(0, LARGEST_SEED), 1),
    "search.seeds": Whole(_at_least(1, 1000), 3),
    "search.timeout": Number(POSITIVE, "3600", or_null=True),
    "search.stop": Whole(_at_least(1, MANY), 20, or_null=True),
    "search.early_stopping": Section("Write {patience: 5}", keys=("patience", "min_delta"), or_null=True),
    "search.early_stopping.patience": Whole(_at_least(1, LONGEST), 5),
    "search.early_stopping.min_delta": Number(_at_least(0), "0.01"),
    "search.allow_truncation": Switch(),
    "search.extend": Switch(),
    "search.start": Section("Write {cosine: [{peak_lr: 0.1}]}"),
    "search.sampler": Section("Name a file of conf/search: search=tpe"),
    "search.sampler.n_startup_trials": Whole(_at_least(0, MANY), 8),
    "search.sampler.n_ei_candidates": Whole(_at_least(1, MANY), 24),
    "search.sampler.sigma0": Number(POSITIVE, "0.3", or_null=True),
    **{f"pruner.{option}": kind for option, kind in PRUNER.items()},
    "pruner.wrapped_pruner": Section("Set pruner.wrapped_pruner._target_=...", or_null=True),
    **{f"pruner.wrapped_pruner.{option}": kind for option, kind in PRUNER.items()},
    "trainer": Section("Name a file of conf/trainer: trainer=sequential"),
    "trainer.workers": Whole(_at_least(1, 4096), 2, words=("auto",)),
    "trainer.threads": Whole(_at_least(1, 4096), 2, words=("auto",)),
    "trainer.width": Whole(_at_least(1, 65536), 16),
    "trainer.compiled": Switch(),
    "tracking": Section("Choose tracking=mlflow or tracking=none"),
    "tracking.uri": Text("sqlite:///mlflow.db", or_null=True),
    "tracking.experiment": Text("schedules", or_null=True),
    "tracking.flush_seconds": Number(_at_least(0), "60", or_null=True),
}  # fmt: skip

# Options of our data sets and models that are texts, for the command line. Their constructors check them.
TEXT_OPTIONS = ("data.path", "data.pattern", "data.cache", "data.target", "data.split_by", "model.init_from")


def text_keys() -> set[str]:
    """Return the keys whose value is a text, whatever it looks like."""
    return {key for key, kind in KEYS.items() if isinstance(kind, Text)} | set(TEXT_OPTIONS)


def check_keys(section: str, node: Mapping[str, object], known: Sequence[str]) -> None:
    """Raise InputError for a key of a section that nothing reads."""
    for key, value in node.items():
        if key not in known:
            raise InputError(f"{section}.{key}", value, "no such key", similar_key(str(key), known, KEYS))


def check(config: Mapping[str, object]) -> dict[str, Any]:
    """Return a configuration whose keys have the types and bounds of the table. Keys that it lacks stay away.

    Raises:
        InputError: for the first key that has not.
    """
    return {str(key): _checked(str(key), value, is_ours=True) for key, value in config.items()}


def _checked(key: str, value: object, *, is_ours: bool) -> Any:
    """Return a value of the configuration, with the keys inside it."""
    kind = KEYS.get(key) if is_ours else None
    if kind is not None and not (value is None and kind.or_null):
        value = kind.parse(key, value)
    if not isinstance(value, Mapping) or key not in KEYS:
        return value
    known = is_ours and _has_our_keys(value)
    return {inner: _checked(f"{key}.{inner}", one, is_ours=known) for inner, one in value.items()}


def _has_our_keys(node: Mapping[str, object]) -> bool:
    return str(node.get("_target_", OURS[0])).startswith(OURS)


def _is_number(value: object) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and isfinite(value))


def _shown(value: object) -> object:
    return "null" if value is None else value
