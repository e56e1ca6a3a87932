"""The results of a sweep: tables and figures in its folder and for the tracker, and the printed table."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.files import replace_file, writing
from sweeper.results import tables
from sweeper.results.stored import StoredSweep
from sweeper.run import crash
from sweeper.search.records import replicate_study
from sweeper.spec.locking import is_running
from sweeper.spec.question import Home
from sweeper.text.columns import clean, duration_text
from sweeper.tracking.mlflow import view
from sweeper.types import InputError, Summary, Tracker
from sweeper.views import confirmed, confirmed_families, end_table, figures, note

if TYPE_CHECKING:
    from sweeper.results.verdict import Verdict
    from sweeper.run.sweeping import Outcome

log = logging.getLogger("sweeper")

TABLE = "families.json"
MOST_NAMED = 5  # trials in a note
MOST_DRAWN = 9  # studies that get their own figure, which takes 0.2 s


def conclude(home: Home, tracker: Tracker) -> None:
    """Write the tables and figures of a sweep, and describe each study to the tracker.

    Files: tables/trials.csv, tables/families.csv, tables/families.json (the printed table, for trackers),
    tables/confirmed.csv and .parquet (if it was confirmed), and figures/*.png. The first MOST_DRAWN studies of the
    table get a figure of their own.
    """
    sweep = StoredSweep(home)
    files = _write_tables(sweep, home.tables)
    pictures = _draw_pictures(sweep, home.path / "figures")
    for row in _json(sweep)["families"]:
        study, best = row["study"], row["best"] or {"params": {}}
        numbers = {
            "best_value": best.get("value"),
            "gain": row["gain"],
            "stable_lr": row["stable_lr"],
            # The default target is known only at the end. A tracker that sees it computes each trial's time to it.
            "target": sweep.target if sweep.finished else None,
            **{name: best.get(name) for name in ("steps_to_target", *tables.FACTS)},
        }
        summary = Summary(
            params={f"best.{name}": value for name, value in best["params"].items()},
            tags={
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
    """Draw figures and return their paths: of the whole sweep (None) and of single studies. Errors are logged."""
    drawn = sweep.families["study"].tolist()[:MOST_DRAWN]
    paths: dict[str | None, list[Path]] = {}
    try:
        folder.mkdir(exist_ok=True)
        for name, figure in figures.draw_all(sweep).items():
            figures.save(figure, folder / f"{name}.png")
            paths.setdefault(None, []).append(folder / f"{name}.png")
        for study in drawn:
            figures.save(figures.schedules(sweep, study), folder / f"schedules-{study}.png")
            paths[study] = [folder / f"schedules-{study}.png"]
    except Exception:
        log.exception("figures could not be drawn")
    return paths


def show(outcome: Outcome) -> None:
    """Print the table of a sweep that this command trained, and the paths of its files."""
    home = outcome.home
    sweep = StoredSweep(home)
    print_table(sweep)
    print()
    if outcome.is_tracked and view.has_pages(home.spool):
        print(f"Traces in MLflow:  {view.location_text(home.spool, home.name)}")
    print(f"Files:             {home.path}/   (print this table again: python -m sweeper status {home.name})")
    if outcome.unsent:
        print(view.unsent_text(home.spool, home.name, outcome.unsent))
    if outcome.lost:
        print(outcome.lost.text)
    if outcome.stopped is not None:
        print(f"Stopped ({outcome.stopped}). Nothing is lost: the same command resumes the sweep.", flush=True)
    elif sweep.verdict is None:
        print(_how_to_confirm(sweep), flush=True)


def _how_to_confirm(sweep: StoredSweep) -> str:
    """Return the command that confirms a search, and its cost; "" if no trial is complete."""
    from sweeper.run import confirm_plan
    from sweeper.run.confirm_spec import ConfirmSpec

    try:
        planned = confirm_plan.plan(sweep, ConfirmSpec())
    except InputError:
        return ""
    cost = confirm_plan.cost(sweep, planned, ConfirmSpec())
    how_long = duration_text(cost.typical * cost.seconds)
    return (
        f"Which is best?     python -m sweeper confirm {sweep.name}\n"
        f"                   (on fresh seeds: about {cost.typical} trainings, {how_long})"
    )


def print_table(sweep: StoredSweep) -> None:
    """Print the verdict if the sweep was confirmed, and the table of families, at the width of the terminal."""
    if sweep.verdict is not None:
        confirmed.show(sweep.verdict, scope=_since(sweep, sweep.verdict))
        print()
    if sweep.family_verdict is not None:
        confirmed_families.show(sweep.family_verdict)
        print()
    end_table.show(
        sweep.families,
        sweep.criterion,
        notes=[
            *([f"Trained {how}."] if (how := note.trainer_note(sweep.config)) else []),
            *_early_stops(sweep),
            *_exhausted_spaces(sweep),
            *_given_up(sweep),
            *_open_confirmation(sweep),
            *([] if sweep.finished else [f"This sweep is not finished.{_death(sweep)} The same command resumes it."]),
        ],
    )


def _death(sweep: StoredSweep) -> str:
    """Return how the last command died, if it did not end by itself."""
    death = None if is_running(sweep.home) else crash.last_words(sweep.home)
    return "" if death is None else f" Its last command was {death}."


def _since(sweep: StoredSweep, verdict: Verdict) -> str:
    """Return what the search trained since its confirmation."""
    return confirmed.grown_note(verdict, len(sweep.records), sweep.name)


def _open_confirmation(sweep: StoredSweep) -> list[str]:
    """Return the note on a confirmation that was begun and has no verdict yet."""
    seed = sweep.open_confirmation
    if seed is None:
        return []
    trained = [record for record in sweep.replicates if record.study.endswith(replicate_study("", seed))]
    ended = sum(record.state != "running" for record in trained)
    going = "is running" if is_running(sweep.home) else "resumes with the same command"
    return [f"A confirmation {going}: {ended} trainings so far, no verdict yet."]


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


def _given_up(sweep: StoredSweep) -> list[str]:
    """Return the note on trials that failed and are not trained again."""
    trials = sweep.given_up
    if not trials:
        return []
    more = f" and {len(trials) - MOST_NAMED} more" if len(trials) > MOST_NAMED else ""
    how_many, them = ("1 trial", "it") if len(trials) == 1 else (f"{len(trials)} trials", "them")
    reason = sweep.record(trials[0]).reason or "no reason given"
    return [
        f"{how_many} failed, also when tried again: {', '.join(trials[:MOST_NAMED])}{more} ({clean(reason)}). "
        f"Fix the cause, then train {them} again: python -m sweeper retry {sweep.name}"
    ]


def print_json(sweep: StoredSweep) -> None:
    """Print the table as JSON: that of `tables.as_json`, the stored "trainer", and the "verdict" if there is one."""
    print(json.dumps(_json(sweep), indent=2, allow_nan=False))


def _json(sweep: StoredSweep) -> dict[str, Any]:
    table = tables.as_json(sweep.families, sweep.criterion, sweep=sweep.name, finished=sweep.finished)
    given_up = {"given_up": sweep.given_up} if sweep.given_up else {}
    verdict = {} if sweep.verdict is None else {"verdict": sweep.verdict}
    of_families = {} if sweep.family_verdict is None else {"family_verdict": sweep.family_verdict}
    return {**table, **given_up, "trainer": sweep.config["trainer"], **verdict, **of_families}
