"""The option `confirm.vary`: changes of the configuration, each a factor (x0.5) or a value, by config path."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sweeper.results.changes import Change, change_of
from sweeper.types import InputError

EXAMPLE = "{optimizer.weight_decay: [x0.5, x2], train.batch_size: [64]}"


class Changes:
    """Lists of factors and values by key."""

    or_null = False

    def parse(self, key: str, value: object) -> tuple[Change, ...]:
        """Return the changes in their order. Whether the sweep has such a key is not known here. Raises InputError."""
        if not isinstance(value, Mapping) or not value:
            raise InputError(key, "null" if value is None else value, "no lists by key", f"Write '{key}={EXAMPLE}'")
        changes = [change for name, written in value.items() for change in self._of_key(f"{key}.{name}", name, written)]
        return tuple(changes)

    @staticmethod
    def _of_key(path: str, name: object, written: object) -> list[Change]:
        several = written if isinstance(written, list | tuple) else [written]
        if not several:
            raise InputError(path, "[]", "no factor and no value", "Write for example [x0.5, x2]")
        changes: list[Change] = []
        for one in several:
            change = _change(path, str(name), one)
            if change in changes:
                raise InputError(path, one, "listed twice", "Leave one out")
            changes.append(change)
        return changes


def _change(path: str, name: str, written: object) -> Change:
    if isinstance(written, str | int | float) and not isinstance(written, bool):
        try:
            change = change_of(name, written)
        except ValueError:
            change = None
        if change is not None and math.isfinite(change.number) and not (change.is_factor and change.number <= 0):
            return change
    shown = "null" if written is None else written
    raise InputError(path, shown, "neither a positive factor nor a number", "Write a factor, such as x0.5, or a value")
