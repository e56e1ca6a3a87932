"""Write the guide's page on schedules and its figures. Run it after a change to a family: python scripts/catalogue.py

The section on a family comes from the factor's docstring and annotations and from conf/schedule. That of a reactive
family comes from the controller's docstring and its hyperparameters in sweeper/schedules/reactive.py. The rest is
catalogue.md. A test fails if the page or the figures are out of date.
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
from sweeper.schedules.numbers import Bounds, Parameter, parameters
from sweeper.schedules.reactive import CONTROLLERS as DECLARED
from sweeper.training.controllers import CONTROLLERS
from sweeper.types import Floats

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).with_suffix(".md")
PAGE = ROOT / "docs" / "guide" / "schedules.md"
PICTURES = PAGE.parent / "schedules"
FIELDS = ("Formula", "Source", "Equals", "Differs", "Founding notes")
UPDATES = 200  # of a figure
LOWEST = 7e-9  # lowest end of a logarithmic axis
CYCLES = (2.0, 1.0, 0.5, 0.25)  # those inside a family's range are drawn
COMMON = {
    "peak_lr": "the highest LR",
    "warmup": "length of the [ramp](#warmup), as a fraction of the run's updates",
    "end": "whether the [end](#end) is reached after the run or on its last update",
}


# --- the contents of a section ------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A parsed docstring of a factor or controller.

    Attributes:
        name: Its name.
        about: The summary.
        fields: The texts of `FIELDS` that it has.
        meanings: What each hyperparameter means.
    """

    name: str
    about: str
    fields: Mapping[str, str]
    meanings: Mapping[str, str]


def parse_entry(name: str, factor: Any = None) -> Entry:
    """Parse the docstring of a factor: a summary, then lines `Name: text` from Formula on, continued with indentation.

    Args:
        name: The factor's name.
        factor: A controller to parse instead of the factor.

    Raises:
        ValueError: If the docstring has no Formula.
    """
    about, formula, rest = (inspect.getdoc(factor or FACTORS[name]) or "").partition("\n\nFormula: ")
    if not formula:
        raise ValueError(f"docstring={name}: has no Formula. Write it as sweeper/schedules/decays.py describes")
    named = dict(part.split(": ", 1) for part in re.split(r"^(?=\S)", f"Formula: {rest}", flags=re.MULTILINE) if part)
    meanings = {key: " ".join(text.split()) for key, text in named.items()}
    fields = {key: meanings.pop(key) for key in FIELDS if key in meanings}
    return Entry(name, " ".join(about.split()), fields, meanings)


def families_of(factor: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of conf/schedule with that factor, by family. The family with the factor's name comes first."""
    nodes = [(name, node) for name, node in _nodes() if node.get("factor") == factor and "controller" not in node]
    return dict(sorted(nodes, key=lambda named: named[0] != factor))


def reactive_families_of(controller: str) -> dict[str, dict[str, Any]]:
    """Return the nodes of conf/schedule with that controller, by family."""
    return {name: node for name, node in _nodes() if node.get("controller") == controller}


def _nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "conf" / "schedule").glob("*.yaml")):
        for name, node in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if isinstance(node, dict):
                yield name, node


def classes(equals: str) -> list[str]:
    """Return the library classes and functions that a field `Equals` names."""
    return [match[1] for match in CODE.finditer(equals) if match[1] != "peak_lr"]


# Names of classes and functions, with their arguments. Names of libraries do not match.
CODE = re.compile(
    r"(?<![\w`])(?!pytorch_)([A-Z]\w*(?:LROnPlateau|LR|Scheduler|Restarts|Decay)|T_max|[a-z]+_\w+)(\((?:[^()]|\([^()]*\))*\))?"
)


# --- the page -----------------------------------------------------------------------------------------


def page() -> str:
    """Return the text of the page."""
    entries = {name: parse_entry(name) for name in FACTORS}
    rising = [name for name in FACTORS if FACTORS[name].__module__ == cycles.__name__]
    falling = [name for name in FACTORS if name not in rising]
    parts = ["## All families\n", _index(entries)]
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
    """Return the formula with a line for each case."""
    return text.replace("; ", "\n        ").replace(", closed with", "\n        closed with")


def _mark_code(text: str) -> str:
    return CODE.sub(lambda match: f"`{match[0]}`", text)


def _link_papers(text: str) -> str:
    """Turn arXiv numbers into links, also in lists such as "arXiv 2106.04560, 2408.13359"."""
    return re.sub(r"(?<![\w./])(\d{4}\.\d{5})(?!\w)", r"[\1](https://arxiv.org/abs/\1)", text)


def _table(entry: Entry) -> str:
    nodes = families_of(entry.name)
    rows = [["hyperparameter", "means", "can be", "default", *(f"`{name}`" for name in nodes)]]
    for name, parameter in _hyperparameters(entry.name, nodes).items():
        meaning = entry.meanings.get(name, COMMON.get(name, ""))
        default = "" if parameter.required else _plain(parameter.default)
        cells = [_setting(node[name]) if name in node else "" for node in nodes.values()]
        rows.append([f"`{name}`", meaning, _allowed_values(parameter), default, *cells])
    if entry.name in MOMENTA:
        rows.append(["`momentum`", "constant, or [cycled](#momentum)", "constant, cycled", "constant"])
        rows[-1] += [_setting(node["momentum"]) for node in nodes.values()]
        for name in ("max_momentum", "base_momentum"):
            parameter = parameters(MOMENTA[entry.name])[name]
            where = "at the lowest LR" if name == "max_momentum" else "at the peak"
            rows.append([f"`{name}`", f"cycled: the momentum {where}", _allowed_values(parameter)])
            rows[-1] += [_plain(parameter.default), *("" for _ in nodes)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _reactive_table(entry: Entry) -> str:
    nodes = reactive_families_of(entry.name)
    rows = [["hyperparameter", "means", "can be", "default", *(f"`{name}`" for name in nodes)]]
    rows.append(["---"] * len(rows[0]))
    for parameter in DECLARED[entry.name]:
        default = "" if parameter.required else _plain(parameter.default)
        cells = [_setting(node[parameter.name]) if parameter.name in node else "" for node in nodes.values()]
        rows.append(
            [
                f"`{parameter.name}`",
                entry.meanings[parameter.name],
                _allowed_values(parameter) or "a word",
                default,
                *cells,
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _hyperparameters(factor: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Parameter]:
    """Return the hyperparameters of a factor's families, without the shape of the ramp, and with `end` last."""
    has_ramp = any("warmup" in node for node in nodes.values())
    node = {"factor": factor, "peak_lr": 1.0, **({"warmup": 0} if has_ramp and _has_no_warmup(factor) else {})}
    known = parameters_of(family(factor, node))
    names = [name for name in known if name not in ("warmup_shape", "warmup_join", "end")]
    return {name: known[name] for name in [*names, *(["end"] if "end" in known else [])]}


def _has_no_warmup(factor: str) -> bool:
    return "warmup" not in parameters(FACTORS[factor])


def _allowed_values(parameter: Parameter) -> str:
    if parameter.kind == "word":
        return ", ".join(_plain(option) for option in parameter.options)
    bounds = parameter.bounds
    ticks = [f"{bounds.ticks} ticks or more"] if bounds.ticks else []
    ticks += [f"{bounds.left} tick{'s' if bounds.left > 1 else ''} left"] if bounds.left else []
    return "; ".join([_range_text(bounds), *ticks])


def _range_text(bounds: Bounds) -> str:
    if not (math.isfinite(bounds.low) and math.isfinite(bounds.high)):
        return ("whole, " if bounds.whole else "") + str(bounds) or "any number"
    if bounds.open_low and bounds.open_high:
        return f"between {bounds.low:g} and {bounds.high:g}"
    low = f"above {bounds.low:g}, " if bounds.open_low else f"{bounds.low:g} "
    return f"{low}to {'below ' if bounds.open_high else ''}{bounds.high:g}"


def _setting(value: Any) -> str:
    """Return the cell for what a family's file sets."""
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


# --- the figures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """g of one factor for several values of one hyperparameter.

    Attributes:
        factor: The factor's name.
        number: The hyperparameter; None if there is one curve, with the defaults.
        curves: g of each update by label.
    """

    factor: str
    number: str | None
    curves: Mapping[str, Floats]

    @property
    def digest(self) -> str:
        """A hash of the curves without their last digits, which differ between processors."""
        values = [(label, [f"{g:.9f}" for g in curve_S]) for label, curve_S in self.curves.items()]
        return hashlib.blake2b(repr((self.factor, self.number, values)).encode(), digest_size=8).hexdigest()


def picture(factor: str) -> Picture:
    """Return the figure of the first family with that factor.

    It varies the length of the factor's own rise, or else the hyperparameter that is searched last.
    """
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
    """Return values of a searched hyperparameter with both ends, or of `cycle` a few that keep the figure clear."""
    if "choice" in searched:
        return list(searched["choice"])
    low, high = searched["low"], searched["high"]
    if number == "cycle":
        return [value for value in CYCLES if low <= value <= high]
    spread = np.geomspace(low, high, 4) if searched.get("log") else np.linspace(low, high, 4)
    return [float(f"{value:.3g}") for value in spread]


def draw(drawing: Picture, path: Path) -> None:
    """Write a figure as SVG, reproducibly, with the digest of its curves in the description."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "sweeper", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with mpl.rc_context({**style, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 2.1), layout="constrained")
        straight, logarithmic = figure.subplots(1, 2, sharex=True)
        for i, (label, g_S) in enumerate(drawing.curves.items()):
            color = mpl.colormaps["viridis"](0.85 * i / max(1, len(drawing.curves) - 1))
            t_S = np.arange(len(g_S)) / len(g_S)
            straight.plot(t_S, g_S, color=color, linewidth=1.3, label=label)
            logarithmic.plot(t_S, np.where(g_S > 0, g_S, np.nan), color=color, linewidth=1.3)
        lowest = min(g_S[g_S > 0].min() for g_S in drawing.curves.values())
        straight.set(ylim=(0, 1.04), xlim=(0, 1), ylabel="LR / peak_lr", xlabel="part of the run")
        logarithmic.set(yscale="log", ylim=(min(0.1, max(LOWEST, 0.7 * lowest)), 1.4), xlabel="part of the run")
        logarithmic.minorticks_off()
        if drawing.number is not None:
            figure.legend(loc="outside right center", title=drawing.number, frameon=False)
        metadata = {"Date": None, "Creator": None, "Description": drawing.digest}
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata=metadata)
    # Coordinates of lines need two decimals. Labels stay as they are.
    rounded = re.sub(r' d="[^"]*"', lambda lines: re.sub(r"(\.\d\d)\d+", r"\1", lines[0]), svg.getvalue())
    path.write_text(rounded, encoding="utf-8")


def main() -> None:
    """Write the page and its figures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for path in PICTURES.glob("*.svg"):
        path.unlink()
    for name in FACTORS:
        draw(picture(name), PICTURES / f"{name}.svg")
    PAGE.write_text(page(), encoding="utf-8")
    size = sum(path.stat().st_size for path in PICTURES.glob("*.svg"))
    print(f"{PAGE.relative_to(ROOT)}, {len(FACTORS)} figures, {size / 1e3:.0f} kB in total")


if __name__ == "__main__":
    main()
