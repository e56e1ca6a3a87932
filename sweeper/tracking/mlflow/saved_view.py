"""Saved views of MLflow's charts page: what opens when a person follows the address that `ui` prints.

A view is a tag of the experiment, `mlflow.sharedViewState.<key>`. Its format is MLflow's own and not documented: what
is written here is what the page of MLflow 3.17 writes when a person saves a view (tests/test_browser.py pins it), and
nothing depends on it: a page that does not know a view opens the plain charts.

Two limits of the page shape the views. It loads 100 runs, the first in the view's order, and more by a button, so of
more than 20 families fewer than five trials each are shown; and its scatter chart has no log axis, so the peak LR is
drawn by its logarithm, a metric of its own.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from sweeper.tracking.mlflow import ranks
from sweeper.types import Direction

TAG = "mlflow.sharedViewState."
LONGEST = 5000  # characters that a tag of an experiment holds in every MLflow 3
LR = "lr/group0"
CHARTS = "workflowType=machine_learning&compareRunsMode=CHART"
NOTE = "mlflow.note.content"
NOTE_BEGINS = "Learning-rate schedules of"
LINKS = {"best": "the best trials of each family", "all": "all trials"}
WHICH = ("best", "all", "means")
PAGE = 100  # runs that the page loads by itself

View = dict[str, Any]


class ViewContent(NamedTuple):
    """What there is to be drawn: the objective, each family with its searched numbers, the metrics' names.

    decades: of the smallest and the largest peak LR of complete trials, -2 for 0.01 to 0.1; None before the first.
    """

    metric: str
    direction: Direction
    searched: tuple[tuple[str, tuple[str, ...]], ...]
    metrics: tuple[str, ...]
    decades: tuple[int, int] | None


class Tags(Protocol):
    """The tags of one experiment."""

    experiment_id: str

    def experiment_tags(self) -> Mapping[str, str]: ...

    def tag_experiment(self, key: str, value: str) -> None: ...


def write(tags: Tags, shown: ViewContent, sweep_id: str, now: int, *, named: bool) -> None:
    """Write the views that are not there yet, or show something else, as tags. now: in milliseconds.

    And, unless a person wrote another, a note that leads to them, for who comes by the experiment's plain address.
    """
    there = tags.experiment_tags()
    best = f"est {_places(shown)} trials of each family"
    names = {"best": f"B{best}", "all": "All trials", "means": f"Mean and range of the b{best}"}
    for which in WHICH:
        key, view = key_of(which, sweep_id, named=named), views(shown, sweep_id, named=named)[which]
        try:
            before, known = decode_view(there.get(TAG + key, ""))
        except (ValueError, KeyError, TypeError, zlib.error):
            before, known = {}, {}
        if known != view:
            tags.tag_experiment(TAG + key, encode_view(names[which], view, before.get("createdAt", now), now))
    note = there.get(NOTE, "")
    if not named and note != _note(shown, tags) and (not note or note.startswith(NOTE_BEGINS)):
        tags.tag_experiment(NOTE, _note(shown, tags))


def address(experiment_id: str, key: str | None) -> str:
    """The part of an address after "#" that opens the charts of an experiment, as the view of that key or plainly."""
    view = "" if key is None else f"viewStateShareKey={quote(key)}&"
    return f"/experiments/{quote(experiment_id)}/runs?{view}{CHARTS}"


def views(shown: ViewContent, sweep_id: str, *, named: bool) -> dict[str, View]:
    """The views by their names in WHICH. named: the experiment may hold other sweeps' runs, so the filters say whose.

    "means" draws a mean line and a band a family, of what all trials log at the same steps; each LR is logged at steps
    of its own.
    """
    whose = f" and tags.`sweep.id` = '{sweep_id}'" if named else ""
    of_trials = f"tags.`sweep.role` = 'trial'{whose}"
    left_out = [ranks.BELOW, *(str(place) for place in range(ranks.TOP, _places(shown), -1))]
    of_best = " and ".join([*(f"tags.`{ranks.TAG}` != '{rank}'" for rank in left_out), of_trials])
    sections = _sections(shown)
    return {
        "best": _view(shown, of_best, sections, grouped=True),
        "all": _view(shown, of_trials, sections),
        "means": _view(shown, of_best, _mean_sections(shown, sections), grouped=True, means=True),
    }


def _places(shown: ViewContent) -> int:
    """How many trials of each family the page can show by itself."""
    return max(1, min(ranks.TOP, PAGE // max(1, len(shown.searched))))


def key_of(which: str, sweep_id: str, *, named: bool) -> str:
    """The key of the view "best" or "all"."""
    return f"{which}-{sweep_id[:6]}" if named else which


def encode_view(name: str, view: Mapping[str, object], created: int, updated: int) -> str:
    """The tag's value: name and times in milliseconds, and the state as base64 of zlib of JSON."""
    packed = base64.b64encode(zlib.compress(_json(view).encode(), 9)).decode("ascii")
    return _json({"name": name, "createdAt": created, "updatedAt": updated, "state": f"deflate;{packed}"})


def decode_view(text: str) -> tuple[Mapping[str, Any], View]:
    """The inverse of `value`: what the tag says of the view, and the view. Raises ValueError for another text."""
    envelope = json.loads(text)
    packed = str(envelope["state"]).removeprefix("deflate;")
    return envelope, json.loads(zlib.decompress(base64.b64decode(packed)))


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _note(shown: ViewContent, tags: Tags) -> str:
    best, every = (f"[{said}](#{address(tags.experiment_id, key)})" for key, said in LINKS.items())
    count = len({family for family, _ in shown.searched})
    families = "1 family" if count == 1 else f"{count} families"
    sense = "lower" if shown.direction == "minimize" else "higher"
    return f"{NOTE_BEGINS} {families}, by {shown.metric} ({sense} is better). Open {best} or {every}."


# --- what a view shows ------------------------------------------------------------------------------


def _view(
    shown: ViewContent, search: str, sections: Mapping[str, list[View]], *, grouped: bool = False, means: bool = False
) -> View:
    """Charts of the runs that a search finds, the best first. grouped: the list by family; means: the charts too."""
    family = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "schedule.family"}]}
    return {
        "searchFilter": search,
        "orderByKey": "metrics.`objective`",
        "orderByAsc": shown.direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            "metrics.`objective`",
            f"tags.`{ranks.TAG}`",
            "params.`peak_lr`",
            "params.`warmup`",
            "tags.`trial.state`",
        ],
        "runsHiddenMode": "SHOW_ALL",
        "runsVisibilityMap": {},
        "runsHidden": [],
        "runsPinned": [],
        "runsExpanded": {},
        "groupBy": family if grouped else None,
        "useGroupedValuesInCharts": means,
        "groupsExpanded": {},
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "viewMaximized": True,
        "runListHidden": False,
        "isAccordionReordered": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [_section(name, name in SEEN_AT_ONCE) for name in sections],
        "compareRunCharts": [
            {**chart, "uuid": f"chart-{name}-{place}", "metricSectionId": f"section-{name}"}
            for name, charts in sections.items()
            for place, chart in enumerate(charts)
        ],
    }


LRS, LOSSES, WHAT_DECIDES = "Learning rate, on a linear and a log axis", "Losses", "What decides"
MEANS = "Mean and range of each family"
SEEN_AT_ONCE = (LRS, LOSSES, WHAT_DECIDES, MEANS)  # sections that are open; the others open by a click
PARALLEL_AT_ONCE = 2  # charts of parallel coordinates there
DECADES_BELOW = 3
SMOOTHNESS = 90  # of what single batches say, in percent; the page draws the raw values beneath


def _sections(shown: ViewContent) -> dict[str, list[View]]:
    """Section by section the charts: what is asked first stands first."""
    losses = _losses(shown)
    traces = [name for name in shown.metrics if "/" in name and name not in {*losses, LR}]
    numbers = [name for name in shown.metrics if "/" not in name]
    together = _parallel_groups(shown)
    sections = {
        LRS: [_line(LR), _line(LR, log=True, decades=_lr_decades(shown))],
        LOSSES: [_loss(name) for name in losses],
        WHAT_DECIDES: [
            _scatter("METRIC", "log10_lr_max", "objective"),
            *(_parallel(names) for names in together[:PARALLEL_AT_ONCE]),
        ],
        "Numbers of single families": [_parallel(names) for names in together[PARALLEL_AT_ONCE:]],
        "More traces": [_line(name, smoothness=SMOOTHNESS) for name in traces],
        "Model metrics": [_bar(name) for name in numbers],
    }
    return {name: charts for name, charts in sections.items() if charts}


def _losses(shown: ViewContent) -> list[str]:
    """The objective's metric, what else is evaluated, and the training loss."""
    evaluated = [name for name in shown.metrics if name.startswith("valid/") and ".member" not in name]
    return [*dict.fromkeys(filter(None, [shown.metric, "valid/loss", *evaluated])), "train/loss"]


def _mean_sections(shown: ViewContent, sections: Mapping[str, list[View]]) -> dict[str, list[View]]:
    """Charts that may be drawn of means over trials; the others are marked, else the page adds them by itself."""
    losses = _losses(shown)
    others = [
        chart for charts in sections.values() for chart in charts if chart.get("metricKey", losses[0]) not in losses
    ]
    return {
        MEANS: [_loss(name) for name in losses],
        WHAT_DECIDES: [_scatter("METRIC", "log10_lr_max", "objective")],
        "Model metrics": [{**chart, "deleted": True} for chart in others],
    }


def _parallel_groups(shown: ViewContent) -> list[list[str]]:
    """Which numbers to draw on parallel axes together: the page leaves out runs that lack one of them.

    First those that every family searches, then each family's own, those of the most families first.
    """
    spaces = [names for _, names in shown.searched if names]
    common = [name for name in (spaces or [()])[0] if all(name in names for names in spaces)]
    wider = Counter(names for names in spaces if set(names) > set(common))
    return [common, *(list(names) for names, _ in sorted(wider.items(), key=lambda one: (-one[1], one[0])))]


def _section(name: str, display: bool) -> View:
    return {
        "uuid": f"section-{name}",
        "name": name,
        "display": display,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _chart(kind: str, **more: Any) -> View:
    return {"type": kind, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, **more}


def _line(metric: str, *, log: bool = False, decades: tuple[float, float] | None = None, smoothness: int = 0) -> View:
    """The page itself calls a chart of one metric by the metric's name. decades: of a log axis, its ends."""
    return _chart(
        "LINE",
        metricKey=metric,
        selectedMetricKeys=[metric],
        scaleType="log" if log else "linear",
        range={} if decades is None else {"yMin": decades[0], "yMax": decades[1]},
        xAxisKey="step",
        xAxisScaleType="linear",
        selectedXAxisMetricKey="",
        lineSmoothness=smoothness,
        useGlobalLineSmoothing=smoothness == 0,
        useGlobalXaxisKey=True,
        displayPoints=False,
        ignoreOutliers=False,
        yAxisKey="metric",
        yAxisExpressions=[],
    )


def _loss(name: str) -> View:
    """Losses on a log axis, scores on a linear one."""
    return _line(name, log=name.endswith("loss"), smoothness=SMOOTHNESS * (name == "train/loss"))


def _lr_decades(shown: ViewContent) -> tuple[float, float] | None:
    """What is worth seeing of LRs on a log axis: some decades below the peaks, not the way to an LR of zero."""
    return None if shown.decades is None else (shown.decades[0] - DECADES_BELOW, shown.decades[1] + 1.1)


def _scatter(kind: str, x: str, y: str) -> View:
    return _chart("SCATTER", xaxis={"key": x, "type": kind}, yaxis={"key": y, "type": "METRIC"})


def _parallel(params: Sequence[str]) -> View:
    return _chart(
        "PARALLEL",
        selectedParams=["family", *(name for name in params if name != "peak_lr")],
        selectedMetrics=["log10_lr_max", "objective"],
        showAllRuns=False,
    )


def _bar(metric: str) -> View:
    return _chart("BAR", metricKey=metric)
