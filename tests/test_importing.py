"""A dotted path is imported, and an error says which part of it is wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.importing import import_object
from sweeper.types import InputError, closest, did_you_mean

Write = Callable[[str], None]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the code of the module `theirs`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)

    def write(code: str) -> None:
        (tmp_path / "theirs.py").write_text(code)

    return write


def test_the_object_is_returned() -> None:
    assert import_object("key", "math.pi") == math.pi
    assert import_object("key", "sweeper.importing.import_object") is import_object


def test_an_object_inside_a_class_is_found() -> None:
    assert import_object("key", "pathlib.Path.cwd") == Path.cwd
    with pytest.raises(InputError, match=r"pathlib\.Path has no cwdd\. Did you mean pathlib\.Path\.cwd\?"):
        import_object("key", "pathlib.Path.cwdd")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (None, "key: not an import path. Write one, such as torch.optim.SGD"),
        ("SGD", "key=SGD: not an import path. Write one, such as torch.optim.SGD"),
        (".optim.SGD", "key=.optim.SGD: not an import path. Write one, such as torch.optim.SGD"),
        ("a b.c", "key=a b.c: not an import path. Write one, such as torch.optim.SGD"),
        ("nosuch.SGD", "key=nosuch.SGD: not found: no module nosuch. Is it installed?"),
        ("json.nosuch.SGD", "key=json.nosuch.SGD: not found: no module json.nosuch. Is it installed?"),
        (
            "json.decodr.JSONDecoder",
            "key=json.decodr.JSONDecoder: not found: no module json.decodr. Did you mean json.de",
        ),
        ("math.hypo", "key=math.hypo: not found: math has no hypo. Did you mean math.hypot?"),
        (
            "json.zzz",
            "key=json.zzz: not found: json has no zzz. "
            "Choose one of JSONDecodeError, JSONDecoder, JSONEncoder, codecs, decoder, detect_encoding, dump, dumps",
        ),
    ],
)
def test_the_part_of_the_path_that_is_wrong_is_named(path: object, told: str) -> None:
    with pytest.raises(InputError) as caught:
        import_object("key", path, "torch.optim.SGD")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nosuch", "its module raised ModuleNotFoundError (No module named 'nosuch'). Fix theirs, or install"),
        ("from math import nosuch", "its module raised ImportError (cannot import name 'nosuch' from 'math'"),
        ("1 / 0", "its module raised ZeroDivisionError (division by zero)"),
        ("(", "its module raised SyntaxError"),
    ],
)
def test_an_error_of_the_module_itself_is_told(module: Write, code: str, told: str) -> None:
    module(code)
    with pytest.raises(InputError) as caught:
        import_object("key", "theirs.Thing")
    assert str(caught.value).startswith(f"key=theirs.Thing: {told}")
    assert caught.value.__cause__ is not None


def test_a_missing_extra_is_named_by_what_installs_it(module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    module("import curvlinops")
    for path in ("curvlinops.KFAC", "theirs.Thing"):
        with pytest.raises(InputError, match=r"Install it: pip install curvlinops-for-pytorch$"):
            import_object("key", path)


def test_the_closest_option_is_suggested_else_all() -> None:
    assert closest("cosin", ["linear", "cosine"]) == "cosine"
    assert closest("cosin", ["linear", "cosine"], 0.99) is None
    assert did_you_mean("cosin", ["linear", "cosine"]) == "Did you mean cosine?"
    assert did_you_mean("wsd", ["linear", "cosine"]) == "Choose one of linear, cosine"
    assert did_you_mean(3, (False, True)) == "Choose one of false, true"
    assert did_you_mean("wsd", iter(())) == "Leave it out"
