"""Saved views of MLflow's charts page, which the addresses that `ui` prints open.

A view is a tag of the experiment, `mlflow.sharedViewState.<key>`. Its format is MLflow's own and not documented: this
file writes what the page of MLflow 3.17 writes when a user saves a view (tests/test_browser.py checks it). Nothing
depends on it: a page that does not know a view opens the plain charts.

Two limits of the page shape the views. It loads the first 100 runs in the view's order, and more with a button, so of
more than 20 families fewer than five trials each are shown. Its scatter chart has no log axis, so the logarithm of the
peak LR is a metric of its own.
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
LONGEST = 5000  # characters of an experiment's tag in every MLflow 3
LR = "lr/group0"
CHARTS = "workflowType=machine_learning&compareRunsMode=CHART"
NOTE = "mlflow.note.content"
NOTE_BEGINS = "Learning-rate schedules of"
LINKS = {"best": "the best trials of each family", "all": "all trials"}
WHICH = ("best", "all", "means")
PAGE = 100  # runs that the page loads at first

View = dict[str, Any]


class ViewContent(NamedTuple):
    """What the views of a sweep show.

    Attributes:
        metric: The objective's metric.
        direction: Whether smaller or larger objectives are better.
        searched: Each family with the names of its searched hyperparameters.
        metrics: Names of all metrics.
        decades: Of the smallest and the largest peak LR of complete trials, -2 for 0.01 to 0.1; None before the first
            one.
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
    current = tags.experiment_tags()
    best = f"{_places(content)} trials of each family"
    names = {"best": f"Best {best}", "all": "All trials", "means": f"Mean and range of the best {best}"}
    for which in WHICH:
        key, view = key_of(which, sweep_id, named=named), views(content, sweep_id, named=named)[which]
        try:
            envelope, stored = decode_view(current.get(TAG + key, ""))
        except (ValueError, KeyError, TypeError, zlib.error):
            envelope, stored = {}, {}
        if stored != view:
            tags.tag_experiment(TAG + key, encode_view(names[which], view, envelope.get("createdAt", now), now))
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


def views(content: ViewContent, sweep_id: str, *, named: bool) -> dict[str, View]:
    """Return the views by their names in WHICH.

    "means" draws a mean line and a band for each family, from metrics that all trials log at the same steps. The LR is
    not among them: each trial logs it at other steps.

    Args:
        content: What the views show.
        sweep_id: The sweep's id.
        named: Whether the experiment may hold other sweeps' runs, so that the filters need the id.
    """
    of_sweep = f" and tags.`sweep.id` = '{sweep_id}'" if named else ""
    of_trials = f"tags.`sweep.role` = 'trial'{of_sweep}"
    left_out = [ranks.BELOW, *(str(place) for place in range(ranks.TOP, _places(content), -1))]
    of_best = " and ".join([*(f"tags.`{ranks.TAG}` != '{rank}'" for rank in left_out), of_trials])
    sections = _sections(content)
    return {
        "best": _view(content, of_best, sections, grouped=True),
        "all": _view(content, of_trials, sections),
        "means": _view(content, of_best, _mean_sections(content, sections), grouped=True, means=True),
    }


def _places(content: ViewContent) -> int:
    """Return how many trials of each family the page shows at first."""
    return max(1, min(ranks.TOP, PAGE // max(1, len(content.searched))))


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


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _note(content: ViewContent, tags: Tags) -> str:
    best, every = (f"[{text}](#{address(tags.experiment_id, key)})" for key, text in LINKS.items())
    count = len({family for family, _ in content.searched})
    families = "1 family" if count == 1 else f"{count} families"
    better = "lower" if content.direction == "minimize" else "higher"
    return f"{NOTE_BEGINS} {families}, by {content.metric} ({better} is better). Open {best} or {every}."


# --- what a view shows ------------------------------------------------------------------------------


def _view(
    content: ViewContent, search: str, sections: Mapping[str, list[View]], *, grouped: bool = False, means: bool = False
) -> View:
    """Return a view of the runs that a search finds, the best first.

    Args:
        content: What the views show.
        search: The filter.
        sections: Charts by section.
        grouped: Whether the list groups runs by family.
        means: Whether the charts draw means of families.
    """
    family = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "schedule.family"}]}
    return {
        "searchFilter": search,
        "orderByKey": "metrics.`objective`",
        "orderByAsc": content.direction == "minimize",
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
SEEN_AT_ONCE = (LRS, LOSSES, WHAT_DECIDES, MEANS)  # open sections; the others open with a click
PARALLEL_AT_ONCE = 2  # charts of parallel coordinates in open sections
DECADES_BELOW = 3
SMOOTHNESS = 90  # percent, for values of single batches; the page draws the raw values beneath


def _sections(content: ViewContent) -> dict[str, list[View]]:
    """Return the charts by section, the most important first."""
    losses = _losses(content)
    traces = [name for name in content.metrics if "/" in name and name not in {*losses, LR}]
    scalars = [name for name in content.metrics if "/" not in name]
    groups = _parallel_groups(content)
    sections = {
        LRS: [_line(LR), _line(LR, log=True, decades=_lr_decades(content))],
        LOSSES: [_loss(name) for name in losses],
        WHAT_DECIDES: [
            _scatter("METRIC", "log10_lr_max", "objective"),
            *(_parallel(names) for names in groups[:PARALLEL_AT_ONCE]),
        ],
        "Numbers of single families": [_parallel(names) for names in groups[PARALLEL_AT_ONCE:]],
        "More traces": [_line(name, smoothness=SMOOTHNESS) for name in traces],
        "Model metrics": [_bar(name) for name in scalars],
    }
    return {name: charts for name, charts in sections.items() if charts}


def _losses(content: ViewContent) -> list[str]:
    """Return the objective's metric, the other evaluated ones, and the training loss."""
    evaluated = [name for name in content.metrics if name.startswith("valid/") and ".member" not in name]
    return [*dict.fromkeys(filter(None, [content.metric, "valid/loss", *evaluated])), "train/loss"]


def _mean_sections(content: ViewContent, sections: Mapping[str, list[View]]) -> dict[str, list[View]]:
    """Return the charts that can draw means over trials.

    The others are listed as deleted, or else the page adds them.
    """
    losses = _losses(content)
    others = [
        chart for charts in sections.values() for chart in charts if chart.get("metricKey", losses[0]) not in losses
    ]
    return {
        MEANS: [_loss(name) for name in losses],
        WHAT_DECIDES: [_scatter("METRIC", "log10_lr_max", "objective")],
        "Model metrics": [{**chart, "deleted": True} for chart in others],
    }


def _parallel_groups(content: ViewContent) -> list[list[str]]:
    """Return the hyperparameters to draw on parallel axes together. The page leaves out runs that lack one of them.

    First those that every family searches, then the other combinations, those of the most families first.
    """
    spaces = [names for _, names in content.searched if names]
    common = [name for name in (spaces or [()])[0] if all(name in names for names in spaces)]
    wider = Counter(names for names in spaces if set(names) > set(common))
    return [common, *(list(names) for names, _ in sorted(wider.items(), key=lambda item: (-item[1], item[0])))]


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
    """Return a line chart. The page titles a chart of one metric with the metric's name.

    Args:
        metric: Name of the metric.
        log: Whether the axis is logarithmic.
        decades: Ends of a log axis; None for automatic ones.
        smoothness: In percent.
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
        lineSmoothness=smoothness,
        useGlobalLineSmoothing=smoothness == 0,
        useGlobalXaxisKey=True,
        displayPoints=False,
        ignoreOutliers=False,
        yAxisKey="metric",
        yAxisExpressions=[],
    )


def _loss(name: str) -> View:
    """Return a chart of a loss, on a log axis, or of another metric, on a linear one."""
    return _line(name, log=name.endswith("loss"), smoothness=SMOOTHNESS * (name == "train/loss"))


def _lr_decades(content: ViewContent) -> tuple[float, float] | None:
    """Return the ends of the log axis of LRs: from some decades below the peaks, without the way to zero."""
    return None if content.decades is None else (content.decades[0] - DECADES_BELOW, content.decades[1] + 1.1)


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
