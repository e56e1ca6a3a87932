"""Write the guide's page of schedules, and its pictures: python scripts/catalogue.py, after a change to a family.

What it says of a family comes from the factor's docstring and annotations and from conf/schedule, of a reactive one
from the controller's docstring and its numbers in sweeper/schedules/reactive.py, the rest from catalogue.md. A test
fails when page or pictures are older than these.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sweeper.schedules import FACTORS, cycles, lr_trace
from sweeper.schedules.families import MOMENTA, family, parameters_of
from sweeper.schedules.numbers import Parameter, parameters
from sweeper.schedules.reactive import CONTROLLERS as DECLARED
from sweeper.training.controllers import CONTROLLERS
from sweeper.types import Floats

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).with_suffix(".md")
PAGE = ROOT / "docs" / "guide" / "schedules.md"
PICTURES = PAGE.parent / "schedules"
FIELDS = ("Formula", "Source", "Equals", "Differs", "Founding notes")
UPDATES = 200  # of a picture
LOWEST = 7e-9  # of a logarithmic axis
CYCLES = (2.0, 1.0, 0.5, 0.25)  # as far as they are in a family's range
COMMON = {
    "peak_lr": "the highest LR",
    "warmup": "length of the [ramp](#warmup), a fraction of the run's updates",
    "end": "whether the [end](#end) is reached after the run or on its last update",
}


# --- what is known of a factor ------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A factor as its docstring tells it: what it is, the fields there are, and the meaning of its numbers."""

    name: str
    about: str
    fields: Mapping[str, str]
    meanings: Mapping[str, str]


def parse_entry(name: str, factor: Any = None) -> Entry:
    """The docstring taken apart: what it is, then from Formula on `Name: text`, continued on indented lines."""
    about, formula, rest = (inspect.getdoc(factor or FACTORS[name]) or "").partition("\n\nFormula: ")
    if not formula:
        raise ValueError(f"the docstring of {name} has no Formula: see the head of sweeper/schedules/decays.py")
    named = dict(part.split(": ", 1) for part in re.split(r"^(?=\S)", f"Formula: {rest}", flags=re.MULTILINE) if part)
    meanings = {key: " ".join(text.split()) for key, text in named.items()}
    fields = {key: meanings.pop(key) for key in FIELDS if key in meanings}
    return Entry(name, " ".join(about.split()), fields, meanings)


def families_of(factor: str) -> dict[str, dict[str, Any]]:
    """The files of conf/schedule over that factor, its namesake first: {family: its node, as written}."""
    own = [(name, node) for name, node in _nodes() if node.get("factor") == factor and "controller" not in node]
    return dict(sorted(own, key=lambda one: one[0] != factor))


def reactive_families_of(controller: str) -> dict[str, dict[str, Any]]:
    """The files of conf/schedule with that controller: {family: its node, as written}."""
    return {name: node for name, node in _nodes() if node.get("controller") == controller}


def _nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "conf" / "schedule").glob("*.yaml")):
        for name, node in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if isinstance(node, dict):
                yield name, node


def classes(equals: str) -> list[str]:
    """The library classes and functions that a field `Equals` names."""
    return [match[1] for match in CODE.finditer(equals) if match[1] != "peak_lr"]


# Names of classes and functions, with their arguments; libraries stay plain.
CODE = re.compile(
    r"(?<![\w`])(?!pytorch_)([A-Z]\w*(?:LROnPlateau|LR|Scheduler|Restarts|Decay)|T_max|[a-z]+_\w+)(\((?:[^()]|\([^()]*\))*\))?"
)


# --- the page -----------------------------------------------------------------------------------------


def page() -> str:
    entries = {name: parse_entry(name) for name in FACTORS}
    rising = [name for name in FACTORS if FACTORS[name].__module__ == cycles.__name__]
    falling = [name for name in FACTORS if name not in rising]
    parts = ["## All of them\n", _index(entries)]
    for title, names in (("Falling once", falling), ("Rising again, or first", rising)):
        parts += [f"## {title}\n", *(_section(entries[name]) for name in names)]
    reactive = [_reactive_section(parse_entry(name, CONTROLLERS[name])) for name in CONTROLLERS]
    text = TEMPLATE.read_text(encoding="utf-8").replace("<!-- families -->\n", "\n".join(parts))
    return text.replace("<!-- controllers -->\n", "\n".join(reactive))


def _index(entries: Mapping[str, Entry]) -> str:
    rows = ["| factor | families | what it is |", "|---|---|---|"]
    for name, entry in entries.items():
        families = ", ".join(f"`{each}`" for each in families_of(name))
        rows.append(f"| [{name}](#{name}) | {families} | {entry.about.split('. ')[0].rstrip('.')} |")
    return "\n".join(rows) + "\n"


def _section(entry: Entry) -> str:
    fields = entry.fields
    lines = [f"### {entry.name}\n", f"{entry.about}\n", f"![g of {entry.name}](schedules/{entry.name}.svg)\n"]
    lines.append(f"    g = {_formula(fields['Formula'])}\n")
    return "\n".join([*lines, *_remarks(fields), _table(entry)])


def _reactive_section(entry: Entry) -> str:
    lines = [f"### {entry.name}\n", f"{entry.about}\n", f"    {_formula(entry.fields['Formula'])}\n"]
    return "\n".join([*lines, *_remarks(entry.fields), _reactive_table(entry)])


def _remarks(fields: Mapping[str, str]) -> list[str]:
    lines = []
    for key in ("Source", "Equals", "Differs"):
        if key in fields:
            lines.append(f"*{key}*: {_link_papers(_mark_code(fields[key]))}.\n")
    if "Founding notes" in fields:
        lines.append(f"> *Founding notes*: {_mark_code(fields['Founding notes'])}\n")
    return lines


def _formula(text: str) -> str:
    """One line, broken before a case that would not fit."""
    return text.replace("; ", "\n        ").replace(", closed with", "\n        closed with")


def _mark_code(text: str) -> str:
    return CODE.sub(lambda match: f"`{match[0]}`", text)


def _link_papers(text: str) -> str:
    """arXiv numbers as links: "arXiv 2106.04560, 2408.13359" too."""
    return re.sub(r"(?<![\w./])(\d{4}\.\d{5})(?!\w)", r"[\1](https://arxiv.org/abs/\1)", text)


def _table(entry: Entry) -> str:
    nodes = families_of(entry.name)
    rows = [["number", "means", "can be", "default", *(f"`{name}`" for name in nodes)]]
    for number, parameter in _numbers(entry.name, nodes).items():
        meaning = entry.meanings.get(number, COMMON.get(number, ""))
        default = "" if parameter.required else _plain(parameter.default)
        cells = [_setting(node[number]) if number in node else "" for node in nodes.values()]
        rows.append([f"`{number}`", meaning, _allowed_values(parameter), default, *cells])
    if entry.name in MOMENTA:
        rows.append(["`momentum`", "constant, or [cycled](#momentum)", "constant, cycled", "constant"])
        rows[-1] += [_setting(node["momentum"]) for node in nodes.values()]
        for number in ("max_momentum", "base_momentum"):
            parameter = parameters(MOMENTA[entry.name])[number]
            where = "where the LR is lowest" if number == "max_momentum" else "at the peak"
            rows.append([f"`{number}`", f"cycled: the momentum {where}", _allowed_values(parameter)])
            rows[-1] += [_plain(parameter.default), *("" for _ in nodes)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _reactive_table(entry: Entry) -> str:
    nodes = reactive_families_of(entry.name)
    rows = [["number", "means", "can be", "default", *(f"`{name}`" for name in nodes)]]
    rows.append(["---"] * len(rows[0]))
    for number in DECLARED[entry.name]:
        default = "" if number.required else _plain(number.default)
        cells = [_setting(node[number.name]) if number.name in node else "" for node in nodes.values()]
        rows.append(
            [f"`{number.name}`", entry.meanings[number.name], _allowed_values(number) or "a word", default, *cells]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _numbers(factor: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Parameter]:
    """The numbers of a factor's families, in the order in which people think of them; `end` last."""
    prefixed = any("warmup" in node for node in nodes.values())
    node = {"factor": factor, "peak_lr": 1.0, **({"warmup": 0} if prefixed and _has_no_warmup(factor) else {})}
    known = parameters_of(family(factor, node))
    kept = [name for name in known if name not in ("warmup_shape", "warmup_join", "end")]
    return {name: known[name] for name in [*kept, *(["end"] if "end" in known else [])]}


def _has_no_warmup(factor: str) -> bool:
    return "warmup" not in parameters(FACTORS[factor])


def _allowed_values(parameter: Parameter) -> str:
    if parameter.kind == "word":
        return ", ".join(_plain(option) for option in parameter.options)
    bounds = parameter.bounds
    if not (math.isfinite(bounds.low) and math.isfinite(bounds.high)):
        return str(bounds) or "any number"
    if bounds.open_low and bounds.open_high:
        return f"between {bounds.low:g} and {bounds.high:g}"
    low = f"above {bounds.low:g}, " if bounds.open_low else f"{bounds.low:g} "
    return f"{low}to {'below ' if bounds.open_high else ''}{bounds.high:g}"


def _setting(value: Any) -> str:
    """What a family's file says of a number."""
    words = {
        "${optimizer.peak_lr}": "**the optimizer's range**",
        "${optimizer.default_lr}": "the optimizer's `default_lr`",
        "${warmup}": "**the common choice**",
    }
    if isinstance(value, dict) and "choice" in value:
        return f"**{' or '.join(_plain(option) for option in value['choice'])}**"
    if isinstance(value, dict):
        return f"**{_plain(value['low'])} to {_plain(value['high'])}**{', log' if value.get('log') else ''}"
    return words.get(value, _plain(value)) if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(one) for one in value)}]"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


# --- the pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """g of one factor for several values of one of its numbers, or for its defaults alone (number None)."""

    factor: str
    number: str | None
    curves: Mapping[str, Floats]

    @property
    def digest(self) -> str:
        """Changes when a curve does by more than the last digits, which differ between processors."""
        values = [(label, [f"{g:.9f}" for g in curve_S]) for label, curve_S in self.curves.items()]
        return hashlib.blake2b(repr((self.factor, self.number, values)).encode(), digest_size=8).hexdigest()


def picture(factor: str) -> Picture:
    """Its namesake family with the number that makes its shape: its own rise, or what is searched last."""
    node = next(iter(families_of(factor).values()))
    fixed = {key: value for key, value in node.items() if not isinstance(value, dict)} | {"peak_lr": 1.0}
    if fixed.get("warmup") == "${warmup}":
        fixed["warmup"] = 0.1
    searched = [key for key, value in node.items() if isinstance(value, dict) and key != "peak_lr"]
    drawn = family(factor, fixed)
    if not searched:
        return Picture(factor, None, {"": lr_trace(drawn, {}, UPDATES)})
    number = searched[-1] if _has_no_warmup(factor) else "warmup"
    values = _values(number, node[number])
    return Picture(factor, number, {_plain(value): lr_trace(drawn, {number: value}, UPDATES) for value in values})


def _values(number: str, searched: Mapping[str, Any]) -> list[float]:
    """Some values of a searched number, its ends among them; of cycles those that keep the picture clear."""
    if "choice" in searched:
        return list(searched["choice"])
    low, high = searched["low"], searched["high"]
    if number == "cycle":
        return [value for value in CYCLES if low <= value <= high]
    spread = np.geomspace(low, high, 4) if searched.get("log") else np.linspace(low, high, 4)
    return [float(f"{value:.3g}") for value in spread]


def draw(shown: Picture, path: Path) -> None:
    """An SVG that says in its description which curves it shows, and is the same whenever it is drawn."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "sweeper", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with mpl.rc_context({**style, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 2.1), layout="constrained")
        straight, logarithmic = figure.subplots(1, 2, sharex=True)
        for i, (label, g_S) in enumerate(shown.curves.items()):
            color = mpl.colormaps["viridis"](0.85 * i / max(1, len(shown.curves) - 1))
            t_S = np.arange(len(g_S)) / len(g_S)
            straight.plot(t_S, g_S, color=color, linewidth=1.3, label=label)
            logarithmic.plot(t_S, np.where(g_S > 0, g_S, np.nan), color=color, linewidth=1.3)
        lowest = min(g_S[g_S > 0].min() for g_S in shown.curves.values())
        straight.set(ylim=(0, 1.04), xlim=(0, 1), ylabel="LR / peak_lr", xlabel="part of the run")
        logarithmic.set(yscale="log", ylim=(min(0.1, max(LOWEST, 0.7 * lowest)), 1.4), xlabel="part of the run")
        logarithmic.minorticks_off()
        if shown.number is not None:
            figure.legend(loc="outside right center", title=shown.number, frameon=False)
        metadata = {"Date": None, "Creator": None, "Description": shown.digest}
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=metadata)
    hundredths = re.sub(r' d="[^"]*"', lambda lines: re.sub(r"(\.\d\d)\d+", r"\1", lines[0]), drawn.getvalue())
    path.write_text(hundredths, encoding="utf-8")


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path in PICTURES.glob("*.svg"):
        path.unlink()
    for name in FACTORS:
        draw(picture(name), PICTURES / f"{name}.svg")
    PAGE.write_text(page(), encoding="utf-8")
    size = sum(path.stat().st_size for path in PICTURES.glob("*.svg"))
    print(f"{PAGE.relative_to(ROOT)}, {len(FACTORS)} pictures of {size / 1e3:.0f} kB in all")


if __name__ == "__main__":
    main()
