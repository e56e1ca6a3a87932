"""`optimizer.peak_lr=auto`: a range test finds the interval that is searched, once for each sweep.

The interval is stored in the sweep's folder before the first round. It is no part of the sweep's identity, so the same
command finds the sweep again, and the interval in there. Each study is named by it, as by a range that the user writes.
A command that is killed before it is stored has written nothing, and the next one finds the same interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sweeper import terminal
from sweeper.results.lr_range import RangeTest
from sweeper.run.ramping import find_lr
from sweeper.run.writing import write_json
from sweeper.spec.composing import Composed
from sweeper.spec.locking import lock
from sweeper.spec.parse import parse
from sweeper.spec.question import Home, digest, settle
from sweeper.spec.ramp_spec import RampSpec, parse_ramp
from sweeper.spec.sweep import Subject
from sweeper.types import InputError

AUTO, KEY = "auto", "optimizer.peak_lr"
Interval = tuple[float, float]


def is_auto(composed: Composed) -> bool:
    """Return whether a chosen family searches the interval of a range test."""
    return any(node.get("peak_lr") == AUTO for node in composed.nodes["schedule"].values())


def refuse_auto(composed: Composed) -> None:
    """Raise InputError if the peak LRs are not known before the sweep begins."""
    if is_auto(composed):
        remedy = "Give a range. `python -m sweeper range` finds one"
        raise InputError(KEY, AUTO, "the range is not known before the sweep begins", remedy)


def resolve(composed: Composed, subject: Subject, root: Path, *, may_train: bool = True) -> Composed:
    """Return a configuration with an interval in the place of `auto`: the stored one, or a new one, which is stored.

    Args:
        composed: The configuration.
        subject: What its data, model and task make.
        root: The folder of the sweeps.
        may_train: Whether to find an interval if none is stored; if not, it is that of all LRs of the range test.

    Raises:
        InputError: If the sweep could not be trained, or the loss neither falls nor explodes.
    """
    from sweeper.search.study import build_studies
    from sweeper.search.tryout import try_out

    if not is_auto(composed):
        return composed
    ramp = parse_ramp({}, composed)
    widest = _with_interval(composed, (ramp.low, ramp.high))
    spec = parse(widest.nodes, subject)
    home, question = settle(root, spec.name, spec.question, fresh=spec.fresh), digest(spec.question, 16)
    stored = None if spec.fresh else _read(home, question)  # a fresh start has a new folder, or one of a killed start
    if stored is not None or not may_train:
        return widest if stored is None else _with_interval(composed, stored)
    terminal.announce(f"{KEY}=auto: an LR range test looks for the interval to search.")
    test = find_lr(composed, subject, ramp)
    interval = _interval_of(test, ramp)
    resolved = _with_interval(composed, interval)
    spec = parse(resolved.nodes, subject)
    try_out(build_studies(spec.studies, spec.terms, home.journal))  # refuses, before anything is written
    with lock(home):
        write_json(home.range_test, _as_stored(test, question, interval))
    low, high = interval
    terminal.announce(f"{KEY}=auto: {low:g} to {high:g}, from {test.updates} updates. The sweep keeps this interval.")
    return resolved


def _with_interval(composed: Composed, interval: Interval) -> Composed:
    """Return the configuration with a range wherever `auto` is."""
    searched = {"low": interval[0], "high": interval[1], "log": True}

    def replaced(node: Mapping[str, object]) -> dict[str, object]:
        return {**node, "peak_lr": searched} if node.get("peak_lr") == AUTO else dict(node)

    nodes = composed.nodes
    families = {name: replaced(node) for name, node in nodes["schedule"].items()}
    return replace(composed, nodes={**nodes, "optimizer": replaced(nodes["optimizer"]), "schedule": families})


def _interval_of(test: RangeTest, ramp: RampSpec) -> Interval:
    if test.interval is None:
        problem = f"the loss neither fell nor exploded from {ramp.low:g} to {ramp.high:g} in the range test"
        remedy = "Give a range, such as {low: 1e-3, high: 1, log: true}"
        raise InputError(KEY, AUTO, problem, remedy)
    return test.interval


def _as_stored(test: RangeTest, question: str, interval: Interval) -> Mapping[str, object]:
    low, high = interval
    return {"question": question, "low": low, "high": high, "updates": test.updates, "points": test.points}


def _read(home: Home, question: str) -> Interval | None:
    """Return the stored interval of this question; None if there is none."""
    if not home.range_test.exists():
        return None
    try:
        stored = json.loads(home.range_test.read_text(encoding="utf-8"))
        interval = float(stored["low"]), float(stored["high"])
        asked = stored["question"]
    except (ValueError, KeyError, TypeError) as error:
        remedy = f"Restore it, or remove it and give the range: {KEY} in {home.config}"
        raise InputError("sweep", home.range_test, "the file is damaged", remedy) from error
    return interval if asked == question else None  # that of a start under this name that never trained
