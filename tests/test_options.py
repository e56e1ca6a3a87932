"""The options of a constructor are checked by its signature, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from torch import Tensor

from sweeper.options import check_options
from sweeper.types import InputError

if TYPE_CHECKING:
    from sweeper.types import Unknown


class Net:
    """Parameters of every kind. `odd` and `later` have annotations that mean nothing at run time."""

    def __init__(
        self,
        width: int = 8,
        rate: float = 0.5,
        on: bool = False,
        word: str = "a",
        path: str | Path | None = None,
        kind: Literal["auto", 3] = "auto",
        pair: tuple[float, float] = (0.9, 0.99),
        several: Sequence[int] = (),
        any_length: tuple[int, ...] = (1,),
        decay: Annotated[float, "bounds"] = 0.1,
        lr: float | Tensor = 0.1,
        mapping: Mapping[str, int] | None = None,
        call: Callable[[], None] | None = None,
        loose=None,
        odd: Unknown = None,  # type: ignore[no-any-unimported]
        wrong: int = None,  # type: ignore[assignment] # noqa: RUF013
        *,
        needed: int,
    ) -> None: ...


RIGHT: dict[str, list[Any]] = {
    "width": [1, -1],
    "rate": [1, 0.5],
    "on": [True, False],
    "word": ["b", ""],
    "path": ["a", None],
    "kind": ["auto", 3],
    "pair": [[1, 0.5], (0.1, 0.2)],
    "several": [[], [1, 2]],
    "any_length": [[1, 2, 3]],
    "decay": [1],
    "lr": [0.1],
    "mapping": [{"a": 1}, None],
    "call": [None],
    "loose": [1, "a", None, [1]],
    "odd": ["a", 1],
    "wrong": [None, 3],
    "needed": [3],
}
WRONG: dict[str, list[Any]] = {
    "width": [1.0, "1", True, None, [1]],
    "rate": ["a", True, None, float("nan"), float("inf")],
    "on": ["no", 0, 1, None],
    "word": [1, True, None, ["a"]],
    "path": [1, True, ["a"]],
    "kind": ["b", 4, True],
    "pair": [[1], [1, 2, 3], [1, "a"], 0.5, [0.1, float("nan")]],
    "several": [[1.5], "abc", 1],
    "any_length": [[1, "a"], 1],
    "decay": ["a"],
    "lr": ["a", None],
    "mapping": [{"a": float("inf")}],
    "loose": [float("nan")],
    "wrong": ["a"],
    "needed": [None, "a"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_what_fits_its_annotation_passes(name: str, value: object) -> None:
    check_options("model", Net, {name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_does_not_fit_is_named(name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^model\.{name}=.*: not .*, which Net needs\. Write "):
        check_options("model", Net, {name: value})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": "abc"}, "model.width=abc: not a whole number, which Net needs. Write for example 8"),
        ({"on": "no"}, "model.on=no: not true or false, which Net needs. Write for example false"),
        ({"pair": [1]}, "model.pair=[1]: not a list of 2 values, which Net needs. Write for example [0.9, 0.99]"),
        ({"path": 5}, "model.path=5: not text or a path or null, which Net needs. Write text or a path or null"),
        ({"rate": float("inf")}, "model.rate=inf: not finite, which Net needs. Write for example 0.5"),
        ({"widht": 5}, "model.widht=5: no such option of Net. Did you mean width?"),
    ],
)
def test_the_sentence_has_the_default_as_an_example(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as raised:
        check_options("model", Net, options)
    assert str(raised.value) == told


def test_what_the_package_sets_is_no_option() -> None:
    with pytest.raises(InputError, match=r"^model\.width=1: no such option of Net\."):
        check_options("model", Net, {"width": 1}, given=("width",))


def takes_any(width: int = 1, **others: object) -> None: ...


def test_a_constructor_that_takes_any_option_gets_only_finite_numbers() -> None:
    check_options("model", takes_any, {"other": "x", "more": [1, 2]})
    for wrong in ({"other": float("nan")}, {"width": "x"}):
        with pytest.raises(InputError):
            check_options("model", takes_any, wrong)
    check_options("model", partial(Net, needed=1), {"width": 3})
    check_options("model", dict, {"any": 1})  # a class of C without a signature
