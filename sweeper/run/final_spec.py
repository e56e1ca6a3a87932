"""The options of the final models, `final.KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.run.option_words import read_options
from sweeper.schedules.numbers import Bounds
from sweeper.spec.keys import Whole, check_keys

KEYS = {"seeds": Whole(Bounds(1, 1000), 5)}


@dataclass(frozen=True)
class FinalSpec:
    """How final models are trained.

    Attributes:
        seeds: How many, each from its own seed.
    """

    seeds: int = 5


def parse_final(values: Mapping[str, object]) -> FinalSpec:
    """Return the checked options, by key without "final.".

    Raises:
        InputError: If there is no such key, or a value cannot be used.
    """
    check_keys("final", values, tuple(KEYS))
    return FinalSpec(**{key: KEYS[key].parse(f"final.{key}", value) for key, value in values.items()})  # type: ignore[arg-type]


def parse_words(words: Sequence[str]) -> FinalSpec:
    """Return the options of the command line, `final.seeds=10`. Raises InputError."""
    return parse_final(read_options("final", words, "a final model", "final.seeds=10"))
