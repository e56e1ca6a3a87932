"""The API reference page is up to date, and its docstrings name existing parameters."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import sweeper

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("reference")
    sys.path.remove(str(ROOT / "scripts"))


def documented(reference):
    """Yield every function, method and constructor on the page, with its name."""
    for module, names in reference.SECTIONS.values():
        for name in names:
            thing = getattr(importlib.import_module(module), name)
            if not getattr(thing, "_is_protocol", False):
                yield name, thing
            for member, value in reference._members(thing) if inspect.isclass(thing) else ():  # as the page lists them
                if inspect.isfunction(value):
                    yield f"{name}.{member}", value


def test_the_page_is_current(reference):
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "Run: python scripts/reference.py"


def test_all_that_the_package_exports_is_on_it(reference):
    assert {name for _, names in reference.SECTIONS.values() for name in names} >= set(sweeper.__all__)


def test_docstrings_name_the_parameters_there_are(reference):
    for name, thing in documented(reference):
        args = re.search(r"\n\nArgs:\n((?:    .*\n|\n)*)", inspect.cleandoc(thing.__doc__ or "") + "\n")
        named = re.findall(r"^    (\w+): ", args[1], re.MULTILINE) if args else []
        parameters = [one for one in inspect.signature(thing).parameters if one != "self"] if args else []
        assert named == parameters, name
