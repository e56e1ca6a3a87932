"""An estimate as text and as JSON: the output of `plan`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sweeper.forecast.estimate import Estimate, gap
from sweeper.results.power import LEVEL, POWER
from sweeper.text.columns import Column, Line, clean, duration_text, lay_out, value_text, wrap, write

OTHER_SEEDS = (3, 5, 10, 20)  # their gaps are shown next to the planned one


def show(estimate: Estimate, metric: str) -> None:
    """Print an estimate at the width of the terminal."""

    def draw(width: int | None, unicode: bool) -> list[Line]:
        lines = [*wrap(_heading(estimate), width, "bold"), *lay_out(_columns(estimate), width, unicode=unicode)]
        for paragraph in paragraphs(estimate, metric):
            lines += [[("", "")], *wrap(paragraph, width)]
        return lines

    write(draw, None)


def as_json(estimate: Estimate, metric: str) -> dict[str, Any]:
    """Return the estimate for programs, in seconds, bytes and updates. Unknown values are null, numbers are finite.

    {"sweep", "exists", "families": [{"family", "study", "trials", "done", "open", "left", "updates_left"}],
     "trials", "trials_left", "updates_left", "members",
     "time": {"trainer", "processes", "seconds", "seconds_training", "seconds_if_as_pruned_so_far": float | null,
              "seconds_an_update", "seconds_a_report": float | null, "at_once": int | null},
     "disk": {"total", "now"}, "memory",
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
            "seconds_if_as_pruned_so_far": _seconds_if_pruned(estimate),
            "seconds_an_update": None if pace is None else pace.update,
            "seconds_a_report": None if pace is None else pace.report,
            "at_once": None if pace is None else pace.at_once,
        },
        "disk": {"total": estimate.disk, "now": estimate.disk_now},
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
    """Yield the paragraphs on time, disk, memory and gap."""
    yield _time_text(estimate)
    now = f" The folder has {bytes_text(estimate.disk_now)} now." if estimate.exists else ""
    yield f"Disk: at most {bytes_text(estimate.disk)}.{now}"
    if estimate.memory:
        yield f"Memory: {bytes_text(estimate.memory)} for weights, gradients and optimizer states of the open trials."
    yield from _gap_paragraphs(estimate, metric)


def bytes_text(size: float) -> str:
    """Format a size with two digits: 310 B, 4.2 kB, 17 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _heading(estimate: Estimate) -> str:
    done = sum(row.done for row in estimate.rows)
    state = f"resumes a stored sweep, {done:,} trials are done" if estimate.exists else "a new sweep"
    return f"{estimate.name}: {state}"


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
    together = f", {pace.at_once} at once" if pace.at_once > 1 else ""
    processes = f", in {estimate.processes} processes" if estimate.processes > 1 else ""
    text = (
        f"Time: about {whole} if no trial ends early, including {duration_text(estimate.training)} of training. "
        f"Measured here: {_seconds_text(pace.update)} per update and {_seconds_text(pace.report)} per report of one "
        f"training{together}{processes} ({estimate.trainer.rstrip('.')})."
    )
    seconds = _seconds_if_pruned(estimate)
    if seconds is None:
        return f"{text} Pruned and diverged trials reduce it."
    return (
        f"{text} So far, trials were trained for {estimate.share:.0%} of their updates. At that rate it takes about "
        f"{duration_text(seconds)}."
    )


def _seconds_if_pruned(estimate: Estimate) -> float | None:
    """Return the time if trials end as early as those so far; None if too few have ended."""
    return None if estimate.share is None else estimate.training * estimate.share + estimate.other


def _gap_paragraphs(estimate: Estimate, metric: str) -> Iterator[str]:
    """Yield the gap that a comparison on fresh seeds would detect, and what it means."""
    if estimate.comparisons < 1:
        yield "Smallest gap: one family has nothing to be compared with. Add another one: 'schedule=[constant,...]'."
        return
    reference = "the tuned constant" if estimate.tuned else "the best one"
    others = [f"{seeds} seeds {_gap_text(estimate, seeds)}" for seeds in _seeds(estimate) if seeds != estimate.seeds]
    yield (
        f"Smallest gap in {metric} that {estimate.seeds} fresh seeds of each winner would detect: "
        f"{_gap_text(estimate, estimate.seeds)} ({', '.join(others)})."
    )
    spread = (
        "To see it in units of the metric, use search.seeds=2 or more, or pass --spread"
        if estimate.spread is None
        else f"Here it is {value_text(estimate.spread)}"
    )
    families = f"{estimate.comparisons} {'family' if estimate.comparisons == 1 else 'families'}"
    yield (
        f"A gap of that size is detected with probability {POWER:.0%}, by paired two-sided t tests of {families} "
        f"against {reference} at level {LEVEL:.0%} (Holm). sd is the standard deviation of the difference of two "
        f"winners at the same seed, at most 1.4 times that of one training over seeds. {spread}."
    )


def _seeds(estimate: Estimate) -> list[int]:
    return sorted({*OTHER_SEEDS, estimate.seeds})


def _gap(estimate: Estimate, seeds: int) -> dict[str, float | None]:
    spreads = gap(estimate, seeds)
    value = None if spreads is None or estimate.spread is None else spreads * estimate.spread
    return {"spreads": spreads, "value": value}


def _gap_text(estimate: Estimate, seeds: int) -> str:
    sizes = _gap(estimate, seeds)
    if sizes["spreads"] is None:
        return "none"
    value = "" if sizes["value"] is None else f" = {value_text(sizes['value'])}"
    return f"{sizes['spreads']:.2g} sd{value}"


def _seconds_text(seconds: float) -> str:
    """Format a short duration: 85 us, 3.2 ms, 1.4 s."""
    if not math.isfinite(seconds):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if seconds < 9.95 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-6:.0f} us"
