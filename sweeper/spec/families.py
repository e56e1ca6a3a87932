"""Parse the chosen families."""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.schedules import family
from sweeper.spec.sweep import Node
from sweeper.spec.values import check_name
from sweeper.types import Family, InputError


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
