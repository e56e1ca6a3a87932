"""The results of a sweep: tables and figures in its folder and for the tracker, and the printed table."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.files import replace_file, writing
from sweeper.results import tables
from sweeper.results.chosen import judged_record
from sweeper.results.stored import StoredSweep
from sweeper.spec.question import Home
from sweeper.tracking import events
from sweeper.tracking.mlflow import view
from sweeper.types import InputError, Summary, Tracker
from sweeper.views import answer, confirmed, confirmed_families, end_table, note
from sweeper.views.confirmed import grown_note

if TYPE_CHECKING:
    from sweeper.results.verdict import Verdict
    from sweeper.run.sweeping import Outcome

log = logging.getLogger("sweeper")

TABLE = "families.json"
MOST_DRAWN = 9  # studies that get their own figure, which takes 0.2 s


def conclude(home: Home, tracker: Tracker) -> None:
    """Write the tables and figures of a sweep, and describe each study to the tracker.

    Files: tables/trials.csv, tables/families.csv, tables/families.json (the printed table, for trackers),
    tables/confirmed.csv and .parquet (if it was confirmed), figures/*.png and report.html. The first MOST_DRAWN studies
    of the table get a figure of their own.
    """
    sweep = StoredSweep(home)
    files = _write_tables(sweep, home.tables)
    pictures = _draw_pictures(sweep, home.path / "figures")
    extreme, order = sweep.criterion.extreme, _verdict_order(sweep)
    for row in _json(sweep)["families"]:
        study, best = row["study"], row["best"] or {"params": {}}
        numbers = {
            f"{extreme}_value": best.get("value"),
            "gain": row["gain"],
            "stable_lr": row["stable_lr"],
            # The default target is known only at the end. A tracker that sees it computes each trial's time to it.
            "target": sweep.target if sweep.finished else None,
            **{name: best.get(name) for name in ("steps_to_target", *tables.FACTS)},
        }
        summary = Summary(
            tags={
                **{f"{extreme}.{name}": str(value) for name, value in best["params"].items()},
                **order,
                "sweep.finished": str(sweep.finished).lower(),
                "sweep.trained": note.trainer_note(sweep.config),
            },
            metrics={
                **{name: float(value) for name, value in numbers.items() if value is not None},
                **{f"importance/{name}": share for name, share in (row["importance"] or {}).items()},
                **{f"trials/{state}": float(count) for state, count in row["trials"].items()},
            },
            note=note.study_note(sweep, study),
        )
        tracker.describe(study, summary)
        for path in [*files, *pictures.get(None, []), *pictures.get(study, [])]:
            tracker.artifact(study, path, table=path.name == TABLE)


def _verdict_order(sweep: StoredSweep) -> dict[str, str]:
    """Return the tag with the judged trials in the order of the verdict; {} without one."""
    if sweep.verdict is None:
        return {}
    judged = []
    for row in sweep.verdict["configurations"]:
        with suppress(InputError):  # a trial that is no longer there
            judged.append(judged_record(sweep, sweep.verdict, row).trained_as)
    return {events.VERDICT: events.encode_order(judged)}


def _write_tables(sweep: StoredSweep, folder: Path) -> list[Path]:
    """Write the tables and return their paths. TABLE has the form that `Tracker.artifact` takes."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
    columns = end_table.columns(sweep.families, sweep.criterion)
    table = {
        "columns": [column.head for column in columns],
        "data": [list(row) for row in zip(*(column.cells for column in columns), strict=True)],
    }
    confirmed_files = [] if sweep.verdict is None else _write_confirmed(sweep.verdict, folder)
    contents = {
        "trials.csv": sweep.trials.to_csv(index=False),
        "families.csv": sweep.families.drop(columns=["params", "others", "importance"]).to_csv(index=False),
        TABLE: json.dumps(table),
    }
    for name, content in contents.items():
        replace_file(folder / name, content)
    return [*(folder / name for name in contents), *confirmed_files]


def _write_confirmed(verdict: Verdict, folder: Path) -> list[Path]:
    """Write the confirmed configurations, a row each, with the numbers in full. Returns the paths."""
    table = confirmed.table(verdict)
    paths = [folder / "confirmed.csv", folder / "confirmed.parquet"]
    replace_file(paths[0], table.to_csv(index=False))
    replace_file(paths[1], table.to_parquet(index=False))
    return paths


def _draw_pictures(sweep: StoredSweep, folder: Path) -> dict[str | None, list[Path]]:
    """Draw figures and write the report. Returns their paths: of the whole sweep (None) and of single studies.

    Errors are logged: a sweep ends well without pictures.
    """
    from sweeper.views import figures

    drawn = sweep.families["study"].tolist()[:MOST_DRAWN]
    paths: dict[str | None, list[Path]] = {None: []}
    try:
        paths[None] += figures.save_all(sweep, folder, ".png")
        for study in drawn:
            figures.save(figures.schedules(sweep, study), folder / f"schedules-{study}.png")
            paths[study] = [folder / f"schedules-{study}.png"]
    except Exception:
        log.exception("figures could not be drawn")
    paths[None] += write_report(sweep)
    return paths


def write_report(sweep: StoredSweep) -> list[Path]:
    """Write the report and return its path; [] if an error, which is logged, prevents it."""
    from sweeper.views.report import page

    try:
        return [page.write(sweep)]
    except Exception:
        log.exception("the report could not be written")
        return []


def show(outcome: Outcome) -> None:
    """Print the answer of a sweep that this command trained, and where its files are."""
    home = outcome.home
    answer.show(StoredSweep(home))
    print()
    if outcome.is_tracked and view.has_pages(home.spool):
        print(f"Traces in MLflow:  {view.location_text(home.spool, home.name)}")
    print(f"Files:             {home.path}/", flush=True)
    if outcome.unsent:
        print(view.unsent_text(home.spool, home.name, outcome.unsent))
    if outcome.lost:
        print(outcome.lost.text)
    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same command resumes the sweep.", flush=True)


def print_all(sweep: StoredSweep) -> None:
    """Print the answer, then every table with all columns and what they mean."""
    answer.show(sweep)
    if sweep.verdict is not None:
        print()
        confirmed.show(sweep.verdict, scope=grown_note(sweep.verdict, len(sweep.records), sweep.name))
    if sweep.family_verdict is not None:
        print()
        confirmed_families.show(sweep.family_verdict)
    print()
    trained = note.trainer_note(sweep.config)
    notes = [*([f"Trained {trained}."] if trained else []), *_early_stops(sweep), *_exhausted_spaces(sweep)]
    end_table.show(sweep.families, sweep.criterion, notes=notes)


def _early_stops(sweep: StoredSweep) -> list[str]:
    """Return the note on studies that ended before they had all their trials."""
    studies = [f"{study} after {trials}" for study, trials in sorted(sweep.stopped.items())]
    return [f"Ended early without improvement (search.stop): {', '.join(studies)} trials."] if studies else []


def _exhausted_spaces(sweep: StoredSweep) -> list[str]:
    """Return the note on studies that have no other point to try."""
    spaces = [f"{study} ({count})" for study, count in sorted(sweep.exhausted.items())]
    if not spaces:
        return []
    return [f"Every point of the space was tried: {', '.join(spaces)}. A larger search.n_trials would add none."]


def print_json(sweep: StoredSweep) -> None:
    """Print the table as JSON: that of `tables.as_json`, the stored "trainer", and the "verdict" if there is one."""
    print(json.dumps(_json(sweep), indent=2, allow_nan=False))


def _json(sweep: StoredSweep) -> dict[str, Any]:
    table = tables.as_json(sweep.families, sweep.criterion, sweep=sweep.name, finished=sweep.finished)
    given_up = {"given_up": sweep.given_up} if sweep.given_up else {}
    verdict = {} if sweep.verdict is None else {"verdict": sweep.verdict}
    of_families = {} if sweep.family_verdict is None else {"family_verdict": sweep.family_verdict}
    return {**table, **given_up, "trainer": sweep.config["trainer"], **verdict, **of_families}
