"""Count parameters with an open type and functions with too many parameters. The counts may only fall.

It reads `sweeper/` and `tasks/`. It counts parameters typed as an open mapping (`Mapping[str, Any]`, `dict[str, Any]`,
or an alias of one), and functions with more than five parameters besides `self` and `cls`.

    python scripts/signatures.py           compare with LIMITS; exit code 1 if a count differs from its limit
    python scripts/signatures.py --list    also print every place that counts
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"open mappings": 18, "long signatures": 31}
OPEN = ("Mapping[str, Any]", "dict[str, Any]", "MutableMapping[str, Any]")
MOST = 5
LOWER = f" <- lower the limit in {Path(__file__).name}"


def main() -> int:
    """Print the counts and their limits. A count below its limit fails too, so that the limit gets lowered."""
    modules = {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(_files())}
    places_by_count = {"open mappings": list(open_mappings(modules)), "long signatures": list(long_signatures(modules))}
    for count, places in places_by_count.items():
        wrong = "" if len(places) == LIMITS[count] else " <- must not rise" if len(places) > LIMITS[count] else LOWER
        print(f"{count}: {len(places)} (limit {LIMITS[count]}){wrong}")
        if "--list" in sys.argv:
            print("\n".join(f"  {place}" for place in places))
    return int(any(len(places) != LIMITS[count] for count, places in places_by_count.items()))


def open_mappings(modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """Yield the place of each parameter whose type is an open mapping, alone or in a union."""
    aliases = {
        (module, target.id)
        for module, tree in modules.items()
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in OPEN
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for module, tree in modules.items():
        names = {*OPEN, *(name for home, name in aliases if home == module), *_imported_aliases(tree, aliases)}
        for function, parameters in _functions(tree):
            for parameter in parameters:
                if parameter.annotation is not None and names & set(_members(parameter.annotation)):
                    yield f"{module}:{function.lineno} {function.name}({parameter.arg})"


def long_signatures(modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """Yield the place of each function with more than five parameters."""
    for module, tree in modules.items():
        for function, parameters in _functions(tree):
            count = sum(parameter.arg not in ("self", "cls") for parameter in parameters)
            if count > MOST:
                yield f"{module}:{function.lineno} {function.name} ({count})"


def _files() -> Iterator[Path]:
    for folder in ("sweeper", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            if (ROOT / "sweeper" / "tasks") not in path.parents:  # a link to tasks/
                yield path


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "sweeper" else ("sweeper", *parts)).removesuffix(".__init__")


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, list[ast.arg]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _members(annotation: ast.expr) -> list[str]:
    return [part.strip() for part in ast.unparse(annotation).strip("'\"").split("|")]


def _imported_aliases(tree: ast.Module, aliases: set[tuple[str, str]]) -> set[str]:
    """Return the names in this module of aliases defined in other modules: `Node`, or `sweep.Node`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for one in node.names:
                if (node.module, one.name) in aliases:
                    names.add(one.asname or one.name)
                inside = f"{node.module}.{one.name}"
                names |= {f"{one.asname or one.name}.{alias}" for home, alias in aliases if home == inside}
    return names


if __name__ == "__main__":
    sys.exit(main())
