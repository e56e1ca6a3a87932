"""The confirmed table with every column, from confirm.json alone: in a terminal, a notebook, MLflow's note."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from sweeper.results import below, words
from sweeper.results.verdict import Configuration, Contrast, Verdict
from sweeper.text.columns import Column, Line, blocks, clean, duration_text, lay_out, value_text, wrap, write
from sweeper.types import shorten

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.run.confirm_plan import Cost

WIDEST = 100  # cells of the table at most, whatever the terminal
LONGEST_NAME = 24  # characters of a configuration, such as "wsd:12", in the table


def cost_lines(cost: Cost, families: Sequence[str]) -> list[str]:
    """Return what is confirmed and what that costs, for the terminal."""
    seconds = [duration_text(count * cost.seconds) for count in (cost.least, cost.typical, cost.most)]
    return [
        f"Confirming {len(families)} families on fresh seeds: {', '.join(map(clean, families))}.",
        f"Trainings: {cost.least} at least ({seconds[0]} at the speed of the search), typically about {cost.typical} "
        f"({seconds[1]}), {cost.most} at most ({seconds[2]}).",
        *(
            [f"Under changes: {cost.varied} more at most ({duration_text(cost.varied * cost.seconds)})."]
            * bool(cost.varied)
        ),
    ]


def show(verdict: Verdict, *, scope: str = "", out: TextIO | None = None) -> None:
    """Print the table and what is to be known beside the verdict, at the width of a terminal.

    Args:
        verdict: The verdict.
        scope: What it is not about, the last line.
        out: By default stdout.
    """
    write(lambda width, unicode: render(verdict, scope=scope, width=width, unicode=unicode), out)


def render(verdict: Verdict, *, scope: str = "", width: int | None = None, unicode: bool = True) -> list[Line]:
    """Return the table and what is to be known beside the verdict as lines.

    Args:
        verdict: The verdict.
        scope: What it is not about.
        width: Cells of a line at most; None for no limit.
        unicode: Whether the output can show more than ASCII.
    """
    sense = "lower" if verdict["objective"]["direction"] == "minimize" else "higher"
    trainings = verdict["trained"]["choose"] + verdict["trained"]["judge"]
    head = f"Confirmed on fresh seeds: {verdict['objective']['metric']}, {sense} is better ({trainings} trainings)"
    among = {number: "bold green" for number, row in enumerate(verdict["configurations"]) if row["status"] == "best"}
    small = [line for text in (*below.lines(verdict), scope) if text for line in wrap(clean(text), width, "dim")]
    return [*wrap(head, width, "bold"), *full_table(columns(verdict), among, width, unicode), *small]


def full_table(columns: Sequence[Column], styles: Mapping[int, str], width: int | None, unicode: bool) -> list[Line]:
    """Return all columns, in blocks that fit into the width, with a blank line after each."""
    tables = [
        lay_out(block, width, styles=styles, unicode=unicode) for block in blocks(columns, min(width or WIDEST, WIDEST))
    ]
    return [line for table in tables for line in [*table, [("", "")]]]


def columns(verdict: Verdict) -> list[Column]:
    """Return every column of the table as text, one row for each configuration."""
    rows, test = verdict["configurations"], verdict["test_metric"]
    gains = [_gain_of(verdict, row) for row in rows]
    found = [
        Column("configuration", [_name(row) for row in rows], right=False),
        Column("rank", [_rank(row) for row in rows]),
        Column("mean", [value_text(row["mean"]) for row in rows]),
        Column("sd", ["-" if row["sd"] is None else f"{row['sd']:.2g}" for row in rows]),
        Column("seeds", [str(row["n"] or "-") for row in rows]),
        Column("gain over constant", ["-" if one is None else words.gain_text(verdict, one) for one in gains]),
        Column("in sd", ["-" if one is None else words.in_sd(one) for one in gains]),
        Column("share of gain", ["-" if one is None else _share(one) for one in gains]),
        Column("in search", [value_text(row["search_value"]) for row in rows]),
    ]
    if any(row["test"] for row in rows):
        found.append(Column(test, [_test(row, test) for row in rows]))
    if any(row["diverged"]["k"] for row in rows):
        found.append(Column("diverged", [_diverged(row) for row in rows]))
    return [*found, Column("verdict", [_standing(row) for row in rows], right=False)]


def _name(row: Configuration) -> str:
    """Return the configuration, a long name without its middle, so that its trial and its end stay."""
    trial = f":{row['trial']}"
    return shorten(clean(row["family"]), LONGEST_NAME - len(trial)) + trial


def _rank(row: Configuration) -> str:
    if row["rank"] is None or row["status"] in ("barred", "void"):
        return "-"
    low, high = row["rank"]
    return str(low) if low == high else f"{low}-{high}"


def _gain_of(verdict: Verdict, row: Configuration) -> Contrast | None:
    """Return the contrast with the constant; None if there is none to show."""
    of_row = (one for one in verdict["contrasts"] if words.name(one["a"]) == words.name(row))
    contrast = next((one for one in of_row if one["question"] == "constant"), None)
    return None if contrast is None or contrast["decision"] in ("barred", "void") else contrast


def _share(contrast: Contrast) -> str:
    share = contrast["gain_share"]
    return "-" if share is None else f"{round(100 * share)}%"


def _test(row: Configuration, metric: str) -> str:
    measured = (row["test"] or {}).get(metric)
    return "-" if measured is None else value_text(measured["mean"])


def _diverged(row: Configuration) -> str:
    counts = row["diverged"]
    return f"{counts['k']}/{counts['n']}" if counts["k"] else "-"


def _standing(row: Configuration) -> str:
    if row["status"] == "out" and row["out_at_look"] is not None:
        return f"out at {row['out_at_look']}"
    return row["status"]


def grown_note(verdict: Verdict, trials: int, name: str) -> str:
    """Return what the search trained since its confirmation; "" if nothing.

    Args:
        verdict: The verdict.
        trials: Trials of the search now.
        name: The sweep's name.
    """
    more = trials - verdict["trained"]["search"]
    if more <= 0:
        return ""
    again = f"python -m sweeper confirm {name} confirm.seed={verdict['confirm_seed'] + 1}"
    return f"The search has {more} trial{'s' if more > 1 else ''} more than when this was confirmed. Again: {again}"


def table(verdict: Verdict) -> pd.DataFrame:
    """Return a row for each configuration, with the numbers in full.

    The columns are the keys of `configurations` in confirm.json, hyperparameters in "params" as JSON, and the gain over
    the constant with its interval: "gain", "gain_low", "gain_high", positive if it is better.
    """
    import pandas as pd

    gains = {
        (one["a"]["family"], one["a"]["trial"]): words.gain(verdict, one)
        for one in verdict["contrasts"]
        if one["question"] == "constant"
    }
    rows = []
    for row in verdict["configurations"]:
        mean, low, high = gains.get((row["family"], row["trial"]), (None, None, None))
        plain = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        first, last = row["rank"] or (None, None)
        diverged = row["diverged"]
        rows.append(
            {
                **plain,
                "same_as": ", ".join(words.name(one) for one in row["same_as"]),
                "params": json.dumps(row["params"], default=list),
                "rank_first": first,
                "rank_last": last,
                "diverged": diverged["k"],
                "gain": mean,
                "gain_low": low,
                "gain_high": high,
            }
        )
    return pd.DataFrame(rows)
