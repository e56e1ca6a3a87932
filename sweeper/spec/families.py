"""Parse the chosen families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sweeper.schedules import family
from sweeper.spec.question import check_name
from sweeper.spec.sweep import Node
from sweeper.types import Family, InputError

SHARED = {"optimizer.peak_lr": "peak_lr", "optimizer.default_lr": "peak_lr", "warmup": "warmup"}  # by the shared key


def parse_families(schedules: Mapping[str, Node]) -> list[Family]:
    """Return the families in alphabetical order.

    Raises:
        InputError: If a family is impossible, its name is none of a folder, or none is chosen.
    """
    if not schedules:
        raise InputError(
            "schedule", "[]", "no family is chosen", "Choose some: 'schedule=[cosine,wsd]', or schedule=all"
        )
    for name in schedules:
        check_name(f"schedule.{name}", name)
    return [family(name, node) for name, node in sorted(schedules.items())]


@contextmanager
def blame_shared_keys(config: Mapping[str, object]) -> Iterator[None]:
    """Let errors inside name the key that the user set, where a family has its value from a key that all share."""
    try:
        yield
    except InputError as error:
        key = _shared_key(config, error.key)
        if key == error.key:
            raise
        raise InputError(key, error.value, error.problem, error.remedy) from error


def _shared_key(config: Mapping[str, object], key: str) -> str:
    """Return the shared key in the place of `schedule.<family>.<name>`, if the family has its value from there."""
    schedules, optimizer = config["schedule"], config["optimizer"]
    assert isinstance(schedules, Mapping)
    assert isinstance(optimizer, Mapping)
    for shared, name in SHARED.items():
        value = config.get(shared) if shared in config else optimizer.get(shared.removeprefix("optimizer."), ...)
        for family_name, node in schedules.items():
            own = f"schedule.{family_name}.{name}"
            if name in node and (key == own or key.startswith(f"{own}.")) and node[name] == value:
                return shared + key.removeprefix(own)
    return key
