"""The guide's page on schedules is up to date, and its claims are tested."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sweeper.schedules import FACTORS
from sweeper.schedules.numbers import parameters
from sweeper.schedules.reactive import CONTROLLERS as DECLARED
from sweeper.training.controllers import CONTROLLERS

ROOT = Path(__file__).parents[2]
RENEW = "Run: python scripts/catalogue.py"


@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "scripts" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["catalogue"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(catalogue: ModuleType) -> None:
    assert catalogue.PAGE.read_text(encoding="utf-8") == catalogue.page(), RENEW


def test_every_factor_has_its_picture_as_it_is_now(catalogue: ModuleType) -> None:
    pictures = {path.stem: path.read_text(encoding="utf-8") for path in catalogue.PICTURES.glob("*.svg")}
    assert set(pictures) == set(FACTORS), RENEW
    assert [name for name, text in pictures.items() if catalogue.picture(name).digest not in text] == [], RENEW
    assert sum(map(len, pictures.values())) < 1e6


def test_a_picture_is_drawn_alike_every_time(catalogue: ModuleType, tmp_path: Path) -> None:
    for name in ("first", "second"):
        catalogue.draw(catalogue.picture("wsd"), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("name", FACTORS)
def test_a_docstring_explains_every_number_and_no_other(name: str, catalogue: ModuleType) -> None:
    told = catalogue.parse_entry(name)
    assert told.about
    assert {"Formula", "Equals"} <= set(told.fields)
    assert set(told.meanings) == set(parameters(FACTORS[name])) - {"end"}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controllers_docstring_explains_every_number_and_no_other(name: str, catalogue: ModuleType) -> None:
    told = catalogue.parse_entry(name, CONTROLLERS[name])
    assert told.about
    assert {"Formula", "Differs"} <= set(told.fields)
    assert set(told.meanings) == {number.name for number in DECLARED[name]}
    assert name in catalogue.reactive_families_of(name)


@pytest.mark.parametrize("name", FACTORS)
def test_what_a_docstring_says_it_equals_is_an_oracle(name: str, catalogue: ModuleType) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = catalogue.classes(catalogue.parse_entry(name).fields["Equals"])
    assert named
    assert [each for each in named if each not in tests] == []


def test_a_pictures_labels_are_whole(catalogue: ModuleType) -> None:
    """Only coordinates of lines are rounded, not labels."""
    for name in FACTORS:
        text = (catalogue.PICTURES / f"{name}.svg").read_text(encoding="utf-8")
        shown = catalogue.picture(name)
        assert [label for label in shown.curves if label and f">{label}</text>" not in text] == [], name
