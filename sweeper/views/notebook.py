"""A sweep in a notebook: its answer as HTML, and its figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from sweeper.results import below
from sweeper.text.columns import Column
from sweeper.views import answer, confirmed, end_table, figures
from sweeper.views.small_print import small_print

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sweeper.results.stored import StoredSweep
    from sweeper.results.tables import Criterion
    from sweeper.views.family_lines import FamilyTable
    from sweeper.views.settings import Settings

# Without colors, so that it fits light and dark pages.
CELL = "padding: .15em .7em; white-space: nowrap; font-variant-numeric: tabular-nums"
RULE = "border-top: 1px solid currentColor"
ENTRY = 'style="max-width: 100%; height: auto; background: white"'


def html_table(sweep: StoredSweep) -> str:
    """Return the answer in HTML. The tables with every column and the small print are collapsed below it."""
    said = answer.answer_of(sweep)
    head = "".join(f"<p><b>{escape(text)}</b></p>" for text in said.sentences)
    cost, command = said.confirm
    confirm = f"<p>{escape(cost)} <code>{escape(command)}</code></p>" if command else ""
    table = "" if said.table is None else _family_table(said.table, said.heading)
    cautions = "".join(f"<p>{escape(text)}</p>" for text in said.cautions)
    return (
        f"<div>{head}{confirm}{_settings(said.settings)}{table}{cautions}"
        f"<details><summary>All columns, and how far to trust this</summary>{_everything(sweep)}</details></div>"
    )


def _settings(settings: Settings | None) -> str:
    if settings is None:
        return ""
    call = f"<br><code>{escape(settings.call)}</code> returns the LR of each update." if settings.call else ""
    return f"<p>{escape(settings.about)}<br><code>{escape(' '.join(settings.words))}</code>{call}</p>"


def _family_table(table: FamilyTable, heading: str) -> str:
    """Return a line for each family. A rule is below the tuned constant."""
    columns = table.columns(None)
    remarks = next((i for i, line in enumerate(table.lines) if line.remark), None)
    rules = {i for i in (None if table.rule is None else table.rule + 1, remarks) if i}
    rows = [_row(columns, i, best="bold" in line.style, rule=i in rules) for i, line in enumerate(table.lines)]
    if table.rule is not None:
        span = len(columns) - next(i for i, column in enumerate(columns) if column.head == table.value_name) - 1
        words = f'<td colspan="{span}" style="{CELL}">{escape(table.below[0])}</td>'
        rows[table.rule] = f"<tr>{_cells(columns[: len(columns) - span], table.rule)}{words}</tr>"
    return f'<p>{escape(heading)}</p><div style="overflow-x: auto">{_html(columns, rows)}</div>'


def _everything(sweep: StoredSweep) -> str:
    """Return the confirmed table and that of the search with every column, and the small print."""
    families, criterion, verdict = sweep.families, sweep.criterion, sweep.verdict
    parts = []
    if verdict is not None:
        columns = confirmed.columns(verdict)
        rows = [_row(columns, i, best=one["status"] == "best", rule=False)
                for i, one in enumerate(verdict["configurations"])]  # fmt: skip
        parts.append(f'<div style="overflow-x: auto">{_html(columns, rows)}</div>')
        parts += [f"<p>{escape(line)}</p>" for line in below.lines(verdict)]
    if not families.empty:
        parts.append(f"<p>{escape(end_table.heading(criterion))}</p>")
        parts.append(f'<div style="overflow-x: auto">{_table(families, criterion)}</div>')
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in small_print(families, criterion)]
    return "".join(parts)


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
    cells = _cells(columns, i)
    styles = [text for text, wanted in (("font-weight: bold", best), (RULE, rule)) if wanted]
    return f'<tr style="{"; ".join(styles)}">{cells}</tr>' if styles else f"<tr>{cells}</tr>"


def _cells(columns: Sequence[Column], i: int) -> str:
    return "".join(f"<td {_style(column)}>{escape(column.cells[i])}</td>" for column in columns)


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
