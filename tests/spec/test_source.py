"""The code that a user wrote: what changes its text, and what does not."""

import functools
import linecache
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sweeper.spec.source import is_own, text

BASE = """
SCALE = 2.0

def inner(x):
    return x + 1

class Net:
    width = 8

    def forward(self, x):
        # doubled
        return inner(x) * SCALE
"""


def module(code, name="theirs"):
    """The code as a user's module, its source known to inspect as that of a notebook's cell is."""
    made = types.ModuleType(name)
    file = f"<cell {hash((name, code))}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    exec(compile(code, file, "exec"), vars(made))
    return made


def of(code, thing="Net", name="theirs"):
    return text(getattr(module(code, name), thing))


SAME = {
    "a comment": BASE.replace("# doubled", "# twice as much"),
    "a docstring": BASE.replace("return x + 1", '"""One more."""\n    return x + 1'),
    "layout": BASE.replace("inner(x) * SCALE", "(inner( x )\n                * SCALE)"),
    "what is not named": BASE + "\nOTHER = 3\n",
    "the annotation of a module": "import math\n" + BASE,
}
OTHER = {
    "the class's code": BASE.replace("* SCALE", "/ SCALE"),
    "a function it calls": BASE.replace("x + 1", "x - 1"),
    "a value it names": BASE.replace("2.0", "3.0"),
    "an attribute": BASE.replace("width = 8", "width = 9"),
    "a default": BASE.replace("forward(self, x)", "forward(self, x, y=1)"),
    "its name": BASE.replace("class Net", "class Net_").replace("Net_:", "Net_:") + "\nNet = Net_\n",
}


@pytest.mark.parametrize("code", SAME.values(), ids=SAME)
def test_what_does_not_count(code):
    assert of(code) == of(BASE)


@pytest.mark.parametrize("code", OTHER.values(), ids=OTHER)
def test_what_counts(code):
    assert of(code) != of(BASE)


def test_a_notebooks_class_may_move_into_a_module():
    assert of(BASE, name="__main__") == of(BASE, name="models")


def test_a_lambda_is_its_code():
    code = "f = lambda x: x {} k\nk = {}\n"
    assert of(code.format("+", 1), "f") == of("\n\n" + code.format("+", 1), "f")
    assert len({of(code.format(*pair), "f") for pair in (("+", 1), ("-", 1), ("+", 2))}) == 3


def test_a_closure_and_a_partial_are_their_values():
    def adding(k):
        def add(x):
            return x + k

        return add

    assert text(adding(1)) == text(adding(1)) != text(adding(2))
    assert (
        text(functools.partial(adding, 1)) == text(functools.partial(adding, 1)) != text(functools.partial(adding, 2))
    )


def test_functions_that_call_each_other_end():
    code = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != 0 and even(n - {})\n"
    assert of(code.format(1), "even") == of(code.format(1), "even") != of(code.format(2), "even")


def test_properties_and_static_methods_count():
    code = "class A:\n    @property\n    def p(self):\n        return {}\n"
    code += "    @staticmethod\n    def s():\n        return {}\n"
    assert len({of(code.format(*pair), "A") for pair in ((1, 1), (2, 1), (1, 2))}) == 3


def test_attributes_of_ones_own_objects_count():
    code = "class A:\n    def __init__(self, n):\n        self.n = n\n\na = A({})\n"
    assert of(code.format(1), "a") == of(code.format(1), "a") != of(code.format(2), "a")


@pytest.mark.parametrize("thing", [nn.Linear, nn.functional.relu, torch.relu, np.array, is_own, functools.reduce, int])
def test_what_is_installed_is_known_by_its_name(thing):
    if isinstance(thing, type | types.FunctionType):
        assert not is_own(thing)
    assert len(text(thing)) < 80


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(one=PLAIN, other=PLAIN)
def test_plain_values_have_equal_texts_where_json_has(one, other):
    import json

    assert (text(one) == text(other)) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))
