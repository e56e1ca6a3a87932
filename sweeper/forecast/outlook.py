"""An estimate in words and as JSON: what `plan` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sweeper.forecast.estimate import Estimate, gap
from sweeper.results.power import LEVEL, POWER
from sweeper.text.columns import Column, Line, clean, duration_text, lay_out, value_text, wrap, write

OTHER_SEEDS = (3, 5, 10, 20)  # what they would see is told beside what is planned


def show(estimate: Estimate, metric: str) -> None:
    """Print it at the width of the terminal."""

    def draw(width: int | None, unicode: bool) -> list[Line]:
        lines = [*wrap(_heading(estimate), width, "bold"), *lay_out(_columns(estimate), width, unicode=unicode)]
        for paragraph in paragraphs(estimate, metric):
            lines += [[("", "")], *wrap(paragraph, width)]
        return lines

    write(draw, None)


def as_json(estimate: Estimate, metric: str) -> dict[str, Any]:
    """The estimate for programs: text, finite numbers, null for what is not known. Seconds, bytes, updates.

    {"sweep", "exists", "families": [{"family", "study", "trials", "done", "open", "left", "updates_left"}],
     "trials", "trials_left", "updates_left", "members",
     "time": {"trainer", "processes", "seconds", "seconds_training", "seconds_if_as_pruned_so_far": float | null,
              "seconds_an_update", "seconds_a_report": float | null, "at_once": int | null},
     "disk": {"spool", "journal", "traces", "mlflow", "files", "total", "now"}, "memory",
     "gap": {"metric", "comparisons", "level", "power", "spread": float | null,
             "seeds": {"3": {"spreads": float | null, "value": float | null}, ...}}}
    """
    pace = estimate.pace
    return {
        "sweep": estimate.name,
        "exists": estimate.exists,
        "families": [
            {
                "family": row.family,
                "study": row.study,
                "trials": row.trials,
                "done": row.done,
                "open": row.open,
                "left": len(row.reports),
                "updates_left": row.updates,
            }
            for row in estimate.rows
        ],
        "trials": sum(row.trials for row in estimate.rows),
        "trials_left": sum(len(row.reports) for row in estimate.rows),
        "updates_left": sum(row.updates for row in estimate.rows),
        "members": estimate.members,
        "time": {
            "trainer": estimate.trainer,
            "processes": estimate.processes,
            "seconds": estimate.training + estimate.other,
            "seconds_training": estimate.training,
            "seconds_if_as_pruned_so_far": None
            if estimate.share is None
            else _seconds_if_pruned(estimate, estimate.share),
            "seconds_an_update": None if pace is None else pace.update,
            "seconds_a_report": None if pace is None else pace.report,
            "at_once": None if pace is None else pace.at_once,
        },
        "disk": {**asdict(estimate.disk), "total": estimate.disk.total, "now": estimate.disk_now},
        "memory": estimate.memory,
        "gap": {
            "metric": metric,
            "comparisons": estimate.comparisons,
            "level": LEVEL,
            "power": POWER,
            "spread": estimate.spread,
            "seeds": {str(seeds): _gap(estimate, seeds) for seeds in _seeds(estimate)},
        },
    }


def paragraphs(estimate: Estimate, metric: str) -> Iterator[str]:
    """Time, disk, memory, gap."""
    yield _time_text(estimate)
    parts = asdict(estimate.disk)
    where = {
        "spool": "spool",
        "journal": "journal",
        "traces": "traces",
        "mlflow": "MLflow",
        "files": "pictures, tables",
    }
    shown = ", ".join(f"{where[part]} {bytes_text(size)}" for part, size in parts.items())
    now = f" Its folder has {bytes_text(estimate.disk_now)} now." if estimate.exists else ""
    yield f"Disk, at most: {bytes_text(estimate.disk.total)} in all ({shown}).{now}"
    if estimate.memory:
        yield f"Memory: {bytes_text(estimate.memory)} for the open trials' weights, gradients and optimizers."
    yield from _gap_paragraphs(estimate, metric)


def bytes_text(size: float) -> str:
    """310 B, 4.2 kB, 17 MB: two digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _heading(estimate: Estimate) -> str:
    done = sum(row.done for row in estimate.rows)
    began = f"goes on, {done:,} of its trials are done" if estimate.exists else "a new sweep"
    return f"{estimate.name}: {began}"


def _columns(estimate: Estimate) -> list[Column]:
    rows = estimate.rows
    numbers = {
        "trials": [row.trials for row in rows],
        "done": [row.done for row in rows],
        "open": [row.open for row in rows],
        "left": [len(row.reports) for row in rows],
        "updates left": [row.updates for row in rows],
    }
    if not estimate.exists:
        numbers = {name: numbers[name] for name in ("trials", "updates left")}
    heads = {"updates left": "updates"} if not estimate.exists else {}
    return [
        Column("family", [*(clean(row.family) for row in rows), "all"], 100, right=False, min_width=10),
        *(
            Column(heads.get(name, name), [f"{value:,}" for value in [*values, sum(values)]], 90 - place)
            for place, (name, values) in enumerate(numbers.items())
        ),
    ]


def _time_text(estimate: Estimate) -> str:
    pace = estimate.pace
    if pace is None:
        return "Time: nothing is left to train."
    whole = duration_text(estimate.training + estimate.other)
    together = f", {pace.at_once} together" if pace.at_once > 1 else ""
    spread = f" Spread over {estimate.processes} processes." if estimate.processes > 1 else ""
    told = (
        f"Time: about {whole} if no trial ends early, {duration_text(estimate.training)} of it training: "
        f"{_seconds_text(pace.update)} an update and {_seconds_text(pace.report)} a report of one training{together}, "
        f"timed here ({estimate.trainer.rstrip('.')}).{spread}"
    )
    if estimate.share is None:
        return f"{told} Pruned and diverged trials make it less."
    expected = duration_text(_seconds_if_pruned(estimate, estimate.share))
    return (
        f"{told} So far its trials did {estimate.share:.0%} of their updates; if the others do too, about {expected}."
    )


def _seconds_if_pruned(estimate: Estimate, share: float) -> float:
    return estimate.training * share + estimate.other


def _gap_paragraphs(estimate: Estimate, metric: str) -> Iterator[str]:
    """What a comparison on fresh seeds would find."""
    if estimate.comparisons < 1:
        yield "Smallest gap: one family alone has nothing to be compared with: 'schedule=[constant,...]'."
        return
    against = "the tuned constant" if estimate.tuned else "the best of them"
    yield (
        f"Smallest gap in {metric} that {estimate.seeds} fresh seeds of each winner would find: "
        f"{_gap_text(estimate, estimate.seeds)}. Of others: "
        + "; ".join(
            f"{seeds} seeds {_gap_text(estimate, seeds)}" for seeds in _seeds(estimate) if seeds != estimate.seeds
        )
        + "."
    )
    known = (
        "how large that is in the metric's own units, a sweep with search.seeds=2 or more shows, or --spread"
        if estimate.spread is None
        else f"here taken as {value_text(estimate.spread)}"
    )
    yield (
        f"Found: in 4 of 5 cases (power {POWER:.0%}), by paired t tests of {estimate.comparisons} "
        f"{'family' if estimate.comparisons == 1 else 'families'} against {against}, two-sided {LEVEL:.0%}, Holm. sd: "
        f"the standard deviation of the difference of two winners at the same seed, at most 1.4 times that of one "
        f"training over seeds; {known}."
    )


def _seeds(estimate: Estimate) -> list[int]:
    return sorted({*OTHER_SEEDS, estimate.seeds})


def _gap(estimate: Estimate, seeds: int) -> dict[str, float | None]:
    spreads = gap(estimate, seeds)
    value = None if spreads is None or estimate.spread is None else spreads * estimate.spread
    return {"spreads": spreads, "value": value}


def _gap_text(estimate: Estimate, seeds: int) -> str:
    found = _gap(estimate, seeds)
    if found["spreads"] is None:
        return "none"
    value = "" if found["value"] is None else f" = {value_text(found['value'])}"
    return f"{found['spreads']:.2g} sd{value}"


def _seconds_text(seconds: float) -> str:
    """85 us, 3.2 ms, 1.4 s."""
    if not math.isfinite(seconds):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if seconds < 9.95 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-6:.0f} us"
