"""The curves that figures show: LR, losses and objective of single trials, or of a confirmation's trainings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.search.records import replicate_study, searched_study
from sweeper.text.columns import clean, value_text
from sweeper.tracking.traces import read_trace
from sweeper.types import Floats, InputError, Record
from sweeper.views.looks import Look, looks_of, numbered

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep
    from sweeper.results.verdict import Reference

BEST_OF_STUDY = 5  # trials in a figure of one study
MOST_POINTS = 2000  # of a line
SMOOTH = 50  # parts of a run, over each of which the training loss is averaged

Points = tuple[Floats, Floats]  # updates and values, float64 [S] each


@dataclass(frozen=True)
class Curve:
    """A configuration that is drawn as lines. A line is None if it is unknown.

    Attributes:
        label: What it is called, with its value.
        look: How it is drawn.
        lr: Of the first member.
        train: The training loss, the median over the members.
        valid: The validation loss, the median over the members.
        objective: The objective's metric at each report.
    """

    label: str
    look: Look
    lr: Points | None = None
    train: Points | None = None
    valid: Points | None = None
    objective: Points | None = None


# --- of the search ----------------------------------------------------------------------------------


def best_trials(sweep: StoredSweep, study: str | None = None) -> list[Curve]:
    """Return the curves of each study's best complete trial, the best first; or of the best ones of a given study."""
    if study is not None:
        return _best_of_study(sweep, study)
    by_id = {(record.study, record.number): record for record in sweep.records}
    names, looks = labels(sweep), looks_of(sweep.records)
    ranked = sweep.families.dropna(subset=["rank"]).sort_values("rank", kind="stable")
    found = []
    for name, trial in zip(ranked["study"], ranked["best_trial"], strict=True):
        record = by_id[name, int(trial)]
        found.append(_of_trial(sweep, record, f"{names[name]}  {value_text(record.value)}", looks[name]))
    return found


def _best_of_study(sweep: StoredSweep, study: str) -> list[Curve]:
    sign = 1 if sweep.objective["direction"] == "minimize" else -1
    complete = [r for r in sweep.records if r.study == study and r.state == "complete" and _is_finite(r.value)]
    complete.sort(key=lambda record: (sign * float(record.value or 0.0), record.number))
    return [
        _of_trial(sweep, record, f"trial {record.number}  {value_text(record.value)}", look)
        for record, look in zip(complete[:BEST_OF_STUDY], numbered(BEST_OF_STUDY), strict=False)
    ]


def labels(sweep: StoredSweep) -> dict[str, str]:
    """Return the label of each study: its family, or its own name if the family has several studies."""
    families = {record.study: record.family for record in sweep.records if not record.prior_of}
    studies = Counter(families.values())
    return {study: clean(family if studies[family] == 1 else study) for study, family in families.items()}


def _of_trial(sweep: StoredSweep, record: Record, label: str, look: Look) -> Curve:
    """Return the curves of one trial."""
    traces = [_trace(sweep, record, member) for member in range(max(1, len(record.seeds)))]
    return Curve(
        label,
        look,
        lr=_median(traces[:1], "lr/group0"),
        train=_median(traces, "train/loss"),
        valid=_median(traces, "valid/loss"),
        objective=_reports(record),
    )


def _trace(sweep: StoredSweep, record: Record, member: int) -> Any:
    """Return the traces of one member; None if there are none."""
    try:
        return sweep.trace(record.study, record.number, member)
    except InputError:
        return None


def _median(traces: Sequence[Any], name: str) -> Points | None:
    """Return steps and values of a trace, the median over the members; None if there are none."""
    found = [trace[["step", name]].dropna() for trace in traces if trace is not None and name in trace]
    if not found or not len(found[0]):
        return None
    values_MS = np.array([trace[name].to_numpy() for trace in found if len(trace) == len(found[0])])
    return found[0]["step"].to_numpy(dtype=np.float64), np.median(values_MS, axis=0)


def _reports(record: Record) -> Points | None:
    if not record.intermediate:
        return None
    steps, values = zip(*record.intermediate, strict=True)
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# --- of a confirmation ------------------------------------------------------------------------------


def confirmed(sweep: StoredSweep) -> tuple[list[Curve], int]:
    """Return the curves of the confirmed configurations in the order of the verdict, and over how many seeds.

    The objective is the mean over the seeds that all of them share. Empty if nothing was confirmed.
    """
    verdict = sweep.verdict
    if verdict is None:
        return [], 0
    looks, judged = looks_of(sweep.records), _judged(sweep)
    study_of = {record.family: record.study for record in reversed(sweep.records) if not record.prior_of}  # the first
    rows = [row for row in verdict["configurations"] if judged.get(_key(row))]
    seeds = [{seed for seed, record in judged[_key(row)].items() if record.state == "complete"} for row in rows]
    common = set.intersection(*filter(None, seeds)) if any(seeds) else set()
    found = []
    for row in rows:
        trainings = judged[_key(row)]
        reports = [_reports(record) for seed, record in sorted(trainings.items()) if seed in common]
        label = f"{clean(row['family'])}:{row['trial']}  {value_text(row['mean'])}"
        lr = _lr(sweep, min(trainings.values(), key=lambda record: (-record.steps_done, record.number)))
        found.append(Curve(label, looks[study_of[row["family"]]], lr=lr, objective=_mean(reports)))
    return found, len(common)


def seeds_text(common: int) -> str:
    """Return over which seeds the curves of a confirmation are; "" for none."""
    return f"mean of {common} seeds" if common else ""


def _key(reference: Reference) -> tuple[str, int]:
    return reference["family"], reference["trial"]


def _judged(sweep: StoredSweep) -> dict[tuple[str, int], dict[int, Record]]:
    """Return the trainings of the last verdict, without those under changes, by configuration and seed."""
    verdict = sweep.verdict
    assert verdict is not None
    found: dict[tuple[str, int], dict[int, Record]] = {}
    for record in sweep.replicates:
        is_its_own = record.study == replicate_study(searched_study(record.study), verdict["confirm_seed"])
        if is_its_own and record.replicate is not None and record.replicate.stage == "judge":
            found.setdefault((record.family, record.replicate.trial), {})[record.replicate.seed] = record
    return found


def _lr(sweep: StoredSweep, record: Record) -> Points | None:
    try:
        return _median([read_trace(sweep.home.path, record.study, record.number)], "lr/group0")
    except KeyError:
        return None


def _mean(lines: Sequence[Points | None]) -> Points | None:
    """Return the mean of lines with the same steps; None if there are none."""
    found = [line for line in lines if line is not None]
    longest = max((len(steps) for steps, _ in found), default=0)
    whole = [line for line in found if len(line[0]) == longest]
    return None if not whole else (whole[0][0], np.mean([values for _, values in whole], axis=0))


# --- fewer points -----------------------------------------------------------------------------------


def thin(line: Points, most: int = MOST_POINTS) -> Points:
    """Return at most so many evenly spaced points, including the first and the last."""
    step_S, values_S = line
    places = np.unique(np.linspace(0, len(step_S) - 1, min(len(step_S), most)).round().astype(np.int64))
    return step_S[places], values_S[places]


def smooth(line: Points) -> Points:
    """Return the mean of each of SMOOTH parts of the run, at the middle of the part."""
    step_S, values_S = line
    parts = np.array_split(np.arange(len(step_S)), min(SMOOTH, len(step_S)))
    return np.array([step_S[part].mean() for part in parts]), np.array([values_S[part].mean() for part in parts])
