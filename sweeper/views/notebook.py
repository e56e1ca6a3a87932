"""A sweep in a notebook: the table of families as HTML, and its figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from sweeper.results import below
from sweeper.text.columns import Column
from sweeper.views import confirmed, end_table, figures
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep
    from sweeper.results.tables import Criterion
    from sweeper.results.verdict import Verdict

# Without colors, so that it fits light and dark pages.
CELL = "padding: .15em .7em; white-space: nowrap; font-variant-numeric: tabular-nums"
RULE = "border-top: 1px solid currentColor"
ENTRY = 'style="max-width: 100%; height: auto; background: white"'


def html_table(sweep: StoredSweep) -> str:
    """Return the table of families with the answer below. The small print is collapsed."""
    criterion, families = sweep.criterion, sweep.families
    head = f"<b>{escape(sweep.name)}</b>: {escape(end_table.heading(criterion))}"
    state = _state(sweep)
    if families.empty:
        return f"<div><p>{head}{state}</p><p>No trials yet.</p></div>"
    verdict = "" if sweep.verdict is None else _verdict(sweep.verdict)
    answer, *rest = small_print(families, criterion)
    small = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in rest)
    table = f'<div style="overflow-x: auto">{_table(families, criterion)}</div>'
    return (
        f"<div>{verdict}<p>{head}{state}</p>{table}<p><b>{escape(answer)}</b></p>"
        f"<details><summary>How far to trust this</summary>{small}</details></div>"
    )


def _verdict(verdict: Verdict) -> str:
    """Return the confirmed table with the verdict below, in HTML."""
    columns = confirmed.columns(verdict)
    rows = verdict["configurations"]
    body = [_row(columns, i, best=rows[i]["status"] == "best", rule=False) for i in range(len(rows))]
    beside = "".join(f"<p>{escape(line)}</p>" for line in below.lines(verdict))
    return (
        f"<p><b>Confirmed on fresh seeds</b>: {escape(verdict['objective']['metric'])}</p>"
        f'<div style="overflow-x: auto">{_html(columns, body)}</div><p><b>{escape(verdict["sentence"])}</b></p>{beside}'
    )


def _state(sweep: StoredSweep) -> str:
    """Return what is left to do, in HTML; "" for nothing."""
    if not sweep.finished:
        return ". <i>Not finished. The same call or command resumes it.</i>"
    if not sweep.given_up:
        return ""
    return f". <i>{len(sweep.given_up)} failed. Once the cause is fixed, sweep.retry(task) trains what failed.</i>"


def _table(families: pd.DataFrame, criterion: Criterion) -> str:
    columns = end_table.columns(families, criterion)
    roles = families["role"].tolist()
    first_baseline = next((i for i, role in enumerate(roles) if role), len(roles))
    rows = [_row(columns, i, best=False, rule=i == first_baseline and i > 0) for i in range(len(families))]
    return _html(columns, rows)


def _html(columns: Sequence[Column], rows: Sequence[str]) -> str:
    heads = "".join(f"<th {_style(column)}>{escape(column.head)}</th>" for column in columns)
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<table style="border-collapse: collapse">{body}</table>'


def _row(columns: Sequence[Column], i: int, *, best: bool, rule: bool) -> str:
    cells = "".join(f"<td {_style(column)}>{escape(column.cells[i])}</td>" for column in columns)
    styles = [text for text, wanted in (("font-weight: bold", best), (RULE, rule)) if wanted]
    return f'<tr style="{"; ".join(styles)}">{cells}</tr>' if styles else f"<tr>{cells}</tr>"


def _style(column: Column) -> str:
    return f'style="{CELL}; text-align: {"right" if column.right else "left"}"'


class Figures(Mapping[str, "Figure"]):
    """The figures of a sweep by name. A notebook shows all of them.

    `figures["losses"]` and `figures.losses` are the same matplotlib Figure, with `savefig`.

    Args:
        sweep: The sweep.
        study: A study whose trials are drawn; None to draw one trial of each family.
    """

    def __init__(self, sweep: StoredSweep, study: str | None = None) -> None:
        self._pictures = figures.draw_all(sweep, study)
        for figure in self._pictures.values():  # notebooks can show only figures of pyplot by themselves
            vars(figure)["_repr_png_"] = partial(figures.image, figure)

    def __getitem__(self, name: str) -> Figure:
        return self._pictures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getattr__(self, name: str) -> Figure:
        if name.startswith("_") or name not in self._pictures:
            raise AttributeError(f"no figure {name!r}. Choose one of {', '.join(self._pictures)}")
        return self._pictures[name]

    def __repr__(self) -> str:
        return f"<Figures {', '.join(self._pictures)}>"

    def _repr_html_(self) -> str:
        return "".join(_image(name, figure) for name, figure in self.items())


def _image(name: str, figure: Figure) -> str:
    encoded = b64encode(figures.image(figure)).decode()
    return f'<p><img alt="{escape(name)}" {ENTRY} src="data:image/png;base64,{encoded}"></p>'
