"""Saved views of MLflow's charts page, which the addresses that `ui` prints open.

A view is a tag of the experiment, `mlflow.sharedViewState.<key>`. Its format is MLflow's own and not documented: this
file writes what the page of MLflow 3.17 writes when a user saves a view (tests/test_browser.py checks it). Nothing
depends on it: a page that cannot read a view opens the plain list of runs.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from sweeper.tracking.mlflow import lineup
from sweeper.types import Direction, extreme

TAG = "mlflow.sharedViewState."
LONGEST = 5000  # characters of an experiment's tag in every MLflow 3
LR = "lr/group0"
CHARTS = "workflowType=machine_learning&compareRunsMode=CHART"
NOTE = "mlflow.note.content"
NOTE_BEGINS = "Learning-rate schedules of"
FAMILIES, TRIALS = WHICH = ("families", "trials")
EARLIER = ("best", "all", "means")  # what earlier versions saved

View = dict[str, Any]


class ViewContent(NamedTuple):
    """What the views of a sweep show.

    Attributes:
        metric: The objective's metric.
        direction: Whether smaller or larger objectives are better.
        families: How many families there are.
        metrics: Names of all metrics.
        decades: Of the smallest and the largest peak LR of the trials that stand for families, -2 for 0.01 to 0.1; None
            before the first one.
        is_judged: Whether a verdict orders the families.
    """

    metric: str
    direction: Direction
    families: int
    metrics: tuple[str, ...]
    decades: tuple[int, int] | None
    is_judged: bool


class Tags(Protocol):
    """The tags of one experiment."""

    experiment_id: str

    def experiment_tags(self) -> Mapping[str, str]: ...

    def tag_experiment(self, key: str, value: str) -> None: ...

    def untag_experiment(self, key: str) -> None: ...


def write(tags: Tags, content: ViewContent, sweep_id: str, now: int, *, named: bool) -> None:
    """Write the views as tags if they are missing or have changed, and a note that links to them.

    The note is for users who open the experiment's plain address. It is not written over a user's note.

    Args:
        tags: The tags of the experiment.
        content: What the views show.
        sweep_id: The sweep's id.
        now: Wall clock in milliseconds.
        named: Whether the user chose the experiment, which may hold other runs too.
    """
    current, names = tags.experiment_tags(), titles(content)
    for which, view in views(content, sweep_id, named=named).items():
        key = TAG + key_of(which, sweep_id, named=named)
        created, stored = _decode_or_none(current.get(key, ""))
        if stored != (names[which], view):
            tags.tag_experiment(key, encode_view(names[which], view, created or now, now))
    for key in (TAG + key_of(which, sweep_id, named=named) for which in EARLIER):
        if key in current:
            tags.untag_experiment(key)
    note = current.get(NOTE, "")
    if not named and note != _note(content, tags) and (not note or note.startswith(NOTE_BEGINS)):
        tags.tag_experiment(NOTE, _note(content, tags))


def address(experiment_id: str, key: str | None) -> str:
    """Return the part of an address after "#" that opens the charts of an experiment.

    Args:
        experiment_id: Id of the experiment.
        key: Key of a saved view; None for the plain charts.
    """
    # Sorted by time, as it is by default, the page would hide trials under their study's run.
    view = f"orderByKey={quote('metrics.`objective`')}&" if key is None else f"viewStateShareKey={quote(key)}&"
    return f"/experiments/{quote(experiment_id)}/runs?{view}{CHARTS}"


def titles(content: ViewContent) -> dict[str, str]:
    """Return the names of the views, which the page shows. Only a verdict decides what is best."""
    which = f"the first {lineup.MOST} families" if content.families > lineup.MOST else "each family"
    of_search = f"{extreme(content.direction).capitalize()} trial of {which}"
    return {FAMILIES: "Families in the verdict's order" if content.is_judged else of_search, TRIALS: "All trials"}


def views(content: ViewContent, sweep_id: str, *, named: bool) -> dict[str, View]:
    """Return the views by their names in WHICH.

    Args:
        content: What the views show.
        sweep_id: The sweep's id.
        named: Whether the experiment may hold other sweeps' runs, so that the filters need the id.
    """
    of_trials = "tags.`sweep.role` = 'trial'" + (f" and tags.`sweep.id` = '{sweep_id}'" if named else "")
    losses = dict.fromkeys([content.metric, "valid/loss"])
    lines = [_line(LR, log=True, decades=_lr_decades(content)), *(_line(name, log=_is_loss(name)) for name in losses)]
    peak_lr, objective = ({"key": key, "type": "METRIC"} for key in ("log10_lr_max", "objective"))
    scatter = _chart("SCATTER", xaxis=peak_lr, yaxis=objective)
    is_ascending = content.direction == "minimize"
    return {
        FAMILIES: _view(
            f"tags.`{lineup.TAG}` != '{lineup.BEYOND}' and {of_trials}",
            (f"tags.`{lineup.TAG}`", True),
            {"LR above loss": lines, OTHERS: _others(content, {LR, *losses})},
        ),
        TRIALS: _view(
            of_trials,
            ("metrics.`objective`", is_ascending),
            {"Objective by peak LR": [scatter], OTHERS: _others(content, set())},
        ),
    }


def key_of(which: str, sweep_id: str, *, named: bool) -> str:
    """Return the key of a view of WHICH."""
    return f"{which}-{sweep_id[:6]}" if named else which


def encode_view(name: str, view: Mapping[str, object], created: int, updated: int) -> str:
    """Return the value of the tag: the state is base64 of zlib of JSON.

    Args:
        name: Name of the view, which the page shows.
        view: The view.
        created: Wall clock in milliseconds.
        updated: Wall clock in milliseconds.
    """
    packed = base64.b64encode(zlib.compress(_json(view).encode(), 9)).decode("ascii")
    return _json({"name": name, "createdAt": created, "updatedAt": updated, "state": f"deflate;{packed}"})


def decode_view(text: str) -> tuple[Mapping[str, Any], View]:
    """Return the envelope and the view that `encode_view` encoded.

    Raises:
        ValueError: The text has another format.
    """
    envelope = json.loads(text)
    packed = str(envelope["state"]).removeprefix("deflate;")
    return envelope, json.loads(zlib.decompress(base64.b64decode(packed)))


def _decode_or_none(text: str) -> tuple[int | None, tuple[str, View] | None]:
    """Return when a stored view was created, and its name and content; None if it cannot be read."""
    try:
        envelope, view = decode_view(text)
        return int(envelope["createdAt"]), (str(envelope["name"]), view)
    except (ValueError, KeyError, TypeError, zlib.error):
        return None, None


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _note(content: ViewContent, tags: Tags) -> str:
    families = "1 family" if content.families == 1 else f"{content.families} families"
    texts = {FAMILIES: "one trial of each", TRIALS: "all trials", None: "plain charts"}
    one, every, plain = (f"[{text}](#{address(tags.experiment_id, key)})" for key, text in texts.items())
    return f"{NOTE_BEGINS} {families}, by {content.metric}. Open {one}, {every} or {plain}."


# --- what a view shows ------------------------------------------------------------------------------

OTHERS = "Other metrics"  # a closed section: without it, the page adds open ones
CARD_HEIGHT = 300  # px; the lowest that the page offers
DECADES_SHOWN = 4  # of LRs, at least


def _view(search: str, order: tuple[str, bool], sections: Mapping[str, list[View]]) -> View:
    """Return a view of the runs that a search finds.

    Args:
        search: The filter.
        order: What the runs are sorted by, and whether it ascends.
        sections: Charts by section.
    """
    return {
        "searchFilter": search,
        "orderByKey": order[0],
        "orderByAsc": order[1],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": ["metrics.`objective`", "params.`peak_lr`", "params.`warmup`", "tags.`trial.state`"],
        "runsHiddenMode": "SHOW_ALL",
        "runsVisibilityMap": {},
        "runsHidden": [],
        "runsPinned": [],
        "runsExpanded": {},
        "groupBy": None,
        "groupsExpanded": {},
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "viewMaximized": True,
        "runListHidden": False,
        "isAccordionReordered": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [_section(name) for name in sections],
        "compareRunCharts": [
            {**chart, "uuid": f"chart-{name}-{place}", "metricSectionId": f"section-{name}"}
            for name, charts in sections.items()
            for place, chart in enumerate(charts)
        ],
    }


def _section(name: str) -> View:
    """Return a section with one chart in a row: beside the list of runs and the assistant, three are too narrow."""
    return {
        "uuid": f"section-{name}",
        "name": name,
        "display": name != OTHERS,
        "columns": 1,
        "cardHeight": CARD_HEIGHT,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _others(content: ViewContent, drawn: Iterable[str]) -> list[View]:
    """Return a chart of each metric that is not drawn: a line for one that is logged over the run, else bars."""
    names = [name for name in content.metrics if name not in drawn]
    return [_line(name, log=_is_loss(name)) if "/" in name else _chart("BAR", metricKey=name) for name in names]


def _chart(kind: str, **more: Any) -> View:
    return {"type": kind, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, **more}


def _line(metric: str, *, log: bool, decades: tuple[float, float] | None = None) -> View:
    """Return a line chart. The page titles a chart of one metric with the metric's name.

    Args:
        metric: Name of the metric.
        log: Whether the axis is logarithmic.
        decades: Ends of a log axis; None for automatic ones.
    """
    return _chart(
        "LINE",
        metricKey=metric,
        selectedMetricKeys=[metric],
        scaleType="log" if log else "linear",
        range={} if decades is None else {"yMin": decades[0], "yMax": decades[1]},
        xAxisKey="step",
        xAxisScaleType="linear",
        selectedXAxisMetricKey="",
        lineSmoothness=0,
        useGlobalLineSmoothing=True,
        useGlobalXaxisKey=True,
        displayPoints=False,
        ignoreOutliers=False,
        yAxisKey="metric",
        yAxisExpressions=[],
    )


def _is_loss(name: str) -> bool:
    return name.endswith("loss")


def _lr_decades(content: ViewContent) -> tuple[float, float] | None:
    """Return the ends of the log axis of LRs: below the peaks, without the way to zero."""
    if content.decades is None:
        return None
    smallest, largest = content.decades
    return min(smallest - 1, largest + 1 - DECADES_SHOWN), largest + 1.1
