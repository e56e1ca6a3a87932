"""The chosen families, from their nodes in the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.schedules import family
from sweeper.spec.sweep import Node
from sweeper.types import Family, InputError


def parse_families(schedules: Mapping[str, Node]) -> list[Family]:
    """Return the families, in alphabetical order. Raises InputError for one that is impossible, and for none at all."""
    if not schedules:
        raise InputError(
            "schedule", "[]", "no family is chosen", "Choose some: 'schedule=[cosine,wsd]', or schedule=all"
        )
    return [family(name, node) for name, node in sorted(schedules.items())]
