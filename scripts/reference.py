"""Write docs/guide/reference.md from docstrings and signatures: `python scripts/reference.py`.

Run it after a change of a docstring. A test fails if the page is out of date.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guide" / "reference.md"
HEAD = """\
# API reference

<!-- Made by scripts/reference.py from the docstrings. -->
A tour with examples: [python.md](python.md).
"""
SECTIONS = {  # title: module, names
    "Sweeps": ("sweeper", ["sweep", "load", "retune", "Sweep", "find_lr", "lr_trace", "InputError"]),
    "Hyperparameters and families": ("sweeper.types", ["Range", "Choice", "Family", "Factor"]),
    "What is trained": ("sweeper.tasks", ["Supervised", "Arrays", "Table", "Streamed", "Problem", "NextByte"]),
    "A task of your own": ("sweeper.types", ["Task"]),
    "A tracker of your own": (
        "sweeper.types",
        ["ConfiguredTracker", "TrackedSweep", "TrackedStudy", "Job", "Report", "Ending", "Summary"],
    ),
}
HEADINGS = ("Args", "Returns", "Raises", "Yields", "Attributes", "Source", "Example")
NOT_CALLED = ("Sweep", "InputError")  # users do not construct them
WIDTH = 100  # of a signature's line


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for title, (module, names) in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _entry(f"{module}.{name}", getattr(importlib.import_module(module), name))
    return "\n".join(parts)


def _entry(path: str, thing: Any) -> Iterator[str]:
    name = path.rpartition(".")[2]
    yield f"### {path}\n"
    if not (getattr(thing, "_is_protocol", False) or name in NOT_CALLED):
        yield f"```python\n{_call(name, thing)}\n```\n"
    yield f"{_markdown(thing)}\n"
    for member, value in _members(thing) if inspect.isclass(thing) else ():
        yield f"#### {name}.{member}\n"
        if inspect.isfunction(value):
            yield f"```python\n{_call(member, value)}\n```\n"
        yield f"{_markdown(value)}\n"


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that have a docstring of their own, base classes first."""
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("sweeper"):
            members |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    for name, value in members.items():
        if (inspect.isfunction(value) or isinstance(value, property | cached_property)) and value.__doc__:
            yield name, value


def _call(name: str, thing: Any) -> str:
    """Return the signature, on one line or with one line per parameter."""
    signature = inspect.signature(thing)
    parameters = [_parameter(one) for one in signature.parameters.values() if one.name != "self"]
    kinds = [one.kind for one in signature.parameters.values() if one.name != "self"]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = signature.return_annotation
    arrow = "" if inspect.isclass(thing) or returned is signature.empty else f" -> {_annotation(returned)}"
    line = f"{name}({', '.join(parameters)}){arrow}"
    if len(line) <= WIDTH:
        return line
    lines = "".join(f"    {one},\n" for one in parameters)
    return f"{name}(\n{lines}){arrow}"


def _parameter(one: inspect.Parameter) -> str:
    star = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
    annotation = "" if one.annotation is one.empty else f": {_annotation(one.annotation)}"
    default_value = str(one.default) if isinstance(one.default, Path) else one.default
    default = "" if one.default is one.empty else f" = {default_value!r}"
    return f"{star}{one.name}{annotation}{default}"


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("requests.", "")


def _markdown(thing: Any) -> str:
    """Return a docstring with its Google sections as lists: `name: text` under a heading becomes an item."""
    blocks = []
    for block in re.split(r"\n\n(?=\S)", inspect.cleandoc(thing.__doc__ or "")):
        heading, _, body = block.partition(":\n")
        if heading not in HEADINGS:
            blocks.append(block)
        elif heading == "Example":
            blocks.append(f"**Example**\n\n{inspect.cleandoc(body)}")
        else:
            blocks.append(f"**{heading}**\n\n" + "\n".join(_items(body)))
    return "\n\n".join(blocks)


def _items(body: str) -> Iterator[str]:
    """Yield the entries of a section. An entry starts at the section's indent; deeper lines continue it."""
    lines = inspect.cleandoc(f"\n{body}").splitlines()
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        text = " ".join(entry.split())
        named = re.fullmatch(r"(\w+): (.+)", text)
        yield f"- `{named[1]}`: {named[2]}" if named else f"- {text}"


if __name__ == "__main__":
    main()
