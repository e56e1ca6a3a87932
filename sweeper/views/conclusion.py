"""What a sweep came to: tables and pictures on the disk and for the tracker, the table on the screen."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.results import tables
from sweeper.results.stored import StoredSweep
from sweeper.spec.question import Home
from sweeper.tracking.mlflow import view
from sweeper.types import Summary, Tracker
from sweeper.views import end_table, figures, note

if TYPE_CHECKING:
    from sweeper.run.sweeping import Outcome

log = logging.getLogger("sweeper")

TABLE = "families.json"
MOST_DRAWN = 9  # studies with a picture of their own: each takes 0.2 s


def conclude(home: Home, tracker: Tracker) -> None:
    """Write tables and pictures, and give each study's summary run its row, both, and a note.

    Files: tables/trials.csv, families.csv and families.json (the table on the screen, for trackers); figures/*.png,
    those of the whole sweep for every study and one of its own for each of the MOST_DRAWN best.
    """
    sweep = StoredSweep(home)
    files = _tables(sweep, home.tables)
    pictures = _pictures(sweep, home.path / "figures")
    for row in _json(sweep)["families"]:
        study, best = row["study"], row["best"] or {"params": {}}
        figures = {
            "rank": row["rank"],
            "best_value": best.get("value"),
            "gain": row["gain"],
            "stable_lr": row["stable_lr"],
            # A target that the sweep finds by itself is known at its end; with it each trial learns how long it took.
            "target": sweep.target if sweep.finished else None,
            **{name: best.get(name) for name in ("steps_to_target", *tables.FACTS)},
        }
        summary = Summary(
            params={f"best.{name}": value for name, value in best["params"].items()},
            tags={
                "sweep.finished": str(sweep.finished).lower(),
                "sweep.trained": note.trained(sweep.config),
            },
            metrics={
                **{name: float(value) for name, value in figures.items() if value is not None},
                **{f"importance/{name}": share for name, share in (row["importance"] or {}).items()},
                **{f"trials/{state}": float(count) for state, count in row["trials"].items()},
            },
            note=note.of_study(sweep, study),
        )
        tracker.describe(study, summary)
        for path in [*files, *pictures.get(None, []), *pictures.get(study, [])]:
            tracker.artifact(study, path, table=path.name == TABLE)


def _tables(sweep: StoredSweep, folder: Path) -> list[Path]:
    """The tables' files: every trial, every family, and the table of families as `Tracker.artifact` takes it."""
    folder.mkdir(exist_ok=True)
    columns = end_table.columns(sweep.families)
    shown = {
        "columns": [column.head for column in columns],
        "data": [list(row) for row in zip(*(column.cells for column in columns), strict=True)],
    }
    contents = {
        "trials.csv": sweep.trials.to_csv(index=False),
        "families.csv": sweep.families.drop(columns=["params", "others", "importance"]).to_csv(index=False),
        TABLE: json.dumps(shown),
    }
    for name, content in contents.items():
        _write(content, folder / name)
    return [folder / name for name in contents]


def _pictures(sweep: StoredSweep, folder: Path) -> dict[str | None, list[Path]]:
    """The pictures' files, of the whole sweep (None) and of the best studies. A sweep ends well without them."""
    best = sweep.families["study"].tolist()[:MOST_DRAWN]
    drawn: dict[str | None, list[Path]] = {}
    try:
        folder.mkdir(exist_ok=True)
        for name, figure in figures.of_sweep(sweep).items():
            figures.save(figure, folder / f"{name}.png")
            drawn.setdefault(None, []).append(folder / f"{name}.png")
        for study in best:
            figures.save(figures.schedules(sweep, study), folder / f"schedules-{study}.png")
            drawn[study] = [folder / f"schedules-{study}.png"]
    except Exception:
        log.exception("pictures are missing")
    return drawn


def show(outcome: Outcome) -> None:
    """Print the table of a sweep that this command trained, and where everything is."""
    home = outcome.home
    print_table(StoredSweep(home))
    print()
    if view.is_sent(home.spool):
        print(f"Traces in MLflow:  {view.location_text(home.spool, home.name)}")
    print(f"Files:             {home.path}/   (this table again: python -m sweeper status {home.name})")
    if outcome.unsent:
        print(view.unsent_text(home.spool, home.name, outcome.unsent))
    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same command goes on.", flush=True)


def print_table(sweep: StoredSweep) -> None:
    """The table of families at the width of the terminal."""
    end_table.show(
        sweep.families,
        sweep.asked,
        notes=[
            *([f"Trained {how}."] if (how := note.trained(sweep.config)) else []),
            *_stopped(sweep),
            *([] if sweep.finished else ["This sweep is not finished: the same command goes on."]),
        ],
    )


def _stopped(sweep: StoredSweep) -> list[str]:
    """Which studies ended before they had all their trials."""
    said = [f"{study} after {trials}" for study, trials in sorted(sweep.stopped.items())]
    return [f"Ended early as they got no better (search.stop): {', '.join(said)} trials."] if said else []


def print_json(sweep: StoredSweep) -> None:
    """The same for scripts; the structure is in `tables.as_json`, beside it "trainer": as it is stored."""
    print(json.dumps(_json(sweep), indent=2, allow_nan=False))


def _json(sweep: StoredSweep) -> dict[str, Any]:
    told = tables.as_json(sweep.families, sweep.asked, sweep=sweep.name, finished=sweep.finished)
    return {**told, "trainer": sweep.config["trainer"]}


def _write(content: str, path: Path) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
