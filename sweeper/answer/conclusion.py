"""What a sweep came to: tables on the disk and in MLflow, the table on the screen, of a running sweep too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.answer import tables
from sweeper.answer.stored import Sweep
from sweeper.question import Home
from sweeper.types import Tracker

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.run import Outcome


def conclude(home: Home, tracker: Tracker) -> None:
    """Write tables/trials.csv and tables/families.csv, and give each study's summary run its row and both files."""
    sweep = Sweep(home)
    home.tables.mkdir(exist_ok=True)
    files = [home.tables / "trials.csv", home.tables / "families.csv"]
    for table, path in zip((sweep.trials, sweep.families.drop(columns=["params", "others"])), files, strict=True):
        _write(table, path)
    for row in _json(sweep)["families"]:
        best = row["best"] or {"params": {}}
        figures = {
            "rank": row["rank"],
            "best_value": best.get("value"),
            "gain": row["gain"],
            "stable_lr": row["stable_lr"],
        }
        tracker.describe(
            row["study"],
            params={f"best.{name}": value for name, value in best["params"].items()},
            tags={"sweep.finished": str(sweep.finished).lower()},
            metrics={
                **{name: float(value) for name, value in figures.items() if value is not None},
                **{f"trials/{state}": float(count) for state, count in row["trials"].items()},
            },
        )
        for path in files:
            tracker.artifact(row["study"], path)


def show(outcome: Outcome) -> None:
    """Print the table of a sweep that this command trained, and where everything is."""
    home = outcome.home
    print_table(Sweep(home))
    print(f"\nTraces in MLflow:  python -m sweeper ui {home.name}   (or `mlflow ui` in this folder)")
    print(f"Files:             {home.path}/   (this table again: python -m sweeper status {home.name})")
    if outcome.unsent:
        print(f"Not in MLflow yet: {outcome.unsent} events; send them with python -m sweeper sync {home.name}")
    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same command goes on.", flush=True)


def print_table(sweep: Sweep) -> None:
    """The table of families at the width of the terminal."""
    tables.show(
        sweep.families,
        metric=sweep.objective["metric"],
        direction=sweep.objective["direction"],
        seeds=sweep.config["question"]["search"]["seeds"],
        notes=[] if sweep.finished else ["This sweep is not finished: the same command goes on."],
    )


def print_json(sweep: Sweep) -> None:
    """The same for scripts; the structure is in `tables.as_json`."""
    print(json.dumps(_json(sweep), indent=2, allow_nan=False))


def _json(sweep: Sweep) -> dict[str, Any]:
    return tables.as_json(
        sweep.families,
        sweep=sweep.name,
        finished=sweep.finished,
        metric=sweep.objective["metric"],
        direction=sweep.objective["direction"],
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    table.to_csv(partial, index=False)
    partial.replace(path)
